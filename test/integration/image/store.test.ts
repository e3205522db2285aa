import { spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { chainIds } from '../../../src/image/digest.ts';
import { CriImageService, type ImageRecord, type ImageService } from '../../../src/image/index.ts';
import { native } from '../../../src/linux/native.ts';
import { EvilRegistry } from '../../fixtures/registry-evil.ts';
import {
  dir,
  file,
  hardlink,
  type MadeImage,
  makeImage,
  symlink,
  tarOf,
  writeLayout,
} from '../../fixtures/registry-images.ts';
import { failure, run, scriptBundle, TestStore, workerBundle } from '../../fixtures/registry-store.ts';

let store: TestStore;
let images: ImageService;
let driver: string;

beforeAll(() => {
  driver = scriptBundle('test/fixtures/registry-driver.ts', 'driver.js');
});
beforeEach(() => {
  store = new TestStore();
  images = store.open();
});
afterEach(async () => {
  await store.close();
});

const base = tarOf(
  dir('.', { mode: 0o711, uid: 1, gid: 2 }),
  dir('etc'),
  file('etc/passwd', 'root:x:0:0::/:\n'),
);
const image = makeImage({
  layers: [base, tarOf(dir('.', { mode: 0o711, uid: 1, gid: 2 }), file('a', 'A'))],
  config: { User: '1000:5' },
});
const sibling = makeImage({ layers: [base, tarOf(file('b', 'B'))] });

let layouts = 0;

async function add(name: string, made: MadeImage, service = images): Promise<ImageRecord> {
  const layout = join(store.folder, `layout${(layouts += 1)}`);
  writeLayout(layout, { [name]: made });
  await service.import(layout);
  const record = service.resolve(made.id);
  if (record === undefined) throw new Error('not found after import');
  return record;
}

const a = 'localhost/a:1';
const b = 'localhost/b:1';

describe('removing', () => {
  test('the last name takes the image, and of its layers those that no other image has', async () => {
    await add(a, image);
    await add(b, sibling);
    const removed = await images.remove(a);
    expect(removed).toMatchObject({ untagged: [a], images: [image.id], blobs: 3, layers: 1 });
    expect(removed.bytes).toBeGreaterThan(0);
    expect(images.list().map((record) => record.id)).toEqual([sibling.id]);
    expect(store.names('snapshots', 'layers')).toEqual(
      chainIds(sibling.diffIds)
        .map((chain) => chain.slice(7))
        .sort(),
    );
    store.expectClean({ blobs: 4, layers: 2 });
    await images.remove(b);
    store.expectClean({ blobs: 0, layers: 0 });
  });

  test('one of several names takes the name', async () => {
    await add(a, image);
    images.tag(a, 'localhost/other:2');
    expect(images.resolve('localhost/other:2')?.repoTags).toEqual([a, 'localhost/other:2']);
    expect(await images.remove(a)).toMatchObject({ untagged: [a], images: [], blobs: 0 });
    expect(images.resolve(a)).toBeUndefined();
    expect(images.resolve('localhost/other:2')?.id).toBe(image.id);
  });

  test('by ID all names go', async () => {
    await add(a, image);
    images.tag(a, 'localhost/other:2');
    expect(await images.remove(image.id.slice(7, 19))).toMatchObject({
      untagged: [a, 'localhost/other:2'],
      images: [image.id],
    });
    store.expectClean({ blobs: 0, layers: 0 });
  });

  test('an image that a container uses stays, unless forced: then its layers stay as long as the container', async () => {
    const record = await add(a, image);
    images.prepare('c1', record);
    expect(await failure(images.remove(a))).toBe(
      'IMAGE_IN_USE: cannot remove image "localhost/a:1": containers use it',
    );
    await images.remove(a, { force: true });
    expect(images.list()).toEqual([]);
    expect(store.names('snapshots', 'layers')).toHaveLength(2);
    await images.prune({ all: true });
    expect(store.names('snapshots', 'layers')).toHaveLength(2);
    await images.removeSnapshot('c1');
    expect(await images.prune()).toMatchObject({ layers: 2 });
    store.expectClean({ blobs: 0, layers: 0 });
  });

  test('what is not there', async () => {
    expect(await failure(images.remove('nothing'))).toBe(
      'IMAGE_NOT_FOUND: cannot find image "nothing" on this machine',
    );
  });

  test('prune takes what has no tag; with all, everything but what is used or pinned', async () => {
    const layout = join(store.folder, 'unnamed');
    writeLayout(layout, { x: makeImage({ layers: [tarOf(file('u'))] }) });
    writeFileSync(
      join(layout, 'index.json'),
      readFileSync(join(layout, 'index.json'), 'utf8').replace(/,"annotations":\{[^}]*\}/, ''),
    );
    const [unnamed] = await images.import(layout);
    expect(unnamed?.names).toEqual([]);
    await add(a, image);
    const used = await add(b, sibling);
    images.prepare('c', used);
    expect((await images.prune()).images).toEqual([unnamed?.id]);
    images.pin(a, true);
    expect((await images.prune({ all: true })).images).toEqual([]);
    images.pin(a, false);
    expect((await images.prune({ all: true })).images).toEqual([image.id]);
    expect(images.list().map((record) => record.id)).toEqual([sibling.id]);
  });

  test('a short ID of several images is not guessed', async () => {
    // two images whose IDs begin with the same digit are found among twenty
    for (let i = 0; i < 20; i += 1)
      await add(`localhost/many:${i}`, makeImage({ layers: [base], config: { Labels: { n: String(i) } } }));
    const heads = images.list().map((record) => record.id.slice(7, 11));
    for (const head of heads) expect(images.resolve(head)?.id.slice(7, 11)).toBe(head);
    store.expectClean({ layers: 1 });
  });
});

describe('what is shown of an image', () => {
  test('inspect, history and usage', async () => {
    const described = makeImage({ layers: [base, tarOf(file('a'))] });
    await add(a, described);
    const { record, layers, stored } = images.inspect(a);
    expect(record.id).toBe(described.id);
    expect(layers.map(({ digest, diffId, chainId }) => [digest, diffId, chainId])).toEqual(
      described.layers.map((layer, i) => [
        layer.digest,
        described.diffIds[i],
        chainIds(described.diffIds)[i],
      ]),
    );
    expect(layers.every(({ path }) => existsSync(path))).toBe(true);
    expect(Math.abs(Date.parse(stored ?? '') - Date.now())).toBeLessThan(60_000);
    expect(images.history(a).map(({ layer }) => layer)).toEqual(
      described.layers.map(({ digest }) => digest).reverse(),
    );
    expect(images.usage()).toMatchObject({
      images: { count: 1 },
      blobs: { count: 4 },
      layers: { count: 2, inodes: 4 },
    });
  });

  test('an image whose layer is missing cannot be run and is not shown', async () => {
    await add(a, image);
    run('rm', '-r', store.path('snapshots', 'layers', chainIds(image.diffIds)[1]?.slice(7) ?? ''));
    const again = store.open();
    expect(again.list()).toEqual([]);
    await add(a, image, again); // heals it
    expect(again.list()).toHaveLength(1);
  });

  test('entries of other tools in index.json are left alone', async () => {
    await add(a, image);
    const path = store.path('images', 'index.json');
    const index = JSON.parse(readFileSync(path, 'utf8')) as { manifests: object[] };
    const foreign = {
      mediaType: 'application/vnd.example',
      digest: `sha256:${'9'.repeat(64)}`,
      size: 1,
      custom: { x: 1 },
    };
    writeFileSync(path, JSON.stringify({ ...index, manifests: [foreign, ...index.manifests] }));
    expect(images.list()).toHaveLength(1);
    images.tag(a, 'localhost/z:1');
    expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ manifests: [foreign, {}, {}] });
  });

  test('a damaged index.json is said by name', async () => {
    writeFileSync(store.path('images', 'index.json'), '{"manifests":');
    expect(() => images.list()).toThrow(
      `cannot read the image store: "${store.path('images', 'index.json')}" is damaged`,
    );
    writeFileSync(store.path('images', 'index.json'), '{"schemaVersion":2,"manifests":[]}');
  });
});

describe('snapshots', () => {
  test('upper looks like the image’s root; preparing again finds it; removing is idempotent', async () => {
    const record = await add(a, image);
    const snapshot = images.prepare('c-1.x_y', record);
    expect(statSync(snapshot.upper)).toMatchObject({ mode: 0o40711, uid: 1, gid: 2 });
    expect(statSync(snapshot.work).mode & 0o777).toBe(0o700);
    expect(snapshot.lower).toEqual(
      images
        .inspect(a)
        .layers.map(({ path }) => path)
        .reverse(),
    );
    writeFileSync(join(snapshot.upper, 'written'), Buffer.alloc(10_000));
    expect(images.prepare('c-1.x_y', record)).toEqual(snapshot);
    expect(images.snapshotKeys()).toEqual(['c-1.x_y']);
    const usage = await images.snapshotUsage('c-1.x_y');
    expect(usage.inodes).toBe(2);
    expect(usage.bytes).toBeGreaterThanOrEqual(12_288);
    await images.removeSnapshot('c-1.x_y');
    await images.removeSnapshot('c-1.x_y');
    expect(images.snapshotKeys()).toEqual([]);
    expect(await images.snapshotUsage('c-1.x_y')).toEqual({ bytes: 0, inodes: 0 });
    store.expectClean({ layers: 2 });
  });

  test.each(['', '.', '..', '../x', 'a/b', 'a\0', 'x'.repeat(129), '-x'])(
    'the key %j is refused',
    async (key) => {
      const record = await add(a, image);
      expect(() => images.prepare(key, record)).toThrow(
        expect.objectContaining({ code: 'INVALID_SNAPSHOT_KEY' }),
      );
    },
  );

  test('a key belongs to one image', async () => {
    images.prepare('c', await add(a, image));
    const other = await add(b, sibling);
    expect(() => images.prepare('c', other)).toThrow(
      'cannot prepare snapshot "c": it belongs to another image',
    );
  });

  test('an image that was removed meanwhile', async () => {
    const record = await add(a, image);
    await images.remove(a);
    expect(() => images.prepare('c', record)).toThrow(expect.objectContaining({ code: 'IMAGE_NOT_FOUND' }));
    store.expectClean({ layers: 0 });
    expect(images.snapshotKeys()).toEqual([]);
  });

  test('a tree deeper than any path, as a container can make one, is measured and removed', async () => {
    const { upper } = images.prepare('deep', await add(a, image));
    run(
      'sh',
      '-c',
      'cd "$1" && i=0; while [ $i -lt 1500 ]; do mkdir dddddddd && cd -P dddddddd || exit 1; i=$((i+1)); done',
      'sh',
      upper,
    );
    expect((await images.snapshotUsage('deep')).inodes).toBe(1501);
    await images.removeSnapshot('deep');
    store.expectClean({ layers: 2 });
  });

  test('an image without layers can be prepared too', async () => {
    const record = await add('localhost/empty:1', makeImage({ layers: [] }));
    const { lower } = images.prepare('e', record);
    expect(lower.map((path) => readdirSync(path))).toEqual([[]]);
    expect(images.users(record)).toEqual({ passwd: [], group: [] });
  });
});

describe('users of hostile images', () => {
  const passwdOf = async (...layers: readonly Buffer[]): Promise<unknown> =>
    images.users(await add(`localhost/u:${layouts}`, makeImage({ layers }))).passwd;

  test('a link to the host’s file finds the image’s own', async () => {
    expect(
      await passwdOf(
        tarOf(dir('etc'), symlink('etc/passwd', '/etc/shadow'), file('etc/shadow', 'inside:x:7:8::/h:\n')),
      ),
    ).toEqual([{ name: 'inside', uid: 7, gid: 8, home: '/h' }]);
    expect(await passwdOf(tarOf(dir('etc'), symlink('etc/passwd', '../../../../../etc/shadow')))).toEqual([]);
    expect(await passwdOf(tarOf(dir('etc'), symlink('etc/passwd', '/proc/self/root/etc/passwd')))).toEqual(
      [],
    );
    expect(await passwdOf(tarOf(symlink('etc', '/')))).toEqual([]);
    expect(await passwdOf(tarOf(symlink('etc', 'etc')))).toEqual([]);
  });

  test('a link in an upper layer to a file in a lower one', async () => {
    expect(
      await passwdOf(
        tarOf(dir('usr'), file('usr/p', 'low:x:1:1::/:\n')),
        tarOf(dir('etc'), symlink('etc/passwd', '/usr/p')),
      ),
    ).toMatchObject([{ name: 'low' }]);
    expect(await passwdOf(base, tarOf(dir('etc'), file('etc/.wh.passwd', '')))).toEqual([]);
  });

  test.each([
    [
      'a pipe',
      tarOf(dir('etc'), { name: 'etc/passwd', type: 'fifo' }),
      /cannot read "\/etc\/passwd" of image "localhost\/u:\d+": it is no regular file/,
    ],
    [
      'a device',
      tarOf(dir('etc'), { name: 'etc/passwd', type: 'char', devMajor: 1, devMinor: 5 }),
      /it is no regular file/,
    ],
    ['a directory', tarOf(dir('etc'), dir('etc/passwd')), /it is no regular file/],
  ])('%s does not hang', async (_name, tar, reason) => {
    const start = performance.now();
    await expect(passwdOf(tar)).rejects.toThrow(reason);
    expect(performance.now() - start).toBeLessThan(5000);
  });

  test('a gigabyte is refused without being read', async () => {
    const huge = spawnSync(
      'sh',
      [
        '-c',
        'mkdir -p "$1/etc" && truncate -s 1G "$1/etc/passwd" && tar -C "$1" -S -c etc',
        'sh',
        join(store.folder, 'huge'),
      ],
      { maxBuffer: 1 << 24 },
    ).stdout;
    const before = process.memoryUsage().rss;
    await expect(passwdOf(huge)).rejects.toThrow(/it has 1073741824 bytes, more than 10485760/);
    expect(process.memoryUsage().rss - before).toBeLessThan(100 * 1024 * 1024);
  });
});

describe('copyOut', () => {
  test('a directory with everything in it, from several layers', async () => {
    const record = await add(
      a,
      makeImage({
        layers: [
          tarOf(
            dir('data', { mode: 0o1770, uid: 5, gid: 6, mtime: 77 }),
            file('data/old', '1'),
            file('data/gone', '2'),
            dir('data/sub', { uid: 9 }),
            file('data/sub/x', 'x', { mode: 0o4755, uid: 9, xattrs: { 'user.a': Buffer.from('b') } }),
          ),
          tarOf(
            dir('data', { mode: 0o1770, uid: 5, gid: 6, mtime: 77 }),
            file('data/.wh.gone', ''),
            file('data/new', '3'),
            hardlink('data/hard', 'data/new'),
            symlink('data/link', '/etc/passwd'),
            { name: 'data/pipe', type: 'fifo', mode: 0o600 },
          ),
        ],
      }),
    );
    const target = join(store.folder, 'volume');
    mkdirSync(target);
    await images.copyOut(record, '/data', target);
    expect(readdirSync(target).sort()).toEqual(['hard', 'link', 'new', 'old', 'pipe', 'sub']);
    expect(statSync(target)).toMatchObject({ mode: 0o41770, uid: 5, gid: 6, mtimeMs: 77_000 });
    expect(statSync(join(target, 'sub/x'))).toMatchObject({ mode: 0o104755, uid: 9 });
    expect(native().getxattr(join(target, 'sub/x'), 'user.a', true)).toEqual(Buffer.from('b'));
    expect(statSync(join(target, 'hard')).ino).toBe(statSync(join(target, 'new')).ino);
    expect(lstatSync(join(target, 'link')).isSymbolicLink()).toBe(true);
    expect(lstatSync(join(target, 'pipe')).isFIFO()).toBe(true);
  });

  test('a path that climbs or leads over links stays in the image (CVE-2022-23648)', async () => {
    const record = await add(
      a,
      makeImage({
        layers: [
          tarOf(dir('etc'), file('etc/own', 'own'), symlink('out', '/etc'), symlink('up', '../../..')),
        ],
      }),
    );
    for (const [i, path] of ['/../../../../etc', '/out', '/up/etc', '/etc/../etc'].entries()) {
      const target = join(store.folder, `v${i}`);
      mkdirSync(target);
      await images.copyOut(record, path, target);
      expect(readdirSync(target), path).toEqual(['own']);
    }
  });

  test('what is no directory of the image copies nothing', async () => {
    const record = await add(a, image);
    const target = join(store.folder, 'volume');
    mkdirSync(target, { mode: 0o700 });
    for (const path of ['/nothing', '/etc/passwd', '/proc/self']) await images.copyOut(record, path, target);
    expect(readdirSync(target)).toEqual([]);
    expect(statSync(target).mode & 0o777).toBe(0o700);
  });
});

describe('CRI', () => {
  test('list, status, remove, file system', async () => {
    const cri = new CriImageService(images);
    await add(a, image);
    const expected = { id: image.id, repoTags: [a], uid: { value: 1000 }, pinned: false };
    expect(await cri.listImages({})).toMatchObject({ images: [expected] });
    expect((await cri.listImages({ filter: { image: { image: 'localhost/none' } } })).images).toEqual([]);
    expect(await cri.imageStatus({ image: { image: a } })).toMatchObject({ image: expected });
    expect(await cri.imageStatus({ image: { image: 'localhost/none' } })).toEqual({});
    const verbose = await cri.imageStatus({ image: { image: image.id }, verbose: true });
    expect(JSON.parse(verbose.info?.info ?? '')).toMatchObject({ imageSpec: { config: { User: '1000:5' } } });
    await expect(cri.imageStatus({})).rejects.toThrow('cannot find an image without a name');
    images.prepare('c', images.resolve(a)!);
    const info = await cri.imageFsInfo();
    expect(info.imageFilesystems?.[0]).toMatchObject({ fsId: { mountpoint: store.path('images') } });
    expect(info.imageFilesystems?.[0]?.usedBytes?.value).toBeGreaterThan(100);
    expect(info.containerFilesystems?.[0]?.inodesUsed?.value).toBe(1);
    expect(await cri.removeImage({ image: { image: a } })).toEqual({});
    expect(await cri.removeImage({ image: { image: a } })).toEqual({});
    expect(images.list()).toEqual([]);
  });

  test.each([
    ['', { uid: { value: 0 } }],
    ['web', { username: 'web' }],
    ['web:group', { username: 'web' }],
    ['65534', { uid: { value: 65534 } }],
    ['2147483648', { username: '2147483648' }],
    ['4294967296', { username: '4294967296' }],
    ['-1', { username: '-1' }],
  ])('USER %j', async (user, expected) => {
    const made = makeImage({ layers: [], config: { User: user } });
    await add(a, made);
    const { image: found } = await new CriImageService(images).imageStatus({ image: { image: made.id } });
    expect({ uid: found?.uid, username: found?.username }).toEqual({
      uid: undefined,
      username: undefined,
      ...expected,
    });
  });

  test('pull with each kind of credentials', async () => {
    const registry = await EvilRegistry.start();
    try {
      const cri = new CriImageService(images);
      const name = registry.add('x', image);
      registry.rule = (request, response) => {
        if (
          request.headers.authorization === `Basic ${Buffer.from('u:p').toString('base64')}` ||
          request.headers.authorization === 'Bearer reg'
        )
          return false;
        response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
        return true;
      };
      for (const auth of [
        { username: 'u', password: 'p' },
        { auth: Buffer.from('u:p').toString('base64') },
        { registryToken: 'reg' },
      ]) {
        expect(await cri.pullImage({ image: { image: name }, auth })).toEqual({ imageRef: image.id });
        await cri.removeImage({ image: { image: name } });
      }
      expect(await failure(cri.pullImage({ image: { image: name } }))).toMatch(/^UNAUTHORIZED/);
      expect(await failure(cri.pullImage({ image: { image: name }, auth: { auth: 'eA==' } }))).toMatch(
        /^CREDENTIALS_INVALID/,
      );
    } finally {
      await registry.stop();
    }
  });
});

describe('several processes', () => {
  const start = (...args: readonly string[]): Promise<{ code: number | null; out: string }> =>
    new Promise((resolve) => {
      const child = spawn(process.execPath, [driver, store.root, workerBundle(), ...args], {
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let out = '';
      child.stdout.on('data', (data: Buffer) => (out += data.toString()));
      child.stderr.on('data', (data: Buffer) => (out += data.toString()));
      // The driver says on standard error what memory it took.
      child.on('close', (code) => resolve({ code, out: out.replace(/^maxRSS \d+\n/gm, '') }));
    });

  test('that pull the same image fetch it once', async () => {
    const registry = await EvilRegistry.start();
    try {
      const name = registry.add('x', image);
      const ended = await Promise.all(Array.from({ length: 4 }, async () => await start('pull', name)));
      expect(ended.map(({ code, out }) => [code, out])).toEqual(
        Array.from({ length: 4 }, () => [0, `${JSON.stringify(image.id)}\n`]),
      );
      const layers = new Set(image.layers.map(({ digest }) => digest));
      const fetched = registry.log.filter(({ path }) => layers.has(path.split('/').at(-1) ?? ''));
      expect(fetched).toHaveLength(2);
      store.expectClean({ blobs: 4, layers: 2 });
    } finally {
      await registry.stop();
    }
  });

  test('that write names lose none', async () => {
    await add(a, image);
    const ended = await Promise.all(
      Array.from({ length: 4 }, async (_, i) => await start('tag', a, `localhost/t${i}:v`)),
    );
    expect(ended.map(({ code }) => code)).toEqual([0, 0, 0, 0]);
    expect(images.resolve(a)?.repoTags).toHaveLength(201);
  });

  test('of which one prunes while others pull: no image is ever half there', async () => {
    const registry = await EvilRegistry.start();
    try {
      const name = registry.add('x', image);
      for (let round = 0; round < 5; round += 1) {
        const [pulled] = await Promise.all([start('pull', name), start('prune'), start('prune')]);
        expect(pulled.code, pulled.out).toBe(0);
        const record = images.resolve(name);
        if (record !== undefined)
          for (const { path } of images.inspect(name).layers) expect(existsSync(path)).toBe(true);
        store.expectClean();
      }
    } finally {
      await registry.stop();
    }
  });
});

describe('killed at any step', () => {
  /** Runs a command that dies at the failpoint; true where it did. */
  const dies = (point: string, ...args: readonly string[]): boolean => {
    const ended = spawnSync(process.execPath, [driver, store.root, workerBundle(), ...args], {
      env: { ...process.env, NODELET_FAILPOINTS: point.includes('=') ? `${point}kill` : `${point}=kill` },
      encoding: 'utf8',
    });
    if (ended.signal !== 'SIGKILL') expect(ended.status, ended.stderr).toBe(0);
    return ended.signal === 'SIGKILL';
  };

  const importPoints = [
    'blob:before-rename',
    'blob:after-rename',
    'blob:after-write',
    'layer:after-unpack',
    'layer:before-commit',
    'layer:before-rename',
    'layer:after-rename',
    'atomic-file:before-rename',
    'atomic-file:after-rename',
  ];

  test.each(importPoints)('of an import: %s', async (point) => {
    const layout = join(store.folder, 'layout');
    writeLayout(layout, { [a]: image });
    expect(dies(point, 'import', layout)).toBe(true);
    const again = store.open();
    await again.ready;
    // at most a partial blob, which the next import goes on with
    const partials = store.names('images', 'ingest');
    expect(partials.every((name) => /^[0-9a-f]{64}$/.test(name))).toBe(true);
    store.expectClean({ partials: partials.length });
    for (const record of again.list()) expect(record.id).toBe(image.id);
    await again.import(layout);
    expect(again.resolve(a)?.id).toBe(image.id);
    expect(readFileSync(join(again.inspect(a).layers[1]?.path ?? '', 'a'), 'utf8')).toBe('A');
    store.expectClean({ blobs: 4, layers: 2 });
  });

  test.each(['blob:after-write', 'layer:after-unpack', 'layer:before-rename', 'blob:before-rename'])(
    'of a pull: %s; the next one goes on',
    async (point) => {
      const child = spawn('true');
      await new Promise((resolve) => child.once('exit', resolve));
      const registry = await EvilRegistry.start();
      try {
        const name = registry.add('x', image);
        const killed = await new Promise<NodeJS.Signals | null>((resolve) => {
          const pulling = spawn(process.execPath, [driver, store.root, workerBundle(), 'pull', name], {
            env: { ...process.env, NODELET_FAILPOINTS: `${point}=kill` },
            stdio: 'ignore',
          });
          pulling.on('exit', (_code, signal) => resolve(signal));
        });
        expect(killed).toBe('SIGKILL');
        const again = store.open();
        await again.ready;
        store.expectClean({ partials: store.names('images', 'ingest').length });
        expect(store.names('images', 'ingest').every((file) => /^[0-9a-f]{64}$/.test(file))).toBe(true);
        expect((await again.pull(name)).id).toBe(image.id);
        store.expectClean({ blobs: 4, layers: 2 });
      } finally {
        await registry.stop();
      }
    },
  );

  test.each(['gc:after-blobs', 'gc:after-layers'])('of a removal: %s', async (point) => {
    await add(a, image);
    await add(b, sibling);
    // the first time is the start's own look for leftovers
    expect(dies(`${point}=1*off->`, 'remove', a)).toBe(true);
    const again = store.open();
    await again.ready;
    store.expectClean();
    expect(again.list().map((record) => record.id)).toEqual([sibling.id]);
    expect(again.prepare('c', again.resolve(b)!).lower.every((path) => existsSync(path))).toBe(true);
    await again.removeSnapshot('c');
    await again.prune();
    store.expectClean({ blobs: 4, layers: 2 });
  });

  test.each(['snapshot:before-rename', 'snapshot:after-rename'])('of a snapshot: %s', async (point) => {
    await add(a, image);
    expect(dies(point, 'prepare', 'c', a)).toBe(true);
    const again = store.open();
    await again.ready;
    store.expectClean({ layers: 2 });
    expect(again.snapshotKeys()).toEqual(point.includes('after') ? ['c'] : []);
    expect(existsSync(again.prepare('c', again.resolve(a)!).upper)).toBe(true);
  });

  test('of the removal of a snapshot', async () => {
    images.prepare('c', await add(a, image));
    expect(dies('snapshot:after-unlink', 'drop', 'c')).toBe(true);
    const again = store.open();
    await again.ready;
    store.expectClean({ layers: 2 });
    expect(again.snapshotKeys()).toEqual([]);
  });

  test('what a living process has half made is not collected', async () => {
    const registry = await EvilRegistry.start();
    try {
      const name = registry.add('x', image);
      let release = (): void => {};
      const held = new Promise<void>((resolve) => (release = resolve));
      let reached = (): void => {};
      const waiting = new Promise<void>((resolve) => (reached = resolve));
      registry.rule = (request, response, self) => {
        if (!request.path.endsWith(image.layers[1]?.digest ?? '')) return false;
        reached();
        void held.then(() => self.blob(request, response, self.data(image.layers[1]?.digest ?? '')));
        return true;
      };
      const pulling = images.pull(name);
      await waiting;
      const other = store.open();
      await other.ready;
      await other.prune({ all: true });
      release();
      expect((await pulling).id).toBe(image.id);
      expect(images.prepare('c', images.resolve(name)!).lower.every((path) => existsSync(path))).toBe(true);
    } finally {
      await registry.stop();
    }
  });
});

describe('a full disk', () => {
  let mounted: string;
  beforeEach(() => {
    mounted = join(store.folder, 'small');
    mkdirSync(mounted);
    run('mount', '-t', 'tmpfs', '-o', 'size=8m,nr_inodes=600', 'tmpfs', mounted);
  });
  afterEach(async () => {
    await small.close();
    run('umount', mounted);
  });
  let small: ImageService;
  const limits = { reserveBytes: 64 * 1024, reserveInodes: 16 };
  const left = (): string[] =>
    run('find', join(mounted, 'root'), '-type', 'f')
      .trim()
      .split('\n')
      .map((path) => path.replace(/.*\//, ''))
      .sort();

  const write = (made: MadeImage): string => {
    const layout = join(store.folder, `layout${(layouts += 1)}`);
    writeLayout(layout, { [a]: made });
    return layout;
  };

  test.each<[string, MadeImage, RegExp]>([
    [
      'too large for it, seen before anything is written',
      makeImage({ layers: [tarOf(file('x', Buffer.alloc(9_000_000, 'x')))], compress: 'none' }),
      /^DISK_FULL: cannot /,
    ],
    [
      'that expands until it is full',
      makeImage({
        layers: [tarOf(...Array.from({ length: 100 }, (_, i) => file(`f${i}`, Buffer.alloc(100_000, i))))],
      }),
      /^DISK_FULL: cannot unpack a layer|^DISK_FULL: cannot write files/,
    ],
    [
      'with more files than it has inodes',
      makeImage({ layers: [tarOf(...Array.from({ length: 700 }, (_, i) => file(`f${i}`, '')))] }),
      /^DISK_FULL: cannot /,
    ],
  ])('an image %s', async (_name, made, expected) => {
    small = store.open({ root: join(mounted, 'root'), limits });
    const text = await failure(small.import(write(made)));
    expect(text).toMatch(expected);
    expect(text).toContain(`no room on the file system of "${mounted}/root`);
    expect(left()).toEqual(expect.arrayContaining(['index.json', 'lock', 'oci-layout']));
    expect(readdirSync(join(mounted, 'root/snapshots/new'))).toEqual([]);
    expect(readdirSync(join(mounted, 'root/images/ingest'))).toEqual([]);
    expect(readdirSync(join(mounted, 'root/snapshots/layers'))).toEqual([]);
    // and there is room again for one that fits
    await small.import(write(image));
    expect(small.resolve(a)?.id).toBe(image.id);
  });

  test('that is full to the last byte can still be pruned', async () => {
    small = store.open({ root: join(mounted, 'root'), limits });
    await small.import(write(image));
    spawnSync('dd', ['if=/dev/zero', `of=${join(mounted, 'filler')}`, 'bs=4k'], { stdio: 'ignore' });
    expect(() => writeFileSync(join(mounted, 'more'), 'x')).toThrow('ENOSPC');
    const record = small.resolve(a)!;
    expect(() => small.prepare('c', record)).toThrow(expect.objectContaining({ code: 'DISK_FULL' }));
    expect(small.snapshotKeys()).toEqual([]);
    expect(await small.prune({ all: true })).toMatchObject({
      images: [image.id],
      untagged: [a],
      blobs: 4,
      layers: 2,
    });
    expect(small.list()).toEqual([]);
    expect(left()).toEqual(['index.json', 'lock', 'oci-layout']);
  });

  test('the same of a pull', async () => {
    small = store.open({ root: join(mounted, 'root'), limits });
    const registry = await EvilRegistry.start();
    try {
      const big = registry.add(
        'big',
        makeImage({ layers: [tarOf(file('x', Buffer.alloc(9_000_000, 'x')))], compress: 'none' }),
      );
      expect(await failure(small.pull(big))).toMatch(
        /^DISK_FULL: cannot pull the image: no room .* \d+ MiB are free and 18 MiB are needed$/,
      );
      expect(registry.blobRequests).toBe(1); // the config
      const bomb = registry.add(
        'bomb',
        makeImage({
          layers: [tarOf(...Array.from({ length: 100 }, (_, i) => file(`f${i}`, Buffer.alloc(100_000, i))))],
        }),
      );
      expect(await failure(small.pull(bomb))).toMatch(/^DISK_FULL: /);
      expect(readdirSync(join(mounted, 'root/images/ingest'))).toEqual([]);
      expect(readdirSync(join(mounted, 'root/snapshots/new'))).toEqual([]);
    } finally {
      await registry.stop();
    }
  });
});
