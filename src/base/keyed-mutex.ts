import { abortReason } from './errors.ts';

/** One lock for each key: work on the same sandbox or layer goes one after another, the rest in parallel. */
export class KeyedMutex<K = string> {
  readonly #tails = new Map<K, Promise<void>>();

  /**
   * Runs `work` alone among all holders of `key`, in the order of the calls. Who waits when `signal` fires leaves at once, with
   * the signal's reason.
   */
  async run<T>(key: K, work: () => Promise<T> | T, signal?: AbortSignal): Promise<T> {
    const before = this.#tails.get(key);
    let release!: () => void;
    const mine = new Promise<void>((resolve) => {
      release = resolve;
    });
    const tail = before === undefined ? mine : before.then(() => mine);
    this.#tails.set(key, tail);
    try {
      if (before !== undefined) await unlessAborted(before, signal);
      if (signal?.aborted) throw abortReason(signal);
      return await work();
    } finally {
      release();
      // Who left early was not the last before the next: that one still waits for those before.
      void tail.then(() => {
        if (this.#tails.get(key) === tail) this.#tails.delete(key);
      });
    }
  }

  /** True while somebody holds or waits for `key`. */
  isBusy(key: K): boolean {
    return this.#tails.has(key);
  }
}

async function unlessAborted(turn: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) {
    await turn;
    return;
  }
  if (signal.aborted) return;
  let leave = (): void => {};
  const left = new Promise<void>((resolve) => {
    leave = resolve;
  });
  signal.addEventListener('abort', leave, { once: true });
  try {
    await Promise.race([turn, left]);
  } finally {
    signal.removeEventListener('abort', leave);
  }
}
