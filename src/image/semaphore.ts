/** A number of places; who waits is served in order, and may give up. */
import { abortReason } from '../base/index.ts';

interface Waiter {
  readonly take: () => void;
}

export class Semaphore {
  #free: number;
  #waiting: Waiter[] = [];

  constructor(places: number) {
    this.#free = places;
  }

  /** Takes a place; the function returned gives it back, once. */
  async acquire(signal?: AbortSignal): Promise<() => void> {
    if (signal?.aborted) throw abortReason(signal);
    if (this.#free > 0) {
      this.#free -= 1;
    } else {
      await new Promise<void>((resolve, reject) => {
        const abort = (): void => {
          this.#waiting = this.#waiting.filter((other) => other !== waiter);
          if (signal !== undefined) reject(abortReason(signal));
        };
        const waiter: Waiter = {
          take: () => {
            signal?.removeEventListener('abort', abort);
            resolve();
          },
        };
        this.#waiting.push(waiter);
        signal?.addEventListener('abort', abort, { once: true });
      });
    }
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next.take();
    };
  }
}
