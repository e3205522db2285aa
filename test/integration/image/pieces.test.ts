/** Large blobs over several connections: in pieces, past slow ones, and again after a kill. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { EvilRegistry, partOf, type Request } from '../../fixtures/registry-evil.ts';
import { dir, file, makeImage, tarOf } from '../../fixtures/registry-images.ts';
import { failure, scriptBundle, TestStore, workerBundle } from '../../fixtures/registry-store.ts';

const MiB = 1024 * 1024;
/** Noise does not compress: the blob is as long as the layer. */
const image = makeImage({
  layers: [tarOf(dir('.'), file('noise', randomBytes(20 * MiB)))],
  compress: 'none',
});
const blob = image.layers[0]!;
const isBlob = ({ path }: Request): boolean => path.includes(`/blobs/${blob.digest}`);
const fromOf = (request: Request): number => Number(/=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);

let registry: EvilRegistry;
let other: EvilRegistry;
let store: TestStore;
let driver: string;

beforeAll(async () => {
  registry = await EvilRegistry.start();
  other = await EvilRegistry.start();
  driver = scriptBundle('test/fixtures/registry-driver.ts', 'driver.js');
});
afterAll(async () => {
  await registry.stop();
  await other.stop();
});
beforeEach(() => {
  registry.reset();
  other.reset();
  store = new TestStore();
});
afterEach(async () => {
  await store.close();
});

/** Ranges of the blob that were asked for, in order. */
const ranges = (from = registry): (string | undefined)[] =>
  from.log.filter(isBlob).map(({ headers }) => headers.range);

test('pieces are cut at their size, each is asked for once, and never more of them at a time than allowed', async () => {
  const name = registry.add('app', image);
  let open = 0;
  let most = 0;
  registry.rule = (request, response, self) => {
    if (!isBlob(request)) return false;
    open += 1;
    most = Math.max(most, open);
    response.on('close', () => (open -= 1));
    setTimeout(() => self.blob(request, response, self.data(blob.digest)), 30);
    return true;
  };
  const images = store.open({ chunks: { size: 2 * MiB, connections: 3 } });
  expect((await images.pull(name)).id).toBe(image.id);
  const expected = Array.from({ length: Math.ceil(blob.size / (2 * MiB)) }, (_, i) => {
    const last = Math.min(blob.size, (i + 1) * 2 * MiB) - 1;
    return `bytes=${i * 2 * MiB}-${last}`;
  });
  expect(ranges()[0]).toBe(expected[0]);
  expect(new Set(ranges())).toEqual(new Set(expected));
  expect(ranges()).toHaveLength(expected.length);
  expect(most).toBe(3);
  store.expectClean({ blobs: 3, layers: 1 });
});

test('a registry without ranges sends the whole, once', async () => {
  const name = registry.add('app', image);
  registry.rule = (request, response, self) => {
    if (!isBlob(request)) return false;
    response.writeHead(200, { 'content-length': blob.size });
    response.end(self.data(blob.digest));
    return true;
  };
  expect((await store.open().pull(name)).id).toBe(image.id);
  expect(ranges()).toHaveLength(1);
});

test('a registry without ranges that hangs up is read from the start again, and what is there is skipped', async () => {
  const name = registry.add('app', image);
  let cuts = 0;
  registry.rule = (request, response, self) => {
    if (!isBlob(request)) return false;
    response.writeHead(200, { 'content-length': blob.size });
    cuts += 1;
    if (cuts === 1)
      response.write(self.data(blob.digest).subarray(0, 12 * MiB), () =>
        setTimeout(() => response.destroy(), 50),
      );
    else response.end(self.data(blob.digest));
    return true;
  };
  expect((await store.open().pull(name)).id).toBe(image.id);
  expect(cuts).toBe(2);
});

test('a registry that gives less than the range it was asked for is asked for the rest', async () => {
  const name = registry.add('app', image);
  registry.rule = (request, response, self) => {
    if (!isBlob(request)) return false;
    const from = fromOf(request);
    const part = partOf(request, self.data(blob.digest)).subarray(0, 1.5 * MiB);
    response.writeHead(206, {
      'content-range': `bytes ${from}-${from + part.length - 1}/${blob.size}`,
      'content-length': part.length,
    });
    response.end(part);
    return true;
  };
  expect((await store.open().pull(name)).id).toBe(image.id);
});

/** One piece trickles, for ever or until it is asked for again; the others come at once. */
const trickle = (from: number, times: number, timers: NodeJS.Timeout[]) => {
  let seen = 0;
  return (request: Request, response: ServerResponse, self: EvilRegistry): boolean => {
    if (!isBlob(request) || Math.floor(fromOf(request) / (2 * MiB)) !== from / (2 * MiB)) return false;
    seen += 1;
    if (seen > times) return false;
    const data = self.data(blob.digest);
    self.head(request, response, data);
    const part = partOf(request, data);
    let at = 0;
    timers.push(setInterval(() => response.write(part.subarray(at, (at += 20_000))), 200));
    return true;
  };
};

test('a piece that crawls while the others do not is begun again at its byte', async () => {
  const name = registry.add('app', image);
  const timers: NodeJS.Timeout[] = [];
  registry.rule = trickle(4 * MiB, 1, timers);
  try {
    const images = store.open({ chunks: { size: 2 * MiB, connections: 4 } });
    expect((await images.pull(name)).id).toBe(image.id);
    const again = ranges().filter((range) => /bytes=4\d{6}-6291455/.test(range ?? ''));
    expect(again).toHaveLength(2);
    expect(Number(/=(\d+)/.exec(again[1] ?? '')?.[1])).toBeGreaterThan(4 * MiB);
  } finally {
    for (const timer of timers) clearInterval(timer);
  }
});

test('and elsewhere, where there is another host', async () => {
  const name = registry.add('app', image);
  other.add('app', image);
  const timers: NodeJS.Timeout[] = [];
  other.rule = trickle(4 * MiB, 99, timers);
  const certs = join(store.folder, 'certs.d');
  mkdirSync(join(certs, registry.host), { recursive: true });
  writeFileSync(join(certs, registry.host, 'hosts.toml'), `[host."http://${other.host}"]`);
  try {
    const images = store.open({ hostDirectories: [certs], chunks: { size: 2 * MiB, connections: 4 } });
    expect((await images.pull(name)).id).toBe(image.id);
    expect(ranges()).toHaveLength(1);
    expect(ranges(other)).toHaveLength(Math.ceil(blob.size / (2 * MiB)));
  } finally {
    for (const timer of timers) clearInterval(timer);
  }
});

test('after a kill in the middle nothing is fetched again that was there, in whatever order it came', async () => {
  const name = registry.add('app', image);
  const stuck: ServerResponse[] = [];
  let done = 0;
  registry.rule = (request, response, self) => {
    if (!isBlob(request)) return false;
    if (fromOf(request) > 0) {
      response.on('finish', () => (done += 1));
      return false;
    }
    // the first piece: its first bytes, and then nothing
    self.head(request, response, self.data(blob.digest));
    response.write(partOf(request, self.data(blob.digest)).subarray(0, 3 * MiB));
    stuck.push(response);
    return true;
  };
  const child = spawn(process.execPath, [driver, store.root, workerBundle(), 'pull', name], {
    stdio: 'ignore',
  });
  const path = store.path('images', 'ingest', blob.digest.slice(7));
  try {
    // a note stands at the end of the file as soon as there is a gap
    const complete = (): boolean =>
      done >= 2 && (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > blob.size;
    while (!complete()) {
      expect(child.exitCode).toBe(null);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    // what was sent is on its way to the file: wait until that rests
    for (let before = -1, now = 0; before !== now; ) {
      before = now;
      await new Promise((resolve) => setTimeout(resolve, 300));
      now = statSync(path).blocks;
    }
  } finally {
    child.kill('SIGKILL');
    await once(child, 'exit');
    for (const response of stuck) response.destroy();
  }
  registry.log.length = 0;
  registry.sent = 0;
  registry.rule = () => false;
  expect((await store.open().pull(name)).id).toBe(image.id);
  const fetched = ranges();
  expect(fetched).toHaveLength(1);
  expect(Number(/=(\d+)-8388607$/.exec(fetched[0] ?? '')?.[1])).toBeGreaterThanOrEqual(2 * MiB);
  expect(registry.sent).toBeLessThan(6.1 * MiB);
  store.expectClean({ blobs: 3, layers: 1 });
});

test('a piece that never comes ends the download, and the others are kept', async () => {
  const name = registry.add('app', image);
  registry.rule = (request, response) => {
    if (!isBlob(request) || fromOf(request) !== 16 * MiB) return false;
    response.destroy();
    return true;
  };
  const images = store.open();
  expect(await failure(images.pull(name))).toMatch(/^(DOWNLOAD_INTERRUPTED|REGISTRY_UNREACHABLE): /);
  store.expectClean({ partials: 1 });
  registry.log.length = 0;
  registry.rule = () => false;
  expect((await images.pull(name)).id).toBe(image.id);
  expect(ranges()).toEqual([`bytes=${16 * MiB}-`].map((start) => `${start}${blob.size - 1}`));
});

test('a limit on bandwidth holds for all pulls together', async () => {
  const small = [1, 2].map((i) =>
    makeImage({ layers: [tarOf(dir('.'), file(`noise${i}`, randomBytes(2 * MiB)))], compress: 'none' }),
  );
  const names = small.map((one, i) => registry.add(`app${i}`, one));
  const images = store.open({ maxBandwidth: 2 * MiB });
  const start = performance.now();
  await Promise.all(names.map(async (name) => await images.pull(name)));
  // 4 MiB, of which half a second's worth comes at once
  expect(performance.now() - start).toBeGreaterThan(1400);
});

test('one pull has its own limit, below the node’s', async () => {
  const layers = Array.from({ length: 6 }, (_, i) => tarOf(dir('.'), file(`f${i}`, randomBytes(1000))));
  const many = makeImage({ layers });
  const name = registry.add('many', many);
  let open = 0;
  let most = 0;
  registry.rule = (request, response, self) => {
    if (!request.path.includes('/blobs/')) return false;
    open += 1;
    most = Math.max(most, open);
    response.on('close', () => (open -= 1));
    setTimeout(() => self.blob(request, response, self.data(request.path.split('/').at(-1) ?? '')), 50);
    return true;
  };
  await store.open({ maxDownloads: 5, maxDownloadsPerPull: 2, workers: 4 }).pull(name);
  expect(most).toBe(2);
});
