/**
 * Archives and layers that attack whoever unpacks them, each in a process of its own whose memory is measured: the known ones
 * by their advisories, and bombs of each kind. Whatever becomes of it, nothing outside the store is touched and nothing is left
 * in it.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { codeOf } from '../../src/base/index.ts';
import { sha256 } from '../../src/image/digest.ts';
import { padding, tarEnd, tarHeader } from '../../src/image/transfer/tar-writer.ts';
import { measured } from '../fixtures/cost.ts';
import { dir, file, hardlink, makeImage, symlink, tarOf, writeLayout } from '../fixtures/registry-images.ts';
import { describeTree, failure, scriptBundle, TestStore, workerBundle } from '../fixtures/registry-store.ts';

const MIB = 1024 ** 2;
/** What an import of a small image takes, and some. */
const MEMORY = 260 * MIB;

let driver: string;
let store: TestStore;
/** Stands for the host. */
let victim: string;
let before: string;

beforeAll(() => {
  driver = scriptBundle('test/fixtures/registry-driver.ts', 'driver.js');
});
beforeEach(() => {
  store = new TestStore();
  victim = join(store.folder, 'victim');
  mkdirSync(join(victim, 'sub'), { recursive: true });
  writeFileSync(join(victim, 'shadow'), 'root secret', { mode: 0o600 });
  before = JSON.stringify(describeTree(victim));
});
afterEach(async () => {
  expect(JSON.stringify(describeTree(victim))).toBe(before);
  await store.close();
});

/** Nothing but small documents that name the refused layers, which a prune takes; nothing unpacked, nothing half made. */
async function expectNothing(): Promise<void> {
  store.expectClean({ layers: 0 });
  const images = store.open();
  expect(images.list()).toEqual([]);
  await images.prune();
  store.expectClean({ blobs: 0, layers: 0 });
}

/** Imports in another process: the code that it fails with, or "". Its memory has to stay bounded. */
async function attempt(path: string): Promise<string> {
  const { status, errors, peak } = await measured(
    process.execPath,
    driver,
    store.root,
    workerBundle(),
    'import',
    path,
  );
  expect(peak, 'resident bytes').toBeLessThan(MEMORY);
  if (status === 0) return '';
  return /code: '([A-Z_]+)'/.exec(errors)?.[1] ?? errors;
}

function layoutOf(...layers: readonly Buffer[]): string {
  const layout = join(store.folder, 'layout');
  writeLayout(layout, { 'localhost/x:1': makeImage({ layers }) });
  return layout;
}

/** A layout whose layer is `plain` compressed, without holding it in memory: `plain` is a shell command's output. */
function layoutOfStream(command: string): string {
  const layout = join(store.folder, 'layout');
  const layer = join(store.folder, 'layer');
  execFileSync('bash', [
    '-c',
    `(${command}) | tee >(sha256sum > "$1.plain") | gzip -9 -n > "$1"`,
    'sh',
    layer,
  ]);
  const packed = readFileSync(layer);
  const image = makeImage({
    layers: [Buffer.alloc(0)],
    compress: () => packed,
    diffIds: [`sha256:${'0'.repeat(64)}`],
  });
  writeLayout(layout, { 'localhost/x:1': image });
  return layout;
}

function archive(files: Readonly<Record<string, string | Buffer>>): string {
  const path = join(store.folder, 'archive.tar');
  writeFileSync(path, tarOf(...Object.entries(files).map(([name, content]) => file(name, content))));
  return path;
}

describe('known attacks', () => {
  test('CVE-2014-9357, CVE-2014-9358: ids and layers of an archive that are paths, or links to the host', async () => {
    const escapes = ['../../../victim/shadow', join(victim, 'shadow'), './../victim/shadow'];
    for (const path of escapes) {
      const manifest = JSON.stringify([{ Config: path, RepoTags: ['x:1'], Layers: [path] }]);
      expect(await attempt(archive({ 'manifest.json': manifest }))).toBe('ARCHIVE_INVALID');
    }
    const config = JSON.stringify({
      architecture: 'amd64',
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: [sha256(tarEnd)] },
    });
    const linked = join(store.folder, 'linked.tar');
    const manifest = JSON.stringify([{ Config: 'c.json', RepoTags: null, Layers: ['l/layer.tar'] }]);
    writeFileSync(
      linked,
      tarOf(
        file('c.json', config),
        dir('l'),
        symlink('l/layer.tar', join(victim, 'shadow')),
        file('manifest.json', manifest),
      ),
    );
    expect(await attempt(linked)).toBe('ARCHIVE_INVALID');
    await expectNothing();
  });

  test('CVE-2017-14992: gigabytes of zeros where headers should be, and a header that says it has gigabytes', async () => {
    const image = layoutOfStream('head -c 2G /dev/zero');
    expect(await attempt(image)).toBe('LAYER_TOO_LARGE');
    const header = tarHeader({ name: 'x', type: 'file', mode: 0o644, size: 0o7777777777 });
    for (const type of ['x', 'L', 'K', 'g']) {
      const huge = Buffer.from(header);
      huge.write(type, 156, 'latin1');
      expect(await attempt(layoutOf(Buffer.concat([withSum(huge), Buffer.alloc(4096, 'a')])))).toBe(
        'LAYER_INVALID',
      );
    }
    // a hundred small ones in front of one file
    const small = tarHeader({ name: 'x', type: 'file', mode: 0o644, size: 512 });
    small.write('x', 156, 'latin1');
    const record = Buffer.alloc(512, 0);
    record.write('512 comment='.padEnd(511, 'c').concat('\n'), 'latin1');
    const run = Array.from({ length: 100 }, () => [withSum(small), record]).flat();
    expect(await attempt(layoutOf(Buffer.concat([...run, tarOf(file('f'))])))).toBe('LAYER_INVALID');
    await expectNothing();
  });

  test.each<[string, unknown]>([
    ['a config that is a list', []],
    ['a config without rootfs', { architecture: 'amd64', os: 'linux' }],
    ['diff_ids of wrong types', { rootfs: { type: 'layers', diff_ids: [5] } }],
    ['an algorithm that nobody knows', { rootfs: { type: 'layers', diff_ids: ['md5:00'] } }],
    ['a digest that is a path', { rootfs: { type: 'layers', diff_ids: ['sha256:../../x'] } }],
    [
      'more layers than there are',
      { rootfs: { type: 'layers', diff_ids: Array.from({ length: 9 }, () => sha256(tarEnd)) } },
    ],
    [
      'an Env that is a number',
      { config: { Env: 7 }, rootfs: { type: 'layers', diff_ids: [sha256(tarEnd)] } },
    ],
  ])('CVE-2021-21285: %s', async (_name, config) => {
    const manifest = JSON.stringify([{ Config: 'c.json', RepoTags: ['x:1'], Layers: ['l.tar'] }]);
    const files = { 'c.json': JSON.stringify(config), 'l.tar': tarEnd, 'manifest.json': manifest };
    expect(await attempt(archive(files))).toMatch(/^(MANIFEST_INVALID|ARCHIVE_INVALID|INVALID_DIGEST)$/);
    await expectNothing();
  });

  test('CVE-2021-32760: a directory that becomes a link to the host’s, and a mode for it', async () => {
    const shadow = join(victim, 'shadow');
    const tar = tarOf(dir('d'), symlink('d', victim), dir('d', { mode: 0o777 }), symlink('f', shadow), {
      ...file('f', 'x'),
      mode: 0o777,
    });
    expect(
      await attempt(
        layoutOf(tar, tarOf(symlink('f', shadow), { ...symlink('f', shadow), uid: 7, mtime: 1 })),
      ),
    ).toBe('');
    expect(statSync(shadow).mode & 0o777).toBe(0o600);
  });

  test('CVE-2022-23648: a volume whose path climbs to the host', async () => {
    const images = store.open();
    await images.import(layoutOf(tarOf(dir('in'), file('in/f', 'mine'), symlink('out', victim))));
    const target = join(store.folder, 'volume');
    mkdirSync(target);
    const image = images.list()[0]!;
    for (const path of ['/../../../../../../..', `/..${victim}`, '/out', '/out/../..', victim])
      await images.copyOut(image, path, target);
    expect(readdirSync(target).includes('shadow')).toBe(false);
    expect(JSON.stringify(describeTree(target))).not.toContain(Buffer.from('root secret').toString('base64'));
  });

  test('CVE-2023-25153: a manifest.json and an index.json that say they have ten gigabytes', async () => {
    for (const name of ['manifest.json', 'index.json']) {
      const path = join(store.folder, 'huge.tar');
      const head = tarHeader({ name, type: 'file', mode: 0o644, size: 10 * 1024 ** 3 });
      writeFileSync(path, Buffer.concat([head, Buffer.alloc(64 * 1024, ' ')]));
      expect(await attempt(path)).toMatch(/^(ARCHIVE_INVALID|RESPONSE_TOO_LARGE|DISK_FULL)$/);
    }
    await expectNothing();
  });

  test('CVE-2024-5154, CVE-2024-9676, CVE-2025-4437: passwd is a link to the host, a pipe, a gigabyte', async () => {
    const images = store.open();
    const users = async (tar: Buffer): Promise<string> => {
      const [made] = await images.import(layoutOf(tarOf(file(`own-${Math.random()}`)), tar));
      try {
        return JSON.stringify(images.users(images.resolve(made?.id ?? '')!).passwd);
      } catch (error) {
        return codeOf(error) ?? String(error);
      }
    };
    const etc = dir('etc');
    expect(await users(tarOf(etc, symlink('etc/passwd', '/etc/passwd')))).toBe('[]');
    expect(await users(tarOf(etc, symlink('etc/passwd', join(victim, 'shadow'))))).toBe('[]');
    expect(await users(tarOf(etc, symlink('etc/passwd', '/proc/self/root/etc/passwd')))).toBe('[]');
    expect(await users(tarOf(symlink('etc', '../../../../../../../etc')))).toBe('[]');
    const started = Date.now();
    expect(await users(tarOf(etc, { name: 'etc/passwd', type: 'fifo' }))).toBe('IMAGE_FILE_INVALID');
    expect(Date.now() - started).toBeLessThan(20_000);
    const huge = execFileSync(
      'sh',
      [
        '-ec',
        'mkdir -p "$1/etc"; truncate -s 1G "$1/etc/passwd"; tar -C "$1" -S -c etc',
        'sh',
        join(store.folder, 'huge'),
      ],
      { maxBuffer: 64 * MIB },
    );
    const resident = process.memoryUsage().rss;
    expect(await users(huge)).toBe('IMAGE_FILE_INVALID');
    expect(process.memoryUsage().rss - resident).toBeLessThan(150 * MIB);
  });

  test('CVE-2025-47290: eight layers at once whose links turn to the host while the others write through them', async () => {
    const layers = Array.from({ length: 8 }, (_, i) =>
      tarOf(
        ...Array.from({ length: 150 }, (_unused, k) => [
          symlink(`swap${k % 5}`, [victim, '..', '/', `swap${(k + 1) % 5}`][(i + k) % 4] ?? '/'),
          file(`swap${k % 5}/sub/x${k}`, 'pwned'),
          dir(`swap${k % 5}`),
          hardlink(`link${k}`, `swap${k % 5}/shadow`),
        ]).flat(),
      ),
    );
    const outside = await attempt(layoutOf(...layers));
    expect(outside).toMatch(/^(LAYER_UNSAFE|LAYER_INVALID|)$/);
    store.expectClean();
  });

  test('CVE-2025-58183: sparse maps of a billion parts, in each format', async () => {
    const pax = (records: readonly string[], data: Buffer): Buffer => {
      const body = Buffer.concat(records.map((record) => paxRecord(record)));
      const head = tarHeader({ name: 'PaxHeaders/x', type: 'file', mode: 0o644, size: body.length });
      head.write('x', 156, 'latin1');
      const main = tarHeader({ name: 'x', type: 'file', mode: 0o644, size: data.length });
      return Buffer.concat([
        withSum(head),
        body,
        padding(body.length),
        main,
        data,
        padding(data.length),
        tarEnd,
      ]);
    };
    const version1 = [
      'GNU.sparse.major=1',
      'GNU.sparse.minor=0',
      'GNU.sparse.name=x',
      'GNU.sparse.realsize=1000',
    ];
    const maps = [
      pax(version1, Buffer.from('1000000000\n'.padEnd(8 * MIB, '0\n'))),
      pax(version1, Buffer.alloc(8 * MIB, '9')),
      pax(['GNU.sparse.size=1000', `GNU.sparse.map=${'0,0,'.repeat(240_000)}0,0`], Buffer.alloc(0)),
      oldSparse(60_000),
    ];
    for (const tar of maps) expect(await attempt(layoutOf(tar))).toBe('LAYER_INVALID');
    await expectNothing();
  });

  test('CVE-2026-53488: labels and annotations that pretend to be ours', async () => {
    const ours = {
      'dev.nodelet.image.pinned': 'true',
      'dev.nodelet.image.manifest': `sha256:${'1'.repeat(64)}`,
    };
    const mine = {
      ...ours,
      'io.containerd.image.name': 'docker.io/library/busybox:latest',
      'io.cri-containerd.pinned': 'pinned',
    };
    const image = makeImage({
      layers: [tarOf(file('x'))],
      config: { Labels: mine },
      edit: (manifest) => ({ ...manifest, annotations: mine }),
    });
    const layout = join(store.folder, 'layout');
    writeLayout(layout, { 'localhost/x:1': image });
    const index = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as { manifests: object[] };
    index.manifests = index.manifests.map((entry) => ({
      ...entry,
      annotations: { ...ours, 'org.opencontainers.image.ref.name': 'localhost/x:1' },
    }));
    writeFileSync(join(layout, 'index.json'), JSON.stringify(index));
    const images = store.open();
    await images.import(layout);
    expect(images.list()).toMatchObject([{ id: image.id, repoTags: ['localhost/x:1'], pinned: false }]);
    expect((await images.prune({ all: true })).images).toEqual([image.id]);
  });
});

describe('bombs', () => {
  test('a layer of two gigabytes of zeros in two megabytes', async () => {
    const head = tarHeader({ name: 'zeros', type: 'file', mode: 0o644, size: 2 * 1024 ** 3 }).toString(
      'base64',
    );
    const code = await attempt(
      layoutOfStream(`echo ${head} | base64 -d; head -c 2G /dev/zero; head -c 1024 /dev/zero`),
    );
    expect(code).toBe('LAYER_TOO_LARGE');
    await expectNothing();
  });

  test('gzip in gzip in gzip is a layer of one gzip, and no tar', async () => {
    const inner = gzipSync(gzipSync(Buffer.alloc(64 * MIB)));
    expect(await attempt(layoutOf(inner))).toBe('LAYER_INVALID');
  });

  test('a path of two thousand directories is made and removed, one that is longer is not made', async () => {
    const deep = 'd/'.repeat(2000);
    expect(await attempt(layoutOf(tarOf(file(`${deep}x`), symlink(`${deep}l`, '..'))))).toBe('');
    const images = store.open();
    await images.remove('localhost/x:1');
    store.expectClean({ blobs: 0, layers: 0 });
    expect(await failure(images.import(layoutOf(tarOf(file('d/'.repeat(2100)))))).catch(String)).toMatch(
      /^LAYER_UNSAFE/,
    );
  });

  test('a million entries are counted before they are made', async () => {
    const images = store.open({ limits: { entries: 1000 } });
    const tar = tarOf(...Array.from({ length: 1001 }, (_, i) => file(`f${i}`, '')));
    expect(await failure(images.import(layoutOf(tar)))).toMatch(/^LAYER_TOO_LARGE: .*more than 1000 entries/);
    await expectNothing();
  });
});

test('any damage to a good layer is told as such, and nothing of it stays', async () => {
  const images = store.open();
  const good = tarOf(
    dir('a'),
    file('a/f', 'x'.repeat(700)),
    symlink('l', victim),
    hardlink('h', 'a/f'),
    file('n'.repeat(120), 'long'),
    { name: 'c', type: 'char', devMajor: 1, devMinor: 3 },
  );
  const damage = fc.record({
    at: fc.nat(good.length - 1),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 16 }),
    cut: fc.option(fc.nat(good.length - 1)),
    sums: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(damage, async ({ at, bytes, cut, sums }) => {
      const tar = Buffer.from(good);
      tar.set(bytes.subarray(0, tar.length - at), at);
      // With its sum put right the header is believed, and what it says counts.
      if (sums) withSum(tar.subarray(at - (at % 512), at - (at % 512) + 512));
      const layer = cut === null ? tar : tar.subarray(0, cut);
      try {
        const [made] = await images.import(layoutOf(layer));
        await images.remove(made?.id ?? '', { force: true });
      } catch (error) {
        expect(codeOf(error)).toMatch(/^(LAYER_INVALID|LAYER_UNSAFE|LAYER_TOO_LARGE)$/);
      }
      expect(JSON.stringify(describeTree(victim))).toBe(before);
      store.expectClean({ layers: 0 });
    }),
    { numRuns: 60 },
  );
});

/** Puts a header's checksum right, in place. */
function withSum(header: Buffer): Buffer {
  header.fill(0x20, 148, 156);
  let sum = 0;
  for (const byte of header) sum += byte;
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return header;
}

function paxRecord(text: string): Buffer {
  let length = text.length + 3;
  while (String(length).length + text.length + 2 !== length) length = String(length).length + text.length + 2;
  return Buffer.from(`${length} ${text}\n`);
}

/** GNU's old format: four parts in the header, 21 in each of so many blocks that follow. */
function oldSparse(blocks: number): Buffer {
  const header = tarHeader({ name: 'x', type: 'file', mode: 0o644, size: 512 });
  header.write('S', 156, 'latin1');
  header.write('ustar  \0', 257, 'latin1');
  const part = `${'1'.padStart(11, '0')}\0`.repeat(2);
  for (let i = 0; i < 4; i += 1) header.write(part, 386 + i * 24, 'latin1');
  header[482] = 1;
  const block = Buffer.alloc(512);
  for (let i = 0; i < 21; i += 1) block.write(part, i * 24, 'latin1');
  block[504] = 1;
  return Buffer.concat([withSum(header), ...Array.from({ length: blocks }, () => block)]);
}
