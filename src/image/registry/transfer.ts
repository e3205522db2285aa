/**
 * One response's body into the file: gathered into large writes, watched for progress, held to the node's bandwidth.
 * A transfer that crawls is broken off as well, because a few bytes a minute would hold a pull for ever.
 */
import { LinkedSignal, type NodeletError } from '../../base/index.ts';
import type { Bandwidth } from './bandwidth.ts';
import type { HttpResponse } from './http.ts';
import type { Pace } from './pieces.ts';

/** Bytes that count as progress within the idle time. */
export const minProgress = 64 * 1024;
/** Chunks are gathered to this size before they are written: one system call and one thread pool job each. */
const writeSize = 1024 * 1024;

export interface Body {
  /** Where in the blob it begins. */
  readonly start: number;
  readonly ranged: boolean;
  readonly body: HttpResponse['body'];
}

export interface TransferOptions {
  readonly open: (signal: AbortSignal) => Promise<Body>;
  /** Called when the body begins. `ranged`: it is the piece that was asked for, not the whole. */
  readonly begun: (transfer: Transfer, ranged: boolean) => void;
  /** The piece. */
  readonly from: number;
  readonly to: number;
  /** Bytes of the blob. */
  readonly size: number;
  readonly missing: () => readonly (readonly [from: number, to: number])[];
  readonly write: (at: number, chunks: readonly Buffer[]) => Promise<void>;
  /** The error for a body that goes on after its end. */
  readonly tooLong: () => NodeletError;
  readonly signal: AbortSignal;
  /** Milliseconds. */
  readonly idleTimeout: number;
  readonly bandwidth?: Bandwidth;
}

export interface Transfer {
  pace(): Pace;
}

/** Too few bytes within the idle time. */
export class Stalled extends Error {}

/** Rejects with Stalled, the signal's reason, the transport's errors, or what `write` and `open` reject with. */
export async function transfer(options: TransferOptions): Promise<void> {
  const stall = new AbortController();
  using linked = new LinkedSignal([options.signal, stall.signal]);
  const asked = performance.now();
  /** Milliseconds that our own bandwidth limit took, and the wait that goes on. */
  let held = 0;
  let holding = false;
  let body: Body['body'] | undefined;
  let at = 0;
  let start = 0;
  let mark = 0;
  const watch = setInterval(() => {
    if (body !== undefined && !holding && at - mark < minProgress)
      stall.abort(new Stalled(`less than ${minProgress} bytes arrived in time`));
    mark = at;
  }, options.idleTimeout);
  watch.unref();
  try {
    const answer = await options.open(linked.signal);
    ({ body } = answer);
    body.on('error', () => {}); // after a break of ours nobody waits for its error
    start = answer.start;
    at = start;
    mark = start;
    const pace = (): Pace => ({ elapsed: performance.now() - asked - held, bytes: at - start });
    options.begun({ pace }, answer.ranged);
    const writer = new Writer(options.write);
    const end = answer.ranged ? options.to : options.size;
    // A registry without ranges sends everything: what is there already is skipped.
    const wanted = answer.ranged ? [[options.from, options.to] as const] : options.missing();
    try {
      for await (const chunk of body as AsyncIterable<Buffer>) {
        if (at + chunk.length > end) throw options.tooLong();
        for (const [from, to] of wanted) {
          const first = Math.max(from, at);
          const last = Math.min(to, at + chunk.length);
          if (first < last) await writer.add(first, chunk.subarray(first - at, last - at));
        }
        at += chunk.length;
        if (options.bandwidth === undefined) continue;
        const before = performance.now();
        holding = true;
        await options.bandwidth.take(chunk.length, linked.signal);
        holding = false;
        held += performance.now() - before;
      }
    } finally {
      // What arrived before a break is kept: the next transfer goes on after it.
      await writer.end();
    }
  } catch (error) {
    throw stall.signal.aborted && !options.signal.aborted ? stall.signal.reason : error;
  } finally {
    clearInterval(watch);
    body?.destroy();
  }
}

/** Gathers chunks that follow one another; one write is under way while the next is gathered. */
class Writer {
  readonly #write: TransferOptions['write'];
  #waiting: Buffer[] = [];
  #size = 0;
  #from = 0;
  #writing: Promise<void> | undefined;

  constructor(write: TransferOptions['write']) {
    this.#write = write;
  }

  async add(at: number, chunk: Buffer): Promise<void> {
    if (this.#size > 0 && at !== this.#from + this.#size) await this.#flush();
    if (this.#size === 0) this.#from = at;
    this.#waiting.push(chunk);
    this.#size += chunk.length;
    if (this.#size >= writeSize) await this.#flush();
  }

  async end(): Promise<void> {
    await this.#flush();
    await this.#writing;
  }

  async #flush(): Promise<void> {
    await this.#writing;
    const chunks = this.#waiting;
    this.#waiting = [];
    const size = this.#size;
    this.#size = 0;
    this.#writing = size === 0 ? undefined : this.#write(this.#from, chunks);
    // Errors are taken by the next flush; until then they must not count as unhandled.
    this.#writing?.catch(() => {});
  }
}
