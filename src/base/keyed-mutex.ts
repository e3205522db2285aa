import { abortReason } from './errors.ts';

/** One lock for each key: work on the same sandbox or layer goes one after another, the rest in parallel. */
export class KeyedMutex<K = string> {
  readonly #tails = new Map<K, Promise<void>>();

  /** Runs `work` alone among all holders of `key`, in the order of the calls. */
  async run<T>(key: K, work: () => Promise<T> | T, signal?: AbortSignal): Promise<T> {
    const before = this.#tails.get(key);
    let release!: () => void;
    const mine = new Promise<void>((resolve) => {
      release = resolve;
    });
    const tail = before === undefined ? mine : before.then(() => mine);
    this.#tails.set(key, tail);
    try {
      if (before !== undefined) await before;
      if (signal?.aborted) throw abortReason(signal);
      return await work();
    } finally {
      release();
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }

  /** True while somebody holds or waits for `key`. */
  isBusy(key: K): boolean {
    return this.#tails.has(key);
  }
}
