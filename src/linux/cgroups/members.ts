/** Which cgroups there are below one of ours, and which processes are in them. */
import { type Dirent, readdirSync, readFileSync } from 'node:fs';
import { hasCode } from '../../base/index.ts';
import { readStat } from '../procfs.ts';
import { readEvents } from './events.ts';
import { type CgroupHost, directoryOf, v1Roots } from './host.ts';

/** Every hierarchy in which cgroups of ours can be, the v2 one last: as long as its directory is there, work is left. */
export function hierarchies(host: CgroupHost): string[] {
  // The device controller of v1 has a directory only where its rules were used.
  const devices = host.controllers.devices;
  const extra = devices?.version === 1 ? [devices.root] : [];
  return [...new Set([...v1Roots(host), ...extra, host.unified])];
}

/** Directories below `directory` and itself, children before parents; empty where there is none. */
export function descendants(directory: string): string[] {
  let entries: Dirent[];
  try {
    entries = readdirSync(directory, { withFileTypes: true });
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENODEV')) return [];
    throw error;
  }
  const below = entries
    .filter((entry) => entry.isDirectory())
    .flatMap((entry) => descendants(`${directory}/${entry.name}`));
  return [...below, directory];
}

/** Processes in one directory of a hierarchy, not in those below; empty where it is gone. */
export function processesOf(directory: string): number[] {
  try {
    return readFileSync(`${directory}/cgroup.procs`, 'utf8').split('\n').filter(Boolean).map(Number);
  } catch (error) {
    // EOPNOTSUPP: a threaded cgroup of v2 lists its processes at its domain.
    if (hasCode(error, 'ENOENT', 'ENODEV', 'EOPNOTSUPP', 'ENOTSUP')) return [];
    throw error;
  }
}

/** All processes in the cgroup and below it, in any hierarchy, in ascending order. 0 is one of an outer PID namespace. */
export function processesIn(host: CgroupHost, path: string): number[] {
  const pids = new Set<number>();
  for (const root of hierarchies(host)) {
    for (const directory of descendants(directoryOf(root, path))) {
      for (const pid of processesOf(directory)) pids.add(pid);
    }
  }
  return [...pids].sort((a, b) => a - b);
}

/** `1234 (sleep)`, for messages. */
export function nameProcess(pid: number): string {
  const stat = pid === 0 ? undefined : readStat(pid);
  return stat === undefined
    ? String(pid)
    : `${pid} (${stat.command}${stat.state === 'D' ? ', in the kernel' : ''})`;
}

export interface OwnedCgroup {
  /** As it was planned: `/nodelet/kubepods/pod1`. */
  readonly path: string;
  /** Processes are in it or below it. */
  readonly populated: boolean;
}

/** Every cgroup below `owned` (without itself) in any hierarchy, children before parents: for collecting what is left over. */
export function listOwned(host: CgroupHost, owned: string): OwnedCgroup[] {
  const populated = new Map<string, boolean>();
  for (const root of hierarchies(host)) {
    const top = directoryOf(root, owned);
    for (const directory of descendants(top)) {
      if (directory === top) continue;
      const path = `${owned}${directory.slice(top.length)}`;
      const here =
        root === host.unified
          ? readEvents(directory)?.get('populated') === 1
          : processesOf(directory).length > 0;
      populated.set(path, (populated.get(path) ?? false) || here);
    }
  }
  const depth = (path: string) => path.split('/').length;
  return [...populated]
    .map(([path, isPopulated]) => ({ path, populated: isPopulated }))
    .sort((a, b) => depth(b.path) - depth(a.path) || (a.path < b.path ? -1 : 1));
}
