import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { sha256 } from '../../../src/image/digest.ts';
import type { ImageService } from '../../../src/image/index.ts';
import {
  dir,
  type Entry,
  file,
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
  await store.close();
});

const image = makeImage({
  layers: [tarOf(dir('.'), file('a', 'A')), tarOf(file('b', 'B'.repeat(5000)))],
  config: { Cmd: ['x'] },
});
const second = makeImage({ layers: [tarOf(dir('.'), file('a', 'A')), tarOf(file('c', 'C'))] });
const at = (name: string): string => join(store.folder, name);

/** A tar of a directory's content. */
const pack = (path: string, ...more: readonly string[]): string => {
  run('tar', '-C', path, ...more, '-cf', `${path}.tar`, ...readdirSync(path));
  return `${path}.tar`;
};

/** A `docker save` archive from what `files` says. */
function archive(
  name: string,
  files: Readonly<Record<string, string | Buffer>>,
  ...more: readonly Entry[]
): string {
  const path = at(name);
  writeFileSync(
    path,
    tarOf(...Object.entries(files).map(([member, content]) => file(member, content)), ...more),
  );
  return path;
}

describe('import', () => {
  test('an OCI layout: directory, tar, compressed tar', async () => {
    const layout = at('layout');
    writeLayout(layout, { 'localhost/x:1': image, 'quay.io/y/z:2': second });
    const tar = pack(layout);
    writeFileSync(at('x.tgz'), gzipSync(readFileSync(tar)));
    run('zstd', '-q', tar, '-o', at('x.tzst'));
    for (const path of [layout, tar, at('x.tgz'), at('x.tzst')]) {
      expect(await images.import(path)).toEqual([
        { id: image.id, names: ['localhost/x:1'] },
        { id: second.id, names: ['quay.io/y/z:2'] },
      ]);
      store.expectClean({ blobs: 7, layers: 3 });
      expect(readFileSync(join(images.inspect('localhost/x:1').layers[1]?.path ?? '', 'b'), 'utf8')).toBe(
        'B'.repeat(5000),
      );
      await images.prune({ all: true });
    }
  });

  test('a bare tag gets the archive’s name; a name can be given', async () => {
    writeLayout(at('My Image.oci'), { latest: image });
    expect(await images.import(at('My Image.oci'))).toEqual([
      { id: image.id, names: ['localhost/my-image:latest'] },
    ]);
    expect(await images.import(at('My Image.oci'), { name: 'app:7' })).toEqual([
      { id: image.id, names: ['docker.io/library/app:7'] },
    ]);
    expect(images.list()[0]?.repoTags).toEqual(['docker.io/library/app:7', 'localhost/my-image:latest']);
    writeLayout(at('two'), { a: image, b: second });
    expect((await images.import(at('two'), { name: 'reg.example/r' })).flatMap(({ names }) => names)).toEqual(
      ['reg.example/r:a', 'reg.example/r:b'],
    );
  });

  test('what skopeo, umoci and buildah write', async () => {
    const layout = at('layout');
    writeLayout(layout, { x: image });
    run('skopeo', 'copy', '-q', `oci:${layout}:x`, `oci-archive:${at('s.oci')}:localhost/skopeo:1`);
    run('skopeo', 'copy', '-q', `oci:${layout}:x`, `docker-archive:${at('s.docker')}:localhost/docker:1`);
    run('umoci', 'tag', '--image', `${layout}:x`, 'v1');
    expect((await images.import(at('s.oci'))).map(({ id, names }) => [id, names])).toEqual([
      [image.id, ['localhost/skopeo:1']],
    ]);
    // skopeo writes docker's config over again: another ID, the same layers
    const [docker] = await images.import(at('s.docker'));
    expect(docker?.names).toEqual(['localhost/docker:1']);
    expect(images.resolve('localhost/docker:1')?.config.rootfs.diff_ids).toEqual(image.diffIds);
    expect((await images.import(layout)).flatMap(({ names }) => names)).toEqual([
      'localhost/layout:x',
      'localhost/layout:v1',
    ]);
    const storage = ['--root', at('b'), '--runroot', at('br'), '--storage-driver', 'vfs'];
    const container = run('buildah', ...storage, 'from', 'scratch').trim();
    writeFileSync(at('hello'), 'hello');
    run('buildah', ...storage, 'copy', container, at('hello'), '/hello');
    run(
      'buildah',
      ...storage,
      'commit',
      '-q',
      container,
      `oci-archive:${at('buildah.oci')}:localhost/built:1`,
    );
    expect((await images.import(at('buildah.oci'))).flatMap(({ names }) => names)).toEqual([
      'localhost/built:1',
    ]);
    expect(
      readFileSync(join(images.inspect('localhost/built:1').layers[0]?.path ?? '', 'hello'), 'utf8'),
    ).toBe('hello');
    store.expectClean();
  });

  test('docker save of old: legacy layer names, a layer twice by a link, several tags', async () => {
    const layer = tarOf(dir('.'), file('a', 'A'));
    const config = JSON.stringify({
      architecture: process.arch === 'x64' ? 'amd64' : 'arm64',
      os: 'linux',
      config: {},
      rootfs: { type: 'layers', diff_ids: [sha256(layer), sha256(layer)] },
    });
    const path = archive(
      'old.tar',
      {
        'abc/layer.tar': layer,
        'abc/VERSION': '1.0',
        'config.json': config,
        'manifest.json': JSON.stringify([
          {
            Config: 'config.json',
            RepoTags: ['app:1', 'reg.example/app:2'],
            Layers: ['abc/layer.tar', 'def/layer.tar'],
          },
        ]),
        repositories: '{}',
      },
      symlink('def/layer.tar', '../abc/layer.tar'),
    );
    const [imported] = await images.import(path);
    expect(imported).toEqual({ id: sha256(config), names: ['docker.io/library/app:1', 'reg.example/app:2'] });
    expect(images.resolve('app:1')?.chainIds).toHaveLength(2);
    const first = images.resolve('app:1')?.manifestDigest;
    await images.prune({ all: true });
    await images.import(path);
    expect(images.resolve('app:1')?.manifestDigest).toBe(first); // made the same each time
    store.expectClean({ blobs: 3, layers: 2 });
  });

  test('docker save of today: an OCI layout with docker’s names beside it', async () => {
    const layout = at('layout');
    writeLayout(layout, { '1': image });
    const index = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as {
      manifests: { annotations: Record<string, string> }[];
    };
    index.manifests[0]!.annotations['io.containerd.image.name'] = 'docker.io/library/app:1';
    writeFileSync(join(layout, 'index.json'), JSON.stringify(index));
    writeFileSync(
      join(layout, 'manifest.json'),
      JSON.stringify([{ Config: `blobs/sha256/${image.id.slice(7)}`, RepoTags: ['app:1'], Layers: [] }]),
    );
    expect(await images.import(pack(layout))).toEqual([{ id: image.id, names: ['docker.io/library/app:1'] }]);
  });

  test('large blobs are moved, not copied, and only once stored', async () => {
    const noise = execFileSync('head', ['-c', '20000000', '/dev/urandom'], { maxBuffer: 1 << 26 });
    writeLayout(at('layout'), { 'localhost/big:1': makeImage({ layers: [tarOf(file('x', noise))] }) });
    await images.import(pack(at('layout')));
    store.expectClean({ blobs: 3, layers: 1 });
  });

  test('a blob that is cut off or altered', async () => {
    const layout = at('layout');
    writeLayout(layout, { x: image });
    const blob = join(layout, 'blobs', 'sha256', image.layers[1]?.digest.slice(7) ?? '');
    const content = readFileSync(blob);
    writeFileSync(blob, Buffer.concat([content.subarray(0, 30), Buffer.from('?'), content.subarray(31)]));
    for (const path of [layout, pack(layout)]) {
      expect(await failure(images.import(path))).toMatch(/^DIGEST_MISMATCH: cannot /);
      store.expectClean();
    }
    writeFileSync(blob, content.subarray(0, 30));
    for (const path of [layout, pack(layout)]) {
      expect(await failure(images.import(path))).toMatch(
        /^SIZE_MISMATCH: cannot import ".*": blob sha256:\S+ has 30 bytes, its manifest says \d+$/,
      );
      store.expectClean();
    }
    expect(images.list()).toEqual([]);
  });

  test('a refused archive leaves nothing of its good images, and takes nothing that was here', async () => {
    const layout = at('layout');
    const good = makeImage({ layers: [tarOf(file('good'))] });
    const bad = makeImage({ layers: [tarOf(file('fine')), tarOf(file('bad'))] });
    const names = { 'localhost/good:1': good, 'localhost/bad:1': bad };
    writeLayout(layout, names);
    truncateSync(join(layout, 'blobs', 'sha256', bad.layers[1]?.digest.slice(7) ?? ''), 10);
    for (const path of [layout, pack(layout)]) {
      expect(await failure(images.import(path))).toMatch(/^SIZE_MISMATCH: /);
      expect(images.list()).toEqual([]);
      store.expectClean({ blobs: 0, layers: 0 });
    }
    writeLayout(at('first'), { 'localhost/good:1': good });
    await images.import(at('first'));
    expect(await failure(images.import(layout))).toMatch(/^SIZE_MISMATCH: /);
    expect(images.list().map(({ id }) => id)).toEqual([good.id]);
    store.expectClean({ blobs: 3, layers: 1 });
    expect((await images.verify({ deep: true })).problems).toEqual([]);
  });

  test('a layout whose blobs are links to files of the host', async () => {
    const layout = at('layout');
    writeLayout(layout, { x: image });
    const blob = join(layout, 'blobs', 'sha256', image.id.slice(7));
    run('rm', blob);
    symlinkSync('/etc/shadow', blob);
    expect(await failure(images.import(layout))).toMatch(/^ARCHIVE_INVALID: .*blob sha256:\S+ is missing$/);
  });

  const manifestOf = (value: unknown): Record<string, string> => ({ 'manifest.json': JSON.stringify(value) });
  test.each<[string, () => string, RegExp]>([
    [
      'nothing there',
      () => at('none'),
      /^ARCHIVE_NOT_FOUND: cannot import ".*none": there is no such file or directory$/,
    ],
    [
      'an empty directory',
      () => (mkdirSync(at('empty')), at('empty')),
      /^ARCHIVE_INVALID: .*neither an index.json \(OCI layout\) nor a manifest.json/,
    ],
    [
      'a text file',
      () => (writeFileSync(at('text'), 'hello '.repeat(200)), at('text')),
      /^ARCHIVE_INVALID: cannot import ".*text": cannot read the tar stream/,
    ],
    ['an empty file', () => (writeFileSync(at('nil'), ''), at('nil')), /^ARCHIVE_INVALID: .*neither/],
    [
      'an archive cut off',
      () => (
        writeLayout(at('l'), { x: image }),
        writeFileSync(at('cut'), readFileSync(pack(at('l'))).subarray(0, 700)),
        at('cut')
      ),
      /^ARCHIVE_INVALID: .*in the middle of an entry/,
    ],
    [
      'a manifest.json that is no JSON',
      () => archive('t', { 'manifest.json': '{' }),
      /its manifest.json is malformed/,
    ],
    ['a manifest.json without images', () => archive('t', manifestOf([])), /it holds no image/],
    [
      'a manifest.json of wrong types',
      () => archive('t', manifestOf([{ Config: 5 }])),
      /its manifest.json is malformed/,
    ],
    [
      'a missing config',
      () => archive('t', manifestOf([{ Config: 'c.json', Layers: [] }])),
      /the image config "c.json" is missing/,
    ],
    [
      'a config that climbs',
      () => archive('t', manifestOf([{ Config: '../../../etc/passwd', Layers: [] }])),
      /the image config "..\/..\/..\/etc\/passwd" is missing/,
    ],
    [
      'a missing layer',
      () => archive('t', { 'c.json': '{}', ...manifestOf([{ Config: 'c.json', Layers: ['../../x'] }]) }),
      /the layer "..\/..\/x" is missing/,
    ],
    [
      'an index.json of 5 MiB',
      () => archive('t', { 'index.json': ' '.repeat(5 << 20) }),
      /^RESPONSE_TOO_LARGE: cannot import ".*": "index.json" has 5242880 bytes, more than 4194304/,
    ],
    [
      'a manifest.json of 100 MiB (CVE-2023-25153)',
      () => archive('t', { 'manifest.json': Buffer.alloc(100 << 20, ' ') }),
      /^RESPONSE_TOO_LARGE: .*"manifest.json" has 104857600 bytes/,
    ],
    [
      'an index for another machine',
      () => (writeLayout(at('l'), { x: makeImage({ layers: [], architecture: 'riscv64' }) }), wrap(at('l'))),
      /^PLATFORM_NOT_FOUND: cannot import ".*": it has no image for linux\//,
    ],
    [
      'an artifact',
      () => (
        writeLayout(at('l'), {
          x: makeImage({
            layers: [],
            edit: (m) => ({ ...m, config: { ...(m.config as object), mediaType: 'application/vnd.helm' } }),
          }),
        }),
        at('l')
      ),
      /^IMAGE_UNSUPPORTED: .*artifact of type "application\/vnd.helm"/,
    ],
  ])('%s', async (_name, make, expected) => {
    expect(await failure(images.import(make()))).toMatch(expected);
    store.expectClean({ blobs: 0, layers: 0 });
  });

  /** Puts the layout's manifest behind an index that says its platform. */
  function wrap(layout: string): string {
    const index = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as { manifests: object[] };
    const inner = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: 'application/vnd.oci.image.index.v1+json',
        manifests: index.manifests.map((entry) => ({
          ...entry,
          platform: { os: 'linux', architecture: 'riscv64' },
        })),
      }),
    );
    writeFileSync(join(layout, 'blobs', 'sha256', sha256(inner).slice(7)), inner);
    writeFileSync(
      join(layout, 'index.json'),
      JSON.stringify({
        schemaVersion: 2,
        manifests: [
          { mediaType: 'application/vnd.oci.image.index.v1+json', digest: sha256(inner), size: inner.length },
        ],
      }),
    );
    return layout;
  }
});

describe('export', () => {
  beforeEach(async () => {
    writeLayout(at('source'), { 'localhost/x:1': image, 'localhost/y:1': second });
    await images.import(at('source'));
  });

  test('and import again gives the same image, in every format', async () => {
    await images.export(['localhost/x:1', 'localhost/y:1'], at('o.tar'), 'oci-archive');
    await images.export(['localhost/x:1', 'localhost/y:1'], at('o'), 'oci-dir');
    await images.export(['localhost/x:1', 'localhost/y:1'], at('d.tar'), 'docker-archive');
    for (const name of ['o.tar', 'o', 'd.tar']) {
      const other = store.open({ root: at(`root-${name}`) });
      expect((await other.import(at(name))).map(({ id, names }) => [id, names])).toEqual([
        [image.id, ['localhost/x:1']],
        [second.id, ['localhost/y:1']],
      ]);
      const same = other.resolve('localhost/x:1')?.manifestDigest === image.manifestDigest;
      expect(same).toBe(name !== 'd.tar'); // plain layers have another digest than packed ones
    }
    expect(readdirSync(store.folder).filter((name) => name.includes('.part'))).toEqual([]);
  });

  test('what skopeo, umoci and buildah read', async () => {
    await images.export(['localhost/x:1'], at('o.tar'), 'oci-archive');
    await images.export(['localhost/x:1'], at('o'), 'oci-dir');
    await images.export(['localhost/x:1'], at('d.tar'), 'docker-archive');
    for (const source of [
      `oci-archive:${at('o.tar')}:localhost/x:1`,
      `oci:${at('o')}:localhost/x:1`,
      `docker-archive:${at('d.tar')}:localhost/x:1`,
    ]) {
      const config = JSON.parse(run('skopeo', 'inspect', '--config', source)) as {
        rootfs: { diff_ids: string[] };
      };
      expect(config.rootfs.diff_ids).toEqual(image.diffIds);
      run('skopeo', 'copy', '-q', source, `oci:${at('copied')}:x`);
    }
    run('umoci', 'unpack', '--image', `${at('copied')}:x`, at('bundle'));
    expect(readFileSync(join(at('bundle'), 'rootfs', 'b'), 'utf8')).toHaveLength(5000);
    const pulled = run(
      'buildah',
      '--root',
      at('b'),
      '--runroot',
      at('br'),
      '--storage-driver',
      'vfs',
      'pull',
      '-q',
      `oci-archive:${at('o.tar')}`,
    );
    expect(pulled.trim()).toMatch(/^[0-9a-f]{64}$/);
  });

  test('the same image exported twice is the same file', async () => {
    await images.export(['localhost/x:1'], at('1.tar'));
    await images.export(['localhost/x:1'], at('2.tar'));
    expect(readFileSync(at('1.tar'))).toEqual(readFileSync(at('2.tar')));
    expect(statSync(at('1.tar')).mode & 0o777).toBe(0o644);
  });

  test('an image that is not here, a target that exists, a directory that does not', async () => {
    expect(await failure(images.export(['localhost/none:1'], at('x.tar')))).toMatch(/^IMAGE_NOT_FOUND/);
    mkdirSync(at('there'));
    expect(await failure(images.export(['localhost/x:1'], at('there'), 'oci-dir'))).toBe(
      `EXPORT_FAILED: cannot export to "${at('there')}": it exists already`,
    );
    expect(await failure(images.export(['localhost/x:1'], at('no/such/x.tar')))).toMatch(
      /^EXPORT_FAILED: cannot export to ".*": ENOENT/,
    );
    expect(existsSync(at('x.tar'))).toBe(false);
    store.expectClean();
  });

  test('a disk that is full leaves nothing there', async () => {
    const small = at('small');
    mkdirSync(small);
    run('mount', '-t', 'tmpfs', '-o', 'size=8k', 'tmpfs', small);
    try {
      expect(await failure(images.export(['localhost/x:1'], join(small, 'x.tar')))).toMatch(
        /^DISK_FULL: cannot export the image: no room on the file system of ".*small"/,
      );
      expect(readdirSync(small)).toEqual([]);
    } finally {
      run('umount', small);
    }
  });
});

describe('pack', () => {
  /** Runs a program of an image in its own root. */
  const inside = (name: string, ...argv: readonly string[]): string => {
    const record = images.resolve(name);
    if (record === undefined) throw new Error('no such image');
    const { lower, upper } = images.prepare('run', record);
    expect(lower).toHaveLength(1);
    cpSync(lower[0] ?? '', join(upper, '..', 'copy'), { recursive: true, verbatimSymlinks: true });
    const root = join(upper, '..', 'copy');
    const env = record.config.config?.Env ?? [];
    // with /proc, as in a container: the linker asks it for $ORIGIN
    const start = 'mkdir -p "$0/proc" && mount -t proc proc "$0/proc" && exec chroot "$0" "$@"';
    const command = argv.length > 0 ? argv : (record.config.config?.Entrypoint ?? []);
    const args = ['-i', ...env, 'unshare', '-mpf', 'sh', '-c', start, root, ...command];
    return execFileSync('env', args, { encoding: 'utf8' });
  };

  test('Node.js is packed with its libraries and runs', async () => {
    const packed = await images.pack('localhost/node:1', [process.execPath]);
    expect(packed).toMatchObject({ name: 'localhost/node:1', warnings: [] });
    expect(images.resolve('localhost/node:1')).toMatchObject({
      id: packed.id,
      config: { config: { Entrypoint: [process.execPath] } },
    });
    expect(inside('localhost/node:1', process.execPath, '-p', '6 * 7 + process.version')).toBe(
      `42${process.version}\n`,
    );
    expect(images.users(images.resolve('localhost/node:1')!).passwd.map(({ name }) => name)).toEqual([
      'root',
      'nobody',
    ]);
    store.expectClean({ blobs: 3, layers: 1 });
  });

  test('a shell by its link, a script with its interpreter by env, a directory, a mapped file', async () => {
    mkdirSync(at('site/deep'), { recursive: true });
    writeFileSync(at('site/deep/index'), 'hello');
    symlinkSync('deep/index', at('site/link'));
    writeFileSync(at('tool'), '#!/usr/bin/env bash\necho tool "$0" "$(cat /srv/link)"\n');
    chmodSync(at('tool'), 0o755);
    const { warnings } = await images.pack(
      'localhost/t:1',
      ['sh', `${at('tool')}:/opt/bin/tool`, `${at('site')}:/srv`, '/bin/cat'],
      {
        config: {
          Entrypoint: ['/opt/bin/tool'],
          Env: ['X=y'],
          ExposedPorts: { '80/tcp': {} },
          Labels: { a: 'b' },
        },
      },
    );
    expect(warnings).toEqual([]);
    expect(inside('localhost/t:1')).toBe('tool /opt/bin/tool hello\n');
    const record = images.resolve('localhost/t:1')!;
    expect(record.config.config).toMatchObject({
      ExposedPorts: { '80/tcp': {} },
      Labels: { a: 'b' },
      Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'X=y'],
    });
  });

  test('the same files give the same image, whatever their times and owners; another epoch another', async () => {
    writeFileSync(at('f'), 'content');
    const first = await images.pack('localhost/r:1', [`${at('f')}:/f`, 'true']);
    copyFileSync(at('f'), at('g'));
    run('touch', '-d', '2001-01-01', at('g'));
    run('chown', '1000:1000', at('g'));
    const other = store.open({ root: at('other') });
    const again = await other.pack('localhost/r:1', ['true', `${at('g')}:/f`], {
      config: { Entrypoint: [`/f`] },
    });
    const third = await images.pack('localhost/r:2', [`${at('f')}:/f`, 'true']);
    const dated = await images.pack('localhost/r:3', [`${at('f')}:/f`, 'true'], { epoch: 1_700_000_000 });
    expect(third.id).toBe(first.id);
    expect(other.inspect(again.id).layers[0]?.digest).toBe(images.inspect(first.id).layers[0]?.digest);
    expect(dated.id).not.toBe(first.id);
    expect(statSync(join(images.inspect(dated.id).layers[0]?.path ?? '', 'f'))).toMatchObject({
      mtimeMs: 1_700_000_000_000,
      uid: 0,
    });
  });

  test('a library that only ld.so.conf knows is found inside as well', async () => {
    writeFileSync(at('lib.c'), 'int answer(void) { return 42; }');
    writeFileSync(
      at('main.c'),
      '#include <stdio.h>\nint answer(void); int main(void) { printf("%d\\n", answer()); return 0; }',
    );
    mkdirSync(at('libs'));
    mkdirSync(at('bin'));
    run('cc', '-shared', '-fPIC', '-o', at('libs/libanswer.so'), at('lib.c'));
    run(
      'cc',
      '-o',
      at('bin/main'),
      at('main.c'),
      `-L${at('libs')}`,
      '-lanswer',
      '-Wl,-rpath,$ORIGIN/../libs',
    );
    await images.pack('localhost/own:1', [at('bin/main')]);
    expect(inside('localhost/own:1')).toBe('42\n');
    await images.removeSnapshot('run');
    await images.pack('localhost/moved:1', [`${at('bin/main')}:/usr/bin/moved`]);
    expect(images.resolve('localhost/moved:1')?.config.config?.Env).toContain(
      `LD_LIBRARY_PATH=${at('libs')}`,
    );
    expect(inside('localhost/moved:1')).toBe('42\n');
  });

  test.each<[string, readonly string[], RegExp]>([
    ['nothing', [], /^PACK_INVALID: cannot pack an image of nothing/],
    [
      'what is not there',
      ['/no/such/file'],
      /^PACK_NOT_FOUND: cannot pack "\/no\/such\/file": there is no such file$/,
    ],
    [
      'a name that is not in PATH',
      ['no-such-program'],
      /^PACK_NOT_FOUND: .*neither a file here nor a program in PATH$/,
    ],
    ['a relative target', ['/bin/true:bin/true'], /^PACK_INVALID: .*"bin\/true" is no absolute path/],
    ['a target that climbs', ['/bin/true:/a/../../b'], /^PACK_INVALID/],
    ['the root as target', ['/bin/true:/'], /^PACK_INVALID/],
    ['a device', ['/dev/null'], /^PACK_NOT_FOUND/],
  ])('%s', async (_name, paths, expected) => {
    expect(await failure(images.pack('localhost/x:1', paths))).toMatch(expected);
    store.expectClean({ blobs: 0, layers: 0 });
  });

  test('a name with a digest, and a bad name', async () => {
    expect(await failure(images.pack(`x@sha256:${'0'.repeat(64)}`, ['true']))).toMatch(/^PACK_INVALID/);
    expect(await failure(images.pack('UPPER', ['true']))).toMatch(/^INVALID_REFERENCE/);
  });
});
