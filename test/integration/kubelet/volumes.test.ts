/** Volumes on a real kernel: mounts, modes, owners, and their removal. */

import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ObjectStore } from '../../../src/kubelet/index.ts';
import { writeAtomically } from '../../../src/kubelet/volumes/atomic-writer.ts';
import { prepareHostPath } from '../../../src/kubelet/volumes/host-path.ts';
import { mountTmpfs, unmountBelow } from '../../../src/kubelet/volumes/tmpfs.ts';
import { setUpVolumes, tearDownVolumes, type VolumeContext } from '../../../src/kubelet/volumes/volumes.ts';
import { mountAt, mountsUnder, readMountinfo } from '../../../src/linux/mountinfo.ts';
import { NODE, podOf } from '../../unit/kubelet/world.ts';
import { type Scratch, scratch } from './scratch.ts';

let world: Scratch;
let context: VolumeContext & { readonly objects: ObjectStore };
beforeEach(() => {
  world = scratch();
  context = { paths: world.paths, objects: new ObjectStore(), node: NODE, now: () => new Date() };
  const metadata = { name: 'conf', namespace: 'default' };
  context.objects.putConfigMap({
    metadata,
    data: { 'app.ini': 'one', other: 'two' },
    binaryData: { raw: '/w==' },
  });
  context.objects.putSecret({ metadata: { ...metadata, name: 'keys' }, data: { token: 'czNjcmV0' } });
});
afterEach(() => world[Symbol.dispose]());

type Fields = Readonly<Record<string, unknown>>;

/** Sets up one volume `v` and returns its path. */
async function setUp(
  kind: 'empty-dir' | 'configmap' | 'secret' | 'downward-api' | 'projected',
  volume: Fields,
  spec: Fields = {},
  metadata: Fields = {},
): Promise<string> {
  const pod = await podOf({ volumes: [{ name: 'v', ...volume }], ...spec }, metadata);
  expect(setUpVolumes(pod, context)).toEqual([]);
  return world.paths.volume('uid-1', kind, 'v');
}

const mode = (path: string) => (statSync(path).mode & 0o7777).toString(8);
const group = (path: string) => lstatSync(path).gid;

describe('emptyDir', () => {
  it('is a directory for everybody, and stays as it is when set up again', async () => {
    const path = await setUp('empty-dir', { emptyDir: {} });
    expect(mode(path)).toBe('777');
    writeFileSync(join(path, 'file'), 'x');
    await setUp('empty-dir', { emptyDir: {} });
    expect(readdirSync(path)).toEqual(['file']);
  });

  it('belongs to the pod’s group, and so does what is made in it', async () => {
    const path = await setUp('empty-dir', { emptyDir: {} }, { securityContext: { fsGroup: 4711 } });
    expect([mode(path), group(path)]).toEqual(['2777', 4711]);
    writeFileSync(join(path, 'file'), 'x');
    expect(group(join(path, 'file'))).toBe(4711);
  });

  it('in memory is a tmpfs of its size', async () => {
    const path = await setUp(
      'empty-dir',
      { emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } },
      { securityContext: { fsGroup: 4711 } },
    );
    expect(mountAt(readMountinfo(), path)?.type).toBe('tmpfs');
    const { blocks, bsize } = statfsSync(path);
    expect(blocks * bsize).toBe(2 ** 20);
    expect([mode(path), group(path)]).toEqual(['2777', 4711]);
    expect(() => writeFileSync(join(path, 'big'), Buffer.alloc(2 * 2 ** 20))).toThrow('ENOSPC');
    await setUp('empty-dir', { emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } });
    expect(mountsUnder(readMountinfo(), path).length).toBe(1);
  });
});

describe('ConfigMap and Secret', () => {
  it('are files behind links, as upstream lays them out', async () => {
    const path = await setUp('configmap', { configMap: { name: 'conf' } });
    expect(
      readdirSync(path)
        .filter((name) => !name.startsWith('..2'))
        .sort(),
    ).toEqual(['..data', 'app.ini', 'other', 'raw']);
    expect(readlinkSync(join(path, 'app.ini'))).toBe('..data/app.ini');
    expect(readlinkSync(join(path, '..data'))).toMatch(/^\.\.\d{4}_\d\d_\d\d_\d\d_\d\d_\d\d\.\w{6}$/);
    expect(readFileSync(join(path, 'app.ini'), 'utf8')).toBe('one');
    expect(readFileSync(join(path, 'raw'))).toEqual(Buffer.from([0xff]));
    expect([mode(path), mode(join(path, 'app.ini'))]).toEqual(['755', '644']);
  });

  it('have the modes and paths that the pod asks for', async () => {
    const items = [
      { key: 'app.ini', path: 'deep/er/app.ini' },
      { key: 'other', path: 'run', mode: 0o755 },
    ];
    const path = await setUp('configmap', { configMap: { name: 'conf', defaultMode: 0o400, items } });
    expect(
      readdirSync(path)
        .filter((name) => !name.startsWith('..'))
        .sort(),
    ).toEqual(['deep', 'run']);
    expect(readFileSync(join(path, 'deep/er/app.ini'), 'utf8')).toBe('one');
    expect([mode(join(path, 'deep/er/app.ini')), mode(join(path, 'run'))]).toEqual(['400', '755']);
  });

  it('can be read by the pod’s group, and not written', async () => {
    const path = await setUp(
      'secret',
      { secret: { secretName: 'keys', defaultMode: 0o400 } },
      { securityContext: { fsGroup: 4711 } },
    );
    const file = join(path, 'token');
    expect([mode(file), statSync(file).gid]).toEqual(['440', 4711]);
    expect(group(join(path, 'token'))).toBe(4711);
    // As a user who has the group only.
    const asUser = (command: string) =>
      spawnSync('setpriv', ['--reuid', '60001', '--regid', '60001', '--groups', '4711', 'sh', '-c', command]);
    execFileSync('chmod', ['-R', 'a+X', world.root]);
    for (const folder of [
      world.root,
      join(world.root, 'kubelet'),
      world.paths.pods,
      world.paths.pod('uid-1'),
    ])
      execFileSync('chmod', ['a+x', folder]);
    expect(asUser(`cat ${file}`).stdout.toString()).toBe('s3cret');
    expect(asUser(`echo x > ${file}`).status).not.toBe(0);
  });

  it('secrets never lie on a disk', async () => {
    const path = await setUp('secret', { secret: { secretName: 'keys' } });
    expect(mountAt(readMountinfo(), path)?.type).toBe('tmpfs');
  });

  it('are replaced as a whole when they change, and keep their version when they do not', async () => {
    const volume = { configMap: { name: 'conf' } };
    const path = await setUp('configmap', volume);
    const before = readlinkSync(join(path, '..data'));
    await setUp('configmap', volume);
    expect(readlinkSync(join(path, '..data'))).toBe(before);
    context.objects.putConfigMap({
      metadata: { name: 'conf', namespace: 'default' },
      data: { 'app.ini': 'new' },
    });
    await setUp('configmap', volume);
    expect(readlinkSync(join(path, '..data'))).not.toBe(before);
    expect(readdirSync(path).filter((name) => !name.startsWith('..'))).toEqual(['app.ini']);
    expect(readFileSync(join(path, 'app.ini'), 'utf8')).toBe('new');
    expect(existsSync(join(path, before))).toBe(false);
  });

  it('optional ones that are missing are empty', async () => {
    const path = await setUp('configmap', { configMap: { name: 'gone', optional: true } });
    expect(readdirSync(path).filter((name) => !name.startsWith('..'))).toEqual([]);
  });

  it.each([
    ['a ConfigMap', { configMap: { name: 'gone' } }, 'configmap "gone" not found'],
    [
      'a key',
      { configMap: { name: 'conf', items: [{ key: 'no', path: 'no' }] } },
      'configmap references non-existent config key: no',
    ],
    ['a Secret', { secret: { secretName: 'gone' } }, 'secret "gone" not found'],
    [
      'a Secret’s key',
      { secret: { secretName: 'keys', items: [{ key: 'no', path: 'no' }] } },
      'references non-existent secret key: no',
    ],
  ])(
    '%s that is missing is named, and the other volumes are set up all the same',
    async (_what, volume, message) => {
      const pod = await podOf({
        volumes: [
          { name: 'v', ...volume },
          { name: 'w', emptyDir: {} },
        ],
      });
      expect(setUpVolumes(pod, context)).toEqual([{ volume: 'v', message }]);
      expect(existsSync(world.paths.volume('uid-1', 'empty-dir', 'w'))).toBe(true);
    },
  );
});

describe('downward API and projected volumes', () => {
  it('show fields and resources of the pod', async () => {
    const items = [
      { path: 'notes', fieldRef: { fieldPath: 'metadata.annotations' } },
      { path: 'name', fieldRef: { fieldPath: 'metadata.name' }, mode: 0o400 },
      {
        path: 'limits/memory',
        resourceFieldRef: { containerName: 'a', resource: 'limits.memory', divisor: '1Mi' },
      },
    ];
    const containers = [{ name: 'a', resources: { limits: { memory: '64Mi' } } }];
    const metadata = { annotations: { b: 'two "quoted"', a: 'one' } };
    const path = await setUp('downward-api', { downwardAPI: { items } }, { containers }, metadata);
    expect(readFileSync(join(path, 'notes'), 'utf8')).toBe('a="one"\nb="two \\"quoted\\""');
    expect([readFileSync(join(path, 'name'), 'utf8'), mode(join(path, 'name'))]).toEqual(['web', '400']);
    expect(readFileSync(join(path, 'limits/memory'), 'utf8')).toBe('64');
  });

  it('several sources share one folder', async () => {
    const sources = [
      { configMap: { name: 'conf', items: [{ key: 'other', path: 'all/other' }] } },
      { secret: { name: 'keys', items: [{ key: 'token', path: 'all/token', mode: 0o400 }] } },
      { downwardAPI: { items: [{ path: 'all/name', fieldRef: { fieldPath: 'metadata.name' } }] } },
    ];
    const path = await setUp('projected', { projected: { sources } });
    expect(readdirSync(join(path, 'all')).sort()).toEqual(['name', 'other', 'token']);
    expect([mode(join(path, 'all/token')), mode(join(path, 'all/other'))]).toEqual(['400', '644']);
    expect(mountAt(readMountinfo(), path)?.type).toBe('tmpfs');
  });
});

describe('hostPath', () => {
  const at = (name: string) => join(world.root, name);
  it.each([
    ['nothing, without a type', 'new', '', 'directory'],
    ['nothing, DirectoryOrCreate', 'new/deep', 'DirectoryOrCreate', 'directory'],
    ['nothing, FileOrCreate', 'file', 'FileOrCreate', 'file'],
  ])('where there is %s, makes a %s', (_what, name, type, made) => {
    prepareHostPath({ path: at(name), type });
    expect(statSync(at(name)).isDirectory() ? 'directory' : 'file').toBe(made);
  });

  it.each([
    ['Directory', 'directory', undefined],
    ['DirectoryOrCreate', 'directory', undefined],
    ['File', 'file', undefined],
    ['Socket', 'socket', undefined],
    ['CharDevice', '/dev/null', undefined],
    ['', 'file', undefined],
    ['Directory', 'missing', 'is not a directory'],
    ['Directory', 'file', 'is not a directory'],
    ['DirectoryOrCreate', 'file', 'is not a directory'],
    ['FileOrCreate', 'directory', 'is not a file'],
    ['File', 'missing', 'is not a file'],
    ['Socket', 'file', 'is not a socket file'],
    ['CharDevice', 'file', 'is not a character device'],
    ['BlockDevice', '/dev/null', 'is not a block device'],
  ])('%j on %s: %s', async (type, name, problem) => {
    mkdirSync(at('directory'));
    writeFileSync(at('file'), 'x');
    const server = createServer().listen(at('socket'));
    try {
      await new Promise((resolve) => server.once('listening', resolve));
      const path = name.startsWith('/') ? name : at(name);
      const work = () => prepareHostPath({ path, type });
      if (problem === undefined) expect(work).not.toThrow();
      else expect(work).toThrow(`hostPath type check failed: ${path} ${problem}`);
      expect(existsSync(at('missing'))).toBe(false);
    } finally {
      server.close();
    }
  });

  it('is not touched when the pod goes', async () => {
    const path = at('precious');
    mkdirSync(path);
    writeFileSync(join(path, 'file'), 'x');
    const pod = await podOf({
      volumes: [
        { name: 'v', hostPath: { path } },
        { name: 'w', emptyDir: {} },
      ],
    });
    setUpVolumes(pod, context);
    await tearDownVolumes('uid-1', world.paths);
    expect(readFileSync(join(path, 'file'), 'utf8')).toBe('x');
  });
});

describe('the atomic writer', () => {
  const payload = (files: Readonly<Record<string, string>>) =>
    new Map(Object.entries(files).map(([name, text]) => [name, { data: Buffer.from(text), mode: 0o644 }]));
  const write = (target: string, files: Readonly<Record<string, string>>) =>
    writeAtomically(target, payload(files), new Date());

  it('says whether something has changed', () => {
    expect(write(world.root, { a: '1' })).toBe(true);
    expect(write(world.root, { a: '1' })).toBe(false);
    expect(write(world.root, { a: '2' })).toBe(true);
    expect(write(world.root, { a: '2', b: '' })).toBe(true);
    expect(write(world.root, {})).toBe(true);
  });

  it('clears away what a crash has left: versions never published, an old link', () => {
    write(world.root, { a: '1' });
    mkdirSync(join(world.root, '..2020_01_01_00_00_00.abcdef'));
    symlinkSync('..2020_01_01_00_00_00.abcdef', join(world.root, '..data_tmp'));
    write(world.root, { a: '2' });
    const names = readdirSync(world.root).filter((name) => name.startsWith('..'));
    expect(names.length).toBe(2);
    expect(readFileSync(join(world.root, 'a'), 'utf8')).toBe('2');
  });

  it('makes links that are missing again', () => {
    write(world.root, { a: '1', b: '2' });
    rmSync(join(world.root, 'b'));
    write(world.root, { a: '1', b: '2' });
    expect(readFileSync(join(world.root, 'b'), 'utf8')).toBe('2');
  });

  it.each([
    ['/etc/passwd', 'the path is absolute'],
    ['../x', "the path contains '..'"],
    ['a/../../x', "the path contains '..'"],
    ['..data', "the path starts with '..'"],
    ['', 'the path is empty'],
    ['a'.repeat(300), 'a name is longer than 255 characters'],
  ])('refuses %j', (path, problem) => {
    expect(() => write(world.root, { [path]: 'x' })).toThrow(problem);
    expect(readdirSync(world.root).filter((name) => name !== 'kubelet' && name !== 'logs')).toEqual([]);
  });

  it('a reader sees all of the old or all of the new files, whenever it looks', async () => {
    write(world.root, { one: '0', two: '0' });
    // Another process, so that it reads in the middle of what we do.
    const script = `cd ${world.root}; while [ ! -e stop ]; do
      v=$(readlink ..data) || { echo torn; exit 1; }
      a=$(cat $v/one 2>/dev/null) && b=$(cat $v/two 2>/dev/null) || continue
      [ "$a" = "$b" ] || { echo "torn $a $b"; exit 1; }; printf .; done`;
    const { spawn } = await import('node:child_process');
    const reader = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    const output: string[] = [];
    reader.stdout.on('data', (data) => output.push(String(data)));
    const ended = new Promise<number | null>((resolve) => reader.once('exit', resolve));
    for (let i = 1; i <= 300; i++) {
      write(world.root, { one: String(i), two: String(i) });
      await new Promise((resolve) => setImmediate(resolve));
    }
    // On a slow machine a look takes as long as many writes: it may have seen none before the last.
    while (output.length === 0 && reader.exitCode === null) await once(reader.stdout, 'data');
    writeFileSync(join(world.root, 'stop'), '');
    expect(await ended, output.join('')).toBe(0);
    expect(output.join('')).toMatch(/^\.+$/);
  });
});

describe('the end of volumes', () => {
  it('everything is found by its path: mounts, also stacked and foreign ones, and files', async () => {
    const spec = {
      volumes: [
        { name: 'm', emptyDir: { medium: 'Memory' } },
        { name: 's', secret: { secretName: 'keys' } },
        { name: 'd', emptyDir: {} },
      ],
    };
    setUpVolumes(await podOf(spec), context);
    const memory = world.paths.volume('uid-1', 'empty-dir', 'm');
    // What a container with Bidirectional propagation might have left there.
    mkdirSync(join(memory, 'inner'));
    mountTmpfs(join(memory, 'inner'), { mode: 0o755 });
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', memory]);
    await tearDownVolumes('uid-1', world.paths);
    expect(mountsUnder(readMountinfo(), world.root)).toEqual([]);
    expect(existsSync(world.paths.volumes('uid-1'))).toBe(false);
    await tearDownVolumes('uid-1', world.paths);
  });

  it('what a mount holds is not deleted where it cannot be taken away', async () => {
    const outside = join(world.root, 'outside');
    mkdirSync(outside);
    writeFileSync(join(outside, 'file'), 'x');
    mkdirSync(join(world.paths.pod('uid-1'), 'etc'), { recursive: true });
    execFileSync('mount', ['--bind', outside, join(world.paths.pod('uid-1'), 'etc')]);
    const { removeTree } = await import('../../../src/kubelet/volumes/volumes.ts');
    await expect(removeTree(world.paths.pod('uid-1'))).rejects.toMatchObject({ code: 'VOLUME_BUSY' });
    expect(readFileSync(join(outside, 'file'), 'utf8')).toBe('x');
    unmountBelow(world.paths.pod('uid-1'));
  });
});
