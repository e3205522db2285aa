/** A limit on bytes a second for all transfers of the node together. Who asks is served in order. */
import { sleep } from '../../base/index.ts';

export class Bandwidth {
  readonly #rate: number;
  readonly #now: () => number;
  /** When everything that was granted so far will have been used up; milliseconds. */
  #paidUntil = 0;

  /** `bytesPerSecond` must be positive. */
  constructor(bytesPerSecond: number, now: () => number = () => performance.now()) {
    this.#rate = bytesPerSecond;
    this.#now = now;
  }

  /** Waits until these bytes, which have arrived, are within the limit. Half a second may be used at once. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    const now = this.#now();
    this.#paidUntil = Math.max(this.#paidUntil, now - 500) + (bytes / this.#rate) * 1000;
    const wait = this.#paidUntil - now;
    if (wait > 0) await sleep(wait, signal);
  }
}
