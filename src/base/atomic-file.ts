import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { hasCode } from './errors.ts';
import { failpoint } from './failpoint.ts';

export interface ReplaceOptions {
  /** Permission bits of the new file, default 0600. */
  readonly mode?: number;
  /**
   * True where the file has to survive a power cut (anything under the root directory).
   * False for the state directory: it is gone after a reboot anyway, and an atomic rename alone
   * survives the death of this process.
   */
  readonly durable: boolean;
}

let counter = 0;

/**
 * Replaces a small file so that a reader, or a crash at any instruction, sees either the old or the
 * new content: temporary name in the same directory, fsync, rename, fsync of the directory.
 */
export function replaceFileSync(path: string, data: string | Uint8Array, options: ReplaceOptions): void {
  counter += 1;
  const temporary = `${path}.tmp-${process.pid}-${counter}`;
  const fd = openSync(temporary, 'wx', options.mode ?? 0o600);
  try {
    try {
      const bytes = typeof data === 'string' ? Buffer.from(data) : data;
      for (let offset = 0; offset < bytes.length; ) {
        offset += writeSync(fd, bytes, offset, bytes.length - offset);
      }
      if (options.durable) fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    failpoint('atomic-file:before-rename');
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  if (options.durable) syncDirectory(dirname(path));
  failpoint('atomic-file:after-rename');
}

/** Makes the names in a directory durable (fsync of the directory itself). */
export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Temporary names that a crash left behind; `replaceFileSync` never reuses them. */
export function isTemporaryName(name: string): boolean {
  return /\.tmp-\d+-\d+$/.test(name);
}

/** The parsed content of a JSON file, or undefined where it does not exist. */
export function readJsonIfExists(path: string): unknown {
  const text = readTextIfExists(path);
  return text === undefined ? undefined : JSON.parse(text);
}

export function readTextIfExists(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** mkdir -p with a mode for every directory that it makes. */
export function ensureDirectory(path: string, mode = 0o711): void {
  mkdirSync(path, { recursive: true, mode });
}
