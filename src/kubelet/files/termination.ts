/** What a container said about its own end: a file that it may write, or the end of its log. */
import { randomBytes } from 'node:crypto';
import { chmodSync, closeSync, constants, fstatSync, mkdirSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { hasCode } from '../../base/index.ts';
import type { ContainerStatus } from '../../cri/index.ts';
import { lastLogText } from '../logs/tail.ts';
import { ANNOTATION } from '../translate/labels.ts';

const MAX_MESSAGE = 4096;
const MAX_LOG_MESSAGE = 2048;
const MAX_LOG_LINES = 80;

/** Of all containers of a pod together; each gets an equal part. */
export const MAX_POD_MESSAGES = 12 * 1024;

/** Makes the file of one attempt, which any user in the container may write, and returns its path. */
export function makeTerminationFile(directory: string): string {
  mkdirSync(directory, { recursive: true, mode: 0o750 });
  const path = join(directory, randomBytes(4).toString('hex'));
  closeSync(openSync(path, 'wx', 0o666));
  chmodSync(path, 0o666);
  return path;
}

/** Where the attempt's file is, as its mounts say. */
export function terminationFileOf(status: ContainerStatus): string | undefined {
  const inside = status.annotations?.[ANNOTATION.terminationMessagePath];
  if (!inside) return undefined;
  const absolute = inside.startsWith('/') ? inside : `/${inside}`;
  return (status.mounts ?? []).find((mount) => mount.containerPath === absolute)?.hostPath;
}

/** The runtime's message and the container's own, joined. */
export function terminationMessage(status: ContainerStatus): string {
  const own = ownMessage(status);
  return [status.message ?? '', own].filter((part) => part !== '').join(': ');
}

function ownMessage(status: ContainerStatus): string {
  const file = terminationFileOf(status);
  const written = file === undefined ? '' : readEnd(file, MAX_MESSAGE);
  if (written !== '') return written;
  const fallsBack =
    status.annotations?.[ANNOTATION.terminationMessagePolicy] === 'FallbackToLogsOnError' &&
    status.exitCode !== 0;
  return fallsBack && status.logPath ? lastLogText(status.logPath, MAX_LOG_LINES, MAX_LOG_MESSAGE) : '';
}

/** The last bytes of a file, as text; what is there of it where it cannot be read is an explanation. */
function readEnd(path: string, max: number): string {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    return hasCode(error, 'ENOENT') ? '' : `Error on reading termination log ${path}: ${String(error)}`;
  }
  try {
    const { size } = fstatSync(fd);
    const buffer = Buffer.alloc(Math.min(size, max));
    const length = readSync(fd, buffer, 0, buffer.length, Math.max(0, size - max));
    return buffer.subarray(0, length).toString();
  } finally {
    closeSync(fd);
  }
}
