/** What keeps a store whole, small and useful: verify, collection by the disk's use, mounts, diff, push, dropped blobs. */
import { once } from 'node:events';
import {
  appendFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { silentLog } from '../../../src/base/index.ts';
import { ImageCollector, type ImageService, imageMounts, unmountImage } from '../../../src/image/index.ts';
import { native } from '../../../src/linux/native.ts';
import { startRegistry, type TestRegistry } from '../../fixtures/registry.ts';
import {
  dir,
  file,
  type MadeImage,
  makeImage,
  symlink,
  tarOf,
  writeLayout,
} from '../../fixtures/registry-images.ts';
import { failure, run, TestStore } from '../../fixtures/registry-store.ts';

let store: TestStore;
let images: ImageService;

beforeEach(() => {
  store = new TestStore();
  images = store.open();
});
afterEach(async () => {
  for (const path of [...imageMounts().values()].flat())
    if (path.startsWith(store.folder)) native().umount2(path, 2);
  await store.close();
});

const base = tarOf(
  dir('etc'),
  file('etc/os', 'test'),
  dir('data'),
  file('data/one', '1'),
  file('data/two', '2'),
);
const image = makeImage({ layers: [base, tarOf(file('a', 'A'.repeat(5000)))] });
const sibling = makeImage({ layers: [base, tarOf(file('b', 'B'))] });
const a = 'localhost/a:1';
const b = 'localhost/b:1';

let made = 0;
async function add(name: string, what: MadeImage): Promise<void> {
  made += 1;
  const layout = join(store.folder, `layout${made}`);
  writeLayout(layout, { [name]: what });
  await images.import(layout);
}

const blob = (digest: string): string => store.path('images', 'blobs', 'sha256', digest.slice(7));

describe('verify', () => {
  beforeEach(async () => {
    await add(a, image);
    await add(b, sibling);
  });

  const kinds = async (options: Parameters<ImageService['verify']>[0] = {}): Promise<string[]> =>
    (await images.verify(options)).problems.map(
      ({ kind, mended }) => `${kind}${mended === undefined ? '' : ': mended'}`,
    );

  test('finds nothing where nothing is wrong', async () => {
    const report = await images.verify({ deep: true });
    expect(report).toMatchObject({ images: 2, blobs: 7, layers: 3, problems: [] });
    store.expectClean({ blobs: 7, layers: 3 });
  });

  test('a blob whose bytes are others, of the same length', async () => {
    const digest = image.layers[1]?.digest ?? '';
    const bytes = readFileSync(blob(digest));
    bytes[bytes.length - 20] = (bytes[bytes.length - 20] ?? 0) ^ 1;
    writeFileSync(blob(digest), bytes);
    const { problems } = await images.verify();
    expect(problems).toMatchObject([
      { kind: 'blob-corrupt', subject: digest, images: [a], mended: undefined },
    ]);
    expect(await kinds({ mend: true })).toEqual(['blob-corrupt: mended']);
    expect(existsSync(blob(digest))).toBe(false);
    // it runs, and cannot be given away until it was pulled again
    expect(images.resolve(a)?.id).toBe(image.id);
    expect(await kinds()).toEqual(['blob-missing']);
    expect(await failure(images.export([a], join(store.folder, 'out.tar')))).toMatch(/^IMAGE_INCOMPLETE: /);
    await add(a, image);
    expect(await kinds()).toEqual([]);
  });

  test('a blob that was cut off, one that is too long, one that is a link', async () => {
    truncateSync(blob(image.layers[1]?.digest ?? ''), 10);
    appendFileSync(blob(sibling.layers[1]?.digest ?? ''), 'x');
    const config = blob(sibling.id);
    renameSync(config, join(store.folder, 'config'));
    run('ln', '-s', join(store.folder, 'config'), config);
    expect((await kinds()).filter((kind) => kind === 'blob-corrupt')).toHaveLength(3);
    await kinds({ mend: true });
    // the image without a config cannot be run and has lost its name; the other can
    expect(images.list().map(({ id }) => id)).toEqual([image.id]);
    expect(existsSync(join(store.folder, 'config'))).toBe(true);
  });

  test('a manifest that is gone', async () => {
    rmSync(blob(sibling.manifestDigest));
    expect(await kinds()).toEqual(['image-incomplete']);
    expect(await kinds({ mend: true })).toEqual(['image-incomplete: mended']);
    expect(await kinds()).toEqual([]);
    expect(images.list().map(({ id }) => id)).toEqual([image.id]);
  });

  test('a layer without its record, without its files, and one that is gone are unpacked again', async () => {
    const [bottom, top] = images.inspect(a).layers;
    rmSync(join(bottom?.path ?? '', '..', 'layer.json'));
    rmSync(join(top?.path ?? '', '..'), { recursive: true });
    const other = images.inspect(b).layers[1]?.path ?? '';
    rmSync(other, { recursive: true });
    expect((await kinds()).sort()).toEqual(['layer-damaged', 'layer-damaged', 'layer-missing']);
    expect((await kinds({ mend: true })).sort()).toEqual([
      'layer-damaged: mended',
      'layer-damaged: mended',
      'layer-missing: mended',
    ]);
    expect(await kinds({ deep: true })).toEqual([]);
    expect(readFileSync(join(top?.path ?? '', 'a'), 'utf8')).toBe('A'.repeat(5000));
    store.expectClean({ blobs: 7, layers: 3 });
  });

  test('files of a layer that somebody changed are found with --deep, and put right', async () => {
    const path = images.inspect(a).layers[0]?.path ?? '';
    writeFileSync(join(path, 'etc', 'os'), 'tost');
    rmSync(join(path, 'data', 'one'));
    writeFileSync(join(path, 'data', 'new'), 'x');
    expect(await kinds()).toEqual([]);
    const { problems } = await images.verify({ deep: true });
    expect(problems.map(({ kind, images: whose }) => [kind, whose])).toEqual([['layer-changed', [a, b]]]);
    for (const name of ['"/data/one"', '"/data/new"', '"/etc/os"'])
      expect(problems[0]?.message).toContain(name);
    expect(await kinds({ deep: true, mend: true })).toEqual(['layer-changed: mended']);
    expect(await kinds({ deep: true })).toEqual([]);
    expect(readFileSync(join(path, 'etc', 'os'), 'utf8')).toBe('test');
    store.expectClean({ blobs: 7, layers: 3 });
  });

  test('a layer that a container stands on is not replaced under it', async () => {
    images.prepare('c', images.resolve(a)!);
    const path = images.inspect(a).layers[0]?.path ?? '';
    rmSync(join(path, 'data', 'one'));
    expect(await kinds({ deep: true, mend: true })).toEqual(['layer-changed']);
    expect(existsSync(join(path, 'data', 'one'))).toBe(false);
  });

  test('what nobody knows', async () => {
    writeFileSync(store.path('images', 'blobs', 'sha256', 'notes.txt'), 'x');
    mkdirSync(store.path('snapshots', 'layers', 'old'));
    expect(await kinds()).toEqual(['stray', 'stray']);
    expect(await kinds({ mend: true })).toEqual(['stray: mended', 'stray: mended']);
    await images.prune();
    store.expectClean({ blobs: 7, layers: 3 });
  });

  test('a damaged index.json: the images are found again without their names', async () => {
    writeFileSync(store.path('images', 'index.json'), '{"manifests":');
    expect(await kinds()).toEqual(['index-damaged']);
    expect(await kinds({ mend: true })).toEqual(['index-damaged: mended']);
    expect(
      images
        .list()
        .map(({ id }) => id)
        .sort(),
    ).toEqual([image.id, sibling.id].sort());
    expect(await kinds({ deep: true })).toEqual([]);
    images.tag(image.id, a);
    expect(images.resolve(a)?.id).toBe(image.id);
  });
});

describe('collection by the use of the disk', () => {
  test('unused images go until there is room, used, pinned and young ones stay', async () => {
    await add(a, image);
    await add(b, sibling);
    await add('localhost/c:1', makeImage({ layers: [tarOf(file('c'))] }));
    images.prepare('container', images.resolve(a)!);
    images.pin(b, true);
    let now = 1_000_000;
    let used = 10;
    const collector = new ImageCollector({
      images,
      policy: { highThresholdPercent: 85, lowThresholdPercent: 80, minimumAge: 120_000, maximumAge: 0 },
      log: silentLog,
      disk: () => ({ capacity: 100, available: 100 - used }),
      now: () => now,
    });
    expect((await collector.collect()).images).toEqual([]);
    used = 90;
    now += 119_000;
    expect((await collector.collect()).images).toEqual([]);
    now += 1_000;
    const { images: gone, wanted, missing } = await collector.collect();
    expect([gone.length, wanted, missing]).toEqual([1, 10, 10]);
    expect(images.list().flatMap(({ repoTags }) => repoTags)).toEqual([a, b]);
    // the container ends: its image is the next
    await images.removeSnapshot('container');
    expect((await collector.collect()).images).toEqual([image.id]);
    await collector.close();
  });
});

describe('sums and users', () => {
  test('unique and shared bytes, containers and mounts', async () => {
    await add(a, image);
    await add(b, sibling);
    images.prepare('container', images.resolve(a)!);
    const [first, second] = images.summaries();
    expect(first?.users).toEqual(['container']);
    expect(second?.users).toEqual([]);
    expect(first?.sharedSize).toBe(second?.sharedSize);
    const freed = (await images.remove(b)).bytes + 1; // and the one byte of the file "b"
    expect(freed).toBe(second?.uniqueSize);
  });
});

describe('mount', () => {
  test('an image of 130 layers, read-only, and in use as long as it is mounted', async () => {
    const layers = Array.from({ length: 130 }, (_, i) =>
      tarOf(file(`f${i}`, String(i)), file('top', String(i))),
    );
    await add(a, makeImage({ layers }));
    const target = join(store.folder, 'look');
    mkdirSync(target);
    const { id } = images.mount(a, target);
    expect(readdirSync(target)).toHaveLength(131);
    expect(readFileSync(join(target, 'top'), 'utf8')).toBe('129');
    expect(() => writeFileSync(join(target, 'top'), 'x')).toThrow(/EROFS/);
    expect(imageMounts().get(id)).toEqual([target]);
    expect(await failure(images.remove(a))).toMatch(/^IMAGE_IN_USE: .*mounted on/);
    expect((await images.prune({ all: true })).images).toEqual([]);
    unmountImage(target, '');
    expect(imageMounts().get(id)).toBeUndefined();
    expect(readdirSync(target)).toEqual([]);
    expect((await images.prune({ all: true })).images).toEqual([id]);
  });

  test('one layer, and none; what is not mounted cannot be unmounted', async () => {
    await add(a, makeImage({ layers: [base] }));
    await add(b, makeImage({ layers: [] }));
    for (const [name, entries] of [
      [a, ['data', 'etc']],
      [b, []],
    ] as const) {
      const target = join(store.folder, name.slice(-3, -2));
      mkdirSync(target);
      images.mount(name, target);
      expect(readdirSync(target)).toEqual(entries);
      unmountImage(target, target);
      expect(existsSync(target)).toBe(false);
    }
    expect(() => unmountImage(store.folder, '')).toThrow(/no image is mounted there/);
  });
});

describe('diff', () => {
  test('what was added, changed, replaced and deleted through overlayfs itself', async () => {
    await add(a, image);
    const { lower, upper, work } = images.prepare('0123456789abcdef', images.resolve(a)!);
    const merged = join(store.folder, 'merged');
    mkdirSync(merged);
    run(
      'mount',
      '-t',
      'overlay',
      '-o',
      `lowerdir=${lower.join(':')},upperdir=${upper},workdir=${work}`,
      'o',
      merged,
    );
    try {
      writeFileSync(join(merged, 'etc', 'os'), 'changed');
      writeFileSync(join(merged, 'new'), 'x');
      mkdirSync(join(merged, 'dir'));
      writeFileSync(join(merged, 'dir', 'in'), 'x');
      rmSync(join(merged, 'a'));
      rmSync(join(merged, 'data'), { recursive: true });
      mkdirSync(join(merged, 'data'));
      writeFileSync(join(merged, 'data', 'two'), 'again');
    } finally {
      run('umount', merged);
    }
    expect(images.diff('0123').map(({ kind, path }) => `${kind[0]?.toUpperCase()} ${path}`)).toEqual([
      'D /a',
      'C /data',
      'D /data/one',
      'C /data/two',
      'A /dir',
      'A /dir/in',
      'C /etc',
      'C /etc/os',
      'A /new',
    ]);
    expect(() => images.diff('fff')).toThrow(/cannot find container "fff"/);
  });
});

describe('with a registry', () => {
  let registry: TestRegistry;
  beforeAll(async () => {
    registry = await startRegistry();
  });
  afterAll(async () => {
    await registry.stop();
  });

  test('an image that was pushed is pulled by us and by skopeo, and pushing again sends nothing', async () => {
    await add(a, image);
    const target = `${registry.host}/lab/app:1`;
    const sent: string[] = [];
    const pushed = await images.push(a, target, { onBlob: (_, done) => sent.push(done) });
    expect(pushed).toEqual({ name: target, digest: image.manifestDigest });
    expect(sent).toEqual(['pushed', 'pushed', 'pushed']);
    await images.push(a, target, { onBlob: (_, done) => sent.push(done) });
    expect(sent.slice(3)).toEqual(['exists', 'exists', 'exists']);
    const inspected = run('skopeo', 'inspect', '--tls-verify=false', `docker://${target}`);
    expect((JSON.parse(inspected) as { Digest: string }).Digest).toBe(image.manifestDigest);
    const other = new TestStore();
    try {
      expect((await other.open().pull(target)).id).toBe(image.id);
    } finally {
      await other.close();
    }
  });

  test('a blob whose answer was lost is not sent twice', async () => {
    await add(a, image);
    const [hostname = '', port = ''] = registry.host.split(':');
    const uploads: string[] = [];
    const proxy = createServer((from, to) => {
      const { method = '', url = '', headers } = from;
      const ask = request({ hostname, port, method, path: url, headers }, (answer) => {
        const upload = method === 'PUT' && url.includes('/uploads/');
        if (upload) uploads.push(new URL(url, 'http://x').searchParams.get('digest') ?? '');
        if (upload && uploads.length === 1) {
          answer.resume();
          to.destroy();
          return;
        }
        to.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(to);
      });
      ask.on('error', () => to.destroy());
      from.pipe(ask);
    });
    proxy.listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    try {
      const target = `127.0.0.1:${(proxy.address() as AddressInfo).port}/lab/lost:1`;
      const done: string[] = [];
      await images.push(a, target, { onBlob: (_, how) => done.push(how) });
      expect(done).toEqual(['pushed', 'pushed', 'pushed']);
      expect(uploads).toHaveLength(3);
      expect(new Set(uploads).size).toBe(3);
    } finally {
      proxy.closeAllConnections();
      proxy.close();
    }
  });

  test('what is no tag, not here, or not kept is not pushed', async () => {
    await add(a, image);
    const digest = `${registry.host}/x@${image.manifestDigest}`;
    expect(await failure(images.push(a, digest))).toMatch(/^INVALID_REFERENCE: /);
    expect(await failure(images.push('localhost/no:1', `${registry.host}/x:1`))).toMatch(
      /^IMAGE_NOT_FOUND: /,
    );
    rmSync(blob(image.layers[0]?.digest ?? ''));
    expect(await failure(images.push(a, `${registry.host}/x:1`))).toMatch(/^IMAGE_INCOMPLETE: /);
  });

  test('a registry that nobody runs says that it was a push', async () => {
    await add(a, image);
    expect(await failure(images.push(a, '127.0.0.1:1/x:1'))).toMatch(/^REGISTRY_UNREACHABLE: cannot push "/);
  });

  test('without its compressed layers an image runs, is current, and takes less room', async () => {
    const target = `${registry.host}/lab/dropped:1`;
    await add(a, image);
    await images.push(a, target);
    const lean = new TestStore();
    try {
      const service = lean.open({ keepBlobs: false });
      await service.pull(target);
      lean.expectClean({ blobs: 2, layers: 2 });
      expect(readFileSync(join(service.inspect(target).layers[1]?.path ?? '', 'a'), 'utf8')).toMatch(/^A+$/);
      // nothing is fetched again
      const phases: string[] = [];
      await service.pull(target, { onEvent: (event) => event.kind === 'layer' && phases.push(event.phase) });
      expect(phases).toEqual(['exists', 'exists']);
      expect((await service.verify({ deep: true })).problems).toEqual([]);
      expect(await failure(service.export([target], '-'))).toMatch(/^IMAGE_INCOMPLETE: /);
      await service.close();
      // with the option off again, a pull brings them
      await lean.open().pull(target);
      lean.expectClean({ blobs: 4, layers: 2 });
    } finally {
      await lean.close();
    }
  });
});

test('imported and packed images are kept without their compressed layers too, where that is wanted', async () => {
  const layout = join(store.folder, 'layout');
  writeLayout(layout, { [a]: image });
  const lean = new TestStore();
  try {
    const service = lean.open({ keepBlobs: false });
    await service.import(layout);
    lean.expectClean({ blobs: 2, layers: 2 });
    const tool = join(store.folder, 'tool');
    writeFileSync(tool, 'not a program', { mode: 0o755 });
    await service.pack(b, [`${tool}:/tool`], { users: false });
    lean.expectClean({ blobs: 4, layers: 3 });
    expect(readFileSync(join(service.inspect(b).layers[0]?.path ?? '', 'tool'), 'utf8')).toBe(
      'not a program',
    );
    expect((await service.verify({ deep: true })).problems).toEqual([]);
    // again, where everything is there
    await service.import(layout);
    await service.pack(b, [`${tool}:/tool`], { users: false });
    lean.expectClean({ blobs: 4, layers: 3 });
    await service.close();
    // with the option off again, an import brings them
    await lean.open().import(layout);
    lean.expectClean({ blobs: 6, layers: 3 });
  } finally {
    await lean.close();
  }
});

test('an image is read from umoci’s and skopeo’s own hands after verify has mended it', async () => {
  await add(a, makeImage({ layers: [tarOf(dir('d'), symlink('l', 'd'), file('d/f', 'x'))] }));
  const digest = images.inspect(a).layers[0]?.path ?? '';
  rmSync(join(digest, 'd', 'f'));
  await images.verify({ deep: true, mend: true });
  expect(lstatSync(join(digest, 'd', 'f')).isFile()).toBe(true);
  const out = join(store.folder, 'out');
  await images.export([a], out, 'oci-dir');
  run('umoci', 'raw', 'unpack', '--image', `${out}:${a}`, join(store.folder, 'tree'));
  expect(readFileSync(join(store.folder, 'tree', 'd', 'f'), 'utf8')).toBe('x');
});
