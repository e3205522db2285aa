/** Whoever may open the socket may send anything: a child serves, and its descriptors and memory stay where they were. */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { connect as http2Connect } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type CriClient, connectCri } from '../../../src/cri/index.ts';
import { codecOf } from '../../../src/cri/wire/codec.ts';
import { MESSAGES, RUNTIME_SERVICE_CALLS } from '../../../src/cri/wire/tables.gen.ts';
import { type Program, patience, World } from '../../fixtures/agent.ts';

let world: World;
let server: Program;
let client: CriClient;
let path: string;

beforeAll(async () => {
  world = await World.open();
  path = join(world.state, 'cri.sock');
  server = await world.cri(['--spare-sandboxes', '0', '--log-level', 'error']);
  client = await connectCri(path);
});
afterAll(async () => {
  client?.close();
  server?.signal('SIGTERM');
  const outcome = await server?.exit;
  await world?.close();
  expect({ code: outcome?.code, stderr: outcome?.stderr }).toEqual({ code: 0, stderr: '' });
});

const descriptors = (): number => readdirSync(`/proc/${server.pid}/fd`).length;
const resident = (): number =>
  Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${server.pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;

/** Until the server holds no more than before; what it holds beyond that at the end of its patience. */
async function settled(before: number): Promise<number> {
  const deadline = performance.now() + 30_000 * patience;
  while (descriptors() > before && performance.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 20));
  return Math.max(0, descriptors() - before);
}

async function opened(): Promise<Socket> {
  const socket = connect(path);
  socket.on('error', () => {});
  await new Promise<void>((resolve) => {
    socket.once('connect', resolve);
    socket.once('close', () => resolve());
  });
  return socket;
}

async function ended(socket: Socket): Promise<void> {
  if (socket.closed) return;
  await new Promise<void>((resolve) => {
    socket.once('close', () => resolve());
    socket.destroy();
  });
}

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const SETTINGS = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);

/** A frame of HTTP/2 with a length that may lie. */
function frame(
  type: number,
  flags: number,
  stream: number,
  payload: Buffer,
  length = payload.length,
): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

function hostileBytes(round: number): Buffer {
  const noise = randomBytes(1 + (round % 400));
  switch (round % 6) {
    case 0:
      return noise;
    case 1:
      return Buffer.concat([PREFACE, noise]);
    case 2:
      return Buffer.concat([PREFACE, SETTINGS, frame(round % 12, noise[0] ?? 0, round % 5, noise)]);
    case 3:
      return Buffer.concat([PREFACE, SETTINGS, frame(1, 4, 1, noise, 0xff_ffff)]);
    case 4:
      return Buffer.from(`GET / HTTP/1.1\r\nHost: x\r\n\r\n${noise.toString('latin1')}`, 'latin1');
    default:
      return Buffer.concat([
        PREFACE,
        SETTINGS,
        ...Array.from({ length: 50 }, () => frame(6, 0, 0, randomBytes(8))),
      ]);
  }
}

/** One gRPC request of any bytes; its status, or undefined where the stream was cut. */
function request(
  session: ReturnType<typeof http2Connect>,
  name: string,
  body: Buffer,
): Promise<string | undefined> {
  return new Promise((resolve) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': `/runtime.v1.RuntimeService/${name}`,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    let status: string | undefined;
    const take = (headers: Record<string, unknown>): void => {
      if (typeof headers['grpc-status'] === 'string') status = headers['grpc-status'];
    };
    stream.on('response', take);
    stream.on('trailers', take);
    stream.on('error', () => {});
    stream.on('close', () => resolve(status));
    stream.resume();
    stream.end(body);
  });
}

function message(bytes: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

test('connections with anything in them, half-open ones, and those that are dropped, cost nothing', {
  timeout: 120_000 * patience,
}, async () => {
  await client.runtime.version({});
  const attack = async (rounds: number): Promise<void> => {
    for (let round = 0; round < rounds; round += 20) {
      const sockets = await Promise.all(Array.from({ length: 20 }, opened));
      for (const [i, socket] of sockets.entries()) socket.write(hostileBytes(round + i));
      // Some end their side and wait, some vanish with half a frame on the way.
      for (const [i, socket] of sockets.entries()) if (i % 3 === 0) socket.end();
      await new Promise((resolve) => setImmediate(resolve));
      await Promise.all(sockets.map(ended));
    }
  };
  const idle = descriptors();
  await attack(200);
  expect(await settled(idle)).toBe(0);
  const before = { fds: descriptors(), memory: resident() };
  await attack(2000);
  expect(await settled(before.fds)).toBe(0);
  expect(resident() - before.memory).toBeLessThan(40);
  expect((await client.runtime.version({})).runtimeName).toBe('nodelet');
});

test('more connections than there is room for are turned away, and the others served', async () => {
  const before = descriptors();
  const sockets = await Promise.all(Array.from({ length: 400 }, opened));
  expect(descriptors() - before).toBeLessThanOrEqual(256);
  expect((await client.runtime.version({})).runtimeName).toBe('nodelet');
  await Promise.all(sockets.map(ended));
  expect(await settled(before)).toBe(0);
});

test('messages of any bytes are answered with an error, and do nothing', async () => {
  const session = http2Connect('http://localhost', { createConnection: () => connect(path) });
  session.on('error', () => {});
  const statuses = new Map<string, number>();
  // Calls that last, or change something when they are asked for nothing in particular, are no matter of chance.
  const names = RUNTIME_SERVICE_CALLS.filter(([name]) => name !== 'GetContainerEvents').map(([name]) => name);
  for (let round = 0; round < 60; round += 1) {
    const asked = names.map(async (name) => {
      const bytes = randomBytes(1 + ((round * 7) % 300));
      const body =
        round % 4 === 0 ? Buffer.concat([Buffer.from([round % 3, 0xff, 0xff]), bytes]) : message(bytes);
      const status = (await request(session, name, body)) ?? 'cut';
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    });
    await Promise.all(asked);
  }
  session.close();
  // OK is for what asks for nothing: bytes that hold unknown fields alone.
  expect(
    [...statuses.keys()].filter((status) => !['0', '3', '5', '8', '12', '13', 'cut'].includes(status)),
  ).toEqual([]);
  expect(statuses.get('3')).toBeGreaterThan(100);
  expect((await client.runtime.listPodSandbox({})).items ?? []).toEqual([]);
  expect((await client.runtime.version({})).runtimeName).toBe('nodelet');
});

test('a message above 16 MiB is refused before it is read', async () => {
  const session = http2Connect('http://localhost', { createConnection: () => connect(path) });
  session.on('error', () => {});
  const memory = resident();
  const head = Buffer.alloc(5);
  head.writeUInt32BE(0x7fff_ffff, 1);
  expect(await request(session, 'Version', head)).toBe('8');
  session.close();
  expect(resident() - memory).toBeLessThan(64);
});

test('a thousand event streams that are dropped leave nothing', async () => {
  const dropped = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i += 50) {
      // Of its own: HTTP/2 ends a connection whose peer resets a thousand streams faster than 33 a second.
      const other = await connectCri(path);
      const stops = Array.from({ length: 50 }, () => new AbortController());
      const streams = stops.map(async ({ signal }) => {
        for await (const event of other.runtime.getContainerEvents({}, signal)) expect(event).toBeDefined();
      });
      await other.runtime.version({});
      for (const stop of stops) stop.abort();
      await Promise.all(streams);
      other.close();
    }
  };
  await dropped(100);
  const before = { fds: descriptors(), memory: resident() };
  await dropped(1000);
  expect(await settled(before.fds)).toBe(0);
  expect(resident() - before.memory).toBeLessThan(40);
});

test('every request type is one that the codec knows', () => {
  for (const [, , type] of RUNTIME_SERVICE_CALLS) {
    expect(MESSAGES[type]).toBeDefined();
    expect(codecOf(type).decode(Buffer.alloc(0))).toBeDefined();
  }
});
