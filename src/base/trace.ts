/**
 * Spans of one pod's start, kept as plain data: `nodelet trace` prints them, `-o chrome` writes them as
 * trace events. Times are microseconds on CLOCK_MONOTONIC, the clock that the shim uses too.
 */
export interface Span {
  readonly name: string;
  /** Which room or process did it: agent, image, network, shim, container. */
  readonly category: string;
  readonly start: number;
  readonly duration: number;
  readonly detail?: string;
}

export interface Tracer {
  /** Records what is finished. */
  add(span: Span): void;
  /** Runs `work` and records it as one span, also when it fails. */
  measure<T>(name: string, category: string, work: () => Promise<T>, detail?: string): Promise<T>;
}

/** Microseconds on CLOCK_MONOTONIC. */
export function monotonicMicros(): number {
  return Number(process.hrtime.bigint() / 1000n);
}

export class SpanList implements Tracer {
  readonly spans: Span[] = [];

  add(span: Span): void {
    this.spans.push(span);
  }

  async measure<T>(name: string, category: string, work: () => Promise<T>, detail?: string): Promise<T> {
    const start = monotonicMicros();
    try {
      return await work();
    } finally {
      this.add({
        name,
        category,
        start,
        duration: monotonicMicros() - start,
        ...(detail === undefined ? {} : { detail }),
      });
    }
  }
}

export const noTracer: Tracer = {
  add() {},
  async measure(_name, _category, work) {
    return await work();
  },
};
