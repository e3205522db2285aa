/** The streaming server against Kubernetes' own clients, with this machine's processes in place of containers. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { silentLog } from '../../../src/base/index.ts';
import { StreamingServer } from '../../../src/cri/streaming/index.ts';
import { LocalStreams } from '../../fixtures/local-streams.ts';
import { noGo, resultOf, runClient, startClient, streamingClient } from '../../fixtures/streaming-client.ts';
import { settled } from '../../fixtures/streams.ts';

const absent = noGo();
const by = absent === undefined ? 'client-go' : `client-go (${absent})`;
let runtime: LocalStreams;
let server: StreamingServer;
beforeAll(async () => {
  if (absent === undefined) streamingClient();
  runtime = new LocalStreams();
  server = await StreamingServer.listen({ runtime, log: silentLog });
}, 900_000);
afterAll(async () => {
  await server?.close();
  runtime?.close();
});

const ALL = ['-stdin', '-stdout', '-stderr'];

function exec(...cmd: string[]): string {
  return server.exec({ containerId: 'local', cmd, stdin: true, stdout: true, stderr: true });
}

function output(...cmd: string[]): string {
  return server.exec({ containerId: 'local', cmd, stdout: true, stderr: true });
}

/** Arguments of a client that only listens. */
function listen(url: string, protocol: string): string[] {
  return ['command', '-url', url, '-protocol', protocol, '-stdout', '-stderr'];
}

describe.skipIf(absent !== undefined)(`exec by ${by}`, () => {
  test.each(['spdy', 'spdy:v4.channel.k8s.io', 'websocket', 'websocket:v4.channel.k8s.io'])(
    'in %s tells output and exit code',
    async (protocol) => {
      const result = await runClient(listen(output('sh', '-c', 'echo out; echo err >&2; exit 7'), protocol));
      expect(result).toMatchObject({ code: 7, stdout: Buffer.from('out\n'), stderr: 'err\n' });
    },
  );

  test.each(['spdy:v3.channel.k8s.io', 'spdy:v2.channel.k8s.io'])(
    'in %s tells output and, in words, the exit code',
    async (protocol) => {
      const result = await runClient(listen(output('sh', '-c', 'echo out; exit 7'), protocol));
      expect(result).toMatchObject({ code: 255, stdout: Buffer.from('out\n') });
      expect(result.stderr).toContain('command terminated with non-zero exit code: exit status 7');
    },
  );

  test.each(['spdy:channel.k8s.io', 'websocket:channel.k8s.io'])(
    'in %s tells the output',
    async (protocol) => {
      const result = await runClient(listen(output('sh', '-c', 'echo out; echo err >&2'), protocol));
      expect(result).toMatchObject({ stdout: Buffer.from('out\n'), stderr: expect.stringMatching(/^err\n/) });
    },
  );

  test.each(['spdy', 'websocket'])('in %s tells why a program could not be run', async (protocol) => {
    const result = await runClient(listen(output('/no/such/program'), protocol));
    expect(result.code).toBe(255);
    expect(result.stderr).toContain(
      'Internal error occurred: error executing command in container: cannot run "/no/such/program"',
    );
  });

  test.each(['spdy', 'websocket'])('in %s passes 100 MB of output whole', async (protocol) => {
    const script = 'head -c 100000000 /dev/urandom | tee /dev/fd/3 3>&1 >&4 4>&1 | sha256sum >&2';
    const client = startClient(
      ...listen(output('bash', '-c', `exec 4>&1; ${script.replace(' 4>&1', '')}`), protocol),
    );
    const hash = createHash('sha256');
    let size = 0;
    let sum = '';
    client.stdout.on('data', (chunk: Buffer) => {
      size += chunk.length;
      hash.update(chunk);
    });
    client.stderr.on('data', (chunk: Buffer) => {
      sum += chunk.toString('utf8');
    });
    const [code] = (await once(client, 'close')) as [number];
    expect({ code, size, sum: sum.split(' ')[0] }).toEqual({
      code: 0,
      size: 100_000_000,
      sum: hash.digest('hex'),
    });
  });

  test.each(['spdy', 'websocket'])(
    'in %s echoes 10 MB of input, whose end ends the program',
    async (protocol) => {
      const input = randomBytes(10_000_000);
      const { code, stdout } = await runClient(
        ['command', '-url', exec('cat'), '-protocol', protocol, ...ALL],
        input,
      );
      expect({ code, same: stdout.equals(input) }).toEqual({ code: 0, same: true });
    },
  );

  test.each(['spdy', 'websocket'])(
    'in %s: input that a program does not want ends with it',
    async (protocol) => {
      const { code, stdout } = await runClient(
        ['command', '-url', exec('head', '-c', '5'), '-protocol', protocol, ...ALL],
        randomBytes(10_000_000).fill('x'),
      );
      expect({ code, text: stdout.toString('latin1') }).toEqual({ code: 0, text: 'xxxxx' });
    },
  );

  test.each(['spdy', 'websocket'])(
    'in %s: a client that does not read stops the program',
    async (protocol) => {
      const client = startClient(...listen(output('cat', '/dev/zero'), protocol));
      client.stdout.pause();
      await once(client, 'spawn');
      while (runtime.running.size === 0) await sleep(10);
      const [program] = runtime.running;
      const read = (): number => (program?.stdout as Socket | undefined)?.bytesRead ?? 0;
      while (read() === 0) await sleep(10);
      // What lies in the buffers of two sockets, a pipe and the client.
      expect(await settled(read)).toBeLessThan(32 * 1024 * 1024);
      const before = read();
      client.stdout.once('readable', () => client.stdout.read());
      for await (const chunk of client.stdout as AsyncIterable<Buffer>)
        if (chunk.length > 0 && read() > before + 2 ** 20) break;
      client.kill('SIGKILL');
      await once(program ?? client, 'close');
    },
  );

  test.each(['spdy', 'websocket'])(
    'in %s: a client that is killed takes its program along',
    async (protocol) => {
      const client = startClient(...listen(output('sh', '-c', 'echo begun; exec sleep 1000'), protocol));
      await once(client.stdout, 'data');
      const [program] = runtime.running;
      client.kill('SIGKILL');
      await once(program ?? client, 'close');
      expect(runtime.running.size).toBe(0);
    },
  );

  test.each(['spdy', 'websocket'])(
    'in %s: so does one whose input waits for the program',
    async (protocol) => {
      const client = startClient(
        'command',
        '-url',
        exec('sh', '-c', 'echo begun; exec sleep 1000'),
        '-protocol',
        protocol,
        ...ALL,
      );
      client.stdin.on('error', () => {});
      client.stdin.write(randomBytes(8_000_000));
      await once(client.stdout, 'data');
      const [program] = runtime.running;
      await settled(() => client.stdin.writableLength);
      client.kill('SIGKILL');
      await once(program ?? client, 'close');
      expect(runtime.running.size).toBe(0);
    },
    60_000,
  );

  test('a URL serves once', async () => {
    const url = output('true');
    expect((await runClient(listen(url, 'spdy'))).code).toBe(0);
    const again = await runClient(listen(url, 'spdy'));
    expect(again.stderr).toContain('404 page not found');
  });
});

describe.skipIf(absent !== undefined)(`port-forward by ${by}`, () => {
  let echo: Server;
  let port: number;
  beforeAll(async () => {
    // Answers when the client has said all: half-close both ways.
    echo = createServer({ allowHalfOpen: true }, (socket) => {
      const chunks: Buffer[] = [];
      socket.on('error', () => {});
      socket.on('data', (chunk) => chunks.push(chunk));
      socket.on('end', () => socket.end(Buffer.concat([Buffer.from('heard '), ...chunks])));
    });
    echo.listen(0, '127.0.0.1');
    await once(echo, 'listening');
    port = (echo.address() as AddressInfo).port;
  });
  afterAll(() => void echo?.close());

  async function say(local: number, words: Buffer): Promise<Buffer> {
    const socket = connect({ port: local, host: '127.0.0.1', allowHalfOpen: true });
    socket.end(words);
    const chunks: Buffer[] = [];
    for await (const chunk of socket as AsyncIterable<Buffer>) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  const dialers: [string, string[]][] = [
    ['SPDY', []],
    ['SPDY in a WebSocket', ['-tunnel']],
  ];

  async function forward(args: string[], remote: number): Promise<{ local: number; end(): Promise<string> }> {
    const url = server.portForward({ podSandboxId: 'local', port: [] });
    const client = startClient('forward', '-url', url, ...args, `:${remote}`);
    const result = resultOf(client);
    const [line] = (await once(client.stdout, 'data')) as [Buffer];
    const local = Number(/127\.0\.0\.1:(\d+) ->/.exec(line.toString('utf8'))?.[1]);
    return {
      local,
      end: async () => {
        client.stdin.end();
        return (await result).stderr;
      },
    };
  }

  test.each(dialers)(
    'by %s carries many connections, each closed one side after the other',
    async (_, args) => {
      const forwarded = await forward(args, port);
      const words = Array.from({ length: 40 }, (_, i) => Buffer.from(`${i} `.repeat(i * 2000 + 1)));
      const answers = await Promise.all(words.map((one) => say(forwarded.local, one)));
      expect(
        answers.map((answer, i) => answer.equals(Buffer.concat([Buffer.from('heard '), words[i] ?? answer]))),
      ).toEqual(words.map(() => true));
      expect(await forwarded.end()).toBe('');
    },
  );

  test.each(dialers)('by %s tells that nobody listens, in upstream’s words', async (_, args) => {
    const closed = createServer().listen(0, '127.0.0.1');
    await once(closed, 'listening');
    const free = (closed.address() as AddressInfo).port;
    await new Promise((resolve) => {
      closed.close(resolve);
    });
    const forwarded = await forward(args, free);
    expect((await say(forwarded.local, Buffer.from('hello'))).length).toBe(0);
    expect(await forwarded.end()).toMatch(
      new RegExp(
        `an error occurred forwarding \\d+ -> ${free}: error forwarding port ${free} to pod local, uid : failed to connect to localhost:${free}`,
      ),
    );
  });
});
