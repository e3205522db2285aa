/** Pods' cgroups on this machine, below a root of the test's own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type CgroupValues,
  classCgroups,
  defaultSettings,
  LinuxPodCgroups,
  podCgroup,
  probeNode,
} from '../../../src/kubelet/index.ts';
import { directoryOf, killCgroup, readCgroupHost, removeCgroup } from '../../../src/linux/cgroups/index.ts';
import { podOf } from '../../unit/kubelet/world.ts';

const ROOT = `/nodelet-kubelet-test-${process.pid}`;
const host = readCgroupHost();
let cgroups: LinuxPodCgroups;
beforeEach(() => {
  cgroups = new LinuxPodCgroups(ROOT, host);
});
afterEach(async () => {
  killCgroup(host, ROOT);
  await removeCgroup(host, ROOT);
});

/** A value as the kernel shows it, in whichever hierarchy the controller is. */
function value(controller: 'cpu' | 'memory' | 'pids', path: string, v1: string, v2: string): string {
  const binding = host.controllers[controller];
  if (binding === undefined) throw new Error(`no ${controller} controller`);
  return readFileSync(
    `${directoryOf(binding.root, `${ROOT}/${path}`)}/${binding.version === 1 ? v1 : v2}`,
    'utf8',
  ).trim();
}

function valuesOf(path: string) {
  const isV1 = host.controllers.cpu?.version === 1;
  return {
    cpu: value('cpu', path, 'cpu.shares', 'cpu.weight'),
    quota: isV1
      ? `${value('cpu', path, 'cpu.cfs_quota_us', 'cpu.max')} ${value('cpu', path, 'cpu.cfs_period_us', 'cpu.max')}`
      : value('cpu', path, '', 'cpu.max'),
    memory: value('memory', path, 'memory.limit_in_bytes', 'memory.max'),
    pids: value('pids', path, 'pids.max', 'pids.max'),
  };
}

/** What the kernel shows for shares, by the kubelet's own rule for v2. */
const shares = (v1: number, v2: number) => String(host.controllers.cpu?.version === 1 ? v1 : v2);

describe('a pod’s cgroup', () => {
  it('is made with its values, and corrected when they are other ones', async () => {
    const spec = { containers: [{ name: 'a', resources: { limits: { cpu: '1500m', memory: '64Mi' } } }] };
    const cgroup = podCgroup(await podOf(spec), { ...defaultSettings, podPidsLimit: 50 });
    expect(await cgroups.ensure(cgroup)).toBe(`${ROOT}/kubepods/poduid-1`);
    expect(valuesOf('kubepods/poduid-1')).toEqual({
      cpu: shares(1536, 59),
      quota: '150000 100000',
      memory: String(64 * 2 ** 20),
      pids: '50',
    });
    const values: CgroupValues = { ...cgroup.values, memoryLimit: 32 * 2 ** 20, cpuShares: 2 };
    await cgroups.ensure({ path: cgroup.path, values });
    expect(valuesOf('kubepods/poduid-1')).toMatchObject({ cpu: shares(2, 1), memory: String(32 * 2 ** 20) });
  });

  it('nothing is made by asking where it would be', async () => {
    const cgroup = podCgroup(await podOf({}), defaultSettings);
    expect(cgroups.parent(cgroup)).toBe(`${ROOT}/kubepods/besteffort/poduid-1`);
    expect(existsSync(directoryOf(host.unified, `${ROOT}/kubepods`))).toBe(false);
  });

  it('the classes weigh what their pods ask for', async () => {
    const pod = await podOf({ containers: [{ name: 'a', resources: { requests: { cpu: '500m' } } }] });
    await cgroups.setClasses(classCgroups([pod], { milliCpu: 2000, memory: 2 ** 30 }));
    expect(valuesOf('kubepods')).toMatchObject({ cpu: shares(2048, 79), memory: String(2 ** 30) });
    expect(valuesOf('kubepods/burstable').cpu).toBe(shares(512, 20));
    expect(valuesOf('kubepods/besteffort').cpu).toBe(shares(2, 1));
  });

  it('is found by its pod’s UID, whatever its class, and its containers are no pods', async () => {
    for (const path of ['kubepods/poda', 'kubepods/burstable/podb', 'kubepods/besteffort/podc/podd']) {
      await cgroups.ensure({ path, values: {} });
    }
    expect((await cgroups.list()).sort()).toEqual(['a', 'b', 'c']);
  });

  it('is removed with what still runs in it', async () => {
    const path = await cgroups.ensure({ path: 'kubepods/besteffort/poda', values: {} });
    const leaf = `${directoryOf(host.unified, path)}/container`;
    mkdirSync(leaf);
    const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
    const exited = once(child, 'exit');
    writeFileSync(`${leaf}/cgroup.procs`, String(child.pid));
    await cgroups.remove('a');
    expect((await exited)[1]).toBe('SIGKILL');
    expect(await cgroups.list()).toEqual([]);
    await cgroups.remove('a');
  });
});

it('the facts of this machine fit together', () => {
  const root = mkdtempSync(join(tmpdir(), 'nodelet-facts-'));
  try {
    const node = probeNode({
      root,
      cgroups,
      name: 'n1',
      maxPods: 5,
      reserved: { milliCpu: 100, memory: 2 ** 20 },
    });
    expect(node.name).toBe('n1');
    expect(node.labels).toMatchObject({ 'kubernetes.io/hostname': 'n1', 'kubernetes.io/os': 'linux' });
    expect(node.podsLimit.memory).toBe(node.memoryCapacity - 2 ** 20);
    expect(node.allocatable.memory).toBeLessThanOrEqual(node.podsLimit.memory - 100 * 2 ** 20);
    expect(node.allocatable.milliCpu % 1000).toBe(900);
    expect(node.allocatable.pods).toBe(5);
    expect(node.allocatable.ephemeralStorage).toBeGreaterThan(0);
    expect(node.cgroupV2Memory).toBe(host.controllers.memory?.version === 2);
    expect(Object.keys(node.hugePages).sort()).toEqual([...host.hugepageSizes].sort());
    const routed = readFileSync('/proc/net/route', 'utf8').split('\n').length > 2;
    expect(node.ips.length > 0).toBe(routed);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
