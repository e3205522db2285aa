/** Progress of pulls for programs: the events, each with its image, not more often than anybody reads. Pure. */
import type { PullEvent } from '../../image/index.ts';

/** Milliseconds between two lines about the same layer in the same phase. */
const interval = 100;

export type PullEventLine = PullEvent & { readonly image: string };

export class PullEventLines {
  readonly #now: () => number;
  readonly #told = new Map<string, { readonly phase: string; readonly at: number }>();

  constructor(now: () => number) {
    this.#now = now;
  }

  /** The lines that an event becomes: one, or none where another said as much a moment ago. */
  apply(image: string, event: PullEvent): PullEventLine[] {
    if (event.kind !== 'layer') return [{ image, ...event }];
    const key = `${image}\n${event.digest}`;
    const before = this.#told.get(key);
    const now = this.#now();
    const moving = event.phase === 'downloading' || event.phase === 'unpacking';
    if (moving && before !== undefined && now - before.at < interval && event.current < event.total)
      return [];
    this.#told.set(key, { phase: event.phase, at: now });
    return [{ image, ...event }];
  }
}
