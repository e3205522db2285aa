import { describe, expect, test } from 'vitest';
import { detectCgroups, v1Roots } from '../../../../src/linux/cgroups/index.ts';
import { hybrid, mixed, SYSTEMD_HYBRID, UNIFIED, unified } from './hosts.ts';

describe('detection', () => {
  test('of a unified host: every controller on v2', () => {
    expect(unified.mode).toBe('unified');
    expect(unified.unified).toBe('/sys/fs/cgroup');
    expect(
      Object.values(unified.controllers).every((c) => c.version === 2 && c.root === '/sys/fs/cgroup'),
    ).toBe(true);
    expect(Object.keys(unified.controllers)).toHaveLength(9);
    expect(unified.missing).toEqual([]);
    expect(v1Roots(unified)).toEqual([]);
    expect(unified).toMatchObject({ cpus: '0-3', mems: '0', hugepageSizes: ['1GB', '2MB'] });
  });

  test('of a hybrid host: values on v1, CPU time and freezing on v2, a bind mount of a part does not count', () => {
    expect(hybrid.mode).toBe('hybrid');
    expect(hybrid.unified).toBe('/sys/fs/cgroup/unified');
    expect(hybrid.controllers).toEqual({
      cpu: { version: 1, root: '/sys/fs/cgroup/cpu,cpuacct' },
      cpuacct: { version: 2, root: '/sys/fs/cgroup/unified' },
      cpuset: { version: 1, root: '/sys/fs/cgroup/cpuset' },
      memory: { version: 1, root: '/sys/fs/cgroup/memory' },
      pids: { version: 1, root: '/sys/fs/cgroup/pids' },
      hugetlb: { version: 1, root: '/sys/fs/cgroup/hugetlb' },
      io: { version: 1, root: '/sys/fs/cgroup/blkio' },
      devices: { version: 1, root: '/sys/fs/cgroup/devices' },
      freezer: { version: 2, root: '/sys/fs/cgroup/unified' },
    });
    expect(hybrid.missing).toEqual([]);
  });

  test('controller by controller', () => {
    expect(mixed.mode).toBe('hybrid');
    expect(mixed.controllers.memory?.version).toBe(1);
    expect(mixed.controllers.pids?.version).toBe(2);
    expect(mixed.controllers.devices?.version).toBe(2);
    expect(v1Roots(mixed)).toEqual(['/sys/fs/cgroup/cpu', '/sys/fs/cgroup/memory']);
  });

  test('a v1 hierarchy without controllers (name=systemd) does not make a host hybrid', () => {
    const facts = {
      ...UNIFIED,
      mountinfo:
        '1 0 0:1 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n2 0 0:2 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n',
    };
    expect(detectCgroups(facts)).toMatchObject({
      mode: 'unified',
      unified: '/sys/fs/cgroup/unified',
      missing: [],
    });
  });

  test('without v2 is refused with the mend', () => {
    const mountinfo = SYSTEMD_HYBRID.mountinfo.replace(/^.*cgroup2.*\n/m, '');
    expect(() => detectCgroups({ ...SYSTEMD_HYBRID, mountinfo, unifiedControllers: undefined })).toThrow(
      expect.objectContaining({
        code: 'CGROUP_V2_MISSING',
        hint: expect.stringContaining('mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified'),
      }),
    );
  });

  test.each<[string, string, string]>([
    ['not built in', '#subsys_name\thierarchy\tnum_cgroups\tenabled\n', 'use a kernel with CONFIG_MEMCG'],
    ['switched off', 'memory\t0\t1\t0\n', "add cgroup_enable=memory to the kernel's command line"],
    ['not handed down', 'memory\t0\t1\t1\n', 'write +memory to cgroup.subtree_control above it'],
  ])('a missing memory controller, %s, is named with its mend', (_, procCgroups, mend) => {
    const host = detectCgroups({ ...UNIFIED, unifiedControllers: 'cpuset cpu io pids', procCgroups });
    expect(host.controllers.memory).toBeUndefined();
    expect(host.missing).toEqual([
      { controller: 'memory', required: true, mend: expect.stringContaining(mend) },
      { controller: 'hugetlb', required: false, mend: expect.any(String) },
    ]);
  });
});
