/** /proc/<pid>/ns (namespaces(7)): which namespaces a process is in, and who shares them. */
import { readdirSync, readlinkSync } from 'node:fs';
import { hasCode } from '../base/index.ts';

/** Every kind, as the links are called. `…_for_children` is where the process's next child will be. */
export const NAMESPACE_KINDS = [
  'cgroup',
  'ipc',
  'mnt',
  'net',
  'pid',
  'pid_for_children',
  'time',
  'time_for_children',
  'user',
  'uts',
] as const;
export type NamespaceKind = (typeof NAMESPACE_KINDS)[number];

/** Inode numbers: equal numbers are the same namespace. A kind that the kernel lacks is absent. */
export type Namespaces = Readonly<Partial<Record<NamespaceKind, number>>>;

/** `net:[4026531840]` → 4026531840; undefined for anything else. */
export function parseNamespaceLink(link: string): number | undefined {
  const match = /^[a-z_]+:\[(\d+)\]$/.exec(link);
  return match ? Number(match[1]) : undefined;
}

/** The namespaces of a process, or undefined where there is no such process (or it may not be looked at). */
export function readNamespaces(pid: number | 'self' = 'self'): Namespaces | undefined {
  const found: Partial<Record<NamespaceKind, number>> = {};
  for (const kind of NAMESPACE_KINDS) {
    try {
      const inode = parseNamespaceLink(readlinkSync(`/proc/${pid}/ns/${kind}`));
      if (inode !== undefined) found[kind] = inode;
    } catch (error) {
      // A zombie has left all but its PID and user namespaces, a kernel may lack a kind: ENOENT each.
      if (!hasCode(error, 'ENOENT', 'ESRCH', 'EACCES')) throw error;
    }
  }
  return Object.keys(found).length === 0 ? undefined : found;
}

/** Kinds in which the two are not together. */
export function differingNamespaces(a: Namespaces, b: Namespaces): NamespaceKind[] {
  return NAMESPACE_KINDS.filter((kind) => a[kind] !== b[kind]);
}

/** A namespace and the processes in it. */
export interface NamespaceMembers {
  readonly kind: NamespaceKind;
  readonly inode: number;
  /** In ascending order. */
  readonly pids: readonly number[];
}

/** Groups processes by namespace, kinds in their own order, then by inode. */
export function groupByNamespace(
  processes: Iterable<readonly [pid: number, namespaces: Namespaces]>,
): NamespaceMembers[] {
  const groups = new Map<NamespaceKind, Map<number, number[]>>(
    NAMESPACE_KINDS.map((kind) => [kind, new Map()]),
  );
  for (const [pid, namespaces] of processes) {
    for (const kind of NAMESPACE_KINDS) {
      const inode = namespaces[kind];
      if (inode === undefined) continue;
      const byInode = groups.get(kind)!;
      const pids = byInode.get(inode);
      if (pids === undefined) byInode.set(inode, [pid]);
      else pids.push(pid);
    }
  }
  return [...groups].flatMap(([kind, byInode]) =>
    [...byInode]
      .sort(([a], [b]) => a - b)
      .map(([inode, pids]) => ({ kind, inode, pids: pids.toSorted((a, b) => a - b) })),
  );
}

/** Every namespace of this machine that a process is in, with its processes. One pass over /proc. */
export function listNamespaces(): NamespaceMembers[] {
  const processes: (readonly [number, Namespaces])[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const namespaces = readNamespaces(Number(name));
    if (namespaces !== undefined) processes.push([Number(name), namespaces]);
  }
  return groupByNamespace(processes);
}
