/** A running agent: what its socket and its ports answer to who asks what he should not. */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Program, podOf, shell, World } from '../fixtures/agent.ts';
import { patience } from '../fixtures/patience.ts';

let world: World;
let agent: Program;
beforeAll(async () => {
  world = await World.open();
  agent = await world.liveAgent();
  const { code, stderr } = await world.cli([
    'run',
    '-d',
    ...world.settings,
    world.manifest(podOf('victim', [shell('sleep 1000')], { hostNetwork: true })),
  ]);
  if (code !== 0) throw new Error(stderr);
  await world.untilRunning('victim');
});
afterAll(async () => {
  await world?.cli(['rm', '--all', '--force']);
  await world?.close();
});

const socket = (): string => join(world.state, 'nodelet.sock');

/** Writes these bytes and returns everything that comes until the end, or `after` ms of silence. */
async function say(text: string, silence = 1500 * patience): Promise<string> {
  return await new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const connection = createConnection(socket());
    const finish = (): void => {
      connection.destroy();
      resolve(Buffer.concat(chunks).toString('latin1'));
    };
    connection.setTimeout(silence, finish);
    connection.on('data', (chunk: Buffer) => chunks.push(chunk));
    connection.on('end', finish);
    connection.on('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EPIPE' || error.code === 'ECONNRESET' ? finish() : reject(error),
    );
    connection.write(text);
  });
}

const get = async (path: string, method = 'GET'): Promise<string> =>
  await say(`${method} ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
const statuses = (answer: string): string[] => answer.match(/HTTP\/1\.1 \d+/g) ?? [];

const upgrade = (path: string, more = ''): string =>
  `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n${more}\r\n`;

describe('a connection that asks to be upgraded', () => {
  // https://github.com/kubernetes/kubernetes/issues/71411: refused, it was a tunnel all the same
  test.each([
    ['nowhere', '/exec/default/victim'],
    ['to a pod that is not there', '/exec/default/nobody/c?command=id'],
    ['to a container that is not there', '/exec/default/victim/nobody?command=id'],
    ['with no command', '/exec/default/victim/c'],
    ['to a program that is not there', '/exec/default/victim/c?command=/nonesuch'],
    ['on a path for something else', '/pods'],
  ])('CVE-2018-1002105: %s is refused and closed: what follows is nobody’s request', async (_what, path) => {
    const answer = await say(
      `${upgrade(path)}GET /pods HTTP/1.1\r\nHost: x\r\n\r\nDELETE /nodelet/v1/pods/default/victim HTTP/1.1\r\nHost: x\r\n\r\n`,
    );
    expect(statuses(answer)).toHaveLength(1);
    expect(statuses(answer)[0]).toMatch(/ [45]\d\d$/);
    expect(answer).not.toContain('PodList');
    expect((await world.client.pods()).map(({ metadata }) => metadata?.name)).toEqual(['victim']);
  });

  // https://github.com/kubernetes/kubernetes/issues/92914
  test('CVE-2020-8559: is never sent elsewhere', async () => {
    for (const path of [
      '/exec/default/victim/c?command=true',
      '/exec/default/nobody/c?command=true',
      '//127.0.0.1:1/exec',
      '/exec/..%2f..%2f/x/c',
    ]) {
      const answer = await say(upgrade(path));
      expect(statuses(answer)[0]).not.toMatch(/ 3\d\d$/);
      expect(answer.toLowerCase()).not.toContain('\r\nlocation:');
    }
  });
});

describe('paths that a kubelet has and this one has not', () => {
  test.each([
    // https://github.com/kubernetes/kubernetes/issues/81023
    ['CVE-2019-11248: a profiler', '/debug/pprof/', 'GET'],
    ['CVE-2019-11248: nor its figures', '/debug/pprof/heap?debug=1', 'GET'],
    ['CVE-2019-11248: nor flags of debugging', '/debug/flags/v', 'GET'],
    // https://github.com/kubernetes/kubernetes/issues/129654
    ['CVE-2024-9042: logs of the node', '/logs/?query=kubelet&pattern=%22;id%22', 'GET'],
    ['CVE-2024-9042: nor any file of them', '/logs/../../etc/shadow', 'GET'],
    // https://github.com/kubernetes/kubernetes/issues/130016
    ['CVE-2025-0426: checkpoints', '/checkpoint/default/victim/c', 'POST'],
  ])('%s: not found, by whoever asks', async (_what, path, method) => {
    const files = (): number => readdirSync(world.root, { recursive: true }).length;
    const before = files();
    for (let i = 0; i < 20; i++) expect(statuses(await get(path, method))).toEqual(['HTTP/1.1 404']);
    expect(files()).toBe(before);
  });

  // https://github.com/kubernetes/kubernetes/issues/89378
  test('CVE-2020-8551: a request without end is cut off, and memory is as it was', async () => {
    const rss = (): number =>
      Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${agent.pid}/status`, 'utf8'))?.[1]) * 1024;
    const before = rss();
    const query = `/pods?${'x'.repeat(1 << 20)}`;
    // A client who still writes may see the connection go and no answer.
    const refusal = / (400|413|431)$|^cut off$/;
    const first = (answer: string): string => statuses(answer)[0] ?? 'cut off';
    expect(first(await get(query))).toMatch(refusal);
    expect(first(await say(`GET /pods HTTP/1.1\r\n${'A: b\r\n'.repeat(200_000)}\r\n`))).toMatch(refusal);
    const size = 64 << 20;
    const posted = await say(
      `POST /nodelet/v1/pods HTTP/1.1\r\nHost: x\r\nContent-Length: ${size}\r\n\r\n${'['.repeat(size)}`,
      10_000 * patience,
    );
    expect(first(posted)).toMatch(refusal);
    const deep = '['.repeat(1 << 20);
    const nested = await say(
      `POST /nodelet/v1/pods HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${deep.length}\r\n\r\n${deep}`,
      10_000 * patience,
    );
    expect(first(nested)).toMatch(/ 400$/);
    expect(rss() - before).toBeLessThan(256 << 20);
    expect(await get('/healthz')).toContain('200');
  });
});

describe('the agent', () => {
  test('CVE-2019-11248: listens on no port, and on a socket that only root may open', () => {
    const inodes = new Set(
      readdirSync(`/proc/${agent.pid}/fd`).flatMap((fd) => {
        try {
          return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${agent.pid}/fd/${fd}`))?.[1] ?? [];
        } catch {
          return [];
        }
      }),
    );
    const listening = ['tcp', 'tcp6', 'udp', 'udp6'].flatMap((kind) =>
      readFileSync(`/proc/${agent.pid}/net/${kind}`, 'utf8')
        .split('\n')
        .slice(1)
        .filter((line) => inodes.has(line.trim().split(/\s+/)[9] ?? '')),
    );
    expect(listening).toEqual([]);
    const { mode, uid } = statSync(socket());
    expect({ mode: mode & 0o777, uid }).toEqual({ mode: 0o600, uid: 0 });
    expect(statSync(world.state).mode & 0o777).toBe(0o700);
  });
});
