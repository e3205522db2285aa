/** The sockets that other programs speak to: CRI over HTTP/2, and streams over SPDY. Clients that mean harm. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { silentLog } from '../../src/base/index.ts';
import {
  type CriClient,
  type CriServer,
  connectCri,
  type StreamingUrls,
  serveCri,
} from '../../src/cri/index.ts';
import { StreamingServer } from '../../src/cri/streaming/index.ts';
import { HEADER_DICTIONARY } from '../../src/cri/streaming/spdy/dictionary.ts';
import { CriImageService } from '../../src/image/index.ts';
import { LocalStreams } from '../fixtures/local-streams.ts';
import { patience } from '../fixtures/patience.ts';
import { openRuntime, type RuntimeFixture } from '../fixtures/runtime.ts';

const MIB = 1 << 20;
const urls: StreamingUrls = {
  exec: () => 'http://127.0.0.1:1/exec/token',
  attach: () => 'http://127.0.0.1:1/attach/token',
  portForward: () => 'http://127.0.0.1:1/portforward/token',
};

/** How much more memory was in use at the worst moment of the work. */
async function growth(work: () => Promise<void>): Promise<number> {
  const before = process.memoryUsage.rss();
  let peak = before;
  const timer = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss());
  }, 10);
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
  return Math.max(peak, process.memoryUsage.rss()) - before;
}

describe('HTTP/2 on the CRI socket', () => {
  let fixture: RuntimeFixture;
  let server: CriServer;
  let client: CriClient;
  let path: string;
  beforeAll(async () => {
    fixture = await openRuntime();
    path = join(fixture.base, 'cri.sock');
    const images = new CriImageService(fixture.images);
    server = await serveCri({ path, runtime: fixture.runtime, images, urls, log: silentLog });
    client = await connectCri(path);
    await client.runtime.version({});
  });
  afterAll(async () => {
    client?.close();
    await server?.close();
    await fixture?.close();
  });

  // https://nvd.nist.gov/vuln/detail/CVE-2023-44487, https://kb.cert.org/vuls/id/605641
  test.each([
    ['CVE-2023-44487: streams that are reset as they are opened', 'reset'],
    ['CVE-2019-9512: pings whose answers nobody reads', 'ping'],
    ['CVE-2019-9512: settings whose answers nobody reads', 'settings'],
    ['CVE-2019-9514: requests that the server has to reset', 'wrong'],
    ['CVE-2023-44487: headers without end', 'continuation'],
    ['CVE-2023-44487: streams that are opened and left so', 'open'],
  ])(
    '%s: memory is bounded, and others are answered meanwhile',
    async (_what, kind) => {
      const script = join(import.meta.dirname, 'attackers/http2.mjs');
      const flood = spawn(process.execPath, [script, path, kind], { stdio: ['ignore', 'pipe', 'inherit'] });
      let said = '';
      flood.stdout.on('data', (data: Buffer) => {
        said += String(data);
      });
      const closed = once(flood, 'close');
      let answered = 0;
      let slowest = 0;
      try {
        const grown = await growth(async () => {
          do {
            const began = Date.now();
            expect((await client.runtime.version({})).runtimeApiVersion).toBe('v1');
            slowest = Math.max(slowest, Date.now() - began);
            answered += 1;
            await new Promise((resolve) => setTimeout(resolve, 5));
          } while (flood.exitCode === null);
        });
        await closed;
        const { sent, cut } = JSON.parse(said) as { sent: number; cut: boolean };
        // Hung up on, or it has been a flood.
        expect(cut || sent > 1000).toBe(true);
        expect(grown).toBeLessThan(256 * MIB);
        expect(answered).toBeGreaterThan(3);
        expect(slowest).toBeLessThan(5000 * patience);
      } finally {
        flood.kill('SIGKILL');
      }
      // And a new connection finds it as it was.
      const another = await connectCri(path);
      expect((await another.runtime.status({})).status?.conditions?.length).toBeGreaterThan(0);
      another.close();
    },
    60_000 * patience,
  );
});

describe('SPDY on the streaming server', () => {
  let server: StreamingServer;
  const runtime = new LocalStreams();
  beforeAll(async () => {
    server = await StreamingServer.listen({ runtime, log: silentLog });
  });
  afterAll(async () => {
    await server?.close();
  });

  const words = (...values: number[]): Buffer => {
    const body = Buffer.alloc(values.length * 4);
    values.forEach((value, i) => body.writeUInt32BE(value, 4 * i));
    return body;
  };
  function head(type: number, length: number): Buffer {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt16BE(0x8003, 0);
    bytes.writeUInt16BE(type, 2);
    bytes.writeUInt32BE(length & 0xff_ffff, 4);
    return bytes;
  }
  const control = (type: number, body: Buffer): Buffer => Buffer.concat([head(type, body.length), body]);
  const compressed = (block: Buffer): Buffer =>
    deflateSync(block, { dictionary: HEADER_DICTIONARY, finishFlush: 2 });
  const synStream = (block: Buffer, id = 1): Buffer =>
    control(1, Buffer.concat([words(id, 0), Buffer.from([0, 0]), block]));
  const text = (value: string): Buffer => Buffer.concat([words(value.length), Buffer.from(value)]);

  /** Upgrades an exec and sends these bytes, as often as the server takes them; resolves when it has hung up or time is over. */
  async function attack(pieces: () => Iterable<Buffer>, held = 1000 * patience): Promise<string> {
    const url = new URL(server.exec({ containerId: 'c', cmd: ['cat'], stdin: true, stdout: true }));
    const socket = connect({ host: url.hostname, port: Number(url.port) });
    return await new Promise((resolve) => {
      let answer = '';
      let begun = false;
      const timer = setTimeout(() => finish('held'), held);
      const over = new AbortController();
      const finish = (how: string): void => {
        clearTimeout(timer);
        over.abort();
        socket.destroy();
        resolve(how);
      };
      socket.on('error', () => {});
      socket.on('close', () => finish('hung up'));
      socket.on('data', (data: Buffer) => {
        if (begun) return;
        answer += data.toString('latin1');
        if (!answer.includes('\r\n\r\n')) return;
        begun = true;
        if (!answer.startsWith('HTTP/1.1 101')) return finish(answer.slice(0, 12));
        void (async () => {
          for (const piece of pieces()) {
            if (socket.destroyed) return;
            if (!socket.write(piece)) await once(socket, 'drain', { signal: over.signal }).catch(() => {});
          }
        })();
      });
      socket.write(
        `POST ${url.pathname} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n`,
      );
    });
  }

  const huge = 0xffff_ffff;
  // 24 KiB, which fit into a frame.
  const bomb = compressed(Buffer.concat([words(1), text('a'), words(24 * MIB), Buffer.alloc(24 * MIB)]));
  // https://github.com/advisories/GHSA-pc3f-x583-g7j2
  test.each<[string, () => Iterable<Buffer>]>([
    ['settings that claim four thousand million entries', () => [control(4, words(huge))]],
    [
      'settings that claim more than they hold, again and again',
      function* () {
        for (let i = 0; i < 20_000; i++) yield control(4, words(0x00ff_ffff));
      },
    ],
    ['a header block that claims as many headers', () => [synStream(compressed(words(huge)))]],
    ['a name that claims four gigabytes', () => [synStream(compressed(words(1, huge)))]],
    [
      'a value that claims four gigabytes',
      () => [synStream(compressed(Buffer.concat([words(1), text('a'), words(huge)])))],
    ],
    [
      'blocks that inflate to a thousand times their size',
      function* () {
        for (let i = 0; i < 10; i++) yield synStream(bomb, 1 + 2 * i);
      },
    ],
    ['a frame that claims sixteen megabytes', () => [head(1, 0xff_ffff), Buffer.alloc(MIB)]],
    ['a frame of another version', () => [Buffer.from('8004000100000000', 'hex')]],
    ['what is no compression', () => [synStream(Buffer.alloc(100, 0xaa))]],
    [
      'frames that are too short for what they are',
      function* () {
        for (const type of [1, 2, 3, 4, 6, 7, 8, 9]) yield control(type, Buffer.alloc(1));
      },
    ],
    [
      'pings without end',
      function* () {
        for (let i = 0; i < 200_000; i++) yield control(6, words(2 * i + 1));
      },
    ],
    [
      'streams without end',
      function* () {
        const block = compressed(Buffer.concat([words(1), text('streamtype'), text('x')]));
        yield synStream(block);
        for (let i = 1; i < 20_000; i++) yield synStream(Buffer.alloc(0), 1 + 2 * i);
      },
    ],
    [
      'data for nobody, without end',
      function* () {
        for (let i = 0; i < 200; i++) yield Buffer.concat([words(99), words(MIB), Buffer.alloc(MIB)]);
      },
    ],
    ['data that is announced and never comes', () => [words(1, 0xff_ffff)]],
  ])(
    'CVE-2026-35469: %s: memory is bounded, and the next client is served',
    async (what, pieces) => {
      // What is within the rules is borne, and costs nothing; for the rest the server hangs up.
      const borne = /^(pings|data) /.test(what);
      const outcomes = new Set<string>();
      const grown = await growth(async () => {
        const lanes = Array.from({ length: 5 }, async () =>
          outcomes.add(await attack(pieces, (borne ? 1000 : 10_000) * patience)),
        );
        await Promise.all(lanes);
      });
      expect([...outcomes]).toEqual([borne ? 'held' : 'hung up']);
      expect(grown).toBeLessThan(96 * MIB);
      // An honest one, which says nothing more.
      expect(await attack(() => [], 100)).toBe('held');
      await expect.poll(() => runtime.running.size, { timeout: 5000 * patience }).toBe(0);
    },
    60_000 * patience,
  );
});
