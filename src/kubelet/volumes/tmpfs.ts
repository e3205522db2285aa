import { hasCode } from '../../base/index.ts';
import { MNT_DETACH, UMOUNT_NOFOLLOW } from '../../linux/constants.ts';
import { mountAt, mountsUnder, readMountinfo } from '../../linux/mountinfo.ts';
import { native } from '../../linux/native.ts';
import { check } from '../../linux/syscall-error.ts';

export interface TmpfsOptions {
  /** Bytes; without it the kernel takes half of the memory. */
  readonly size?: number;
  readonly mode: number;
  readonly gid?: number;
}

/** Mounts a tmpfs on an existing directory, once: nothing happens where one is mounted there already. */
export function mountTmpfs(path: string, options: TmpfsOptions): void {
  if (mountAt(readMountinfo(), path)?.type === 'tmpfs') return;
  const parts = [`mode=${options.mode.toString(8)}`];
  if (options.size !== undefined) parts.push(`size=${options.size}`);
  if (options.gid !== undefined) parts.push(`gid=${options.gid}`);
  const mount = (data: string) =>
    check(native().mount('tmpfs', path, 'tmpfs', 0, data), 'mount tmpfs on', path);
  try {
    // What is a secret shall not reach a disk by swapping (Linux 6.4).
    mount([...parts, 'noswap'].join(','));
  } catch (error) {
    if (!hasCode(error, 'EINVAL', 'EPERM')) throw error;
    mount(parts.join(','));
  }
}

/** Unmounts everything at or below a directory, the deepest first, without waiting for users of it. */
export function unmountBelow(path: string): void {
  for (const mount of mountsUnder(readMountinfo(), path)) {
    check(native().umount2(mount.mountPoint, MNT_DETACH | UMOUNT_NOFOLLOW), 'umount', mount.mountPoint);
  }
}

export function hasMountBelow(path: string): boolean {
  return mountsUnder(readMountinfo(), path).length > 0;
}
