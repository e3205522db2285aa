import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LinuxContainerResources } from '../../../src/cri/index.ts';
import { directoryOf, readCgroupHost } from '../../../src/linux/cgroups/index.ts';
import { patience } from '../../fixtures/patience.ts';
import {
  containerConfig,
  ended,
  openRuntime,
  type RuntimeFixture,
  runToEnd,
  sandboxConfig,
  sh,
} from '../../fixtures/runtime.ts';

let fixture: RuntimeFixture;
beforeAll(async () => {
  fixture = await openRuntime();
});
afterAll(async () => {
  await fixture?.close();
});

const MEMORY = 48 * 2 ** 20;

describe('a memory limit', () => {
  test('kills what goes beyond it, and says so', async () => {
    // tail keeps its input in memory
    const result = await runToEnd(fixture, ['tail', '-c', '200m', '/dev/zero'], {
      linux: { resources: { memoryLimitInBytes: MEMORY } },
    });
    expect(result).toMatchObject({ exitCode: 137, reason: 'OOMKilled' });
  });

  test('is not blamed where only a child was killed and the container went on', async () => {
    const result = await runToEnd(fixture, sh('tail -c 200m /dev/zero; exit 3'), {
      linux: { resources: { memoryLimitInBytes: MEMORY } },
    });
    // v2 kills the group as a whole only where that is asked for.
    expect(result).toMatchObject({ exitCode: 3, reason: 'Error' });
  });

  test('is not blamed for a kill that came from elsewhere', async () => {
    const { runtime } = fixture;
    const podSandboxId = (await runtime.runPodSandbox({ config: sandboxConfig(fixture) })).podSandboxId ?? '';
    const config = containerConfig(['sleep', '1000'], {
      linux: { resources: { memoryLimitInBytes: MEMORY } },
    });
    const containerId = (await runtime.createContainer({ podSandboxId, config })).containerId ?? '';
    await runtime.startContainer({ containerId });
    process.kill(runtime.context.model.container(containerId).record.pid, 'SIGKILL');
    await ended(runtime, containerId);
    expect((await runtime.containerStatus({ containerId })).status).toMatchObject({
      exitCode: 137,
      reason: 'Error',
    });
    await runtime.removePodSandbox({ podSandboxId });
  });

  test('is seen from inside', async () => {
    const script =
      'cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes';
    expect(
      (await runToEnd(fixture, sh(script), { linux: { resources: { memoryLimitInBytes: MEMORY } } })).output,
    ).toBe(`${MEMORY}\n`);
  });

  test('of a hundred containers in a row is blamed a hundred times', async () => {
    for (let i = 0; i < 100; i++) {
      const result = await runToEnd(fixture, ['tail', '-c', '64m', '/dev/zero'], {
        linux: { resources: { memoryLimitInBytes: 8 * 2 ** 20 } },
      });
      expect(result).toMatchObject({ exitCode: 137, reason: 'OOMKilled' });
    }
  }, 120_000);

  test('may be as small as 2 MiB', async () => {
    expect(
      await runToEnd(fixture, ['true'], { linux: { resources: { memoryLimitInBytes: 2 * 2 ** 20 } } }),
    ).toMatchObject({ exitCode: 0 });
  });
});

describe('a CPU quota', () => {
  test('holds a busy loop to its share', async () => {
    const { runtime } = fixture;
    const podSandboxId = (await runtime.runPodSandbox({ config: sandboxConfig(fixture) })).podSandboxId ?? '';
    const config = containerConfig(sh('while true; do :; done'), {
      linux: { resources: { cpuQuota: 20_000, cpuPeriod: 100_000 } },
    });
    const containerId = (await runtime.createContainer({ podSandboxId, config })).containerId ?? '';
    await runtime.startContainer({ containerId });
    const read = (): { nanos: number; at: number } => ({
      nanos: runtime.cgroupStats(containerId).cpu?.usageNanos ?? 0,
      at: performance.now(),
    });
    const first = read();
    await new Promise((resolve) => setTimeout(resolve, 2000));
    const second = read();
    const share = (second.nanos - first.nanos) / 1e6 / (second.at - first.at);
    expect(share).toBeGreaterThan(0.12);
    expect(share).toBeLessThan(0.25);
    await runtime.removePodSandbox({ podSandboxId });
  });

  test('does not slow the start down', async () => {
    const { runtime } = fixture;
    const times = { free: [] as number[], held: [] as number[] };
    // 1 ms in 100: a start inside the quota would take a period for each of its milliseconds (a slower machine's are longer)
    const held = { linux: { resources: { cpuQuota: 1000 * patience, cpuPeriod: 100_000 } } };
    for (let i = 0; i < 15; i++) {
      for (const [kind, config] of [
        ['free', {}],
        ['held', held],
      ] as const) {
        const begin = performance.now();
        const podSandboxId =
          (await runtime.runPodSandbox({ config: sandboxConfig(fixture) })).podSandboxId ?? '';
        const created = await runtime.createContainer({
          podSandboxId,
          config: containerConfig(['sleep', '1000'], config),
        });
        await runtime.startContainer({ containerId: created.containerId ?? '' });
        times[kind].push(performance.now() - begin);
        await runtime.removePodSandbox({ podSandboxId });
      }
    }
    const median = (values: number[]): number => values.toSorted((a, b) => a - b)[7] ?? 0;
    expect(median(times.held)).toBeLessThan(2 * median(times.free) + 20);
  });

  test('is changed while the container runs', async () => {
    const { runtime } = fixture;
    const podSandboxId = (await runtime.runPodSandbox({ config: sandboxConfig(fixture) })).podSandboxId ?? '';
    const config = containerConfig(['sleep', '1000'], {
      linux: { resources: { cpuQuota: 20_000, cpuPeriod: 100_000, memoryLimitInBytes: MEMORY } },
    });
    const containerId = (await runtime.createContainer({ podSandboxId, config })).containerId ?? '';
    await runtime.startContainer({ containerId });
    await runtime.updateContainerResources({
      containerId,
      linux: { cpuQuota: 50_000, memoryLimitInBytes: 2 * MEMORY },
    });
    expect(runtime.cgroupStats(containerId).memory?.limit).toBe(2 * MEMORY);
    const { status } = await runtime.containerStatus({ containerId });
    expect(status?.resources?.linux).toMatchObject({
      cpuQuota: 50_000,
      cpuPeriod: 100_000,
      memoryLimitInBytes: 2 * MEMORY,
    });
    await runtime.removePodSandbox({ podSandboxId });
  });
});

describe('an update of a running container', () => {
  const host = readCgroupHost();
  /** What the kernel holds, whichever hierarchy has the controller. */
  const value = (
    containerId: string,
    controller: 'cpu' | 'cpuset' | 'memory',
    v1: string,
    v2: string,
  ): string => {
    const binding = host.controllers[controller];
    const directory = directoryOf(
      binding?.root ?? host.unified,
      `${fixture.cgroupRoot}/containers/${containerId}`,
    );
    return readFileSync(`${directory}/${binding?.version === 1 ? v1 : v2}`, 'utf8').trim();
  };

  test('reaches the kernel field by field, and what it leaves out stays', async () => {
    const { runtime } = fixture;
    const podSandboxId = (await runtime.runPodSandbox({ config: sandboxConfig(fixture) })).podSandboxId ?? '';
    const config = containerConfig(['sleep', '1000'], {
      linux: {
        resources: { cpuQuota: 20_000, cpuPeriod: 100_000, cpuShares: 512, memoryLimitInBytes: MEMORY },
      },
    });
    const containerId = (await runtime.createContainer({ podSandboxId, config })).containerId ?? '';
    await runtime.startContainer({ containerId });
    const update = async (linux: LinuxContainerResources): Promise<unknown> =>
      await runtime.updateContainerResources({ containerId, linux });

    // As the wire has it: what is not said is 0 and empty.
    await update({
      cpuPeriod: 50_000,
      cpuQuota: 0,
      cpuShares: 0,
      memoryLimitInBytes: 0,
      cpusetCpus: '',
      hugepageLimits: [],
      unified: {},
    });
    expect(['20000', '20000 50000']).toContain(value(containerId, 'cpu', 'cpu.cfs_quota_us', 'cpu.max'));
    await update({ cpuShares: 1024 });
    expect(['1024', '100']).toContain(value(containerId, 'cpu', 'cpu.shares', 'cpu.weight'));
    await update({ cpusetCpus: '0' });
    expect(value(containerId, 'cpuset', 'cpuset.cpus', 'cpuset.cpus')).toBe('0');
    await update({ memoryLimitInBytes: 2 * MEMORY });
    expect(value(containerId, 'memory', 'memory.limit_in_bytes', 'memory.max')).toBe(String(2 * MEMORY));
    await update({ cpuQuota: -1 });
    expect(['-1', 'max 50000']).toContain(value(containerId, 'cpu', 'cpu.cfs_quota_us', 'cpu.max'));
    await runtime.removePodSandbox({ podSandboxId });
  });

  test.each([
    ['a CPU that is not there', { cpusetCpus: '4000' }, 'CGROUP_VALUE_INVALID'],
    ['a quota below the least', { cpuQuota: 5 }, 'CGROUP_VALUE_INVALID'],
    ['pages of no size', { hugepageLimits: [{ pageSize: '3MB', limit: 3 }] }, 'CGROUP_VALUE_INVALID'],
    ['a file of the cgroup itself', { unified: { 'cgroup.procs': '1' } }, 'CGROUP_VALUE_INVALID'],
    ['a limit below what is in use', { memoryLimitInBytes: 2 ** 20 }, 'MEMORY_IN_USE'],
  ])('with %s changes nothing', async (_, linux, code) => {
    const { runtime } = fixture;
    const podSandboxId = (await runtime.runPodSandbox({ config: sandboxConfig(fixture) })).podSandboxId ?? '';
    // tail keeps 16 MiB of its input while it waits for more
    const config = containerConfig(
      sh('(head -c 16m /dev/zero; echo; echo ready >&2; sleep 1000) | tail -c 16m'),
      {
        linux: { resources: { memoryLimitInBytes: MEMORY, cpuShares: 300 } },
      },
    );
    const containerId = (await runtime.createContainer({ podSandboxId, config })).containerId ?? '';
    await runtime.startContainer({ containerId });
    await expect
      .poll(() => runtime.cgroupStats(containerId).memory?.workingSet, { timeout: 20_000 * patience })
      .toBeGreaterThan(8 * 2 ** 20);
    await expect(runtime.updateContainerResources({ containerId, linux })).rejects.toMatchObject({ code });
    expect(runtime.cgroupStats(containerId).memory?.limit).toBe(MEMORY);
    const { status } = await runtime.containerStatus({ containerId });
    expect(status?.resources?.linux).toEqual({ memoryLimitInBytes: MEMORY, cpuShares: 300 });
    await runtime.removePodSandbox({ podSandboxId });
  });
});

test('statistics are the kernel’s', async () => {
  const { runtime } = fixture;
  const podSandboxId = (await runtime.runPodSandbox({ config: sandboxConfig(fixture) })).podSandboxId ?? '';
  const config = containerConfig(
    sh(
      'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/file bs=1M count=3 2>/dev/null; while true; do sleep 1000; done',
    ),
    {
      linux: { resources: { memoryLimitInBytes: MEMORY } },
    },
  );
  const containerId = (await runtime.createContainer({ podSandboxId, config })).containerId ?? '';
  await runtime.startContainer({ containerId });
  await runtime.execSync({
    containerId,
    cmd: sh('while [ "$(stat -c %s /file 2>/dev/null)" != 3145728 ]; do sleep 0.01; done'),
  });
  const { stats } = await runtime.containerStats({ containerId });
  expect(stats?.cpu?.usageCoreNanoSeconds?.value).toBeGreaterThan(10e6);
  expect(stats?.memory?.workingSetBytes?.value).toBeGreaterThan(100_000);
  expect(stats?.memory?.workingSetBytes?.value).toBeLessThan(MEMORY);
  expect(stats?.writableLayer?.usedBytes?.value).toBeGreaterThanOrEqual(3 << 20);
  expect((await runtime.podSandboxStats({ podSandboxId })).stats?.linux?.containers).toHaveLength(1);
  await runtime.removePodSandbox({ podSandboxId });
});
