/**
 * Removal and measuring of directory trees by descriptor, one name at a time: a path inside a layer can be longer
 * than PATH_MAX, and nothing in it is followed.
 */
import { readdirSync } from 'node:fs';
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_REMOVEDIR,
  AT_SYMLINK_NOFOLLOW,
  O,
  RESOLVE,
  S_IF,
} from '../../linux/constants.ts';
import { native, type PathLike, type Statx } from '../../linux/native.ts';
import { check } from '../../linux/syscall-error.ts';

const EPERM = 1;
const ENOENT = 2;
const EEXIST = 17;
const EISDIR = 21;
const ENOTEMPTY = 39;

/** A name as the addon takes it: text where it is ASCII, else its bytes. */
export function rawName(name: string): PathLike {
  // oxlint-disable-next-line no-control-regex
  return /^[\0-\x7f]*$/.test(name) ? name : Buffer.from(name, 'latin1');
}

/** Names in an open directory, bytes as latin1 text. */
export function listNames(fd: number): string[] {
  return readdirSync(`/proc/self/fd/${fd}`, 'latin1');
}

/** Opens the directory `name` in `dirfd` and not what a link of that name leads to; a negative errno where it is none. */
export function openDirectory(dirfd: number, name: PathLike): number {
  return native().openat2(
    dirfd,
    name,
    O.RDONLY | O.DIRECTORY | O.NOFOLLOW,
    0,
    dirfd === AT_FDCWD ? 0 : RESOLVE.NO_SYMLINKS,
  );
}

/** What `name` in `dirfd` is, links not followed; undefined where it is absent. */
export function statName(dirfd: number, name: PathLike): Statx | undefined {
  const result = native().statx(dirfd, name, AT_SYMLINK_NOFOLLOW);
  if (typeof result !== 'number') return result;
  if (result === -ENOENT) return undefined;
  check(result, 'statx');
  return undefined;
}

/** What an open descriptor is. */
export function statFd(fd: number): Statx {
  return check<Statx>(native().statx(fd, '', AT_EMPTY_PATH), 'statx');
}

export function isKind(stat: Statx, kind: number): boolean {
  return (stat.mode & S_IF.MT) === kind;
}

/** Overlayfs' mark for "not here": a character device 0:0. */
export function isWhiteout(stat: Statx): boolean {
  return isKind(stat, S_IF.CHR) && stat.rdevMajor === 0 && stat.rdevMinor === 0;
}

interface Visitor {
  /** One name of the open directory `dirfd`; true descends into it. */
  entry(dirfd: number, name: string): boolean;
  /** The directory `name` of `dirfd` has been walked. */
  left(dirfd: number, name: string): void;
}

/**
 * Walks what is below the open directory `root`, depth first, with two descriptors however deep it goes: a container
 * can make a tree deeper than any limit on paths, stack or descriptors. The way back is "..", checked by inode; where
 * somebody moved the directory meanwhile the walk ends early.
 */
function walkBelow(root: number, visitor: Visitor): void {
  const frameOf = (fd: number, name: string): { name: string; id: string; names: string[] } => {
    const stat = statFd(fd);
    return { name, id: `${stat.devMajor}:${stat.devMinor}:${stat.ino}`, names: listNames(fd) };
  };
  const frames = [frameOf(root, '')];
  let fd = check(native().dup(root), 'dup');
  try {
    for (let top = frames.at(-1); top !== undefined; top = frames.at(-1)) {
      const name = top.names.pop();
      if (name !== undefined) {
        if (!visitor.entry(fd, name)) continue;
        const child = openDirectory(fd, rawName(name));
        if (child < 0) continue; // gone, or no directory any more
        native().close(fd);
        fd = child;
        frames.push(frameOf(fd, name));
        continue;
      }
      frames.pop();
      const above = frames.at(-1);
      if (above === undefined) return;
      const up = check(native().openat2(fd, '..', O.RDONLY | O.DIRECTORY, 0, 0), 'openat2', '..');
      native().close(fd);
      fd = up;
      const stat = statFd(fd);
      if (`${stat.devMajor}:${stat.devMinor}:${stat.ino}` !== above.id) return;
      visitor.left(fd, top.name);
    }
  } finally {
    native().close(fd);
  }
}

/** Removes `name` in `dirfd`, a file or a whole tree; nothing happens where it is absent. */
export function removeAt(dirfd: number, name: string): void {
  if (!mustDescend(dirfd, name)) return;
  const fd = check(openDirectory(dirfd, rawName(name)), 'openat2', name);
  try {
    walkBelow(fd, {
      entry: mustDescend,
      left(at, child) {
        removeEmpty(at, child);
      },
    });
  } finally {
    native().close(fd);
  }
  removeEmpty(dirfd, name);
}

function removeEmpty(dirfd: number, name: string): void {
  const result = native().unlinkat(dirfd, rawName(name), AT_REMOVEDIR);
  // two collectors may be at the same leftovers
  if (result !== -ENOENT) check(result, 'rmdir', name);
}

/** Removes a file or an empty directory; true where it is a directory that has something in it. */
function mustDescend(dirfd: number, name: string): boolean {
  const target = rawName(name);
  const removed = native().unlinkat(dirfd, target, 0);
  if (removed >= 0 || removed === -ENOENT) return false;
  if (removed !== -EISDIR && removed !== -EPERM) check(removed, 'unlink', name);
  const emptied = native().unlinkat(dirfd, target, AT_REMOVEDIR);
  if (emptied >= 0 || emptied === -ENOENT) return false;
  if (emptied === -ENOTEMPTY || emptied === -EEXIST) return true;
  check(removed, 'unlink', name); // immutable files say EPERM
  return false;
}

/** Removes the file or tree at a path of ours. */
export function removePath(path: string): void {
  removeAt(AT_FDCWD, Buffer.from(path).toString('latin1'));
}

/** Disk use of a tree, hard links counted once. Bytes are those of allocated blocks. */
export function measureTree(path: string): { bytes: number; inodes: number } {
  let bytes = 0;
  let inodes = 0;
  const seen = new Set<string>();
  const count = (stat: Statx): void => {
    if (stat.nlink > 1 && !isKind(stat, S_IF.DIR)) {
      const key = `${stat.devMajor}:${stat.devMinor}:${stat.ino}`;
      if (seen.has(key)) return;
      seen.add(key);
    }
    bytes += stat.blocks * 512;
    inodes += 1;
  };
  const fd = openDirectory(AT_FDCWD, path);
  if (fd === -ENOENT) return { bytes, inodes };
  check(fd, 'openat2', path);
  try {
    count(statFd(fd));
    walkBelow(fd, {
      entry(dirfd, name) {
        // A container may be writing here: what has gone since it was listed is not counted.
        const stat = statName(dirfd, rawName(name));
        if (stat === undefined) return false;
        count(stat);
        return isKind(stat, S_IF.DIR);
      },
      left() {},
    });
  } finally {
    native().close(fd);
  }
  return { bytes, inodes };
}
