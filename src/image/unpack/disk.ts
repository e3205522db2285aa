/** Errors and room of the file system that layers are unpacked to. */
import { statfsSync } from 'node:fs';
import { NodeletError } from '../../base/index.ts';
import { errnoName, errnoText, SyscallError } from '../../linux/syscall-error.ts';

export interface Room {
  readonly bytes: number;
  /** Infinity where the file system does not count inodes (btrfs). */
  readonly inodes: number;
}

export function roomAt(path: string): Room {
  const { bavail, bsize, ffree, files } = statfsSync(path);
  return { bytes: bavail * bsize, inodes: files === 0 ? Number.POSITIVE_INFINITY : ffree };
}

/** Throws DISK_FULL where `path` has less room than `need`. */
export function requireRoom(path: string, need: Room, what: string): void {
  const room = roomAt(path);
  if (room.bytes < need.bytes) {
    throw diskFull(
      path,
      what,
      `${mebibytes(room.bytes)} MiB are free and ${mebibytes(need.bytes)} MiB are needed`,
    );
  }
  if (room.inodes < need.inodes) {
    throw diskFull(path, what, `${room.inodes} inodes are free and ${need.inodes} are needed`);
  }
}

export function diskFull(path: string, what: string, reason: string, cause?: unknown): NodeletError {
  return new NodeletError('DISK_FULL', `cannot ${what}: no room on the file system of "${path}": ${reason}`, {
    hint: 'remove images with: nodelet image prune',
    ...(cause === undefined ? {} : { cause }),
  });
}

function mebibytes(bytes: number): number {
  return Math.ceil(bytes / 1024 ** 2);
}

const noRoom = new Set(['ENOSPC', 'EDQUOT']);

export function isNoRoom(code: string | undefined): boolean {
  return code !== undefined && noRoom.has(code);
}

/** Passes a result of the addon through; a negative errno becomes DISK_FULL or a `SyscallError` about `name`. */
export function checkAt(result: number, syscall: string, root: string, name: string): number {
  if (result >= 0) return result;
  const code = errnoName(-result);
  if (isNoRoom(code)) throw diskFull(root, 'write files', errnoText(-result));
  throw new SyscallError(-result, syscall, `cannot ${syscall} ${name}`);
}
