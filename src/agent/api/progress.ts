import type { PullProgress } from '../../image/index.ts';

/** Milliseconds between two readings of one layer's progress. */
const INTERVAL = 100;

/** Lets through what tells something new: every change of phase, and ten readings a second of what goes on. */
export class ProgressFilter {
  readonly #last = new Map<string, number>();

  passes({ reference, event }: PullProgress, now: number): boolean {
    if (event.kind === 'done') {
      for (const key of this.#last.keys()) if (key.startsWith(`${reference} `)) this.#last.delete(key);
    }
    if (event.kind !== 'layer') return true;
    const key = `${reference} ${event.digest} ${event.phase}`;
    const last = this.#last.get(key);
    if (last !== undefined && now - last < INTERVAL && event.current < event.total) return false;
    this.#last.set(key, now);
    return true;
  }
}
