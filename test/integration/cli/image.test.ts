/** `nodelet image …` on a store of its own, no agent anywhere: what is printed, in which shape, and what it ends with. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { imageMounts } from '../../../src/image/index.ts';
import { packageRoot } from '../../../src/linux/package-root.ts';
import { startRegistry, type TestRegistry } from '../../fixtures/registry.ts';
import { dir, file, makeImage, tarOf, writeLayout } from '../../fixtures/registry-images.ts';
import { TestStore } from '../../fixtures/registry-store.ts';

const base = tarOf(dir('etc'), file('etc/os', 'test'));
const one = makeImage({
  layers: [base, tarOf(file('one', 'A'.repeat(5000)))],
  history: [{ created_by: 'ADD base' }, { created_by: 'ADD own', comment: 'ours' }],
});
const two = makeImage({ layers: [base, tarOf(file('two'))] });

let store: TestStore;
let registry: TestRegistry;

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Not spawnSync: a registry of the test may be asked meanwhile. */
async function image(...words: readonly string[]): Promise<Ended> {
  const where = ['--root', store.root, '--state', join(store.folder, 'state')];
  const script = join(packageRoot(), 'bin', 'nodelet.mjs');
  const child = spawn(process.execPath, [script, 'image', ...words, ...where], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, REGISTRY_AUTH_FILE: join(store.folder, 'none.json') },
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data: Buffer) => (stdout += data.toString()));
  child.stderr.on('data', (data: Buffer) => (stderr += data.toString()));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, stdout, stderr };
}

/** Of a command that succeeds. */
async function json(...words: readonly string[]): Promise<unknown> {
  const { code, stdout, stderr } = await image(...words, '-o', 'json');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout);
}

beforeAll(async () => {
  registry = await startRegistry();
});
afterAll(async () => {
  await registry?.stop();
});
beforeEach(async () => {
  store = new TestStore();
  const layout = join(store.folder, 'layout');
  writeLayout(layout, { 'localhost/one:1': one, 'localhost/two:1': two });
  expect((await image('import', layout)).code).toBe(0);
  return async () => await store.close();
});

describe('verify', () => {
  test('says that nothing is wrong', async () => {
    const { code, stdout } = await image('verify', '--deep');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^2 names, 7 blobs \(.*\) and 3 layers read: nothing is wrong\n$/);
    expect(await json('verify')).toEqual({
      images: 2,
      blobs: 7,
      layers: 3,
      bytes: expect.any(Number) as number,
      problems: [],
    });
  });

  test('fails where something is wrong and stays so, and not where it was mended', async () => {
    const digest = two.layers[1]?.digest ?? '';
    const path = store.path('images', 'blobs', 'sha256', digest.slice(7));
    writeFileSync(path, 'X'.repeat(readFileSync(path).length));
    const wrong = await image('verify', '-o', 'json');
    expect(wrong.code).toBe(1);
    expect(JSON.parse(wrong.stdout)).toMatchObject({
      problems: [{ kind: 'blob-corrupt', subject: digest, images: ['localhost/two:1'] }],
    });
    const table = await image('verify');
    expect(table.code).toBe(1);
    expect(table.stdout).toContain(digest);
    expect(table.stdout).toMatch(/1 problem, 1 left\n$/);
    await image('verify', '--mend');
    const after = await image('verify');
    expect(after.stdout).not.toContain('blob-corrupt');
  });
});

test('tree shows the shared trunk once', async () => {
  const { layers } = (await json('tree')) as { layers: object[] };
  expect(layers).toEqual([
    {
      chainId: one.diffIds[0],
      digest: expect.any(String) as string,
      unpackedSize: expect.any(Number) as number,
      images: [],
      above: expect.any(Array) as object[],
    },
  ]);
  const lines = (await image('tree')).stdout.split('\n');
  expect(
    lines
      .filter((line) => /[├└]── /.test(line))
      .map((line) => line.replace(/^.*  /, ''))
      .sort(),
  ).toEqual(['localhost/one:1', 'localhost/two:1']);
  expect((await image('tree', 'localhost/one:1')).stdout).not.toContain('two');
  expect(await image('tree', 'localhost/none:1')).toMatchObject({
    code: 125,
    stdout: '',
    stderr: expect.stringContaining('cannot find image "localhost/none:1"') as string,
  });
});

test('mount prints where, lists it, and umount undoes it', async () => {
  const { code, stdout } = await image('mount', 'localhost/one:1');
  const path = stdout.trimEnd();
  try {
    expect({ code, path }).toEqual({ code: 0, path: join(store.folder, 'state', 'images', one.id.slice(7)) });
    expect(readdirSync(path)).toEqual(['etc', 'one']);
    expect((await image('mount', 'localhost/one:1')).stdout).toBe(stdout);
    expect(await json('mount')).toEqual({ mounts: [{ name: 'localhost/one:1', id: one.id, path }] });
    expect((await image('mount', '-o', 'name')).stdout).toBe(stdout);
    const removal = await image('rm', 'localhost/one:1');
    expect(removal.code).toBe(125);
    expect(removal.stderr).toContain(`mounted on`);
    const own = join(store.folder, 'own');
    mkdirSync(own);
    expect((await image('mount', 'localhost/one:1', own)).stdout).toBe(`${own}\n`);
    expect((await image('umount', own)).stdout).toBe(`${own}\n`);
    expect(existsSync(own)).toBe(true);
  } finally {
    expect(await image('umount', 'localhost/one:1')).toMatchObject({ code: 0, stdout });
  }
  expect(existsSync(path)).toBe(false);
  expect(imageMounts().get(one.id)).toBeUndefined();
  expect(await json('mount')).toEqual({ mounts: [] });
  for (const words of [
    ['umount', 'localhost/one:1'],
    ['mount', 'localhost/one:1', join(store.folder, 'nowhere')],
    ['mount', 'localhost/none:1'],
    ['umount'],
  ])
    expect((await image(...words)).code).toBe(125);
});

test('diff tells what a container has changed', async () => {
  const images = store.open();
  const record = images.resolve('localhost/one:1');
  if (record === undefined) throw new Error('not imported');
  const { upper } = images.prepare('0123456789abcdef', record);
  writeFileSync(join(upper, 'new'), 'x');
  expect(await json('diff', '0123')).toEqual({ changes: [{ kind: 'added', path: '/new' }] });
  expect((await image('diff', '0123')).stdout).toBe('A /new\n');
  expect((await image('diff', '0123', '-o', 'name')).stdout).toBe('/new\n');
  await images.removeSnapshot('0123456789abcdef');
  expect(await image('diff', '0123')).toMatchObject({
    code: 125,
    stdout: '',
    stderr: expect.stringContaining('cannot find container "0123"') as string,
  });
});

test('copy sends an image, and what it prints pulls it', async () => {
  const target = `${registry.host}/lab/one:1`;
  const { code, stdout, stderr } = await image('copy', 'localhost/one:1', target);
  expect({ code, stdout }).toEqual({ code: 0, stdout: `${registry.host}/lab/one@${one.manifestDigest}\n` });
  expect(stderr.match(/ sent \(/g)).toHaveLength(3);
  expect(await image('copy', '-q', 'localhost/one:1', target)).toEqual({ code: 0, stdout, stderr: '' });
  rmSync(store.root, { recursive: true });
  expect((await image('pull', '-q', stdout.trimEnd())).code).toBe(0);
  expect(await image('copy', 'localhost/none:1', target)).toMatchObject({ code: 125, stdout: '' });
});

test('history, the newest first', async () => {
  const { history: lines } = (await json('history', 'localhost/one:1')) as { history: object[] };
  expect(lines).toEqual([
    expect.objectContaining({ createdBy: 'ADD own', comment: 'ours', size: expect.any(Number) as number }),
    expect.objectContaining({ createdBy: 'ADD base' }),
  ]);
  expect((await image('history', 'localhost/one:1')).stdout).toMatch(
    /^LAYER .*\n.*ADD own .*\n.*ADD base .*\n$/,
  );
  expect((await image('history', 'localhost/none:1')).code).toBe(125);
});

test('compressed layers are kept unless told otherwise, and without them an image is not exported', async () => {
  const layout = join(store.folder, 'layout');
  expect((await image('prune', '-a')).code).toBe(0);
  expect((await image('import', '--no-keep-blobs', layout)).code).toBe(0);
  store.expectClean({ blobs: 4, layers: 3 });
  expect(await image('export', 'localhost/one:1', '-o', join(store.folder, 'x.tar'))).toMatchObject({
    code: 125,
    stderr: expect.stringContaining('or import it again') as string,
  });
  expect((await image('verify')).code).toBe(0);
  const tool = join(store.folder, 'tool');
  writeFileSync(tool, 'tool');
  expect((await image('pack', '--no-keep-blobs', '--no-users', 'localhost/t', `${tool}:/t`)).code).toBe(0);
  store.expectClean({ blobs: 6, layers: 4 });
  expect((await image('import', layout)).code).toBe(0);
  store.expectClean({ blobs: 9, layers: 4 });
});

test('prune takes what has no tag, and all that nothing uses', async () => {
  const nothing = await image('prune');
  expect(nothing).toMatchObject({ code: 0, stdout: '' });
  expect(nothing.stderr).toMatch(/^0B given back \(0 blobs, 0 layers\)\n$/);
  const all = await image('prune', '-a');
  expect(all.code).toBe(0);
  const lines = all.stdout.trimEnd().split('\n');
  expect(lines.filter((line) => line.startsWith('Deleted: ')).sort()).toEqual(
    [one.id, two.id].map((id) => `Deleted: ${id}`).sort(),
  );
  expect(all.stderr).toMatch(/ given back \(7 blobs, 3 layers\)\n$/);
  store.expectClean({ blobs: 0, layers: 0 });
});
