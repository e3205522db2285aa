import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  type BigIntStats,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ImageRecord, ImageService, Limits } from '../../../src/image/index.ts';
import { LayerView, openRegular, readLink, type ViewDirectory } from '../../../src/image/unpack/view.ts';
import { native } from '../../../src/linux/native.ts';
import {
  dir,
  type Entry,
  file,
  hardlink,
  makeImage,
  symlink,
  tarOf,
  writeLayout,
} from '../../fixtures/registry-images.ts';
import { describeTree, failure, run, TestStore } from '../../fixtures/registry-store.ts';

let store: TestStore;
let images: ImageService;
/** Stands for the host: nothing may ever happen to it. */
let victim: string;

beforeEach(() => {
  store = new TestStore();
  images = store.open();
  victim = join(store.folder, 'victim');
  mkdirSync(join(victim, 'sub'), { recursive: true });
  writeFileSync(join(victim, 'shadow'), 'root secret', { mode: 0o600 });
  writeFileSync(join(victim, 'sub', 'file'), 'content', { mode: 0o644 });
});
afterEach(async () => {
  await store.close();
});

let made = 0;

/** Stores an image of these layers by importing a layout, and returns it. */
async function unpack(service: ImageService, ...layers: readonly Buffer[]): Promise<ImageRecord> {
  made += 1;
  const layout = join(store.folder, `layout${made}`);
  writeLayout(layout, { [`localhost/t:${made}`]: makeImage({ layers }) });
  const [imported] = await service.import(layout);
  const record = service.resolve(imported?.id ?? '');
  if (record === undefined) throw new Error('not found after import');
  return record;
}

const layerPath = (record: ImageRecord, i: number): string => images.inspect(record.id).layers[i]?.path ?? '';

/** What overlayfs shows of an image, copied out. */
function shown(record: ImageRecord): string {
  const target = join(store.folder, `shown${(made += 1)}`);
  mkdirSync(target);
  const { lower, upper, work } = images.prepare(`k${made}`, record);
  run(
    'unshare',
    '-m',
    'sh',
    '-c',
    `mount -t overlay o -o lowerdir=${lower.join(':')},upperdir=${upper},workdir=${work} /mnt && cp -a /mnt/. ${target}`,
  );
  return target;
}

/** The same image as umoci unpacks it. */
function byUmoci(...layers: readonly Buffer[]): string {
  const layout = join(store.folder, `umoci${(made += 1)}`);
  writeLayout(layout, { x: makeImage({ layers }) });
  run('umoci', 'unpack', '--image', `${layout}:x`, `${layout}-bundle`);
  return join(`${layout}-bundle`, 'rootfs');
}

describe('what a layer may hold', () => {
  test('every kind of entry, owners, modes, times to the nanosecond, attributes', async () => {
    const record = await unpack(
      images,
      tarOf(
        dir('.', { mode: 0o1777, uid: 3, gid: 4, mtime: 1000 }),
        dir('d', { mode: 0o2750, uid: 70_000, gid: 4_294_967_294, mtime: 1_600_000_000 }),
        file('d/setuid', 'x', { mode: 0o4755, uid: 1000, gid: 1000, mtime: 1_234_567_890.5 }),
        file('d/cap', 'x', {
          uid: 5,
          xattrs: {
            'security.capability': Buffer.from('0100000200200000000000000000000000000000', 'hex'),
            'user.a': Buffer.from('b'),
            'trusted.evil': Buffer.from('1'),
            'user.overlay.opaque': Buffer.from('y'),
            'trusted.overlay.redirect': Buffer.from('/etc'),
          },
        }),
        symlink('s', '/nowhere'),
        { name: 'null', type: 'char', devMajor: 1, devMinor: 3, mode: 0o666 },
        { name: 'disk', type: 'block', devMajor: 259, devMinor: 1_048_575 },
        { name: 'pipe', type: 'fifo', uid: 9 },
        hardlink('hard', 'd/setuid'),
        hardlink('hard-to-link', 's'),
        dir('ro', { mode: 0o555 }),
        file('ro/inside', 'x', { mode: 0o400 }),
      ),
    );
    const root = layerPath(record, 0);
    const stat = (name: string): BigIntStats => lstatSync(join(root, name), { bigint: true });
    expect(statSync(root)).toMatchObject({ mode: 0o41777, uid: 3, gid: 4 });
    expect(stat('.').mtimeNs).toBe(1_000_000_000_000n);
    expect(stat('d')).toMatchObject({
      mode: 0o42750n,
      uid: 70_000n,
      gid: 4_294_967_294n,
      mtimeNs: 1_600_000_000_000_000_000n,
    });
    expect(stat('d/setuid')).toMatchObject({
      mode: 0o104755n,
      uid: 1000n,
      nlink: 2n,
      mtimeNs: 1_234_567_890_500_000_000n,
    });
    expect(stat('hard').ino).toBe(stat('d/setuid').ino);
    expect(stat('hard-to-link').ino).toBe(stat('s').ino);
    expect(native().listxattr(join(root, 'd/cap'), true)).toEqual(
      expect.arrayContaining(['security.capability', 'user.a']),
    );
    expect(native().listxattr(join(root, 'd/cap'), true)).toHaveLength(2);
    expect(readlinkSync(join(root, 's'))).toBe('/nowhere');
    expect(run('stat', '-c', '%F %t:%T %a', join(root, 'null'), join(root, 'disk'), join(root, 'pipe'))).toBe(
      'character special file 1:3 666\nblock special file 103:fffff 644\nfifo 0:0 644\n',
    );
    expect(stat('pipe').uid).toBe(9n);
    expect(readFileSync(join(root, 'ro/inside'), 'utf8')).toBe('x');
  });

  test('names that are not UTF-8 stay the bytes that they are', async () => {
    const bytes = Buffer.from([0x66, 0xff, 0xfe]);
    const header = tarOf(file('f__', 'x'));
    bytes.copy(header, 0);
    header.fill(0x20, 148, 156);
    const sum = header.subarray(0, 512).reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    const record = await unpack(images, header, tarOf(file('other')));
    expect(readdirSync(layerPath(record, 0), 'buffer')).toEqual([bytes]);
    await images.remove(record.id);
    store.expectClean({ layers: 0 });
  });

  test('sparse files take no more room than their data', async () => {
    const path = join(store.folder, 'sparse');
    mkdirSync(path);
    run('truncate', '-s', '1G', join(path, 'hole'));
    execFileSync('dd', ['of=' + join(path, 'data'), 'bs=1M', 'seek=100', 'conv=notrunc'], {
      input: 'end',
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    for (const format of ['gnu', 'pax']) {
      const tar = execFileSync('tar', ['-C', path, '-S', `--format=${format}`, '-c', 'hole', 'data'], {
        maxBuffer: 1 << 28,
      });
      const record = await unpack(images, tar);
      const root = layerPath(record, 0);
      expect(statSync(join(root, 'hole'))).toMatchObject({ size: 2 ** 30, blocks: 0 });
      expect(statSync(join(root, 'data')).size).toBe(100 * 1024 * 1024 + 3);
      expect(statSync(join(root, 'data')).blocks).toBeLessThan(100);
      expect(readFileSync(join(root, 'data')).subarray(-4)).toEqual(Buffer.from('\0end'));
      await images.remove(record.id);
    }
  });

  test('times outside of what files can have become 1970', async () => {
    const record = await unpack(
      images,
      tarOf(file('old', 'x', { mtime: -5 }), file('late', 'x', { mtime: 2 ** 40 })),
    );
    expect(statSync(join(layerPath(record, 0), 'old')).mtimeMs).toBe(0);
    expect(statSync(join(layerPath(record, 0), 'late')).mtimeMs).toBe(0);
  });

  test('a long path, and a deep one, and their removal', async () => {
    const deep = Array.from({ length: 200 }, () => 'd'.repeat(18)).join('/');
    const record = await unpack(images, tarOf(file(`${deep}/f`)));
    await images.remove(record.id);
    store.expectClean({ layers: 0 });
  });
});

describe('replacing and merging, as other tools do it', () => {
  const cases: [string, readonly (readonly (Entry | Buffer)[])[]][] = [
    ['a file by a file', [[file('a', '1'), file('a', '2')]]],
    ['a file by a link', [[file('a', '1'), file('b', '2'), symlink('a', 'b')]]],
    ['a link by a file', [[symlink('a', 'b'), file('a', '1')]]],
    ['a link by a directory', [[symlink('a', 'b'), dir('b'), dir('a'), file('a/x')]]],
    [
      'a directory’s attributes by later ones',
      [[dir('a', { mode: 0o700 }), file('a/x'), dir('a', { mode: 0o711, uid: 5 })]],
    ],
    ['a file through a link of the same layer', [[dir('real'), symlink('link', 'real'), file('link/x')]]],
    [
      'a file through an absolute link of the same layer',
      [[dir('real'), symlink('link', '/real'), file('link/x')]],
    ],
    [
      'a file through a link that climbs',
      [[dir('real'), dir('d'), symlink('d/link', '../../../real'), file('d/link/x')]],
    ],
    [
      'a hard link through a link',
      [[dir('real'), file('real/x'), symlink('link', 'real'), hardlink('y', 'link/x')]],
    ],
    [
      'a lower file',
      [
        [dir('d'), file('d/x', '1')],
        [dir('d'), file('d/x', '2')],
      ],
    ],
    ['a lower directory by a file', [[dir('d'), file('d/x')], [file('d', 'file')]]],
    ['a lower file by a directory', [[file('d', 'file')], [dir('d'), file('d/x')]]],
    [
      'a whiteout of a file',
      [
        [dir('d'), file('d/x'), file('d/y')],
        [dir('d'), file('d/.wh.x', '')],
      ],
    ],
    [
      'a whiteout of a directory',
      [
        [dir('d'), dir('d/e'), file('d/e/x')],
        [dir('d'), file('d/.wh.e', '')],
      ],
    ],
    ['a whiteout of what is not there', [[dir('d')], [dir('d'), file('d/.wh.x', '')]]],
    [
      'whiteouts in directories that nobody has',
      [[file('a')], [file('n/.wh.x', ''), file('m/n/.wh..wh..opq', ''), file('o/.wh.x', ''), file('o/y')]],
    ],
    ['a whiteout in the lowest layer', [[dir('d'), file('d/.wh.x', ''), file('d/y')]]],
    [
      'a whiteout before the file of its name',
      [
        [dir('d'), file('d/x', '1')],
        [dir('d'), file('d/.wh.x', ''), file('d/x', '2')],
      ],
    ],
    [
      'a whiteout after the file of its name',
      [
        [dir('d'), file('d/x', '1')],
        [dir('d'), file('d/x', '2'), file('d/.wh.x', '')],
      ],
    ],
    [
      'a whiteout before the directory of its name',
      [
        [dir('d'), file('d/x', '1')],
        [file('.wh.d', ''), dir('d'), file('d/y', '2')],
      ],
    ],
    [
      'a whiteout after the directory of its name',
      [
        [dir('d'), file('d/x', '1')],
        [dir('d'), file('d/y', '2'), file('.wh.d', '')],
      ],
    ],
    [
      'an opaque directory',
      [
        [dir('d'), file('d/x'), dir('d/e'), file('d/e/z')],
        [dir('d'), file('d/.wh..wh..opq', ''), file('d/y')],
      ],
    ],
    [
      'an opaque directory said last',
      [
        [dir('d'), file('d/x'), dir('d/e'), file('d/e/z')],
        [dir('d'), file('d/y'), dir('d/e'), file('d/e/n'), file('d/.wh..wh..opq', '')],
      ],
    ],
    [
      'an opaque root',
      [
        [dir('d'), file('d/x'), file('a'), dir('e'), file('e/f')],
        [file('.wh..wh..opq', ''), file('y'), dir('d'), file('d/z')],
      ],
    ],
    [
      'three layers, hidden and shown again',
      [[dir('d'), file('d/x', '1')], [file('.wh.d', '')], [dir('d'), file('d/y', '3')]],
    ],
    [
      'missing directories that the layer below has',
      [[dir('d', { mode: 0o711, uid: 7, gid: 8 }), dir('d/e', { mode: 0o700, uid: 9 })], [file('d/e/x')]],
    ],
    ['missing directories that nobody has', [[file('a')], [file('new/deep/x')]]],
    [
      'missing directories two layers down',
      [[dir('d', { mode: 0o750, uid: 7 })], [file('a')], [file('d/x')]],
    ],
    [
      'a directory that is a link below',
      [
        [dir('usr'), dir('usr/lib', { mode: 0o711 }), symlink('lib', 'usr/lib')],
        [file('lib/x'), dir('lib/sub', { mode: 0o700 }), file('lib/sub/y')],
      ],
    ],
    [
      'a directory below a link below',
      [
        [dir('usr'), dir('usr/lib'), dir('usr/lib/deep', { uid: 5 }), symlink('lib', '/usr/lib')],
        [file('lib/deep/x'), hardlink('lib/deep/y', 'lib/deep/x')],
      ],
    ],
    [
      'a hard link to a file below',
      [
        [dir('d', { uid: 3 }), file('d/x', 'below', { mode: 0o600, uid: 4, mtime: 50 })],
        [hardlink('y', 'd/x')],
      ],
    ],
  ];

  test.each(cases)('%s', async (_name, layers) => {
    const tars = layers.map((entries) => tarOf(dir('.'), ...entries));
    const record = await unpack(images, ...tars);
    expect(readableTree(shown(record))).toEqual(readableTree(byUmoci(...tars)));
  });

  test('the same of generated layers', async () => {
    const name = fc.constantFrom('a', 'b', 'a/c', 'a/d', 'b/c', 'a/c/e');
    const entry: fc.Arbitrary<Entry> = fc.oneof(
      name.map((at) => dir(at)),
      fc.tuple(name, fc.constantFrom('1', '22')).map(([at, content]) => file(at, content)),
      name.map((at) => file(at.replace(/([^/]*)$/, '.wh.$1'), '')),
      fc.constantFrom('a', 'b', 'a/c').map((at) => file(`${at}/.wh..wh..opq`, '')),
    );
    const layer = fc.array(entry, { minLength: 1, maxLength: 8 }).filter(consistent);
    let compared = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(layer, { minLength: 1, maxLength: 3 }), async (layers) => {
        const tars = layers.map((entries) => tarOf(dir('.'), ...entries));
        const record = await unpack(images, ...tars);
        const tree = readableTree(shown(record));
        expect(tree).toEqual(model(layers));
        const theirs = umociTree(tars);
        if (theirs === undefined) return;
        compared += 1;
        expect(tree).toEqual(theirs);
        expect(await viewTree(record)).toEqual(withoutAttributes(tree));
      }),
      { numRuns: 60 },
    );
    expect(compared).toBeGreaterThan(20);
  }, 120_000);
});

/** Undefined where umoci stops at a file of a lower layer in the way of a directory that this one only implies. */
function umociTree(tars: readonly Buffer[]): Record<string, string> | undefined {
  try {
    return readableTree(byUmoci(...tars));
  } catch (error) {
    if (error instanceof Error && error.message.includes('not a directory')) return undefined;
    throw error;
  }
}

/**
 * What the spec says a stack of layers shows, in a few lines: whiteouts of a layer first, then its files.
 */
function model(layers: readonly (readonly Entry[])[]): Record<string, string> {
  let tree = new Map<string, string>();
  const drop = (path: string): void => {
    for (const known of tree.keys()) if (known === path || known.startsWith(`${path}/`)) tree.delete(known);
  };
  const hide = (path: string): void => {
    for (const known of tree.keys()) if (known.startsWith(`${path}/`)) tree.delete(known);
  };
  for (const entries of layers) {
    for (const { name } of entries) {
      const base = name.split('/').at(-1) ?? '';
      const parent = name.split('/').slice(0, -1).join('/');
      if (base === '.wh..wh..opq') hide(parent);
      else if (base.startsWith('.wh.')) drop(parent === '' ? base.slice(4) : `${parent}/${base.slice(4)}`);
    }
    for (const entry of entries) {
      const path = entry.name.replace(/\/$/, '');
      const marker = (path.split('/').at(-1) ?? '').startsWith('.wh.');
      if (marker) continue;
      const parts = path.split('/');
      // Directories on the way are made where they are missing.
      for (let i = 1; i < parts.length; i += 1) {
        const above = parts.slice(0, i).join('/');
        if (!(tree.get(above) ?? '').startsWith('directory')) {
          tree.delete(above);
          tree.set(above, 'directory');
        }
      }
      if (entry.type === 'directory') {
        if (tree.get(path) !== 'directory') tree.set(path, 'directory');
      } else {
        drop(path);
        tree.set(path, `file ${String(entry.content)}`);
      }
    }
  }
  tree = new Map([...tree].sort(([a], [b]) => (a < b ? -1 : 1)));
  return Object.fromEntries([['.', 'directory'], ...tree]);
}

/** Layers that every tool reads the same: nothing twice, nothing below a file of the same layer. */
function consistent(entries: readonly Entry[]): boolean {
  const paths = entries.map(({ name }) => name.replace(/\/$/, ''));
  if (new Set(paths).size !== paths.length) return false;
  const files = entries
    .filter((entry) => entry.type === 'file' && !entry.name.includes('.wh.'))
    .map(({ name }) => name);
  const hidden = new Set(
    entries.filter(({ name }) => /\.wh\.[^.]/.test(name)).map(({ name }) => name.replace('.wh.', '')),
  );
  // A name that is hidden and has something in it in the same layer is read in two ways (see the named cases).
  return !paths.some(
    (path) =>
      files.some((one) => path.startsWith(`${one}/`)) ||
      [...hidden].some((one) => path === one || path.startsWith(`${one}/`)),
  );
}

function readableTree(root: string): Record<string, string> {
  return Object.fromEntries(
    Object.entries(describeTree(root, { directoryTimes: false })).map(([path, text]) => {
      const stat = lstatSync(join(root, path));
      if (stat.isDirectory()) return [path, simple(text) ?? `directory ${text}`];
      if (stat.isFile() && stat.nlink === 1 && text.startsWith('100644 0:0 0 '))
        return [path, `file ${readFileSync(join(root, path), 'utf8')}`];
      return [path, text];
    }),
  );
}

function simple(text: string): string | undefined {
  return /^40755 0:0\s*$/.test(text) ? 'directory' : undefined;
}

function withoutAttributes(tree: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(tree).map(([path, text]) => [path, text.split(' ').slice(0, 2).join(' ')]),
  );
}

/** The same tree as our own view of the layers walks it. */
async function viewTree(record: ImageRecord): Promise<Record<string, string>> {
  const found: Record<string, string> = { '.': 'directory' };
  using view = new LayerView(images.prepare('view', record).lower);
  const walk = (directory: ViewDirectory, path: string): void => {
    for (const name of directory.names()) {
      const node = directory.lookup(name);
      if (node === undefined) throw new Error(`${name} was listed and is not there`);
      const at = path === '' ? name : `${path}/${name}`;
      if (node.directory !== undefined) {
        using inner = node.directory;
        found[at] = 'directory';
        walk(inner, at);
      } else {
        const fd = openRegular(node);
        found[at] = `file ${readFileSync(fd, 'utf8')}`;
        native().close(fd);
      }
    }
  };
  walk(view.root, '');
  await images.removeSnapshot('view');
  return Object.fromEntries(Object.entries(found).sort(([a], [b]) => (a < b ? -1 : 1)));
}

describe('what a layer may not do', () => {
  const outside = (): string => JSON.stringify(describeTree(victim));

  const refused: [string, () => Buffer, RegExp][] = [
    [
      'a path that climbs',
      () => tarOf(file('../../../../../../tmp/x')),
      /LAYER_UNSAFE: .*the name "\.\.\/.*" has a "\.\." part/,
    ],
    ['a path that climbs in the middle', () => tarOf(dir('a'), file('a/../../x')), /has a "\.\." part/],
    [
      'a hard link that climbs',
      () => tarOf(hardlink('x', '../../../../../../../etc/passwd')),
      /the name "\.\..*has a "\.\." part/,
    ],
    [
      'a hard link out of the layer by a link',
      () => tarOf(symlink('out', victim), hardlink('x', 'out/shadow')),
      /the hard link "x" leads to "out\/shadow", which the image does not have/,
    ],
    [
      'a hard link to an absolute path of the host',
      () => tarOf(hardlink('x', join(victim, 'shadow'))),
      /which the image does not have/,
    ],
    ['a hard link to itself', () => tarOf(hardlink('x', 'x')), /which the image does not have/],
    [
      'a hard link to a directory',
      () => tarOf(dir('d'), hardlink('x', 'd')),
      /which the image does not have/,
    ],
    ['a loop of links', () => tarOf(symlink('a', 'b'), symlink('b', 'a'), file('a/x')), /leads through/],
    [
      'a device that Linux does not have',
      () => tarOf({ name: 'dev', type: 'char', devMajor: 5000, devMinor: 0 }),
      /the device "dev" has the number 5000:0, which Linux does not have/,
    ],
    [
      'a device with a negative number',
      () => tarOf({ name: 'dev', type: 'block', devMajor: 1, devMinor: 2 ** 21 - 1 }),
      /the device "dev" has the number 1:2097151/,
    ],
    [
      'the user 2^32 - 1',
      () => tarOf(file('x', 'x', { uid: 0xffff_ffff })),
      /"x" belongs to 4294967295:0, which is no user and group/,
    ],
    ['a whiteout of ".."', () => tarOf(dir('a'), file('a/.wh...', '')), /is no whiteout of a file/],
    ['a name of 300 bytes', () => tarOf(file('n'.repeat(300))), /300 bytes, more than 255/],
    ['a path of 5000 bytes', () => tarOf(file('n/'.repeat(2500))), /5000 bytes, more than 4096/],
    [
      'a file below a file',
      () => tarOf(file('a'), file('a/b')),
      /LAYER_INVALID: .*"a" is a file and has an entry below it/,
    ],
    ['a root that is a file', () => tarOf(file('.', 'x')), /the root of the layer is a file/],
    [
      'a thousand attributes',
      () =>
        tarOf(
          file('x', 'x', {
            xattrs: Object.fromEntries(
              Array.from({ length: 1000 }, (_, i) => [`user.${i}`, Buffer.from('x')]),
            ),
          }),
        ),
      /has 1000 extended attributes/,
    ],
    ['a link without a target', () => tarOf(symlink('x', '')), /target of 0 bytes/],
  ];

  test.each(refused)('%s', async (_name, tar, reason) => {
    const before = outside();
    const passwd = createHash('sha256').update(readFileSync('/etc/passwd')).digest('hex');
    const text = await failure(unpack(images, tar()));
    expect(text).toMatch(/^LAYER_(UNSAFE|INVALID): cannot /);
    expect(text).toMatch(reason);
    expect(outside()).toBe(before);
    expect(createHash('sha256').update(readFileSync('/etc/passwd')).digest('hex')).toBe(passwd);
    expect(statSync('/etc/passwd').nlink).toBe(1);
    store.expectClean({ layers: 0 });
    expect(images.list()).toEqual([]);
  });

  const contained: [string, () => Buffer][] = [
    ['writing through a link to the host', () => tarOf(symlink('out', victim), file('out/shadow', 'pwned'))],
    [
      'writing through a relative link',
      () => tarOf(symlink('out', '../'.repeat(20) + victim.slice(1)), file('out/shadow', 'pwned')),
    ],
    [
      'changing the mode of what a link leads to (CVE-2021-32760)',
      () => tarOf(dir('d'), symlink('d', join(victim, 'shadow')), dir('d', { mode: 0o777 })),
    ],
    [
      'a directory replaced by a link, then files in it',
      () => tarOf(dir('d'), file('d/a'), symlink('d', victim), file('d/shadow', 'pwned')),
    ],
    [
      'a directory through a link replaced meanwhile',
      () => tarOf(symlink('l', 'a'), dir('a'), file('l/x'), symlink('a', victim), file('l/shadow', 'pwned')),
    ],
    [
      'a whiteout through a link to the host',
      () => tarOf(symlink('out', victim), file('out/.wh.shadow', '')),
    ],
    [
      'an opaque mark through a link to the host',
      () => tarOf(symlink('out', victim), file('out/.wh..wh..opq', '')),
    ],
    [
      'a link over a file that is open elsewhere',
      () => tarOf(file('x'), symlink('x', join(victim, 'shadow')), file('x', 'pwned')),
    ],
    ['attributes for a link', () => tarOf({ ...symlink('x', join(victim, 'shadow')), uid: 1234, mtime: 7 })],
    ['an absolute path', () => tarOf(file(join(victim, 'shadow'), 'pwned'))],
  ];

  test.each(contained)('stays inside: %s', async (_name, tar) => {
    const before = outside();
    await unpack(images, tarOf(file('lowest')), tar()).catch((error: unknown) => {
      expect(error).toMatchObject({ code: expect.stringMatching(/^LAYER_/) as string });
    });
    expect(outside()).toBe(before);
    expect(readFileSync(join(victim, 'shadow'), 'utf8')).toBe('root secret');
  });

  test('layers of one image unpacked side by side cannot reach into each other', async () => {
    const before = outside();
    const evil = Array.from({ length: 6 }, (_, i) =>
      tarOf(
        ...Array.from({ length: 200 }, (_unused, k) => [
          symlink(`l${k % 7}`, i % 2 ? victim : '..'),
          file(`l${k % 7}/x${k}`, 'pwned'),
        ]).flat(),
      ),
    );
    await unpack(images, ...evil).catch(() => {});
    expect(outside()).toBe(before);
  });
});

describe('what a layer may not cost', () => {
  const small = (limits: Partial<Limits>): ImageService => store.open({ limits });
  const zeros = gzipSync(Buffer.alloc(64 * 1024 * 1024));

  test.each<[string, Partial<Limits>, () => Buffer, RegExp]>([
    [
      'too many entries',
      { entries: 100 },
      () => tarOf(...Array.from({ length: 101 }, (_, i) => file(`f${i}`))),
      /it has more than 100 entries/,
    ],
    [
      'a file that is too large',
      { expanded: 1_000_000 },
      () => tarOf(file('big', Buffer.alloc(1_000_001))),
      /more than 1000000 bytes/,
    ],
    [
      'a sparse file that pretends to be small',
      { expanded: 1_000_000 },
      () => {
        run('truncate', '-s', '8G', join(store.folder, 'hole'));
        return execFileSync('tar', ['-C', store.folder, '-S', '-c', 'hole']);
      },
      /its files have more than 1000000 bytes/,
    ],
    [
      'a gzip bomb of zeros after the end mark',
      { ratioFrom: 1_000_000, ratio: 100 },
      () => Buffer.concat([tarOf(file('x')), Buffer.alloc(30_000_000)]),
      /bytes expand to \d+, more than 100 for one/,
    ],
    [
      'a gzip bomb of one file',
      { ratioFrom: 1_000_000, ratio: 100 },
      () => tarOf(file('x', Buffer.alloc(30_000_000))),
      /more than 100 for one/,
    ],
  ])('%s', async (_name, limits, tar, reason) => {
    const text = await failure(unpack(small(limits), tar()));
    expect(text).toMatch(/^LAYER_TOO_LARGE: cannot unpack the layer: /);
    expect(text).toMatch(reason);
    store.expectClean({ layers: 0 });
  });

  test('memory stays flat while gigabytes of zeros are thrown at it', async () => {
    const bomb = Buffer.concat(Array.from({ length: 40 }, () => zeros)); // 2.5 GiB in 2.5 MiB
    const layout = join(store.folder, 'bomb');
    const before = process.memoryUsage().rss;
    writeLayout(layout, { b: makeImage({ layers: [Buffer.alloc(0)], compress: () => bomb }) });
    let peak = 0;
    const watch = setInterval(() => {
      peak = Math.max(peak, process.memoryUsage().rss);
    }, 20);
    const text = await failure(small({ ratioFrom: 2 * 1024 ** 3, ratio: 900 }).import(layout));
    clearInterval(watch);
    expect(text).toMatch(/^(DIFF_ID_MISMATCH|LAYER_TOO_LARGE)/);
    expect(peak - before).toBeLessThan(250 * 1024 * 1024);
    store.expectClean({ layers: 0 });
  });

  test('a directory with a million links replaced is not a million walks', async () => {
    const entries = Array.from({ length: 2200 }, (_, i) => (i % 2 === 0 ? dir('d') : file('d')));
    expect(await failure(unpack(images, tarOf(...entries)))).toMatch(
      /^LAYER_UNSAFE: .*more than 1000 directories are replaced by files/,
    );
  });
});

test('the unpacked tree equals umoci’s over a tree of this machine', async () => {
  const tar = execFileSync(
    'tar',
    ['-C', '/', '--format=pax', '--xattrs', '--numeric-owner', '-c', 'etc', 'usr/share/zoneinfo'],
    { maxBuffer: 1 << 30, stdio: ['ignore', 'pipe', 'ignore'] },
  );
  const record = await unpack(images, tar);
  const expected = describeTree(byUmoci(tar));
  delete expected['.'];
  const found = describeTree(layerPath(record, 0));
  delete found['.'];
  delete expected.usr;
  delete found.usr; // not in the tar: its time is when it was made
  expect(Object.keys(found).length).toBeGreaterThan(1500);
  for (const name of ['usr/share']) {
    delete expected[name];
    delete found[name];
  }
  expect(found).toEqual(expected);
}, 120_000);

test('a link target is read as bytes', async () => {
  const record = await unpack(images, tarOf(symlink('l', 'é/日')));
  using view = new LayerView(images.prepare('x', record).lower);
  const node = view.root.lookup('l');
  expect(Buffer.from(node === undefined ? '' : readLink(node), 'latin1').toString()).toBe('é/日');
  expect(existsSync(store.path('snapshots', 'active', 'x'))).toBe(true);
});
