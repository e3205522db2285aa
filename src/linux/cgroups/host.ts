/**
 * What this machine's cgroups look like: where the v2 hierarchy is mounted, and for each controller whether it is
 * bound to v2 or to a v1 hierarchy of its own (a *hybrid* host). Membership, freezing and killing always go through v2,
 * values to where the controller is.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { hasCode, NodeletError } from '../../base/index.ts';
import { type MountInfo, parseMountinfo } from '../mountinfo.ts';

export const CONTROLLERS = [
  'cpu',
  'cpuacct',
  'cpuset',
  'memory',
  'pids',
  'hugetlb',
  'io',
  'devices',
  'freezer',
] as const;
export type Controller = (typeof CONTROLLERS)[number];

export interface ControllerBinding {
  readonly version: 1 | 2;
  /** The hierarchy's mount point. */
  readonly root: string;
}

export interface MissingController {
  readonly controller: Controller;
  /** Pods cannot be run without it. */
  readonly required: boolean;
  /** What to do, a sentence without a full stop. */
  readonly mend: string;
}

export interface CgroupHost {
  /** unified: every controller is bound to v2. */
  readonly mode: 'unified' | 'hybrid';
  /** The v2 hierarchy's mount point: /sys/fs/cgroup, or /sys/fs/cgroup/unified on a hybrid host. */
  readonly unified: string;
  readonly controllers: Readonly<Partial<Record<Controller, ControllerBinding>>>;
  readonly missing: readonly MissingController[];
  /** CPUs and memory nodes that there are, as lists (`0-3,8`): a new v1 cpuset has to be given both. */
  readonly cpus: string;
  readonly mems: string;
  /** As the hugetlb controller's files spell them: 2MB, 1GB, 64KB. */
  readonly hugepageSizes: readonly string[];
}

/** The texts that the detection reads. */
export interface CgroupFacts {
  /** /proc/self/mountinfo. */
  readonly mountinfo: string;
  /** cgroup.controllers at the v2 mount point; undefined where it cannot be read. */
  readonly unifiedControllers: string | undefined;
  /** /proc/cgroups: which controllers the kernel has, and whether they are switched off. */
  readonly procCgroups: string;
  /** CPUs online and nodes with memory. */
  readonly cpus: string;
  readonly mems: string;
  /** Names in /sys/kernel/mm/hugepages, such as hugepages-2048kB. */
  readonly hugepages: readonly string[];
}

const REQUIRED: readonly Controller[] = ['cpu', 'cpuset', 'memory', 'pids'];

/** cgroup v1's name for a controller. */
const V1_NAME: Readonly<Partial<Record<Controller, string>>> = { io: 'blkio' };

/** Throws CGROUP_V2_MISSING where no v2 hierarchy is mounted. */
export function detectCgroups(facts: CgroupFacts): CgroupHost {
  const mounts = parseMountinfo(facts.mountinfo);
  const unified = unifiedMount(mounts);
  if (unified === undefined) {
    throw new NodeletError('CGROUP_V2_MISSING', 'cannot find a cgroup v2 hierarchy: none is mounted', {
      hint:
        'boot with systemd.unified_cgroup_hierarchy=1, or mount it beside v1: ' +
        'mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified',
    });
  }
  const onV2 = new Set((facts.unifiedControllers ?? '').split(/\s+/).filter(Boolean));
  const v2: ControllerBinding = { version: 2, root: unified };
  const controllers: Partial<Record<Controller, ControllerBinding>> = {};
  const missing: MissingController[] = [];
  for (const controller of CONTROLLERS) {
    const binding = bind(controller, mounts, onV2, v2);
    if (binding !== undefined) controllers[controller] = binding;
    else
      missing.push({
        controller,
        required: REQUIRED.includes(controller),
        mend: mend(controller, facts.procCgroups),
      });
  }
  return {
    mode: Object.values(controllers).some((binding) => binding.version === 1) ? 'hybrid' : 'unified',
    unified,
    controllers,
    missing,
    cpus: facts.cpus.trim(),
    mems: facts.mems.trim(),
    hugepageSizes: facts.hugepages.map(hugepageSize).filter((size) => size !== undefined),
  };
}

function bind(
  controller: Controller,
  mounts: readonly MountInfo[],
  onV2: ReadonlySet<string>,
  v2: ControllerBinding,
): ControllerBinding | undefined {
  // Of these every v2 cgroup has its own files, whether or not a v1 hierarchy of the name is mounted: cpu.stat's
  // times, and cgroup.freeze (Linux 5.2).
  if (controller === 'cpuacct' || controller === 'freezer') return v2;
  const v1 = v1Mount(mounts, V1_NAME[controller] ?? controller);
  if (v1 !== undefined) return { version: 1, root: v1 };
  // The device controller of v2 is an eBPF program on the cgroup, no file.
  if (controller === 'devices') return v2;
  return onV2.has(controller) ? v2 : undefined;
}

/** Where cgroup2 is mounted: the usual places first, then any other. */
export function unifiedMount(mounts: readonly MountInfo[]): string | undefined {
  const points = mounts.filter((mount) => mount.type === 'cgroup2').map((mount) => mount.mountPoint);
  return ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find((usual) => points.includes(usual)) ?? points[0];
}

function v1Mount(mounts: readonly MountInfo[], name: string): string | undefined {
  const found = mounts.filter((mount) => mount.type === 'cgroup' && mount.superOptions.includes(name));
  // A hierarchy may be mounted twice, or a part of it bound elsewhere: the one that shows most of it counts.
  const best = found.toSorted(
    (a, b) => a.root.length - b.root.length || a.mountPoint.length - b.mountPoint.length,
  );
  return best[0]?.mountPoint;
}

const CONFIG: Readonly<Partial<Record<Controller, string>>> = {
  cpu: 'CONFIG_CGROUP_SCHED and CONFIG_CFS_BANDWIDTH',
  cpuset: 'CONFIG_CPUSETS',
  memory: 'CONFIG_MEMCG',
  pids: 'CONFIG_CGROUP_PIDS',
  hugetlb: 'CONFIG_CGROUP_HUGETLB',
  io: 'CONFIG_BLK_CGROUP',
};

function mend(controller: Controller, procCgroups: string): string {
  const name = V1_NAME[controller] ?? controller;
  const row = procCgroups
    .split('\n')
    .map((line) => line.split(/\s+/))
    .find(([subsystem]) => subsystem === name);
  if (row === undefined) return `use a kernel with ${CONFIG[controller] ?? controller}`;
  if (row[3] === '0') {
    return `add cgroup_enable=${name} to the kernel's command line, and take cgroup_disable=${name} out of it`;
  }
  return `give this cgroup namespace the ${controller} controller: write +${controller} to cgroup.subtree_control above it`;
}

/** hugepages-2048kB → 2MB. */
export function hugepageSize(directory: string): string | undefined {
  const match = /^hugepages-(\d+)kB$/.exec(directory);
  if (!match) return undefined;
  const kilobytes = Number(match[1]);
  if (kilobytes >= 1 << 20) return `${kilobytes >> 20}GB`;
  return kilobytes >= 1 << 10 ? `${kilobytes >> 10}MB` : `${kilobytes}KB`;
}

/** Reads this machine. Throws CGROUP_V2_MISSING. */
export function readCgroupHost(): CgroupHost {
  const mountinfo = readFileSync('/proc/self/mountinfo', 'utf8');
  const unified = unifiedMount(parseMountinfo(mountinfo));
  return detectCgroups({
    mountinfo,
    unifiedControllers:
      unified === undefined ? undefined : readOr(join(unified, 'cgroup.controllers'), undefined),
    procCgroups: readOr('/proc/cgroups', ''),
    cpus: readOr('/sys/devices/system/cpu/online', '0'),
    mems: readOr('/sys/devices/system/node/has_memory', '0'),
    hugepages: listOr('/sys/kernel/mm/hugepages'),
  });
}

function readOr<T>(path: string, otherwise: T): string | T {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'EACCES')) return otherwise;
    throw error;
  }
}

function listOr(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  }
}

/** Distinct hierarchies that hold values: v1 roots in the order of the controllers. */
export function v1Roots(host: CgroupHost): string[] {
  const roots = (['cpu', 'cpuset', 'memory', 'pids', 'hugetlb', 'io'] as const)
    .map((controller) => host.controllers[controller])
    .filter((binding) => binding?.version === 1)
    .map((binding) => binding!.root);
  return [...new Set(roots)];
}

/** The directory of a cgroup (`/nodelet/kubepods`) in the hierarchy mounted at `root`. */
export function directoryOf(root: string, path: string): string {
  return path === '/' ? root : `${root}${path}`;
}
