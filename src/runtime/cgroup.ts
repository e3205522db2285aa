/**
 * The runtime's cgroups: one leaf for each container, one for a pause process, one for each shim. The pod's own group above
 * the leaves belongs to whoever asked for the pod (the kubelet).
 */
import { existsSync, mkdirSync } from 'node:fs';
import { basename } from 'node:path';
import { hasCode, NodeletError } from '../base/index.ts';
import type { LinuxContainerResources } from '../cri/index.ts';
import {
  type CgroupHost,
  type CgroupResources,
  type CgroupStats,
  type CgroupStep,
  checkOwnedRoot,
  checkResources,
  directoryOf,
  joinTargets,
  killCgroup,
  listOwned,
  planCgroup,
  planUpdate,
  readCgroupHost,
  readStats,
  removeCgroup,
  updateResources,
  v1Roots,
} from '../linux/cgroups/index.ts';
import { O } from '../linux/constants.ts';
import { Fd } from '../linux/fd.ts';
import { readMountinfo } from '../linux/mountinfo.ts';
import { native } from '../linux/native.ts';
import { readCgroup } from '../linux/procfs.ts';
import { check } from '../linux/syscall-error.ts';
import type { CgroupView, LaunchCgroup } from './launch/context.ts';

/** v1 controllers as mount options. */
const V1_CONTROLLERS = new Set([
  'cpu',
  'cpuacct',
  'cpuset',
  'memory',
  'pids',
  'blkio',
  'hugetlb',
  'devices',
  'freezer',
  'net_cls',
  'net_prio',
  'perf_event',
  'rdma',
  'misc',
]);

const ID = /^[0-9a-f]{64}$/;

/**
 * CRI's resources in the OCI vocabulary. CPU quota apart: it is given when everything else is done. A memory limit without a
 * word on swap allows none, as with containerd.
 */
export function ociResources(linux: LinuxContainerResources): CgroupResources {
  const limit = linux.memoryLimitInBytes ?? 0;
  const swap = linux.memorySwapLimitInBytes ?? 0;
  return {
    memory: { limit, swap: swap === 0 && limit > 0 ? limit : swap },
    cpu: {
      shares: linux.cpuShares ?? 0,
      cpus: linux.cpusetCpus ?? '',
      mems: linux.cpusetMems ?? '',
    },
    hugepageLimits: (linux.hugepageLimits ?? []).map((one) => ({
      pageSize: one.pageSize ?? '',
      limit: one.limit ?? 0,
    })),
    ...(linux.unified === undefined ? {} : { unified: linux.unified }),
  };
}

function quotaOf(linux: LinuxContainerResources): CgroupResources {
  return { cpu: { quota: linux.cpuQuota ?? 0, period: linux.cpuPeriod ?? 0 } };
}

function allResources(linux: LinuxContainerResources): CgroupResources {
  const { cpu, ...rest } = ociResources(linux);
  return { ...rest, cpu: { ...cpu, ...quotaOf(linux).cpu } };
}

function memoryInUse(limit: number, used: number | undefined, cause?: unknown): NodeletError {
  return new NodeletError(
    'MEMORY_IN_USE',
    `cannot set memoryLimitInBytes: the container uses more than ${limit} bytes${used === undefined ? '' : ` (${used})`}`,
    {
      hint: 'choose a limit above its use, or restart it with the new one',
      details: { limit, ...(used === undefined ? {} : { used }) },
      ...(cause === undefined ? {} : { cause }),
    },
  );
}

/** A container's cgroup as its launch needs it: made by `steps`, given `late` when everything else is done. */
export function cgroupForLaunch(
  host: CgroupHost,
  path: string,
  steps: readonly CgroupStep[],
  late: readonly CgroupStep[],
): LaunchCgroup {
  const targets = joinTargets(host, path);
  const { memory } = host.controllers;
  return {
    steps,
    directory: targets.unified,
    join: targets.procs,
    late: late.flatMap((step) => (step.op === 'write' ? [{ path: step.path, value: step.value }] : [])),
    killFile: `${targets.unified}/cgroup.kill`,
    oom:
      memory?.version === 1
        ? { file: `${directoryOf(memory.root, path)}/memory.oom_control`, key: 'oom_kill' }
        : { file: `${targets.unified}/memory.events`, key: 'oom_kill' },
  };
}

export class RuntimeCgroups {
  readonly host: CgroupHost;
  readonly view: CgroupView;
  readonly #root: string;
  #shims = false;

  constructor(root: string, host: CgroupHost = readCgroupHost()) {
    this.host = host;
    this.#root = root;
    this.view = viewOf(host);
  }

  /** Throws CGROUP_PATH_INVALID where the root cannot be made. */
  checkRoot(): void {
    checkOwnedRoot(this.host, this.#root);
  }

  /** The cgroup of a container: below its pod's, or below our own root where the request names none. */
  path(parent: string, id: string): string {
    return parent === '' ? `${this.#root}/containers/${id}` : `${parent.replace(/\/+$/, '')}/${id}`;
  }

  #plan(path: string, resources: CgroupResources): CgroupStep[] {
    const owned = path.startsWith(`${this.#root}/`) ? { owned: this.#root } : {};
    return planCgroup(this.host, path, resources, {
      kind: 'container',
      existing: this.#existing(path),
      ...owned,
    });
  }

  /** Parents that are there in the v2 hierarchy were made in all of them. */
  #existing(path: string): ReadonlySet<string> {
    const parent = path.slice(0, path.lastIndexOf('/'));
    const found = new Set<string>();
    if (!existsSync(directoryOf(this.host.unified, parent))) return found;
    for (let at = parent; at !== ''; at = at.slice(0, at.lastIndexOf('/'))) found.add(at);
    return found;
  }

  container(parent: string, id: string, linux: LinuxContainerResources): LaunchCgroup {
    const path = this.path(parent, id);
    const unlimited = { memory: -1, swap: undefined, quota: -1, period: 100_000 };
    const late = planUpdate(this.host, path, quotaOf(linux), 'container', unlimited);
    return cgroupForLaunch(this.host, path, this.#plan(path, ociResources(linux)), late);
  }

  /** Throws CGROUP_VALUE_INVALID, CGROUP_CONTROLLER_MISSING. */
  check(linux: LinuxContainerResources): void {
    checkResources(this.host, allResources(linux));
    const { oomScoreAdj } = linux;
    if (oomScoreAdj !== undefined && (!Number.isInteger(oomScoreAdj) || Math.abs(oomScoreAdj) > 1000))
      throw new NodeletError(
        'CGROUP_VALUE_INVALID',
        `cannot set oomScoreAdj: expected an integer from -1000 to 1000, found ${oomScoreAdj}`,
        { details: { field: 'oomScoreAdj' } },
      );
  }

  /**
   * New values (`merged`: with those that `linux` leaves as they are, because quota and period, memory and swap are written
   * together) for a container that runs. Throws CGROUP_VALUE_INVALID, CGROUP_CONTROLLER_MISSING, and MEMORY_IN_USE for a limit
   * below what it uses: the kernel would kill where it cannot reclaim.
   */
  update(parent: string, id: string, linux: LinuxContainerResources, merged: LinuxContainerResources): void {
    this.check(merged);
    const path = this.path(parent, id);
    const limit = linux.memoryLimitInBytes ?? 0;
    const used = limit > 0 ? readStats(this.host, path).memory?.workingSet : undefined;
    if (used !== undefined && used > limit) throw memoryInUse(limit, used);
    try {
      updateResources(this.host, path, allResources(merged), 'container');
    } catch (error) {
      // v1 refuses what it cannot reclaim.
      if (limit > 0 && hasCode(error, 'EBUSY')) throw memoryInUse(limit, used, error);
      throw error;
    }
  }

  /**
   * Where an exec belongs: the group in which the container's first process is now. A container that may write its cgroups
   * can have moved itself below its own.
   */
  currentOf(
    pid: number,
    parent: string,
    id: string,
  ): { readonly directory: string; readonly join: readonly string[] } {
    const own = this.path(parent, id);
    const targets = joinTargets(this.host, own);
    const current = readCgroup(pid)?.find((one) => one.hierarchy === 0)?.path;
    if (current === undefined || !current.startsWith(`${own}/`))
      return { directory: targets.unified, join: targets.procs };
    return { directory: directoryOf(this.host.unified, current), join: targets.procs };
  }

  /** Sends SIGKILL to everything in a container's group. */
  async kill(parent: string, id: string): Promise<void> {
    killCgroup(this.host, this.path(parent, id));
  }

  remove(parent: string, id: string): Promise<void> {
    return removeCgroup(this.host, this.path(parent, id));
  }

  stats(path: string): CgroupStats {
    return readStats(this.host, path);
  }

  // --- the pause process of a pod with a shared PID namespace

  pauseLeaf(
    parent: string,
    sandboxId: string,
  ): { readonly steps: readonly CgroupStep[]; readonly directory: string; readonly join: readonly string[] } {
    const path = this.path(parent, sandboxId);
    const targets = joinTargets(this.host, path);
    return {
      steps: this.#plan(path, { cpu: { shares: 2 } }),
      directory: targets.unified,
      join: targets.procs,
    };
  }

  async killPauseLeaf(parent: string, sandboxId: string): Promise<void> {
    killCgroup(this.host, this.path(parent, sandboxId));
  }

  async removePauseLeaf(parent: string, sandboxId: string): Promise<void> {
    await this.killPauseLeaf(parent, sandboxId);
    await removeCgroup(this.host, this.path(parent, sandboxId));
  }

  // --- shims: a v2 group each, without limits, so that a shim can be found and killed by its pod's name

  #shimPath(sandboxId: string): string {
    return `${this.#root}/shims/${sandboxId}`;
  }

  /** Makes the group of a sandbox's shim; the descriptor is the caller's. */
  openShimGroup(sandboxId: string): Fd {
    const directory = directoryOf(this.host.unified, this.#shimPath(sandboxId));
    mkdirSync(directory, { recursive: !this.#shims });
    this.#shims = true;
    return new Fd(check(native().openat2(-100, directory, O.RDONLY | O.DIRECTORY, 0, 0), 'open', directory));
  }

  async killShimGroup(sandboxId: string): Promise<void> {
    killCgroup(this.host, this.#shimPath(sandboxId));
  }

  async removeShimGroup(sandboxId: string): Promise<void> {
    await this.killShimGroup(sandboxId);
    await removeCgroup(this.host, this.#shimPath(sandboxId));
  }

  /** Sandbox ids that a shim's group is left of. */
  shimGroups(): string[] {
    return this.#owned('/shims/');
  }

  /** Paths of all groups that are named by a container's or sandbox's id. */
  containerGroups(): string[] {
    return listOwned(this.host, this.#root)
      .map((one) => one.path)
      .filter((path) => ID.test(basename(path)) && !path.startsWith(`${this.#root}/shims/`));
  }

  async removePath(path: string): Promise<void> {
    killCgroup(this.host, path);
    await removeCgroup(this.host, path);
  }

  #owned(below: string): string[] {
    return listOwned(this.host, this.#root)
      .map((one) => one.path)
      .filter((path) => path.startsWith(`${this.#root}${below}`) && ID.test(basename(path)))
      .map((path) => basename(path));
  }
}

/** The hierarchies that a container is shown: those in which it has a group of its own. */
export function viewOf(host: CgroupHost): CgroupView {
  const roots = v1Roots(host);
  if (roots.length === 0) return { kind: 'unified' };
  const table = readMountinfo('self');
  return {
    kind: 'hybrid',
    unifiedName: basename(host.unified),
    hierarchies: roots.map((root) => ({
      name: basename(root),
      options: (table.find((mount) => mount.mountPoint === root)?.superOptions ?? []).filter((option) =>
        V1_CONTROLLERS.has(option),
      ),
    })),
  };
}
