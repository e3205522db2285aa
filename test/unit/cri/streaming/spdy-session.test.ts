/** Both ends of a SPDY connection over a socket pair, and one end against bytes. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { encodePing, encodeReset, encodeSynStream } from '../../../../src/cri/streaming/spdy/frames.ts';
import { HeaderEncoder } from '../../../../src/cri/streaming/spdy/headers.ts';
import { SpdySession, type SpdyStream } from '../../../../src/cri/streaming/spdy/index.ts';
import { bytesOf, textOf } from '../../../fixtures/streams.ts';

let listener: Server;
const opened: (Socket | SpdySession)[] = [];
beforeEach(async () => {
  listener = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(listener, 'listening');
});
afterEach(() => {
  for (const one of opened.splice(0)) one.destroy();
  listener.close();
});

async function sockets(): Promise<[Socket, Socket]> {
  const client = connect((listener.address() as AddressInfo).port, '127.0.0.1');
  const [server] = (await once(listener, 'connection')) as [Socket];
  for (const one of [client, server]) {
    opened.push(one);
    one.on('error', () => {});
  }
  return [client, server];
}

interface Ends {
  readonly client: SpdySession;
  readonly server: SpdySession;
  /** Streams as the server has them. */
  readonly accepted: () => Promise<SpdyStream>;
}

async function ends(onStream?: (stream: SpdyStream) => void): Promise<Ends> {
  const [here, there] = await sockets();
  const queue: SpdyStream[] = [];
  const waiting: ((stream: SpdyStream) => void)[] = [];
  const server = new SpdySession(there, {
    side: 'server',
    onStream: (stream) => {
      onStream?.(stream);
      const next = waiting.shift();
      if (next === undefined) queue.push(stream);
      else next(stream);
    },
  });
  const client = new SpdySession(here, { side: 'client' });
  return {
    client,
    server,
    accepted: async () =>
      queue.shift() ??
      (await new Promise<SpdyStream>((resolve) => {
        waiting.push(resolve);
      })),
  };
}

const named = (name: string): ReadonlyMap<string, string> => new Map([['streamtype', name]]);

describe('a SPDY connection', () => {
  test('carries streams that end one side after the other', async () => {
    const { client, server, accepted } = await ends();
    const stream = await client.open(named('data'));
    const theirs = await accepted();
    expect(theirs.headers.get('streamtype')).toBe('data');
    stream.end('question');
    expect(await textOf(theirs)).toBe('question');
    theirs.end('answer');
    expect(await textOf(stream)).toBe('answer');
    await Promise.all([client.end(), server.closed]);
    expect([client.size, server.size]).toEqual([0, 0]);
  });

  test('carries more than a 64 KiB window, both ways at once', async () => {
    const { client, accepted } = await ends();
    const stream = await client.open(named('data'));
    const theirs = await accepted();
    theirs.pipe(theirs);
    const sent = Buffer.alloc(5_000_000, 'abcdefg');
    stream.end(sent);
    expect((await bytesOf(stream)).equals(sent)).toBe(true);
  });

  test('tells one end that the other has reset a stream, after what came before', async () => {
    const { client, server, accepted } = await ends();
    const stream = await client.open(named('data'));
    const theirs = await accepted();
    const reset = once(theirs, 'reset');
    stream.write('last words', () => stream.destroy());
    await reset;
    expect(await textOf(theirs)).toBe('last words');
    expect(server.size).toBe(0);
  });

  test('refuses a stream whose handler throws', async () => {
    const { client } = await ends(() => {
      throw new Error('no');
    });
    await expect(client.open(named('data'))).rejects.toMatchObject({ code: 'STREAM_REFUSED' });
  });

  test('ends its streams with it', async () => {
    const { client, server, accepted } = await ends();
    const stream = await client.open(named('data'));
    const theirs = await accepted();
    stream.write('half');
    await once(theirs, 'readable');
    client.destroy();
    await server.closed;
    expect(await textOf(theirs)).toBe('half');
    expect(theirs.destroyed || theirs.readableEnded).toBe(true);
    await expect(client.open(named('late'))).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('is closed when nothing passes for the idle time', async () => {
    const [, there] = await sockets();
    await new SpdySession(there, { side: 'server', idleTimeout: 50 }).closed;
  });

  test('holds a writer whose reader is behind', async () => {
    const { client, accepted } = await ends();
    const stream = await client.open(named('data'));
    const theirs = await accepted();
    let written = 0;
    const chunk = Buffer.alloc(65_536);
    const pump = async (): Promise<void> => {
      for (let i = 0; i < 1000; i++) {
        await new Promise<void>((resolve) => void stream.write(chunk, () => resolve()));
        written += chunk.length;
      }
      stream.end();
    };
    const pumped = pump();
    let last = -1;
    while (written !== last) {
      last = written;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    expect(written).toBeLessThan(1000 * chunk.length);
    expect(theirs.readableLength).toBeLessThan(4 * 65_536);
    expect((await bytesOf(theirs)).length).toBe(1000 * chunk.length);
    await pumped;
  });
});

describe('a SPDY server', () => {
  test('answers pings and refuses streams out of order', async () => {
    const [here, there] = await sockets();
    const server = new SpdySession(there, { side: 'server', onStream: (stream) => stream.ignoreInput() });
    const headers = new HeaderEncoder();
    const frames = [
      encodePing(7),
      encodeSynStream(5, headers.encode(named('a'))),
      encodeSynStream(3, headers.encode(named('b'))),
      encodeSynStream(8, headers.encode(named('c'))),
      encodeReset(99, 5),
      encodePing(9),
    ];
    here.write(Buffer.concat(frames));
    const chunks: Buffer[] = [];
    for await (const chunk of here as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      if (Buffer.concat(chunks).includes(encodePing(9))) break;
    }
    const answer = Buffer.concat(chunks);
    expect(answer.subarray(0, 12)).toEqual(encodePing(7));
    expect(answer.includes(encodeReset(3, 1))).toBe(true);
    expect(answer.includes(encodeReset(8, 1))).toBe(true);
    expect(server.size).toBe(1);
  });

  test('does not gather answers for who does not read them', async () => {
    const [here, there] = await sockets();
    const server = new SpdySession(there, { side: 'server' });
    here.pause();
    const pings = Buffer.concat(Array.from({ length: 10_000 }, (_, i) => encodePing(2 * i + 1)));
    let sent = 0;
    const flood = (): void =>
      void here.write(pings, () => {
        sent += 1;
        if (!here.destroyed) flood();
      });
    flood();
    let last = -1;
    while (sent !== last) {
      last = sent;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    expect(there.writableLength).toBeLessThan(256 * 1024);
    server.destroy();
  });

  test('ends a connection that is no SPDY', async () => {
    const [here, there] = await sockets();
    const server = new SpdySession(there, { side: 'server' });
    here.write('GET / HTTP/1.1\r\n\r\n'.padStart(64, '\uffff'));
    await server.closed;
  });
});
