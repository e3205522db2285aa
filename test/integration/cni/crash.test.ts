import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Rtnetlink } from '../../../src/linux/netlink/index.ts';
import { packageRoot } from '../../../src/linux/package-root.ts';
import type { TestNetns } from '../netlink/netns.ts';
import { World } from './world.ts';

let folder: string;
let child: string;
beforeAll(async () => {
  // Inside the package, where the child finds the addon.
  folder = mkdtempSync(join(packageRoot(), 'build', 'attach-child-'));
  child = join(folder, 'child.mjs');
  await build({
    entryPoints: [join(import.meta.dirname, 'attach-child.ts')],
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    outfile: child,
    logLevel: 'error',
  });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let world: World;
let pod: TestNetns;
const id = 'ef'.repeat(32);
beforeEach(async () => {
  world = await World.make();
  pod = world.namespace('pod');
});
afterEach(async () => {
  await world[Symbol.asyncDispose]();
});

const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: 'tcp', hostIP: '' }];

/** Runs the child with a failpoint armed; how it ended. */
function run(
  verb: 'setUp' | 'add' | 'remove' | 'collect',
  failpoints = '',
): { readonly signal: string | null; readonly output: string } {
  const task = { verb, host: world.host.path, pod: pod.path, dataDir: world.dataDir, id, portMappings };
  const result = spawnSync(process.execPath, [child, JSON.stringify(task)], {
    encoding: 'utf8',
    env: { ...process.env, NODELET_FAILPOINTS: failpoints },
    timeout: 30_000,
  });
  if (result.status !== 0 && result.signal === null) throw new Error(result.stderr);
  return { signal: result.signal, output: result.stdout };
}

/** Everything that a pod has in the host's namespace and on disk. */
function traces(): unknown {
  using rt = new Rtnetlink(world.host.fd);
  return {
    links: rt
      .links()
      .map(({ name }) => name)
      .sort(),
    addresses: rt
      .addresses()
      .map(({ address }) => address)
      .filter((address) => !address.startsWith('fe80'))
      .sort(),
    rules: world.host.run('nft', 'list', 'ruleset'),
    files: readdirSync(join(world.dataDir, 'pods'))
      .filter((name) => !name.startsWith('last_reserved_ip'))
      .sort(),
  };
}

const SET_UP = ['bridge', 'bridge-sysctls', 'bridge-up', 'rules'].map((name) => `network:after-${name}`);
const ADD = ['addresses', 'pod-sysctls', 'veth', 'veth-sysctls', 'veth-up', 'pod-links', 'host-ports'].map(
  (name) => `network:after-${name}`,
);

describe('an agent that is killed', () => {
  it.each(SET_UP)('%s: the next one finishes the set-up', async (failpoint) => {
    expect(run('setUp', `${failpoint}=kill`).signal).toBe('SIGKILL');
    const network = world.network();
    await network.setUp();
    expect(await network.status()).toEqual({ ready: true });
    const mended = traces();
    await network.tearDown();
    await network.setUp();
    expect(mended).toEqual(traces());
  });

  it.each(ADD)('%s of a pod: the next one collects what there is of it', async (failpoint) => {
    const network = world.network();
    await network.setUp();
    const before = traces();
    expect(run('add', `${failpoint}=kill`).signal).toBe('SIGKILL');
    expect(traces()).not.toEqual(before);
    expect(await network.collect(new Set())).toEqual([id]);
    expect(traces()).toEqual(before);
    expect(await network.collect(new Set())).toEqual([]);
  });

  it.each(ADD)('%s of a pod: the next one can finish it', async (failpoint) => {
    const network = world.network();
    await network.setUp();
    expect(run('add', `${failpoint}=kill`).signal).toBe('SIGKILL');
    const attachment = world.attachment(pod, [{}], id);
    const result = await network.add(attachment);
    expect(result.ips.map(({ address }) => address)).toEqual(['10.88.0.2/16', 'fd00:88::2/64']);
    await world.serveTcp(pod, 80);
    expect(await world.tcp(world.outside, '192.0.2.1', 8080)).toBe('192.0.2.2');
    expect(await world.tcp(pod, '192.0.2.1', 8080)).toBe('10.88.0.1');
    await network.remove(attachment);
    await network.tearDown();
  });

  it.each(['network:remove-after-rules', 'network:remove-after-link'])(
    '%s: the next one finishes the removal',
    async (failpoint) => {
      const network = world.network();
      await network.setUp();
      const before = traces();
      await network.add(world.attachment(pod, [{}], id));
      expect(run('remove', `${failpoint}=kill`).signal).toBe('SIGKILL');
      await network.remove(world.attachment(undefined, [], id));
      expect(traces()).toEqual(before);
    },
  );

  it.each(['network:collect-after-rules', 'network:collect-after-links'])(
    '%s: the next one finishes collecting',
    async (failpoint) => {
      const network = world.network();
      await network.setUp();
      const before = traces();
      await network.add(world.attachment(pod, [{}], id));
      expect(run('collect', `${failpoint}=kill`).signal).toBe('SIGKILL');
      expect(await network.collect(new Set())).toEqual([id]);
      expect(traces()).toEqual(before);
    },
  );
});

describe('an add that fails', () => {
  it.each(ADD)('%s undoes all that it did', async (failpoint) => {
    const network = world.network();
    await network.setUp();
    const before = traces();
    expect(run('add', `${failpoint}=error`)).toEqual({ signal: null, output: 'failed FAILPOINT' });
    expect(traces()).toEqual(before);
  });

  it('on a pod that is connected already leaves it connected', async () => {
    const network = world.network();
    await network.add(world.attachment(pod, [{}], id));
    const before = traces();
    expect(run('add', 'network:after-addresses=error')).toEqual({ signal: null, output: 'failed FAILPOINT' });
    expect(traces()).toEqual(before);
  });
});
