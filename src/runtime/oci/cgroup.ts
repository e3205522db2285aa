/**
 * The cgroup of a container that somebody else has named. Its parents belong to whoever manages containers and may be there in
 * some hierarchies only; what is missing is made, what is there keeps its values.
 */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { hasCode, NodeletError } from '../../base/index.ts';
import {
  applySteps,
  type CgroupHost,
  type CgroupStep,
  checkPath,
  directoryOf,
  joinTargets,
  planCgroup,
  planUpdate,
  processesIn,
  v1Roots,
} from '../../linux/cgroups/index.ts';
import { readCgroup } from '../../linux/procfs.ts';
import { cgroupForLaunch, viewOf } from '../cgroup.ts';
import type { CgroupView, LaunchCgroup } from '../launch/context.ts';
import type { OciResources } from './config/resources.ts';
import { unsupported } from './errors.ts';
import { extraSteps } from './extra-resources.ts';

/** The path in every hierarchy. Throws OCI_UNSUPPORTED for one of systemd's, CGROUP_PATH_INVALID. */
export function cgroupPath(asked: string | undefined, id: string): string {
  if (asked === undefined) return `/nodelet-oci-${id}`;
  if (/^[^/]*:[^/]*:[^/]*$/.test(asked))
    throw unsupported(
      `config.json: linux.cgroupsPath ${JSON.stringify(asked)}`,
      'it names a systemd unit, and cgroups are made directly; use the cgroupfs driver (podman: --cgroup-manager=cgroupfs, containerd: SystemdCgroup = false)',
    );
  const path = `/${asked.split('/').filter(Boolean).join('/')}`;
  // Before a parent of it is made.
  checkPath(path);
  return path;
}

function parentsOf(path: string): string[] {
  const names = path.split('/').slice(1, -1);
  return names.map((_, i) => `/${names.slice(0, i + 1).join('/')}`);
}

/** Makes the parents, and gives those that are new what a v1 cpuset needs. Throws CGROUP_STEP_FAILED, CGROUP_BUSY. */
export function prepareParents(host: CgroupHost, path: string): void {
  const inUse = existsSync(directoryOf(host.unified, path)) ? processesIn(host, path) : [];
  if (inUse.length > 0) {
    throw new NodeletError(
      'CGROUP_BUSY',
      `cgroup ${JSON.stringify(path)} is in use: ${inUse.length} processes are in it`,
      {
        hint: 'each container needs a cgroup of its own: choose another linux.cgroupsPath',
        details: { path },
      },
    );
  }
  const parents = parentsOf(path);
  for (const root of [host.unified, ...v1Roots(host)]) {
    for (const level of parents) {
      const directory = directoryOf(root, level);
      try {
        mkdirSync(directory, 0o755);
      } catch (error) {
        if (!hasCode(error, 'EEXIST')) throw error;
      }
      if (host.controllers.cpuset?.root === root && host.controllers.cpuset.version === 1)
        fillCpuset(directory, directoryOf(root, level.slice(0, level.lastIndexOf('/')) || '/'));
    }
  }
  applySteps(handDown(host, parents));
}

/** A new v1 cpuset is empty, and no process may join an empty one: it begins as its parent is. */
function fillCpuset(directory: string, parent: string): void {
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    if (readFileSync(`${directory}/${file}`, 'utf8').trim() !== '') continue;
    const value = readFileSync(`${parent}/${file}`, 'utf8').trim();
    applySteps([{ op: 'write', path: `${directory}/${file}`, value }]);
  }
}

/** Controllers of v2 for the levels above the container's. */
function handDown(host: CgroupHost, parents: readonly string[]): CgroupStep[] {
  const names = (['cpu', 'cpuset', 'memory', 'pids', 'io', 'hugetlb'] as const).filter(
    (controller) => host.controllers[controller]?.version === 2,
  );
  if (names.length === 0) return [];
  const value = names.map((name) => `+${name}`).join(' ');
  return ['/', ...parents]
    .filter((level) => {
      const now = readFileSync(`${directoryOf(host.unified, level)}/cgroup.subtree_control`, 'utf8').split(
        /\s+/,
      );
      return names.some((name) => !now.includes(name));
    })
    .map((level) => ({
      op: 'write',
      path: `${directoryOf(host.unified, level)}/cgroup.subtree_control`,
      value,
    }));
}

/** How the shim makes the container's own group and puts it there. The parents are there. */
export function launchCgroup(host: CgroupHost, path: string, resources: OciResources): LaunchCgroup {
  const { cpu: { quota, period, ...cpu } = {}, ...rest } = resources.cgroup;
  const bandwidth = {
    cpu: { ...(quota === undefined ? {} : { quota }), ...(period === undefined ? {} : { period }) },
  };
  const unlimited = { memory: -1, swap: undefined, quota: -1, period: 100_000 };
  const late = planUpdate(host, path, bandwidth, 'container', unlimited);
  const { cpuset } = host.controllers;
  const parent = path.slice(0, path.lastIndexOf('/')) || '/';
  const steps = [
    ...planCgroup(
      host,
      path,
      {},
      {
        kind: 'container',
        owned: parent === '/' ? path : parent,
        existing: new Set(parent === '/' ? [path] : [parent]),
      },
    ),
    ...(cpuset?.version === 1 ? cpusetOf(cpuset.root, parent, path) : []),
    ...planUpdate(host, path, { ...rest, cpu }, 'container', { ...unlimited, swap: -1 }),
    ...extraSteps(host, path, resources),
  ];
  return cgroupForLaunch(host, path, steps, late);
}

function cpusetOf(root: string, parent: string, path: string): CgroupStep[] {
  return ['cpuset.cpus', 'cpuset.mems'].map((file) => ({
    op: 'write',
    path: `${directoryOf(root, path)}/${file}`,
    value: readFileSync(`${directoryOf(root, parent)}/${file}`, 'utf8').trim(),
    why: 'a new v1 cpuset is empty, and no process may join an empty one',
  }));
}

/** What the container sees of its cgroups: a view of its own where it has a namespace, else its directories. */
export function cgroupView(host: CgroupHost, path: string, namespace: boolean): CgroupView {
  if (namespace) return viewOf(host);
  const roots = v1Roots(host);
  if (roots.length === 0)
    return { kind: 'bound', directories: [{ name: '', source: directoryOf(host.unified, path) }] };
  return {
    kind: 'bound',
    directories: [...roots, host.unified].map((root) => ({
      name: basename(root),
      source: directoryOf(root, path),
    })),
  };
}

/** Where a program that joins the container belongs: its first process may have moved itself below its group. */
export function currentCgroup(
  host: CgroupHost,
  path: string,
  pid: number,
): { readonly directory: string; readonly join: readonly string[] } {
  const targets = joinTargets(host, path);
  const current = readCgroup(pid)?.find((one) => one.hierarchy === 0)?.path;
  if (current === undefined || !current.startsWith(`${path}/`))
    return { directory: targets.unified, join: targets.procs };
  return { directory: directoryOf(host.unified, current), join: targets.procs };
}
