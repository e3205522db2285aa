import { closeSync, mkdirSync, openSync, type Stats, statSync } from 'node:fs';
import { hasCode } from '../../base/index.ts';
import type { MountSourceType } from '../../cri/index.ts';
import type { HostPathVolumeSource } from '../../kube/index.ts';
import { PodError } from '../errors.ts';

interface Kind {
  readonly what: string;
  readonly type: MountSourceType;
  is(info: Stats): boolean;
}

const DIRECTORY: Kind = { what: 'a directory', type: 'directory', is: (info) => info.isDirectory() };
const FILE: Kind = { what: 'a file', type: 'file', is: (info) => info.isFile() };

/** What a path has to be for each type that demands something. */
const KINDS: Readonly<Record<string, Kind>> = {
  Directory: DIRECTORY,
  DirectoryOrCreate: DIRECTORY,
  File: FILE,
  FileOrCreate: FILE,
  Socket: { what: 'a socket file', type: 'socket', is: (info) => info.isSocket() },
  CharDevice: {
    what: 'a character device',
    type: 'character-device',
    is: (info) => info.isCharacterDevice(),
  },
  BlockDevice: { what: 'a block device', type: 'block-device', is: (info) => info.isBlockDevice() },
};

/** What the runtime is told to expect: the check below is of what was there then. */
export function hostPathType({ type = '' }: HostPathVolumeSource): MountSourceType | undefined {
  return KINDS[type]?.type;
}

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
  if (kind === undefined || (info !== undefined && kind.is(info))) return;
  throw new PodError('FailedMount', `hostPath type check failed: ${path} is not ${kind.what}`);
}

function statIfExists(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}
