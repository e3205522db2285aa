/**
 * flock(2) between processes (agent and commands write the same store) and within one. A lock file may be removed by
 * its holder; whoever gets the lock of a removed file tries again.
 */
import { closeSync, fstatSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { codeOf, hasCode, messageOf, NodeletError, sleep } from '../../base/index.ts';
import { LOCK } from '../../linux/constants.ts';
import { native } from '../../linux/native.ts';
import { check } from '../../linux/syscall-error.ts';
import { diskFull, isNoRoom } from '../unpack/disk.ts';

const EAGAIN = 11;

/** A lock that is held: an open, locked descriptor. */
export class HeldLock implements Disposable {
  readonly fd: number;
  #open = true;

  constructor(fd: number) {
    this.fd = fd;
  }

  release(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.fd);
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

/** The lock, or undefined where somebody else has it. With `create` the file is made. */
export function tryLock(path: string, create = true): HeldLock | undefined {
  for (;;) {
    let fd: number;
    try {
      // r+ and no truncation: the file may be somebody's partial download
      fd = openSync(path, 'r+');
    } catch (error) {
      if (!hasCode(error, 'ENOENT') || !create) throw error;
      try {
        fd = openSync(path, 'wx+', 0o600);
      } catch (again) {
        if (hasCode(again, 'EEXIST')) continue;
        throw again;
      }
    }
    const result = native().flock(fd, LOCK.EX | LOCK.NB);
    if (result === -EAGAIN) {
      closeSync(fd);
      return undefined;
    }
    const lock = new HeldLock(fd);
    check(result, 'flock', path);
    if (isLinked(path, fd)) return lock;
    lock.release();
  }
}

function isLinked(path: string, fd: number): boolean {
  const mine = fstatSync(fd);
  const named = statSync(path, { throwIfNoEntry: false });
  return named !== undefined && named.ino === mine.ino && named.dev === mine.dev;
}

/** Waits for the lock without holding up the event loop. */
export async function lockFile(path: string, signal?: AbortSignal): Promise<HeldLock> {
  for (let pause = 10; ; pause = Math.min(pause * 1.5, 200)) {
    const lock = tryLock(path);
    if (lock !== undefined) return lock;
    await sleep(pause, signal);
  }
}

/** Holders of the store's lock do a few milliseconds of work and never wait meanwhile. */
const longestHold = 10_000;

/**
 * Runs `work` alone among all processes. Synchronous on purpose: `work` cannot wait for anything, so this process
 * cannot block itself, and another one only for the length of one write.
 */
export function withLock<T>(path: string, work: () => T): T {
  const deadline = Date.now() + longestHold;
  const nap = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    const lock = tryLock(path);
    if (lock !== undefined) {
      try {
        return work();
      } catch (error) {
        if (isNoRoom(codeOf(error)))
          throw diskFull(dirname(path), 'change the image store', messageOf(error), error);
        throw error;
      } finally {
        lock.release();
      }
    }
    if (Date.now() > deadline) {
      throw new NodeletError(
        'STORE_BUSY',
        `cannot lock the image store: "${path}" is held by another process`,
        {
          hint: `find it with: fuser ${path}`,
        },
      );
    }
    Atomics.wait(nap, 0, 0, 2);
  }
}
