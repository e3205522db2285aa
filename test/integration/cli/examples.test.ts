/** What examples/README.md says of each example. `demo.yaml` is run by demo.test.ts. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../../src/linux/package-root.ts';
import { IMAGE, type Outcome, World } from '../../fixtures/agent.ts';

const folder = join(packageRoot(), 'examples');
let world: World;

beforeAll(async () => {
  world = await World.open({ programs: 'sh cat echo grep head id sleep ps tail wc' });
  expect((await world.cli(['image', 'tag', IMAGE, 'localhost/busybox'])).code).toBe(0);
});
afterEach(() => {
  expect(world.leftovers()).toEqual([]);
  expect(world.shared()).toEqual([]);
});
afterAll(async () => await world?.close());

async function run(name: string): Promise<Outcome> {
  return await world.cli(['run', ...world.settings, join(folder, name)]);
}

describe('examples', () => {
  it('limits.yaml: who wants too much is killed, the other goes on', async () => {
    const { code, stdout, stderr } = await run('limits.yaml');
    expect({ code, stdout }).toEqual({
      code: 137,
      stdout: '[greedy] my limit is 32 MiB\n[modest] still here\n',
    });
    expect(stderr).toContain('OOMKilled');
  });

  it('init.yaml: in order, with a ConfigMap and a shared volume', async () => {
    const { code, stdout, stderr } = await run('init.yaml');
    expect({ code, stdout, stderr: code === 0 ? '' : stderr }).toEqual({
      code: 0,
      stdout: [
        '[main] 1. first has written this',
        '[main] 2. second has read 1 line',
        '[main] This line is from a ConfigMap.',
        '[main] Hello, world.',
        '',
      ].join('\n'),
      stderr: '',
    });
  });

  it('users.yaml: root inside is nobody outside', async () => {
    const { code, stdout } = await run('users.yaml');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^uid=0/);
    const [, inside, outside, size] = /^ +(\d+) +(\d+) +(\d+)$/m.exec(stdout) ?? [];
    expect(inside).toBe('0');
    expect(Number(outside)).toBeGreaterThanOrEqual(65_536);
    expect(size).toBe('65536');
    expect(stdout).toContain('/bin/sh is mine');
  });

  it('together.yaml: network, processes and a directory', async () => {
    const { code, stdout } = await run('together.yaml');
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: '[reader] a line from the writer\n[reader] I see 1 process of the writer\n',
    });
  });

  it('are all told of in the README', () => {
    const text = readFileSync(join(folder, 'README.md'), 'utf8');
    const files = readdirSync(folder).filter((name) => name.endsWith('.yaml'));
    expect(files.filter((name) => !text.includes(`\`${name}\``))).toEqual([]);
  });
});
