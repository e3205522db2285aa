import { closeSync, mkdirSync, openSync, type Stats, statSync } from 'node:fs';
import { hasCode } from '../../base/index.ts';
import type { HostPathVolumeSource } from '../../kube/index.ts';
import { PodError } from '../errors.ts';

/** What a path has to be for each type that demands something. */
const KINDS: Readonly<Record<string, readonly [what: string, is: (info: Stats) => boolean]>> = {
  Directory: ['a directory', (info) => info.isDirectory()],
  DirectoryOrCreate: ['a directory', (info) => info.isDirectory()],
  File: ['a file', (info) => info.isFile()],
  FileOrCreate: ['a file', (info) => info.isFile()],
  Socket: ['a socket file', (info) => info.isSocket()],
  CharDevice: ['a character device', (info) => info.isCharacterDevice()],
  BlockDevice: ['a block device', (info) => info.isBlockDevice()],
};

/**
 * Makes what the type says may be made and checks what it says must be there. Without a type a missing path becomes a
 * directory, as container runtimes have always done. Throws FailedMount.
 */
export function prepareHostPath({ path, type = '' }: HostPathVolumeSource): void {
  let info = statIfExists(path);
  if (info === undefined && (type === '' || type === 'DirectoryOrCreate')) {
    mkdirSync(path, { recursive: true, mode: 0o755 });
    info = statIfExists(path);
  } else if (info === undefined && type === 'FileOrCreate') {
    closeSync(openSync(path, 'a', 0o644));
    info = statIfExists(path);
  }
  const kind = KINDS[type];
  if (kind === undefined || (info !== undefined && kind[1](info))) return;
  throw new PodError('FailedMount', `hostPath type check failed: ${path} is not ${kind[0]}`);
}

function statIfExists(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}
