import { describe, expect, test } from 'vitest';
import {
  type CgroupHost,
  type CgroupKind,
  type CgroupResources,
  type CgroupStep,
  detectCgroups,
  joinTargets,
  planCgroup,
  planUpdate,
} from '../../../../src/linux/cgroups/index.ts';
import { hybrid, mixed, UNIFIED, unified } from './hosts.ts';

/** A step as one line: `mkdir PATH`, `PATH = VALUE`, with `?` where the file may be missing. */
function line(step: CgroupStep): string {
  return step.op === 'mkdir'
    ? `mkdir ${step.path}`
    : `${step.path} =${step.optional ? '?' : ''} ${step.value}`;
}

/** The writes into one cgroup, by file name, without its path. */
function values(host: CgroupHost, resources: CgroupResources, kind: CgroupKind = 'container'): string[] {
  return planCgroup(host, '/n/c', resources, { kind, existing: new Set(['/n']) })
    .filter((step) => step.op === 'write' && !step.path.endsWith('subtree_control'))
    .map((step) => line(step).replace(/^.*\/n\/c\//, ''));
}

const MI = 1024 * 1024;

describe('on a unified host', () => {
  test('a container and all that is above it, from the root down', () => {
    const resources: CgroupResources = {
      memory: { limit: 64 * MI, swap: 64 * MI },
      cpu: { shares: 512, quota: 50_000 },
      pids: { limit: 100 },
      oomGroup: true,
    };
    const path = '/nodelet/kubepods/burstable/pod1/c';
    const all = '+cpu +cpuset +memory +pids +io +hugetlb';
    expect(planCgroup(unified, path, resources, { kind: 'container' }).map(line)).toEqual([
      `/sys/fs/cgroup/cgroup.subtree_control = ${all}`,
      'mkdir /sys/fs/cgroup/nodelet',
      `/sys/fs/cgroup/nodelet/cgroup.subtree_control = ${all}`,
      'mkdir /sys/fs/cgroup/nodelet/kubepods',
      `/sys/fs/cgroup/nodelet/kubepods/cgroup.subtree_control = ${all}`,
      'mkdir /sys/fs/cgroup/nodelet/kubepods/burstable',
      `/sys/fs/cgroup/nodelet/kubepods/burstable/cgroup.subtree_control = ${all}`,
      'mkdir /sys/fs/cgroup/nodelet/kubepods/burstable/pod1',
      `/sys/fs/cgroup/nodelet/kubepods/burstable/pod1/cgroup.subtree_control = ${all}`,
      'mkdir /sys/fs/cgroup/nodelet/kubepods/burstable/pod1/c',
      '/sys/fs/cgroup/nodelet/kubepods/burstable/pod1/c/cpu.weight = 59',
      '/sys/fs/cgroup/nodelet/kubepods/burstable/pod1/c/cpu.max = 50000 100000',
      '/sys/fs/cgroup/nodelet/kubepods/burstable/pod1/c/memory.max = 67108864',
      '/sys/fs/cgroup/nodelet/kubepods/burstable/pod1/c/memory.swap.max =? 0',
      '/sys/fs/cgroup/nodelet/kubepods/burstable/pod1/c/memory.oom.group =? 1',
      '/sys/fs/cgroup/nodelet/kubepods/burstable/pod1/c/pids.max = 100',
    ]);
  });

  test('parents that exist are left alone', () => {
    const existing = new Set(['/nodelet', '/nodelet/kubepods']);
    expect(planCgroup(unified, '/nodelet/kubepods/c', {}, { kind: 'container', existing }).map(line)).toEqual(
      ['mkdir /sys/fs/cgroup/nodelet/kubepods/c'],
    );
  });

  test('a pod has the kubelet weight and hands its controllers down, after its own values', () => {
    const existing = new Set(['/nodelet']);
    const steps = planCgroup(unified, '/nodelet/pod1', { cpu: { shares: 512 } }, { kind: 'pod', existing });
    expect(steps.map(line)).toEqual([
      'mkdir /sys/fs/cgroup/nodelet/pod1',
      '/sys/fs/cgroup/nodelet/pod1/cpu.weight = 20',
      '/sys/fs/cgroup/nodelet/pod1/cgroup.subtree_control = +cpu +cpuset +memory +pids +io +hugetlb',
    ]);
  });

  test('cgroups above an owned one that is not at the top are not touched', () => {
    const steps = planCgroup(unified, '/a/b/n/c', {}, { kind: 'container', owned: '/a/b/n' });
    expect(steps.map(line)).toEqual([
      'mkdir /sys/fs/cgroup/a/b/n',
      '/sys/fs/cgroup/a/b/n/cgroup.subtree_control = +cpu +cpuset +memory +pids +io +hugetlb',
      'mkdir /sys/fs/cgroup/a/b/n/c',
    ]);
  });

  test('only controllers that the host has are handed down', () => {
    const host = detectCgroups({ ...UNIFIED, unifiedControllers: 'memory pids' });
    const [first] = planCgroup(host, '/n', {}, { kind: 'pod' });
    expect(line(first!)).toBe('/sys/fs/cgroup/cgroup.subtree_control = +memory +pids');
  });

  test.each<[string, CgroupResources, string[]]>([
    ['nothing', {}, []],
    [
      'zeros, which mean nothing',
      { memory: { limit: 0 }, cpu: { shares: 0, quota: 0 }, pids: { limit: 0 } },
      [],
    ],
    [
      'no limits',
      { memory: { limit: -1 }, cpu: { quota: -1 }, pids: { limit: -1 } },
      ['cpu.max = max 100000', 'memory.max = max', 'memory.swap.max =? max', 'pids.max = max'],
    ],
    ['a period alone', { cpu: { period: 50_000 } }, ['cpu.max = max 50000']],
    ['quota and period', { cpu: { quota: 5000, period: 50_000 } }, ['cpu.max = 5000 50000']],
    ['the smallest share', { cpu: { shares: 2 } }, ['cpu.weight = 1']],
    ['an idle cgroup, which has no weight', { cpu: { idle: true, shares: 1024 } }, ['cpu.idle = 1']],
    ['no longer idle', { cpu: { idle: false, shares: 1024 } }, ['cpu.idle =? 0', 'cpu.weight = 100']],
    ['a cpuset', { cpu: { cpus: '0-1,3', mems: '0' } }, ['cpuset.cpus = 0-1,3', 'cpuset.mems = 0']],
    [
      'some swap',
      { memory: { limit: 64 * MI, swap: 96 * MI } },
      ['memory.max = 67108864', 'memory.swap.max = 33554432'],
    ],
    [
      'any amount of swap',
      { memory: { limit: 64 * MI, swap: -1 } },
      ['memory.max = 67108864', 'memory.swap.max =? max'],
    ],
    ['a reservation', { memory: { reservation: MI } }, ['memory.low = 1048576']],
    ['single processes killed', { oomGroup: false }, ['memory.oom.group =? 0']],
    [
      'huge pages, also of a size that this machine lacks and nobody wants',
      {
        hugepageLimits: [
          { pageSize: '2MB', limit: 4 * MI },
          { pageSize: '64KB', limit: 0 },
        ],
      },
      ['hugetlb.2MB.max = 4194304', 'hugetlb.2MB.rsvd.max =? 4194304'],
    ],
    [
      'files by name, last',
      { memory: { limit: MI }, unified: { 'memory.high': '500000', 'misc.max': 'x 1' } },
      ['memory.max = 1048576', 'memory.high = 500000', 'misc.max = x 1'],
    ],
  ])('values: %s', (_, resources, expected) => {
    expect(values(unified, resources)).toEqual(expected);
  });
});

describe('on a hybrid host', () => {
  test('the first cgroup of ours is prepared in each hierarchy', () => {
    const steps = planCgroup(hybrid, '/nodelet', {}, { kind: 'pod' }).map(line);
    expect(steps).toEqual([
      'mkdir /sys/fs/cgroup/unified/nodelet',
      'mkdir /sys/fs/cgroup/cpu,cpuacct/nodelet',
      'mkdir /sys/fs/cgroup/cpuset/nodelet',
      '/sys/fs/cgroup/cpuset/nodelet/cpuset.cpus = 0-3',
      '/sys/fs/cgroup/cpuset/nodelet/cpuset.mems = 0',
      '/sys/fs/cgroup/cpuset/nodelet/cgroup.clone_children = 1',
      'mkdir /sys/fs/cgroup/memory/nodelet',
      '/sys/fs/cgroup/memory/nodelet/memory.use_hierarchy =? 1',
      'mkdir /sys/fs/cgroup/pids/nodelet',
      'mkdir /sys/fs/cgroup/hugetlb/nodelet',
      'mkdir /sys/fs/cgroup/blkio/nodelet',
    ]);
  });

  test.each<[string, CgroupResources, string[]]>([
    ['shares are clamped as the kernel clamps them', { cpu: { shares: 1 } }, ['cpu.shares = 2']],
    ['too many shares as well', { cpu: { shares: 1_000_000 } }, ['cpu.shares = 262144']],
    [
      'the period before the quota',
      { cpu: { quota: 50_000, period: 100_000 } },
      ['cpu.cfs_period_us = 100000', 'cpu.cfs_quota_us = 50000'],
    ],
    ['no quota', { cpu: { quota: -5 } }, ['cpu.cfs_quota_us = -1']],
    [
      'memory before memory and swap',
      { memory: { limit: MI, swap: 2 * MI } },
      ['memory.limit_in_bytes = 1048576', 'memory.memsw.limit_in_bytes = 2097152'],
    ],
    [
      'no swap: a kernel that does not account it is fine',
      { memory: { limit: MI, swap: MI } },
      ['memory.limit_in_bytes = 1048576', 'memory.memsw.limit_in_bytes =? 1048576'],
    ],
    [
      'no limits',
      { memory: { limit: -1 }, pids: { limit: -1 } },
      ['memory.limit_in_bytes = -1', 'memory.memsw.limit_in_bytes =? -1', 'pids.max = max'],
    ],
    ['a reservation', { memory: { reservation: MI } }, ['memory.soft_limit_in_bytes = 1048576']],
    ['a cpuset', { cpu: { cpus: '1', mems: '0' } }, ['cpuset.cpus = 1', 'cpuset.mems = 0']],
    [
      'huge pages',
      { hugepageLimits: [{ pageSize: '1GB', limit: 0 }] },
      ['hugetlb.1GB.limit_in_bytes = 0', 'hugetlb.1GB.rsvd.limit_in_bytes =? 0'],
    ],
    ['an OOM group, which v1 does not have', { oomGroup: true }, []],
  ])('values: %s', (_, resources, expected) => {
    expect(values(hybrid, resources)).toEqual(expected);
  });

  test('each value goes to where its controller is', () => {
    const resources: CgroupResources = {
      memory: { limit: MI },
      pids: { limit: 5 },
      cpu: { shares: 1024, cpus: '0' },
    };
    const existing = new Set(['/n']);
    expect(planCgroup(mixed, '/n/c', resources, { kind: 'container', existing }).map(line)).toEqual([
      'mkdir /sys/fs/cgroup/unified/n/c',
      'mkdir /sys/fs/cgroup/cpu/n/c',
      'mkdir /sys/fs/cgroup/memory/n/c',
      '/sys/fs/cgroup/cpu/n/c/cpu.shares = 1024',
      '/sys/fs/cgroup/memory/n/c/memory.limit_in_bytes = 1048576',
      '/sys/fs/cgroup/unified/n/c/cpuset.cpus = 0',
      '/sys/fs/cgroup/unified/n/c/pids.max = 5',
    ]);
  });

  test('a process joins v2 and every v1 hierarchy once', () => {
    expect(joinTargets(hybrid, '/nodelet/c')).toEqual({
      unified: '/sys/fs/cgroup/unified/nodelet/c',
      procs: ['cpu,cpuacct', 'cpuset', 'memory', 'pids', 'hugetlb', 'blkio'].map(
        (name) => `/sys/fs/cgroup/${name}/nodelet/c/cgroup.procs`,
      ),
    });
    expect(joinTargets(unified, '/nodelet/c')).toEqual({ unified: '/sys/fs/cgroup/nodelet/c', procs: [] });
  });
});

describe('an update on v1', () => {
  const now = { memory: 64 * MI, swap: 64 * MI, quota: 50_000, period: 100_000 };
  const update = (resources: CgroupResources, held = now) =>
    planUpdate(hybrid, '/n/c', resources, 'container', held).map((step) =>
      line(step).replace(/^.*\/n\/c\//, ''),
    );

  test.each<[string, CgroupResources, string[]]>([
    [
      'raising memory: memory and swap first',
      { memory: { limit: 128 * MI, swap: 128 * MI } },
      ['memory.memsw.limit_in_bytes =? 134217728', 'memory.limit_in_bytes = 134217728'],
    ],
    [
      'lowering memory: memory first',
      { memory: { limit: 32 * MI, swap: 32 * MI } },
      ['memory.limit_in_bytes = 33554432', 'memory.memsw.limit_in_bytes =? 33554432'],
    ],
    [
      'lifting the limit: memory and swap first',
      { memory: { limit: -1 } },
      ['memory.memsw.limit_in_bytes =? -1', 'memory.limit_in_bytes = -1'],
    ],
    [
      'a longer period first',
      { cpu: { quota: 100_000, period: 200_000 } },
      ['cpu.cfs_period_us = 200000', 'cpu.cfs_quota_us = 100000'],
    ],
    [
      'a shorter period last',
      { cpu: { quota: 25_000, period: 50_000 } },
      ['cpu.cfs_quota_us = 25000', 'cpu.cfs_period_us = 50000'],
    ],
  ])('%s', (_, resources, expected) => {
    expect(update(resources)).toEqual(expected);
  });

  test('where there was no quota the period is free to change first', () => {
    expect(update({ cpu: { quota: 25_000, period: 50_000 } }, { ...now, quota: -1 })).toEqual([
      'cpu.cfs_period_us = 50000',
      'cpu.cfs_quota_us = 25000',
    ]);
  });

  test('on v2 is the plain values', () => {
    expect(planUpdate(unified, '/n/c', { memory: { limit: MI } }, 'pod', now).map(line)).toEqual([
      '/sys/fs/cgroup/n/c/memory.max = 1048576',
    ]);
  });
});

describe('refused before the kernel does', () => {
  test.each<[string, CgroupResources, string, RegExp]>([
    ['memory below no limit', { memory: { limit: -2 } }, 'memory.limit', /from -1 to .*, found -2/],
    ['a fraction of a byte', { memory: { limit: 1.5 } }, 'memory.limit', /found 1.5/],
    ['memory beyond what is exact', { memory: { limit: 2 ** 60 } }, 'memory.limit', /expected an integer/],
    [
      'swap below memory',
      { memory: { limit: 2 * MI, swap: MI } },
      'memory.swap',
      /1048576 is below memory.limit 2097152/,
    ],
    ['swap without memory', { memory: { swap: MI } }, 'memory.swap', /memory.limit is needed/],
    [
      'a quota below a millisecond',
      { cpu: { quota: 999 } },
      'cpu.quota',
      /least is 1000 microseconds, found 999/,
    ],
    ['an enormous quota', { cpu: { quota: 2 ** 44 } }, 'cpu.quota', /expected an integer/],
    ['a short period', { cpu: { period: 999 } }, 'cpu.period', /from 1000 to 1000000, found 999/],
    ['a long period', { cpu: { period: 1_000_001 } }, 'cpu.period', /found 1000001/],
    ['negative shares', { cpu: { shares: -1 } }, 'cpu.shares', /found -1/],
    ['a CPU that is not there', { cpu: { cpus: '2-4' } }, 'cpu.cpus', /4 is not among this machine's 0-3/],
    ['a list that is none', { cpu: { cpus: '1;2' } }, 'cpu.cpus', /expected a list .*found "1;2"/],
    ['a list backwards', { cpu: { cpus: '3-1' } }, 'cpu.cpus', /expected a list/],
    [
      'a memory node that is not there',
      { cpu: { mems: '1' } },
      'cpu.mems',
      /1 is not among this machine's 0/,
    ],
    ['too many pids', { pids: { limit: 2 ** 23 } }, 'pids.limit', /found 8388608/],
    [
      'a huge page size that is not there',
      { hugepageLimits: [{ pageSize: '64KB', limit: 1 }] },
      'hugepageLimits[0].pageSize',
      /this machine has 1GB, 2MB, found "64KB"/,
    ],
    ['a file elsewhere', { unified: { '../memory.max': '1' } }, 'unified["../memory.max"]', /no file name/],
    [
      'membership by a file',
      { unified: { 'cgroup.procs': '1' } },
      'unified["cgroup.procs"]',
      /not for limits/,
    ],
    ['killing by a file', { unified: { 'cgroup.kill': '1' } }, 'unified["cgroup.kill"]', /not for limits/],
    ['two lines', { unified: { 'memory.high': '1\n2' } }, 'unified["memory.high"]', /no single line/],
  ])('%s', (_, resources, field, message) => {
    expect(() => planCgroup(unified, '/n/c', resources, { kind: 'container' })).toThrow(
      expect.objectContaining({
        code: 'CGROUP_VALUE_INVALID',
        message: expect.stringMatching(message),
        details: { field },
      }),
    );
  });

  test('a v2 file of a controller that is bound to v1', () => {
    expect(() =>
      planCgroup(hybrid, '/n/c', { unified: { 'memory.high': '1' } }, { kind: 'container' }),
    ).toThrow(/memory controller of this host is bound to cgroup v1/);
  });

  test.each<[string, CgroupResources]>([
    ['memory', { memory: { limit: MI } }],
    ['cpu', { cpu: { shares: 100 } }],
    ['cpuset', { cpu: { cpus: '0' } }],
    ['pids', { pids: { limit: 5 } }],
    ['hugetlb', { hugepageLimits: [{ pageSize: '2MB', limit: 1 }] }],
  ])('a limit whose controller (%s) the host lacks', (controller, resources) => {
    const host = detectCgroups({ ...UNIFIED, unifiedControllers: '' });
    expect(() => planCgroup(host, '/n/c', resources, { kind: 'container' })).toThrow(
      expect.objectContaining({
        code: 'CGROUP_CONTROLLER_MISSING',
        details: { controller },
        hint: expect.any(String),
      }),
    );
  });

  test('but no huge pages where there are none', () => {
    const host = detectCgroups({ ...UNIFIED, unifiedControllers: '', hugepages: [] });
    const resources = { hugepageLimits: [{ pageSize: '2MB', limit: 0 }] };
    expect(planCgroup(host, '/n', resources, { kind: 'container' }).map(line)).toEqual([
      'mkdir /sys/fs/cgroup/n',
    ]);
  });

  test.each<[string, string]>([
    ['the root', '/'],
    ['a relative path', 'n/c'],
    ['a way out', '/n/../c'],
    ['a dot', '/n/./c'],
    ['an empty component', '/n//c'],
    ['a trailing slash', '/n/'],
    ['a line break', '/n/a\nb'],
    ['a long component', `/n/${'x'.repeat(256)}`],
    ["the kernel's own file", '/n/memory.max'],
    ["v1's list of tasks", '/n/tasks'],
  ])('a path: %s', (_, path) => {
    expect(() => planCgroup(unified, path, {}, { kind: 'container', owned: '/n' })).toThrow(
      expect.objectContaining({ code: 'CGROUP_PATH_INVALID' }),
    );
  });

  test('a path beside the owned cgroup', () => {
    expect(() => planCgroup(unified, '/nodelet2/c', {}, { kind: 'container', owned: '/nodelet' })).toThrow(
      /not below the owned cgroup "\/nodelet"/,
    );
  });
});
