/**
 * A cgroup as a list of steps: directories to make and values to write, in the order in which the kernel takes them.
 * Pure but for `checkOwnedRoot`: the shim, `nodelet plan` and `applySteps` do the same thing with the same list.
 */
import { existsSync } from 'node:fs';
import { NodeletError } from '../../base/index.ts';
import { type CgroupHost, directoryOf, v1Roots } from './host.ts';
import { type CgroupResources, checkResources } from './resources.ts';
import type { CgroupKind, CgroupStep } from './step.ts';
import { v1Values } from './values-v1.ts';
import { v2Values } from './values-v2.ts';

export interface PlanOptions {
  readonly kind: CgroupKind;
  /** The topmost cgroup that is ours, at or above the path: `/nodelet`. Default: the path's first component. */
  readonly owned?: string;
  /** Cgroups of kind pod that are known to be made already: nothing is planned for them. */
  readonly existing?: ReadonlySet<string>;
}

/** Controllers that v2 hands down by subtree_control; the others need no switching on. */
const SWITCHED = ['cpu', 'cpuset', 'memory', 'pids', 'io', 'hugetlb'] as const;

/**
 * The steps that make the cgroup `path` (absolute in every hierarchy, such as `/nodelet/kubepods/pod1/c`), its parents
 * up to the owned one, and give it its values. Making what exists is harmless, so the list can be run again, but values
 * that depend on the old ones go through `planUpdate`. Throws CGROUP_PATH_INVALID, CGROUP_VALUE_INVALID,
 * CGROUP_CONTROLLER_MISSING.
 */
export function planCgroup(
  host: CgroupHost,
  path: string,
  resources: CgroupResources,
  options: PlanOptions,
): CgroupStep[] {
  checkPath(path);
  checkResources(host, resources);
  const owned = options.owned ?? `/${path.split('/')[1]}`;
  const levels = levelsBetween(owned, path);
  const steps: CgroupStep[] = [];
  const roots = v1Roots(host);
  // The parent of the topmost level is not ours; the hierarchy's own root is nobody's and may be told to hand down.
  if (parentOf(owned) === '/' && !options.existing?.has(owned)) steps.push(...handDown(host, '/'));
  for (const level of levels) {
    const own = level === path;
    if (options.existing?.has(level) && !own) continue;
    steps.push({ op: 'mkdir', path: directoryOf(host.unified, level) });
    for (const root of roots) {
      steps.push({ op: 'mkdir', path: directoryOf(root, level) });
      if (level === owned) steps.push(...firstLevelV1(host, root, level));
    }
    if (own) steps.push(...valueSteps(host, path, resources, options.kind));
    if (!own || options.kind === 'pod') steps.push(...handDown(host, level));
  }
  return steps;
}

/** The values alone, for a cgroup that was made just now. */
export function valueSteps(
  host: CgroupHost,
  path: string,
  resources: CgroupResources,
  kind: CgroupKind,
): CgroupStep[] {
  return [...v1Values(host, path, resources), ...v2Values(host, path, resources, kind)];
}

function handDown(host: CgroupHost, path: string): CgroupStep[] {
  const names = SWITCHED.filter((controller) => host.controllers[controller]?.version === 2);
  if (names.length === 0) return [];
  return [
    {
      op: 'write',
      path: `${directoryOf(host.unified, path)}/cgroup.subtree_control`,
      value: names.map((name) => `+${name}`).join(' '),
      why: 'children get these controllers',
    },
  ];
}

/** What a v1 hierarchy needs at the first cgroup of ours; those below inherit it. */
function firstLevelV1(host: CgroupHost, root: string, level: string): CgroupStep[] {
  const directory = directoryOf(root, level);
  const steps: CgroupStep[] = [];
  if (host.controllers.cpuset?.root === root) {
    steps.push(
      {
        op: 'write',
        path: `${directory}/cpuset.cpus`,
        value: host.cpus,
        why: 'a new v1 cpuset is empty, and no process may join an empty one',
      },
      { op: 'write', path: `${directory}/cpuset.mems`, value: host.mems },
      {
        op: 'write',
        path: `${directory}/cgroup.clone_children`,
        value: '1',
        why: 'cpusets made below start as copies of their parent',
      },
    );
  }
  if (host.controllers.memory?.root === root) {
    steps.push({
      op: 'write',
      path: `${directory}/memory.use_hierarchy`,
      value: '1',
      optional: true,
      why: 'a limit counts everything below it; the only mode since Linux 5.11',
    });
  }
  return steps;
}

/** `/nodelet/a/b` below `/nodelet`: /nodelet, /nodelet/a, /nodelet/a/b. */
function levelsBetween(owned: string, path: string): string[] {
  checkPath(owned);
  if (path !== owned && !path.startsWith(`${owned}/`)) {
    throw pathError(path, `not below the owned cgroup ${JSON.stringify(owned)}`);
  }
  const levels = [owned];
  for (const name of path.slice(owned.length).split('/').filter(Boolean))
    levels.push(`${levels.at(-1)}/${name}`);
  return levels;
}

function parentOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash <= 0 ? '/' : path.slice(0, slash);
}

/** Names of files that the kernel makes in every cgroup: mkdir would say that they exist. */
const KERNEL_FILE =
  /^(tasks|notify_on_release|release_agent)$|^(cgroup|cpu|cpuacct|cpuset|memory|pids|hugetlb|io|blkio|devices|freezer|misc|rdma)\./;

/** Throws CGROUP_PATH_INVALID: a cgroup path comes from pod UIDs and container IDs, and becomes directories. */
export function checkPath(path: string): void {
  if (!path.startsWith('/') || path === '/') throw pathError(path, 'expected an absolute path below "/"');
  for (const name of path.slice(1).split('/')) {
    if (name === '' || name === '.' || name === '..')
      throw pathError(path, `has the component ${JSON.stringify(name)}`);
    if (Buffer.byteLength(name) > 255) throw pathError(path, 'has a component of more than 255 bytes');
    if (/[\0\n]/.test(name)) throw pathError(path, 'has a line break or a zero byte');
    if (KERNEL_FILE.test(name)) {
      throw pathError(path, `${JSON.stringify(name)} is a name of the kernel's own files`);
    }
  }
}

function pathError(path: string, problem: string, hint?: string): NodeletError {
  return new NodeletError('CGROUP_PATH_INVALID', `cannot use cgroup ${JSON.stringify(path)}: ${problem}`, {
    details: { path },
    ...(hint === undefined ? {} : { hint }),
  });
}

/**
 * The topmost cgroup of ours is made where it is missing; those above it are somebody else's and must be there, in every
 * hierarchy. Throws CGROUP_PATH_INVALID.
 */
export function checkOwnedRoot(host: CgroupHost, path: string): void {
  checkPath(path);
  for (const root of [host.unified, ...v1Roots(host)]) {
    const parent = directoryOf(root, parentOf(path));
    if (existsSync(parent)) continue;
    throw pathError(
      path,
      `there is no ${JSON.stringify(parent)}`,
      'make that cgroup first, or use one directly below "/"',
    );
  }
}

/** Where a process has to be put: the v2 directory, and the cgroup.procs of each v1 hierarchy in use. */
export interface JoinTargets {
  readonly unified: string;
  readonly procs: readonly string[];
}

/** A process joins all of these before it runs anything: v2 by CLONE_INTO_CGROUP or cgroup.procs, v1 by cgroup.procs. */
export function joinTargets(host: CgroupHost, path: string): JoinTargets {
  checkPath(path);
  return {
    unified: directoryOf(host.unified, path),
    procs: v1Roots(host).map((root) => `${directoryOf(root, path)}/cgroup.procs`),
  };
}
