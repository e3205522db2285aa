/**
 * One blob from a registry into a file, however often a transfer breaks: it goes on at the byte where it stopped. A
 * large blob comes in pieces over several connections, where the registry knows ranges; a piece that crawls while the
 * others do not is asked for again, of another host where there is one. What was fetched is not checked here; that is
 * the reader's part.
 */
import { abortReason, LinkedSignal, type Log, NodeletError, sleep } from '../../base/index.ts';
import type { Descriptor } from '../documents.ts';
import { formatReference } from '../reference.ts';
import type { Semaphore } from '../semaphore.ts';
import type { Bandwidth } from './bandwidth.ts';
import { type BlobAnswer, type Repository, unreachable } from './client.ts';
import type { Endpoint } from './endpoints.ts';
import { type ChunkPolicy, cut, defaultChunks, isStraggler, type Pace, type Piece } from './pieces.ts';
import { classify, defaultRetry, type Failure, type RetryPolicy, retryDelay } from './retry.ts';
import { type Body, minProgress, Stalled, type Transfer, transfer } from './transfer.ts';

export interface DownloadTarget {
  /** Bytes from the start on without a gap. */
  readonly offset: number;
  /** Bytes that are there. */
  readonly received: number;
  /** What is not there, in order. */
  missing(): readonly (readonly [from: number, to: number])[];
  /** Rejects with a `NodeletError` only: anything else is taken for a failure of the network. */
  write(at: number, chunks: readonly Buffer[]): Promise<void>;
}

export interface DownloadOptions {
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly retry?: RetryPolicy;
  /** Milliseconds in which at least `minProgress` bytes have to arrive. */
  readonly idleTimeout?: number;
  readonly chunks?: ChunkPolicy;
  /** Connections of all downloads beyond the first of each. */
  readonly extraConnections?: Semaphore;
  readonly bandwidth?: Bandwidth;
  /** Hears who sends: once for each host. */
  readonly onSource?: (endpoint: Endpoint) => void;
}

/** Bytes after which the number of tries starts again. */
const resetProgress = 1024 * 1024;
/** How often the pace of the pieces is compared. Milliseconds. */
const paceInterval = 1000;

export async function download(
  repository: Repository,
  blob: Descriptor,
  target: DownloadTarget,
  options: DownloadOptions,
): Promise<void> {
  using work = new Download(repository, blob, target, options);
  await work.run();
}

class Straggler extends Error {}

class Download implements Disposable {
  readonly #repository: Repository;
  readonly #blob: Descriptor;
  readonly #target: DownloadTarget;
  readonly #options: DownloadOptions;
  readonly #chunks: ChunkPolicy;
  readonly #stop = new AbortController();
  readonly #linked: LinkedSignal;
  readonly #queue: Piece[];
  readonly #active = new Map<Transfer, { readonly piece: Piece; readonly abort: AbortController }>();
  /** Of pieces that are done. */
  readonly #paces: Pace[] = [];
  readonly #lanes: Promise<void>[] = [];
  readonly #heard = new Set<Endpoint>();
  readonly #timer: NodeJS.Timeout | undefined;

  constructor(repository: Repository, blob: Descriptor, target: DownloadTarget, options: DownloadOptions) {
    this.#repository = repository;
    this.#blob = blob;
    this.#target = target;
    this.#options = options;
    this.#chunks = options.chunks ?? defaultChunks;
    this.#linked = new LinkedSignal([options.signal, this.#stop.signal]);
    const pieces = this.#isLarge;
    this.#queue = pieces ? cut(target.missing(), this.#chunks.size) : gaps(target);
    this.#timer = pieces ? setInterval(() => this.#compare(), paceInterval) : undefined;
    this.#timer?.unref();
  }

  get #isLarge(): boolean {
    return this.#chunks.connections > 1 && this.#blob.size >= 2 * this.#chunks.size;
  }

  async run(): Promise<void> {
    this.#open();
    let failure: unknown;
    // Lanes open lanes: the list grows while it is waited for.
    for (let i = 0; i < this.#lanes.length; i += 1) {
      try {
        await this.#lanes[i];
      } catch (error) {
        failure ??= error;
        this.#stop.abort(error);
      }
    }
    if (this.#options.signal.aborted) throw abortReason(this.#options.signal);
    if (failure !== undefined) throw failure;
  }

  #open(permit?: () => void): void {
    const lane = this.#lane().finally(() => permit?.());
    // It is waited for in its turn; until then its failure must not count as unhandled, and stops the others at once.
    lane.catch((error: unknown) => this.#stop.abort(error));
    this.#lanes.push(lane);
  }

  /** After the first piece turned out to be one: the other connections. */
  async #widen(): Promise<void> {
    const { extraConnections } = this.#options;
    for (let open = 1; open < this.#chunks.connections && this.#queue.length > 0; open += 1) {
      const permit = await extraConnections?.acquire(this.#linked.signal);
      if (this.#queue.length === 0) permit?.();
      else this.#open(permit);
    }
  }

  /** One connection: piece after piece, each until it is there. */
  async #lane(): Promise<void> {
    let next = 2;
    let pause = 0;
    for (let piece = this.#queue.shift(); piece !== undefined; ) {
      const before = this.#target.received;
      const { rest, failure, cause } = await this.#piece(piece);
      if (rest === undefined) {
        next = 2;
        piece = this.#queue.shift();
        continue;
      }
      piece = rest;
      if (failure === undefined) continue;
      // Tries are counted between two megabytes, or a server that hangs up after every byte would be asked for ever.
      if (this.#target.received - before >= resetProgress) next = 2;
      const delay = retryDelay(failure, next, pause, this.#options.retry ?? defaultRetry);
      if (delay === undefined) throw this.#gaveUp(failure, cause);
      this.#options.log.debug(
        { digest: this.#blob.digest, offset: piece.from, failure, delay },
        'transfer of a blob is continued',
      );
      next += 1;
      pause = delay;
      await sleep(delay, this.#linked.signal);
    }
  }

  /** One transfer. What is left of the piece comes back, and why, where that was not our own choice. */
  async #piece(
    piece: Piece,
  ): Promise<{ rest?: Piece | undefined; failure?: Failure | undefined; cause?: unknown }> {
    const abort = new AbortController();
    using linked = new LinkedSignal([this.#linked.signal, abort.signal]);
    const { bandwidth, idleTimeout } = this.#options;
    let own: Transfer | undefined;
    let ranged = true;
    const rest = (): { rest?: Piece } => {
      const [gap] = gaps(this.#target, ranged ? piece : undefined);
      if (gap === undefined) return {};
      const to = ranged ? piece.to : this.#blob.size;
      return { rest: { from: gap.from, to, attempt: piece.attempt + 1 } };
    };
    try {
      await transfer({
        open: async (signal) => await this.#ask(piece, signal),
        begun: (transferring, isRange) => {
          own = transferring;
          ranged = isRange;
          this.#active.set(transferring, { piece, abort });
          if (!ranged)
            this.#queue.length = 0; // the whole blob comes here
          else if (this.#lanes.length === 1 && this.#isLarge) this.#widen().catch(() => {});
        },
        from: piece.from,
        to: piece.to,
        size: this.#blob.size,
        missing: () => this.#target.missing(),
        write: async (at, chunks) => await this.#target.write(at, chunks),
        tooLong: () => this.#wrongSize(undefined),
        signal: linked.signal,
        idleTimeout: idleTimeout ?? 60_000,
        ...(bandwidth === undefined ? {} : { bandwidth }),
      });
      const pace = own?.pace();
      if (pace !== undefined) this.#paces.push(pace);
      // Some registries give less than the range they were asked for: the rest is asked for at once.
      const failure = (pace?.bytes ?? 0) >= minProgress ? undefined : broken;
      return { ...rest(), failure };
    } catch (error) {
      if (this.#linked.signal.aborted) throw abortReason(this.#linked.signal);
      if (abort.signal.aborted) return rest();
      const failure = error instanceof Stalled ? stalled : classify(error);
      if (failure === undefined || error instanceof NodeletError) throw error;
      return { ...rest(), failure, cause: error };
    } finally {
      if (own !== undefined) this.#active.delete(own);
    }
  }

  async #ask(piece: Piece, signal: AbortSignal): Promise<Body> {
    const { digest, size } = this.#blob;
    const toEnd = piece.to >= size && (!this.#isLarge || piece.attempt > 0);
    const answer: BlobAnswer = await this.#repository.blob(digest, {
      from: piece.from,
      ...(toEnd ? {} : { to: piece.to }),
      attempt: piece.attempt,
      signal,
    });
    const { total, endpoint } = answer;
    if (!this.#heard.has(endpoint)) {
      this.#heard.add(endpoint);
      this.#options.onSource?.(endpoint);
    }
    if (total !== undefined && total !== size) {
      answer.body.on('error', () => {}).destroy();
      throw this.#wrongSize(total);
    }
    return answer;
  }

  /** Breaks off what crawls; its lane goes on with what is left, over a new connection. */
  #compare(): void {
    const running = [...this.#active].map(([own, rest]) => ({ own, pace: own.pace(), ...rest }));
    for (const { own, pace, piece, abort } of running) {
      const others = [
        ...this.#paces.slice(-16),
        ...running.filter((other) => other.own !== own).map((other) => other.pace),
      ];
      const left = piece.to - piece.from - pace.bytes;
      if (!isStraggler(pace, left, piece.attempt, others)) continue;
      this.#options.log.debug(
        { digest: this.#blob.digest, from: piece.from, pace },
        'a slow piece is begun again',
      );
      abort.abort(new Straggler('other pieces are faster'));
    }
  }

  #wrongSize(size: number | undefined): NodeletError {
    const { reference } = this.#repository;
    const what = size === undefined ? 'more bytes' : `${size} bytes`;
    return new NodeletError(
      'SIZE_MISMATCH',
      `cannot fetch blob ${this.#blob.digest} of "${formatReference(reference)}": ` +
        `registry "${reference.domain}" sends ${what}, its manifest says ${this.#blob.size}`,
    );
  }

  #gaveUp(failure: Failure, cause: unknown): NodeletError {
    const { reference } = this.#repository;
    const { received } = this.#target;
    if (received === 0) return unreachable(reference, reference.domain, failure, cause);
    return new NodeletError(
      'DOWNLOAD_INTERRUPTED',
      `cannot fetch blob ${this.#blob.digest} of "${formatReference(reference)}": ` +
        `registry "${reference.domain}" broke off after ${received} of ${this.#blob.size} bytes`,
      {
        cause,
        hint: 'pull again: the bytes that arrived are kept',
        details: { received, size: this.#blob.size },
      },
    );
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#stop.abort(new NodeletError('ABORTED', 'the download ended'));
    this.#linked[Symbol.dispose]();
  }
}

const broken: Failure = { kind: 'network', code: 'EOF', established: true };
const stalled: Failure = { kind: 'timeout', code: 'STALLED' };

/** What is missing, within `bounds`. */
function gaps(target: DownloadTarget, bounds?: Piece): Piece[] {
  return target
    .missing()
    .map(([from, to]) => ({
      from: Math.max(from, bounds?.from ?? 0),
      to: Math.min(to, bounds?.to ?? Number.POSITIVE_INFINITY),
      attempt: 0,
    }))
    .filter(({ from, to }) => from < to);
}
