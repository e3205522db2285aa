import { setTimeout as sleepTimer } from 'node:timers/promises';
import { abortReason, NodeletError } from './errors.ts';

/** Waits `ms`; rejects with the signal's reason where it fires first. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await sleepTimer(ms, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    if (signal?.aborted) throw abortReason(signal);
    throw error;
  }
}

/** The promise's outcome, or DEADLINE_EXCEEDED naming `what` after `ms`. The work itself is not stopped. */
export async function withDeadline<T>(what: string, ms: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new NodeletError('DEADLINE_EXCEEDED', `${what} took longer than ${ms} ms`));
    }, ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * A signal that fires with the first of its sources, or after `ms` (TimeoutError), until it is disposed: for work that is
 * shorter than its sources live. On Node 20 what `AbortSignal.any` makes is never collected once somebody listened to it
 * and none of its sources has fired (nodejs/node#54614), which is what happens at every probe that succeeds.
 */
export class LinkedSignal implements Disposable {
  readonly #abort = new AbortController();
  readonly #release: (() => void)[] = [];

  constructor(sources: readonly AbortSignal[], ms?: number) {
    for (const source of sources) {
      if (source.aborted) {
        this.#fire(source.reason);
        return;
      }
      const listener = () => this.#fire(source.reason);
      source.addEventListener('abort', listener, { once: true });
      this.#release.push(() => source.removeEventListener('abort', listener));
    }
    if (ms === undefined) return;
    const timer = setTimeout(() => {
      this.#fire(new DOMException('The operation was aborted due to timeout', 'TimeoutError'));
    }, ms);
    this.#release.push(() => clearTimeout(timer));
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Lets go of the sources; the signal does not fire any more. Twice is safe. */
  [Symbol.dispose](): void {
    for (const release of this.#release.splice(0)) release();
  }

  #fire(reason: unknown): void {
    this[Symbol.dispose]();
    this.#abort.abort(reason);
  }
}

/** A promise with its resolve and reject outside. */
export interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

export function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
