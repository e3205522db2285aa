/** Hosts as detection sees them. */
import { type CgroupFacts, type CgroupHost, detectCgroups } from '../../../../src/linux/cgroups/index.ts';

const rest = {
  procCgroups: `#subsys_name\thierarchy\tnum_cgroups\tenabled
cpuset\t3\t1\t1
cpu\t1\t1\t1
cpuacct\t2\t1\t1
blkio\t7\t1\t1
memory\t4\t11\t1
devices\t5\t1\t1
freezer\t6\t1\t1
hugetlb\t0\t1\t1
pids\t8\t1\t1
`,
  cpus: '0-3\n',
  mems: '0\n',
  hugepages: ['hugepages-1048576kB', 'hugepages-2048kB'],
};

/** Debian, Fedora, Ubuntu since 2021. */
export const UNIFIED: CgroupFacts = {
  ...rest,
  mountinfo:
    '35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n',
  unifiedControllers: 'cpuset cpu io memory hugetlb pids rdma misc\n',
};

/** systemd's hybrid layout: cpu and cpuacct mounted together, v2 without controllers. */
export const SYSTEMD_HYBRID: CgroupFacts = {
  ...rest,
  mountinfo: `31 23 0:28 / /sys/fs/cgroup ro shared:8 - tmpfs tmpfs ro,mode=755
32 31 0:29 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
33 31 0:30 / /sys/fs/cgroup/systemd rw shared:10 - cgroup cgroup rw,xattr,name=systemd
34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw shared:11 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw shared:12 - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/pids rw shared:13 - cgroup cgroup rw,pids
37 31 0:34 / /sys/fs/cgroup/cpuset rw shared:14 - cgroup cgroup rw,cpuset
38 31 0:35 / /sys/fs/cgroup/blkio rw shared:15 - cgroup cgroup rw,blkio
39 31 0:36 / /sys/fs/cgroup/devices rw shared:16 - cgroup cgroup rw,devices
40 31 0:37 / /sys/fs/cgroup/hugetlb rw shared:17 - cgroup cgroup rw,hugetlb
41 23 0:35 /docker/abc /mnt/blkio rw - cgroup cgroup rw,blkio
`,
  unifiedControllers: '\n',
};

/** Memory and CPU on v1, the rest on v2. */
export const MIXED: CgroupFacts = {
  ...rest,
  mountinfo: `31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 31 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
`,
  unifiedControllers: 'cpuset io hugetlb pids\n',
};

export const unified: CgroupHost = detectCgroups(UNIFIED);
export const hybrid: CgroupHost = detectCgroups(SYSTEMD_HYBRID);
export const mixed: CgroupHost = detectCgroups(MIXED);
