/** Waiting for cgroup.events of v2 without polling: kernfs raises POLLPRI on the open file at every change. */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { abortReason, hasCode, NodeletError, toError } from '../../base/index.ts';
import { FdWatcher } from '../fd.ts';
import { parseFlatKeyed } from './stats.ts';

export interface WaitOptions {
  /** Milliseconds, default 10000. */
  readonly deadline?: number;
  readonly signal?: AbortSignal;
}

export const DEFAULT_DEADLINE = 10_000;

/** uv_poll's UV_PRIORITIZED: POLLPRI. */
const PRIORITIZED = 8;

/** cgroup.events of a directory: `populated` and `frozen`. Undefined where the cgroup is gone. */
export function readEvents(directory: string): Map<string, number> | undefined {
  let fd: number;
  try {
    fd = openSync(`${directory}/cgroup.events`, constants.O_RDONLY);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENODEV')) return undefined;
    throw error;
  }
  try {
    return readOpen(fd);
  } finally {
    closeSync(fd);
  }
}

function readOpen(fd: number): Map<string, number> | undefined {
  const buffer = Buffer.alloc(256);
  try {
    // At offset 0 every time: each read makes the next change an event.
    const size = readSync(fd, buffer, 0, buffer.length, 0);
    return parseFlatKeyed(buffer.toString('latin1', 0, size));
  } catch (error) {
    if (hasCode(error, 'ENODEV')) return undefined;
    throw error;
  }
}

/**
 * Resolves to true once `key` of cgroup.events is `value`, or the cgroup is gone; to false at the deadline. Rejects with
 * the signal's reason.
 */
export async function waitEvent(
  directory: string,
  key: 'populated' | 'frozen',
  value: 0 | 1,
  options: WaitOptions = {},
): Promise<boolean> {
  if (options.signal?.aborted) throw abortReason(options.signal);
  let fd: number;
  try {
    fd = openSync(`${directory}/cgroup.events`, constants.O_RDONLY);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENODEV')) return true;
    throw error;
  }
  const reached = () => {
    const events = readOpen(fd);
    return events === undefined || events.get(key) === value;
  };
  let watcher: FdWatcher | undefined;
  let timer: NodeJS.Timeout | undefined;
  let onAbort: (() => void) | undefined;
  try {
    // A change between this read and the start of the watch is not lost: the kernel compares with the last read.
    if (reached()) return true;
    return await new Promise<boolean>((resolve, reject) => {
      watcher = new FdWatcher(fd, PRIORITIZED, (events) => {
        try {
          if (events < 0)
            reject(new NodeletError('CGROUP_WATCH_FAILED', `cannot watch "${directory}/cgroup.events"`));
          else if (reached()) resolve(true);
        } catch (error) {
          reject(toError(error));
        }
      });
      timer = setTimeout(() => {
        try {
          resolve(reached());
        } catch (error) {
          reject(toError(error));
        }
      }, options.deadline ?? DEFAULT_DEADLINE);
      onAbort = () => reject(abortReason(options.signal!));
      options.signal?.addEventListener('abort', onAbort, { once: true });
    });
  } finally {
    clearTimeout(timer);
    if (onAbort !== undefined) options.signal?.removeEventListener('abort', onAbort);
    watcher?.close();
    closeSync(fd);
  }
}
