/**
 * One blob from a registry into a file, however often the transfer breaks: it goes on at the byte where it stopped.
 * A transfer that crawls is broken off as well, because a few bytes a minute would hold a pull for ever. What was
 * fetched is not checked here; that is the reader's part.
 */
import { abortReason, LinkedSignal, type Log, NodeletError, sleep } from '../../base/index.ts';
import type { Descriptor } from '../documents.ts';
import { formatReference } from '../reference.ts';
import { type Repository, unreachable } from './client.ts';
import { classify, defaultRetry, type Failure, type RetryPolicy, retryDelay } from './retry.ts';

export interface DownloadTarget {
  /** Bytes that are there already; moves on with every write. */
  readonly offset: number;
  /** Rejects with a `NodeletError` only: anything else is taken for a failure of the network. */
  write(chunks: readonly Buffer[]): Promise<void>;
}

export interface DownloadOptions {
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly retry?: RetryPolicy;
  /** Milliseconds in which at least `minProgress` bytes have to arrive. */
  readonly idleTimeout?: number;
}

/** Bytes that count as progress: within the idle time, and for the number of tries to start again. */
const minProgress = 64 * 1024;
const resetProgress = 1024 * 1024;
/** Chunks are gathered to this size before they are written: one system call and one thread pool job each. */
const writeSize = 1024 * 1024;

export async function download(
  repository: Repository,
  blob: Descriptor,
  target: DownloadTarget,
  options: DownloadOptions,
): Promise<void> {
  const retry = options.retry ?? defaultRetry;
  let next = 2;
  let pause = 0;
  while (target.offset < blob.size) {
    const before = target.offset;
    let failure: Failure | undefined;
    let cause: unknown;
    try {
      await transfer(repository, blob, target, options);
      if (target.offset >= blob.size) return;
      failure = { kind: 'network', code: 'EOF', established: true };
    } catch (error) {
      if (options.signal.aborted) throw abortReason(options.signal);
      failure = error instanceof Stalled ? { kind: 'timeout', code: 'STALLED' } : classify(error);
      if (failure === undefined || error instanceof NodeletError) throw error;
      cause = error;
    }
    // Tries are counted between two megabytes, or a server that hangs up after every byte would be asked for ever.
    if (target.offset - before >= resetProgress) next = 2;
    const delay = retryDelay(failure, next, pause, retry);
    if (delay === undefined) throw gaveUp(repository, blob, target.offset, failure, cause);
    options.log.debug(
      { digest: blob.digest, offset: target.offset, failure, delay },
      'transfer of a blob is continued',
    );
    next += 1;
    pause = delay;
    await sleep(delay, options.signal);
  }
}

class Stalled extends Error {}

async function transfer(
  repository: Repository,
  blob: Descriptor,
  target: DownloadTarget,
  options: DownloadOptions,
): Promise<void> {
  const stall = new AbortController();
  using linked = new LinkedSignal([options.signal, stall.signal]);
  const { signal } = linked;
  const answer = await repository.blob(blob.digest, target.offset, signal);
  const { body } = answer;
  body.on('error', () => {}); // after a break of ours nobody waits for its error
  let at = answer.start;
  let mark = at;
  // A registry without ranges starts again at 0: what is there already is skipped.
  let skip = target.offset - answer.start;
  const watch = setInterval(() => {
    if (at - mark < minProgress) stall.abort(new Stalled(`less than ${minProgress} bytes arrived in time`));
    mark = at;
  }, options.idleTimeout ?? 60_000);
  watch.unref();
  try {
    if (answer.total !== undefined && answer.total !== blob.size)
      throw wrongSize(repository, blob, answer.total);
    let waiting: Buffer[] = [];
    let size = 0;
    let writing: Promise<void> | undefined;
    const flush = async (): Promise<void> => {
      await writing;
      const chunks = waiting;
      waiting = [];
      size = 0;
      writing = chunks.length === 0 ? undefined : target.write(chunks);
      // Errors are taken by the next flush; until then they must not count as unhandled.
      writing?.catch(() => {});
    };
    try {
      for await (let chunk of body as AsyncIterable<Buffer>) {
        if (at + chunk.length > blob.size) throw wrongSize(repository, blob, undefined);
        at += chunk.length;
        const known = Math.min(skip, chunk.length);
        skip -= known;
        chunk = chunk.subarray(known);
        if (chunk.length === 0) continue;
        waiting.push(chunk);
        size += chunk.length;
        if (size >= writeSize) await flush();
      }
    } finally {
      // What arrived before a break is kept: the next transfer goes on after it.
      await flush();
      await writing;
    }
  } catch (error) {
    throw stall.signal.aborted && !options.signal.aborted ? stall.signal.reason : error;
  } finally {
    clearInterval(watch);
    body.destroy();
  }
}

function wrongSize(repository: Repository, blob: Descriptor, size: number | undefined): NodeletError {
  const what = size === undefined ? 'more bytes' : `${size} bytes`;
  return new NodeletError(
    'SIZE_MISMATCH',
    `cannot fetch blob ${blob.digest} of "${formatReference(repository.reference)}": ` +
      `registry "${repository.reference.domain}" sends ${what}, its manifest says ${blob.size}`,
  );
}

function gaveUp(
  repository: Repository,
  blob: Descriptor,
  got: number,
  failure: Failure,
  cause: unknown,
): NodeletError {
  if (got === 0) return unreachable(repository.reference, failure, cause);
  return new NodeletError(
    'DOWNLOAD_INTERRUPTED',
    `cannot fetch blob ${blob.digest} of "${formatReference(repository.reference)}": ` +
      `registry "${repository.reference.domain}" broke off after ${got} of ${blob.size} bytes`,
    {
      cause,
      hint: 'pull again: the bytes that arrived are kept',
      details: { received: got, size: blob.size },
    },
  );
}
