/**
 * What a container's limits become on a host with nothing but cgroup v2, file by file (kernel documentation,
 * cgroup-v2.rst), and what they do. On a hybrid host the same limits go to v1 controllers: test/unit/linux/cgroups and
 * limits.test.ts.
 */
import { existsSync, readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type LinuxContainerResources, ProfileType } from '../../../src/cri/index.ts';
import { directoryOf, readCgroupHost } from '../../../src/linux/cgroups/index.ts';
import {
  type ContainerOptions,
  containerConfig,
  ended,
  openRuntime,
  type RuntimeFixture,
  runToEnd,
  sandboxConfig,
  sh,
} from '../../fixtures/runtime.ts';

const host = readCgroupHost();
const pure = Object.values(host.controllers).every(({ version }) => version === 2);
const MIB = 2 ** 20;
const SLEEP = ['sleep', '1000'];

describe.skipIf(!pure)('on pure cgroup v2 (skipped where controllers are bound to v1)', () => {
  let fixture: RuntimeFixture;
  const pods: string[] = [];

  beforeAll(async () => {
    fixture = await openRuntime();
  });
  afterEach(async () => {
    for (const podSandboxId of pods.splice(0)) await fixture.runtime.removePodSandbox({ podSandboxId });
  });
  afterAll(async () => {
    await fixture?.close();
  });

  async function start(command: readonly string[], options: ContainerOptions = {}) {
    const { runtime } = fixture;
    const { podSandboxId = '' } = await runtime.runPodSandbox({ config: sandboxConfig(fixture) });
    pods.push(podSandboxId);
    const { containerId = '' } = await runtime.createContainer({
      podSandboxId,
      config: containerConfig(command, options),
    });
    await runtime.startContainer({ containerId });
    const directory = directoryOf(host.unified, runtime.context.cgroups.path('', containerId));
    return {
      containerId,
      pid: runtime.context.model.container(containerId).record.pid,
      directory,
      file: (name: string) => readFileSync(`${directory}/${name}`, 'utf8').trim(),
    };
  }

  const limited = (resources: LinuxContainerResources) => start(SLEEP, { linux: { resources } });

  test.each([
    [2, 1],
    [102, 17],
    [512, 59],
    [1024, 100],
    [4096, 303],
    [262_144, 10_000],
  ])('%i shares are a cpu.weight of %i (KEP-2254 as corrected in 2025)', async (cpuShares, weight) => {
    const { file } = await limited({ cpuShares });
    expect(file('cpu.weight')).toBe(String(weight));
  });

  test('every limit has its file', async () => {
    const { file } = await limited({
      cpuQuota: 25_000,
      cpuPeriod: 50_000,
      cpusetCpus: '0',
      memoryLimitInBytes: 64 * MIB,
      unified: { 'memory.oom.group': '1', 'memory.high': String(48 * MIB), 'pids.max': '33' },
    });
    expect(file('cpu.max')).toBe('25000 50000');
    expect(file('cpuset.cpus.effective')).toBe('0');
    expect(file('memory.max')).toBe(String(64 * MIB));
    expect(file('memory.high')).toBe(String(48 * MIB));
    expect(file('memory.oom.group')).toBe('1');
    expect(file('pids.max')).toBe('33');
  });

  test('swap is counted by itself there: memory and swap together, less the memory', async () => {
    const { file, directory } = await limited({
      memoryLimitInBytes: 32 * MIB,
      memorySwapLimitInBytes: 32 * MIB,
    });
    expect(existsSync(`${directory}/memory.swap.max`)).toBe(true);
    expect(file('memory.swap.max')).toBe('0');
    const more = await limited({ memoryLimitInBytes: 32 * MIB, memorySwapLimitInBytes: 48 * MIB });
    expect(more.file('memory.swap.max')).toBe(String(16 * MIB));
  });

  test('huge pages: what is used and what is reserved', async () => {
    const pageSize = '2MB';
    expect(host.hugepageSizes).toContain(pageSize);
    const { file } = await limited({ hugepageLimits: [{ pageSize, limit: 4 * MIB }] });
    expect(file('hugetlb.2MB.max')).toBe(String(4 * MIB));
    expect(file('hugetlb.2MB.rsvd.max')).toBe(String(4 * MIB));
  });

  test('io by device, through the unified map', async () => {
    // Any disk of this machine: the first with a size.
    const disk = readFileSync('/proc/partitions', 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .find(([major, , blocks]) => /^\d+$/.test(major ?? '') && Number(blocks) > 0);
    if (disk === undefined) throw new Error('no disk');
    const device = `${disk[0]}:${disk[1]}`;
    const { file } = await limited({ unified: { 'io.max': `${device} wbps=1048576` } });
    expect(file('io.max')).toBe(`${device} rbps=max wbps=1048576 riops=max wiops=max`);
  });

  test('a limit of processes holds, and each refusal is counted', async () => {
    const { exitCode, output } = await runToEnd(
      fixture,
      sh('for i in $(seq 20); do sleep 100 & done 2>/dev/null; echo no'),
      { linux: { resources: { unified: { 'pids.max': '8' } } } },
    );
    expect({ exitCode, output }).toEqual({ exitCode: 2, output: '' });
  });

  test('memory.oom.group takes the whole container for one that went too far', async () => {
    const greedy = (group: string) =>
      runToEnd(fixture, sh('tail -c 100m /dev/zero; exit 3'), {
        linux: {
          resources: { memoryLimitInBytes: 24 * MIB, unified: { 'memory.oom.group': group } },
        },
      });
    expect(await greedy('1')).toMatchObject({ exitCode: 137, reason: 'OOMKilled' });
    expect(await greedy('0')).toMatchObject({ exitCode: 3, reason: 'Error' });
  });

  test('memory, CPU and io pressure are in the statistics', async () => {
    const { containerId } = await start(sh('i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done; sleep 1000'));
    const { stats } = await fixture.runtime.containerStats({ containerId });
    expect(stats?.cpu?.psi?.Some?.Total).toBeGreaterThanOrEqual(0);
    expect(stats?.memory?.psi?.Full?.Total).toBeGreaterThanOrEqual(0);
  });

  test('its first process is born in its cgroup (CLONE_INTO_CGROUP): what it used from its first page on is counted', async () => {
    const { pid, directory, file } = await start(SLEEP);
    expect(readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim()).toBe(
      `0::${directory.slice(host.unified.length)}`,
    );
    expect(file('cgroup.procs')).toBe(String(pid));
    // A process that was moved in would have left its pages where it was born.
    expect(Number(file('memory.current'))).toBeGreaterThan(0);
  });

  test('a container that forks without end is ended at once by cgroup.kill', async () => {
    const { containerId, file } = await start(
      sh('f() { f & f & wait; }; trap "" TERM; (f) 2>/dev/null; while true; do sleep 1; done'),
      { linux: { resources: { unified: { 'pids.max': '200' } } } },
    );
    await fixture.runtime.stopContainer({ containerId, timeout: 0 });
    await ended(fixture.runtime, containerId);
    expect(() => file('cgroup.procs')).toThrow(/ENOENT/);
  });

  test('the device program refuses what is not on the list, also to root who may make nodes', async () => {
    const script = `
      mknod /tmp-null c 1 3 && echo x > /tmp-null && echo null
      mknod /tmp-mem c 1 1 && cat /tmp-mem
      mknod /tmp-disk b 254 0 && cat /tmp-disk`;
    const { output } = await runToEnd(fixture, sh(`{ ${script}; } 2>&1`));
    expect(output).toMatch(
      /^null\n.*tmp-mem.*Operation not permitted\n.*tmp-disk.*Operation not permitted\n$/,
    );
  });

  test('nsdelegate: a container may not raise its own limits, even with a writable cgroup2 mount', async () => {
    const script = `
      mkdir /cg && mount -t cgroup2 none /cg || exit 9
      cat /cg/memory.max
      echo max > /cg/memory.max; echo memory.max $?
      echo 1 > /cg/cgroup.freeze; echo cgroup.freeze $?
      mkdir /cg/inner && echo made`;
    const { output, exitCode } = await runToEnd(fixture, sh(`{ ${script}; } 2>/dev/null`), {
      linux: { resources: { memoryLimitInBytes: 32 * MIB } },
      security: {
        capabilities: { addCapabilities: ['SYS_ADMIN'] },
        seccomp: { profileType: ProfileType.Unconfined },
      },
    });
    expect({ exitCode, output }).toEqual({
      exitCode: 0,
      output: `${32 * MIB}\nmemory.max 1\ncgroup.freeze 1\nmade\n`,
    });
  });
});
