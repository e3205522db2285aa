/**
 * A volume's subPath: opened beneath the volume, so that no link in it leads out (CVE-2017-1002101), and used by
 * descriptor, so that nobody swaps it meanwhile (CVE-2021-25741). What is missing of it is made, as upstream does.
 */
import { closeSync, existsSync, mkdirSync, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { LocalMount } from '../../cri/index.ts';
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_RECURSIVE,
  MNT_DETACH,
  MOVE_MOUNT_F_EMPTY_PATH,
  O,
  OPEN_TREE_CLONE,
  RESOLVE,
  S_IF,
  UMOUNT_NOFOLLOW,
} from '../../linux/constants.ts';
import { Fd } from '../../linux/fd.ts';
import { mountAt, readMountinfo } from '../../linux/mountinfo.ts';
import { native, type Statx } from '../../linux/native.ts';
import { check } from '../../linux/syscall-error.ts';

const ENOENT = -2;
const EEXIST = -17;
const EAGAIN = -11;

/** Somebody renames something while the kernel walks the path: it is asked again. */
function openBeneath(volume: number, path: string): number {
  for (let tries = 0; ; tries += 1) {
    const fd = native().openat2(
      volume,
      path === '' ? '.' : path,
      O.PATH | O.CLOEXEC,
      0,
      RESOLVE.BENEATH | RESOLVE.NO_MAGICLINKS,
    );
    if (fd !== EAGAIN || tries >= 128) return fd;
  }
}

/**
 * Opens `subPath` beneath the directory `volume`, with `create` after making the directories that are missing of it. Throws
 * a SyscallError (EXDEV: a link in it leads out of the volume).
 */
export function openSubPath(volume: string, subPath: string, create: boolean): Fd {
  using base = new Fd(
    check(native().openat2(AT_FDCWD, volume, O.PATH | O.DIRECTORY | O.CLOEXEC, 0, 0), 'open', volume),
  );
  const shown = join(volume, subPath);
  const found = openBeneath(base.number, subPath);
  if (found !== ENOENT || !create) return new Fd(check(found, 'open the subPath', shown));
  const mode = check<Statx>(native().statx(base.number, '', AT_EMPTY_PATH), 'statx', volume).mode & 0o7777;
  const parts = subPath.split('/').filter((part) => part !== '' && part !== '.');
  for (let length = 1; length <= parts.length; length += 1) {
    const prefix = parts.slice(0, length).join('/');
    const there = openBeneath(base.number, prefix);
    if (there !== ENOENT) {
      new Fd(check(there, 'open the subPath', join(volume, prefix))).close();
      continue;
    }
    using parent = new Fd(
      check(openBeneath(base.number, parts.slice(0, length - 1).join('/')), 'open the subPath', shown),
    );
    const name = parts[length - 1] ?? '';
    const made = native().mkdirat(parent.number, name, mode);
    if (made !== EEXIST) check(made, 'mkdir', join(volume, prefix));
    // The umask takes nothing away: it is the volume's own mode.
    if (made !== EEXIST) check(native().fchmodat(parent.number, name, mode), 'chmod', join(volume, prefix));
  }
  return new Fd(check(openBeneath(base.number, subPath), 'open the subPath', shown));
}

/**
 * The mount with its subPath as a bind of its own at `target`, which a runtime that knows no subPath can mount: by the
 * descriptor, in the place of what an earlier container had there.
 */
export function bindSubPath(mount: LocalMount, source: Fd, target: string): LocalMount {
  const n = native();
  if (existsSync(target) && mountAt(readMountinfo(), target) !== undefined)
    check(n.umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW), 'umount', target);
  const { mode } = check<Statx>(n.statx(source.number, '', AT_EMPTY_PATH), 'statx', target);
  mkdirSync(dirname(target), { recursive: true, mode: 0o750 });
  if ((mode & S_IF.MT) === S_IF.DIR) mkdirSync(target, { recursive: true, mode: 0o750 });
  else closeSync(openSync(target, 'a', 0o640));
  using tree = new Fd(
    check(
      n.openTree(source.number, '', OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE | O.CLOEXEC),
      'open_tree',
      target,
    ),
  );
  check(
    n.moveMount(tree.number, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH),
    'mount the subPath on',
    target,
  );
  const { subPath: _, ...rest } = mount;
  return { ...rest, hostPath: target };
}
