/** Owner, mode, times and extended attributes: from a tar entry or a file below, onto what was just made. */
import { fchmodSync, readSync, writeSync } from 'node:fs';
import { AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW } from '../../linux/constants.ts';
import { native } from '../../linux/native.ts';
import { checkAt } from './disk.ts';
import type { Limits } from './limits.ts';
import { keepXattr, showName, unsafe } from './names.ts';
import type { TarEntry } from './tar/reader.ts';
import { rawName } from './tree.ts';
import type { ViewNode } from './view.ts';

const EOPNOTSUPP = 95;
/** 2^32 - 1 means "leave as it is" to chown(2). */
const maxId = 0xffff_fffe;
/** Seconds; containerd sets what lies outside of a Go time in nanoseconds to 1970. */
const maxTime = 9_223_372_036;

export interface Attributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: number;
  readonly mtimeNsec: number;
  readonly xattrs: readonly (readonly [name: string, value: Buffer])[];
}

/** Of a directory that nothing describes. */
export const plainDirectory: Attributes = { mode: 0o755, uid: 0, gid: 0, mtime: 0, mtimeNsec: 0, xattrs: [] };

/** Throws LAYER_UNSAFE for owners that do not exist and for too many extended attributes. */
export function attributesOf(entry: TarEntry, limits: Pick<Limits, 'xattrs' | 'xattrBytes'>): Attributes {
  const { uid, gid, mode, mtime, mtimeNsec } = entry;
  if (uid < 0 || uid > maxId || gid < 0 || gid > maxId) {
    throw unsafe(`${showName(entry.name)} belongs to ${uid}:${gid}, which is no user and group`);
  }
  const xattrs = entry.xattrs === undefined ? [] : [...entry.xattrs].filter(([name]) => keepXattr(name));
  const bytes = xattrs.reduce((sum, [name, value]) => sum + name.length + value.length, 0);
  if (xattrs.length > limits.xattrs || bytes > limits.xattrBytes) {
    throw unsafe(`${showName(entry.name)} has ${xattrs.length} extended attributes of ${bytes} bytes`);
  }
  const inRange = mtime >= 0 && mtime <= maxTime;
  return { mode, uid, gid, mtime: inRange ? mtime : 0, mtimeNsec: inRange ? mtimeNsec : 0, xattrs };
}

/** Those of a file or directory of a layer; attributes of overlayfs itself stay behind. */
export function attributesOfNode(node: ViewNode): Attributes {
  const { mode, uid, gid, mtime, mtimeNsec } = node.stat;
  return { mode: mode & 0o7777, uid, gid, mtime, mtimeNsec, xattrs: readXattrs(node) };
}

function readXattrs(node: ViewNode): Attributes['xattrs'] {
  const base = `/proc/self/fd/${node.dirfd}`;
  const path =
    node.name === '' ? base : Buffer.concat([Buffer.from(`${base}/`), Buffer.from(node.name, 'latin1')]);
  const nofollow = node.name !== '';
  const names = native().listxattr(path, nofollow);
  if (typeof names === 'number') return []; // no such thing on this file system
  return names.filter(keepXattr).flatMap((name): [string, Buffer][] => {
    const value = native().getxattr(path, name, nofollow);
    return typeof value === 'number' ? [] : [[name, value]];
  });
}

/** Sets everything on an open file or directory that is root's. `shown` names it, `root` is where it lies. */
export function setAttributes(fd: number, attributes: Attributes, root: string, shown: string): void {
  const { uid, gid, mode, mtime, mtimeNsec, xattrs } = attributes;
  if (uid !== 0 || gid !== 0)
    checkAt(native().fchownat(fd, '', uid, gid, AT_EMPTY_PATH), 'chown', root, shown);
  // after chown, which takes capabilities and set-id bits away
  for (const [name, value] of xattrs) {
    const result = native().setxattr(`/proc/self/fd/${fd}`, name, value, false);
    if (result !== -EOPNOTSUPP) checkAt(result, `set the attribute "${name}" of`, root, shown);
  }
  fchmodSync(fd, mode);
  checkAt(native().utimensat(fd, '', mtime, mtimeNsec, AT_EMPTY_PATH), 'set the times of', root, shown);
}

/** The same for what has no descriptor: links, devices, pipes. `base` was made in `parent` a moment ago, by us. */
export function setNodeAttributes(
  parent: number,
  base: string,
  isLink: boolean,
  attributes: Attributes,
  root: string,
  shown: string,
): void {
  const name = rawName(base);
  const { uid, gid, mode, mtime, mtimeNsec } = attributes;
  checkAt(native().fchownat(parent, name, uid, gid, AT_SYMLINK_NOFOLLOW), 'chown', root, shown);
  // chmod(2) follows links: never asked of one, and nobody else can reach the directory to put one there
  if (!isLink) checkAt(native().fchmodat(parent, name, mode), 'chmod', root, shown);
  checkAt(
    native().utimensat(parent, name, mtime, mtimeNsec, AT_SYMLINK_NOFOLLOW),
    'set the times of',
    root,
    shown,
  );
}

/** Appends all that is left of `from` to `to`. */
export function copyBytes(from: number, to: number): void {
  const buffer = Buffer.allocUnsafe(256 * 1024);
  for (let size = readSync(from, buffer); size > 0; size = readSync(from, buffer)) {
    for (let at = 0; at < size; ) at += writeSync(to, buffer, at, size - at);
  }
}
