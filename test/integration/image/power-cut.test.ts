/**
 * The store's directory is copied before and after every call that makes something last (fsync, syncfs, rename), and what was
 * written and not synced by then is cut off in the copy, as a power cut would do. Each copy has to open as the old state or
 * the new one, and the work that was cut has to succeed on it. Copies that are the same to the byte are tried once.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  truncateSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { VerifyReport } from '../../../src/image/index.ts';
import { patience } from '../../fixtures/patience.ts';
import { EvilRegistry } from '../../fixtures/registry-evil.ts';
import { dir, file, makeImage, tarOf, writeLayout } from '../../fixtures/registry-images.ts';
import { scriptBundle, TestStore, workerBundle } from '../../fixtures/registry-store.ts';

const image = makeImage({
  layers: [tarOf(dir('etc'), file('etc/os', 'test')), tarOf(file('a', 'A'.repeat(70_000)))],
});
const other = makeImage({ layers: [tarOf(dir('etc'), file('etc/os', 'test')), tarOf(file('b', 'B'))] });
const a = 'localhost/a:1';
const b = 'localhost/b:1';

let tools: TestStore;
let library: string;
let driver: string;
let layouts: Readonly<Record<'a' | 'b', string>>;

beforeAll(() => {
  tools = new TestStore();
  library = join(tools.folder, 'power-cut.so');
  const source = join(import.meta.dirname, '..', '..', 'fixtures', 'power-cut.c');
  execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-o', library, source, '-ldl', '-lpthread']);
  driver = scriptBundle('test/fixtures/registry-driver.ts', 'driver.js');
  layouts = { a: join(tools.folder, 'layout-a'), b: join(tools.folder, 'layout-b') };
  writeLayout(layouts.a, { [a]: image });
  writeLayout(layouts.b, { [b]: other });
});
afterAll(async () => {
  await tools.close();
});

/** Runs a command on the store; returns what a power cut can leave of it, oldest first. */
async function cuts(store: TestStore, ...args: readonly string[]): Promise<string[]> {
  const target = join(store.folder, `cuts-${args[0]}`);
  mkdirSync(target);
  // Not spawnSync: the registry of a pull is in this process.
  const child = spawn(process.execPath, [driver, store.root, workerBundle(), ...args], {
    env: { ...process.env, LD_PRELOAD: library, POWER_CUT_SOURCE: store.root, POWER_CUT_TARGET: target },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let errors = '';
  child.stderr.on('data', (data: Buffer) => {
    errors += data.toString();
  });
  const status = await new Promise((resolve) => child.once('exit', resolve));
  expect(status, errors).toBe(0);
  const numbers = readdirSync(target).filter(
    (name) => /^\d+$/.test(name) && existsSync(join(target, `${name}.list`)),
  );
  expect(numbers.length).toBeGreaterThan(args[0] === 'remove' ? 2 : 15);
  const states = new Map<string, string>();
  for (const copy of numbers.sort((x, y) => Number(x) - Number(y)).map((name) => join(target, name))) {
    lose(copy);
    const state = stateOf(copy);
    if (!states.has(state)) states.set(state, copy);
  }
  return [...states.values()];
}

/** All that a store can read of a directory, but times. */
function stateOf(folder: string): string {
  const hash = createHash('sha256');
  for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()) {
    const file = join(folder, path);
    const { mode, uid, gid } = lstatSync(file);
    hash.update(JSON.stringify([path, mode, uid, gid]));
    const kind = mode & constants.S_IFMT;
    if (kind === constants.S_IFREG) hash.update(readFileSync(file));
    else if (kind === constants.S_IFLNK) hash.update(readlinkSync(file));
  }
  return hash.digest('hex');
}

/** Cuts off what was not synced: half of each file that was written to. */
function lose(copy: string): void {
  const dirty = new Set(readFileSync(`${copy}.dirty`, 'utf8').split('\n').filter(Boolean));
  for (const line of readFileSync(`${copy}.list`, 'utf8').split('\n')) {
    const [, inode = '', path = ''] = /^(\d+) (.*)$/.exec(line) ?? [];
    const file = join(copy, path);
    if (dirty.has(inode) && existsSync(file)) truncateSync(file, Math.floor(statSync(file).size / 2));
  }
}

/** Opens a copy. `names` are the lists of images that it may show. */
async function check(
  copy: string,
  names: readonly (readonly string[])[],
  again: (store: TestStore) => Promise<unknown>,
): Promise<void> {
  const store = new TestStore(join(copy, '..', `${copy.split('/').at(-1)}-store`));
  mkdirSync(store.folder, { recursive: true });
  execFileSync('mv', [copy, store.root]);
  try {
    const images = store.open();
    await images.ready;
    const shown = images.list().flatMap(({ repoTags }) => repoTags);
    expect(names, copy).toContainEqual(shown);
    const report: VerifyReport = await images.verify({ deep: true });
    expect(report.problems, copy).toEqual([]);
    for (const record of images.list()) {
      const { lower } = images.prepare('probe', record);
      expect(lower.every((path) => existsSync(path))).toBe(true);
      await images.removeSnapshot('probe');
    }
    await again(store);
    expect((await images.verify({ deep: true })).problems, copy).toEqual([]);
    expect(store.names('images', 'leases')).toEqual([]);
    expect(store.names('snapshots', 'new')).toEqual([]);
  } finally {
    await store.close();
  }
}

describe('the power goes', () => {
  test('while an image is imported', { timeout: 300_000 * patience }, async () => {
    const store = new TestStore();
    try {
      const copies = await cuts(store, 'import', layouts.a);
      for (const copy of copies)
        await check(copy, [[], [a]], async (cut) => {
          const images = cut.open();
          await images.import(layouts.a);
          expect(images.resolve(a)?.id).toBe(image.id);
        });
    } finally {
      await store.close();
    }
  });

  test('while an image is pulled', { timeout: 300_000 * patience }, async () => {
    const registry = await EvilRegistry.start();
    const store = new TestStore();
    try {
      const name = registry.add('x', image);
      const copies = await cuts(store, 'pull', name);
      for (const copy of copies)
        await check(copy, [[], [name]], async (cut) => {
          expect((await cut.open().pull(name)).id).toBe(image.id);
        });
    } finally {
      await registry.stop();
      await store.close();
    }
  });

  test('while one of two images is removed', async () => {
    const store = new TestStore();
    try {
      for (const layout of [layouts.a, layouts.b])
        expect(
          spawnSync(process.execPath, [driver, store.root, workerBundle(), 'import', layout]).status,
        ).toBe(0);
      const copies = await cuts(store, 'remove', a);
      for (const copy of copies)
        await check(copy, [[a, b], [b]], async (cut) => {
          const images = cut.open();
          expect(images.resolve(b)?.id).toBe(other.id);
          await images.import(layouts.a);
          expect(images.resolve(a)?.id).toBe(image.id);
        });
    } finally {
      await store.close();
    }
  });
});
