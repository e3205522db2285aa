/** /proc/<pid>/mountinfo (proc_pid_mountinfo(5)): the mounts of a process's mount namespace. */
import { readFileSync } from 'node:fs';
import { NodeletError } from '../base/index.ts';

export interface MountInfo {
  readonly id: number;
  /** The mount that this one is on; its own id at the root of a namespace. */
  readonly parent: number;
  readonly major: number;
  readonly minor: number;
  /** The directory of the file system that is seen at the mount point: `/`, or a bind mount's source within it. */
  readonly root: string;
  /** As seen from the process's root. */
  readonly mountPoint: string;
  /** Options of this mount: ro, nosuid, relatime and so on. */
  readonly options: readonly string[];
  /** Peer group that it sends events to; absent where the mount is not shared. */
  readonly shared?: number;
  /** Peer group that it receives events from; absent where the mount is no slave. */
  readonly master?: number;
  readonly propagateFrom?: number;
  readonly unbindable: boolean;
  readonly type: string;
  /** Device, or whatever the mounter called it; may be empty. */
  readonly source: string;
  /** Options of the file system itself. */
  readonly superOptions: readonly string[];
}

/** All mounts, in the kernel's order: a later one at the same point covers an earlier one. Throws PROC_FORMAT. */
export function parseMountinfo(text: string): MountInfo[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map(parseLine);
}

function parseLine(line: string): MountInfo {
  // Fields are separated by one space; optional fields end at a lone hyphen. An empty source is two spaces.
  const fields = line.split(' ');
  const hyphen = fields.indexOf('-', 6);
  const [id, parent, device = '', root, mountPoint, options] = fields;
  const [type, source, superOptions] = hyphen < 0 ? [] : fields.slice(hyphen + 1);
  const numbers = /^(\d+):(\d+)$/.exec(device);
  if (
    numbers === null ||
    !/^\d+$/.test(id ?? '') ||
    !/^\d+$/.test(parent ?? '') ||
    root === undefined ||
    mountPoint === undefined ||
    options === undefined ||
    type === undefined ||
    source === undefined
  ) {
    throw new NodeletError('PROC_FORMAT', `cannot parse a line of mountinfo: ${JSON.stringify(line)}`);
  }
  const optional = propagation(fields.slice(6, hyphen));
  return {
    id: Number(id),
    parent: Number(parent),
    major: Number(numbers[1]),
    minor: Number(numbers[2]),
    root: unescapePath(root),
    mountPoint: unescapePath(mountPoint),
    options: options.split(','),
    ...optional,
    type: unescapePath(type),
    source: unescapePath(source),
    superOptions: superOptions === undefined || superOptions === '' ? [] : superOptions.split(','),
  };
}

function propagation(
  tags: readonly string[],
): Pick<MountInfo, 'shared' | 'master' | 'propagateFrom' | 'unbindable'> {
  const number = (name: string) => {
    const tag = tags.find((one) => one.startsWith(`${name}:`));
    return tag === undefined ? undefined : Number(tag.slice(name.length + 1));
  };
  const [shared, master, propagateFrom] = [number('shared'), number('master'), number('propagate_from')];
  return {
    ...(shared === undefined ? {} : { shared }),
    ...(master === undefined ? {} : { master }),
    ...(propagateFrom === undefined ? {} : { propagateFrom }),
    unbindable: tags.includes('unbindable'),
  };
}

/** Space, tab, newline, backslash and `#` come as three octal digits (`\040`); anything else stands for itself. */
export function unescapePath(text: string): string {
  if (!text.includes('\\')) return text;
  return text.replaceAll(/\\([0-3][0-7]{2})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

/** The mounts of a process; `self` for this one. */
export function readMountinfo(pid: number | 'self' = 'self'): MountInfo[] {
  return parseMountinfo(readFileSync(`/proc/${pid}/mountinfo`, 'utf8'));
}

/** The mount that is seen at exactly `path`: the last one made there. */
export function mountAt(mounts: readonly MountInfo[], path: string): MountInfo | undefined {
  return mounts.findLast((mount) => mount.mountPoint === path);
}

/** The mount that holds `path` (absolute, without links and dots). */
export function mountHolding(mounts: readonly MountInfo[], path: string): MountInfo | undefined {
  let best: MountInfo | undefined;
  for (const mount of mounts) {
    if (!isUnder(path, mount.mountPoint)) continue;
    if (best === undefined || mount.mountPoint.length >= best.mountPoint.length) best = mount;
  }
  return best;
}

/** Mounts at or below `path`, in an order in which they can be unmounted: the latest made first. */
export function mountsUnder(mounts: readonly MountInfo[], path: string): MountInfo[] {
  return mounts.filter((mount) => isUnder(mount.mountPoint, path)).toReversed();
}

function isUnder(path: string, directory: string): boolean {
  return directory === '/' || path === directory || path.startsWith(`${directory}/`);
}
