/** Kubernetes' own clients against our runtime's containers, and clients that are none. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { silentLog } from '../../../src/base/index.ts';
import { NamespaceMode } from '../../../src/cri/index.ts';
import { openRemoteExec, openRemotePortForward, StreamingServer } from '../../../src/cri/streaming/index.ts';
import {
  containerConfig,
  ended,
  openRuntime,
  type RuntimeFixture,
  sandboxConfig,
  sh,
} from '../../fixtures/runtime.ts';
import { noGo, runClient, startClient, streamingClient } from '../../fixtures/streaming-client.ts';
import { textOf, until } from '../../fixtures/streams.ts';

const absent = noGo();
const by = absent === undefined ? 'client-go' : `client-go (${absent})`;
let fixture: RuntimeFixture;
let server: StreamingServer;
beforeAll(async () => {
  if (absent === undefined) streamingClient();
  fixture = await openRuntime();
  server = await StreamingServer.listen({ runtime: fixture.runtime, log: silentLog });
}, 900_000);
afterAll(async () => {
  await server?.close();
  await fixture?.close();
});

interface Pod {
  readonly podSandboxId: string;
  readonly containerId: string;
}

async function start(
  script: string,
  options: Parameters<typeof containerConfig>[1] = {},
  network: NamespaceMode = NamespaceMode.POD,
): Promise<Pod> {
  const { runtime } = fixture;
  const namespaceOptions = { network, pid: NamespaceMode.CONTAINER, ipc: NamespaceMode.POD };
  const config = sandboxConfig(fixture, { sandbox: { namespaceOptions } });
  const { podSandboxId = '' } = await runtime.runPodSandbox({ config });
  const container = containerConfig(sh(script), options);
  const { containerId = '' } = await runtime.createContainer({ podSandboxId, config: container });
  await runtime.startContainer({ containerId });
  return { podSandboxId, containerId };
}

const PROTOCOLS = ['spdy', 'websocket'];

function terminalFlags(url: string, protocol: string): string[] {
  return ['-url', url, '-protocol', protocol, '-stdin', '-stdout', '-tty'];
}

describe.skipIf(absent !== undefined)(`by ${by}`, () => {
  test.each(PROTOCOLS)('a terminal has its client’s size, and the next ones (%s)', async (protocol) => {
    const { containerId } = await start('sleep 1000');
    // Each line makes the client tell its next size.
    const script = 'while true; do now=$(stty size); [ "$now" = "$last" ] || echo "$now"; last=$now; done';
    const url = server.exec({ containerId, cmd: sh(script), stdin: true, stdout: true, tty: true });
    const client = startClient('command', ...terminalFlags(url, protocol), '-sizes', '80x24,100x30,120x40');
    await until(client.stdout, /40 120\r\n/);
    client.stdin.write('\u0003');
    const [code] = (await once(client, 'close')) as [number];
    expect(code).toBe(130);
  });

  test.each(PROTOCOLS)('attach reaches the container and ends with it (%s)', async (protocol) => {
    const { containerId } = await start('cat; echo over >&2; exit 4', { stdin: true, stdinOnce: true });
    const url = server.attach({ containerId, stdin: true, stdout: true, stderr: true });
    const result = await runClient(
      ['command', '-url', url, '-protocol', protocol, '-stdin', '-stdout', '-stderr'],
      'some words\n',
    );
    expect(result).toEqual({ code: 0, stdout: Buffer.from('some words\n'), stderr: 'over\n' });
    await ended(fixture.runtime, containerId);
  });

  test('attach to a container that has ended says so', async () => {
    const { containerId } = await start('true');
    await ended(fixture.runtime, containerId);
    const url = server.attach({ containerId, stdout: true });
    const { code, stderr } = await runClient(['command', '-url', url, '-stdout']);
    expect(code).toBe(255);
    expect(stderr).toContain('error attaching to container: cannot attach container');
  });

  test('a thousand dropped sessions leave no descriptor, no process and no memory', async () => {
    const { containerId } = await start('sleep 1000');
    const drop = async (count: number): Promise<void> => {
      const client = startClient('drop', '-protocol', count % 2 === 0 ? 'spdy' : 'websocket');
      const urls = Array.from({ length: count }, () =>
        server.exec({ containerId, cmd: sh('echo here; exec sleep 1000'), stdin: true, stdout: true }),
      );
      client.stdin.end(`${urls.join('\n')}\n`);
      const said = textOf(client.stdout);
      const [code] = (await once(client, 'close')) as [number];
      expect([code, (await said).split('\n').length - 1]).toEqual([0, count]);
    };
    const fds = (): number => readdirSync('/proc/self/fd').length;
    const idle = async (before: number): Promise<void> => {
      while (fds() > before) await sleep(20);
    };
    const programs = async (): Promise<string> => {
      const session = await fixture.runtime.openExec({
        containerId,
        command: sh('ps | grep -c "sleep 100[0]"'),
        terminal: false,
        stdin: false,
      });
      return (await textOf(session.stdout)).trim();
    };
    await drop(100);
    await drop(101);
    await idle(fds());
    const before = fds();
    const memory = process.memoryUsage.rss();
    await drop(500);
    await drop(501);
    await idle(before);
    expect(await programs()).toBe('1');
    expect(process.memoryUsage.rss() - memory).toBeLessThan(40 * 2 ** 20);
  });
});

describe('our own client', () => {
  test.each(['spdy', 'websocket'] as const)('runs a program (%s)', async (transport) => {
    const { containerId } = await start('sleep 1000');
    const url = server.exec({
      containerId,
      cmd: sh('cat; echo err >&2; exit 9'),
      stdin: true,
      stdout: true,
      stderr: true,
    });
    const session = await openRemoteExec(url, { stdin: true, terminal: false }, { transport });
    session.stdin?.end('words');
    expect(await Promise.all([textOf(session.stdout), textOf(session.stderr), session.exit])).toEqual([
      'words',
      'err\n',
      9,
    ]);
  });

  test.each([
    ['IPv4', '127.0.0.1:8080', NamespaceMode.POD],
    ['IPv6', '[::1]:8080', NamespaceMode.POD],
    ['the host’s network', '127.0.0.1:8081', NamespaceMode.NODE],
  ])('reaches a port of the pod over %s', async (_, address, network) => {
    const script = `mkdir -p /tmp/w; echo page > /tmp/w/index.html; httpd -p ${address} -h /tmp/w; echo up; exec sleep 1000`;
    const { podSandboxId, containerId } = await start(script, {}, network);
    const session = await fixture.runtime.openExec({
      containerId,
      command: sh(`until wget -q -O - http://${address}/ 2>/dev/null; do :; done`),
      terminal: false,
      stdin: false,
    });
    expect(await textOf(session.stdout)).toBe('page\n');
    const port = Number(address.slice(-4));
    const stream = await openRemotePortForward(server.portForward({ podSandboxId, port: [port] }), port);
    stream.end('GET / HTTP/1.0\r\n\r\n');
    expect(await textOf(stream)).toMatch(/page\n$/);
  });

  test('hears that nobody listens', async () => {
    const { podSandboxId } = await start('sleep 1000');
    const stream = await openRemotePortForward(server.portForward({ podSandboxId, port: [] }), 81);
    const [error] = (await once(stream, 'error')) as [Error];
    expect(error.message).toMatch(
      /^error forwarding port 81 to pod .*failed to connect to localhost:81 inside/,
    );
    expect(error.message).toMatch(/IPv4: .*ECONNREFUSED.* IPv6: /);
  });
});

describe('clients that are none', () => {
  async function raw(text: Buffer | string): Promise<Socket> {
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1');
    socket.on('error', () => {});
    await once(socket, 'connect');
    socket.write(text);
    return socket;
  }

  const head = (url: string, ...more: string[]): string =>
    [`POST ${new URL(url).pathname} HTTP/1.1`, 'Host: x', 'Connection: Upgrade', ...more, '', ''].join(
      '\r\n',
    );
  const spdy = ['Upgrade: SPDY/3.1', 'X-Stream-Protocol-Version: v4.channel.k8s.io'];

  test.each([
    ['no token', '/exec/none', ['Upgrade: SPDY/3.1'], 404],
    ['another path', '/other', [], 404],
    ['a way out', '/exec/..%2f..', ['Upgrade: SPDY/3.1'], 404],
  ])('with %s are refused', async (_, path, more, status) => {
    const socket = await raw(head(`http://x${path}`, ...more));
    expect(await textOf(socket)).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  });

  test.each([
    ['no upgrade', ['Upgrade: h2c'], 400],
    ['no protocol', ['Upgrade: SPDY/3.1'], 400],
    ['an unknown protocol', ['Upgrade: SPDY/3.1', 'X-Stream-Protocol-Version: v9.channel.k8s.io'], 403],
  ])('with %s are told', async (_, more, status) => {
    const url = server.exec({ containerId: 'x', cmd: ['true'], stdout: true });
    const socket = await raw(head(url, ...more));
    expect(await textOf(socket)).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  });

  test('that open no stream are let go after the time for it', async () => {
    const hasty = await StreamingServer.listen({
      runtime: fixture.runtime,
      log: silentLog,
      timeouts: { idle: 60_000, creation: 100 },
    });
    try {
      const url = hasty.exec({ containerId: 'x', cmd: ['true'], stdout: true });
      const socket = connect(Number(new URL(hasty.url).port), '127.0.0.1');
      socket.write(head(url, ...spdy));
      expect(await textOf(socket)).toMatch(/^HTTP\/1.1 101 /);
    } finally {
      await hasty.close();
    }
  });

  test('that send anything at all after the upgrade end their own connection only', async () => {
    const { containerId } = await start('sleep 1000');
    const fds = (): number => readdirSync('/proc/self/fd').length;
    const before = fds();
    await Promise.all(
      Array.from({ length: 100 }, async (_, i) => {
        const url = server.exec({ containerId, cmd: ['true'], stdout: true });
        const begin = Buffer.from([0x80, 3, 0, (i % 10) + 1, 0, 0, 0, i]);
        const socket = await raw(Buffer.concat([Buffer.from(head(url, ...spdy)), begin, randomBytes(2000)]));
        socket.end();
        socket.resume();
        await once(socket, 'close');
      }),
    );
    while (fds() > before) await sleep(20);
    const url = server.exec({ containerId, cmd: ['true'], stdout: true, stderr: true });
    const session = await openRemoteExec(url, { stdin: false, terminal: false });
    for (const stream of [session.stdout, session.stderr]) stream?.resume();
    expect(await session.exit).toBe(0);
  });
});
