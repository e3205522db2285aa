/**
 * Blobs by digest. A blob becomes visible by a rename when its bytes have been checked and are on the disk; until then
 * it is a partial file that a broken pull leaves behind for the next one.
 */
import { readFileSync, rmSync, statSync } from 'node:fs';
import { open, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf, failpoint, hasCode, KeyedMutex, LinkedSignal, messageOf } from '../../base/index.ts';
import { sha256 } from '../digest.ts';
import type { Lease } from './leases.ts';
import { lockFile } from './lock.ts';
import { type BlobSource, type BlobTarget, Partial, writeError } from './partial.ts';
import type { StorePaths } from './paths.ts';

export type { BlobSource, BlobTarget } from './partial.ts';

export interface UseOptions<T> {
  readonly digest: string;
  readonly size: number;
  readonly signal: AbortSignal;
  /** Brings the bytes that `target` is missing. */
  readonly download: (target: BlobTarget, signal: AbortSignal) => Promise<void>;
  /** Works on the blob while it arrives and checks its digest (throws DIGEST_MISMATCH). */
  readonly work: (source: BlobSource, signal: AbortSignal) => Promise<T>;
}

export class BlobStore {
  readonly #paths: StorePaths;
  readonly #mutex = new KeyedMutex();

  constructor(paths: StorePaths) {
    this.#paths = paths;
  }

  path(digest: string): string {
    return this.#paths.blob(digest);
  }

  /** Bytes of the blob, or undefined where it is not (completely) here. */
  size(digest: string): number | undefined {
    return statSync(this.#paths.blob(digest), { throwIfNoEntry: false })?.size;
  }

  has(digest: string, size?: number): boolean {
    const found = this.size(digest);
    return found !== undefined && (size === undefined || found === size);
  }

  /** A small blob, checked. Undefined where it is absent, too large or damaged: then it has to be fetched again. */
  read(digest: string, limit: number): Buffer | undefined {
    const size = this.size(digest);
    if (size === undefined || size > limit) return undefined;
    const bytes = readFileSync(this.#paths.blob(digest));
    return sha256(bytes) === digest ? bytes : undefined;
  }

  /** Stores bytes that are in memory. Returns their digest. */
  async put(bytes: Uint8Array, lease: Lease): Promise<string> {
    const digest = sha256(bytes);
    lease.hold({ blobs: [digest] });
    if (this.read(digest, bytes.length) !== undefined) return digest;
    const temporary = join(this.#paths.ingest, lease.nextName());
    try {
      await writeFile(temporary, bytes, { flag: 'wx', mode: 0o600 });
      await this.adopt(temporary, digest);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw writeError(this.#paths.ingest, error);
    }
    return digest;
  }

  /** Takes a complete file on the same file system, whose bytes are known to have this digest. */
  async adopt(path: string, digest: string): Promise<void> {
    await sync(path);
    await this.#publish(path, digest);
  }

  async #publish(path: string, digest: string): Promise<void> {
    failpoint('blob:before-rename');
    await rename(path, this.#paths.blob(digest));
    await sync(this.#paths.blobs);
    failpoint('blob:after-rename');
  }

  /** Removes a blob, or what there is of it. */
  drop(digest: string): void {
    rmSync(this.#paths.blob(digest), { force: true });
    rmSync(this.#paths.partial(digest), { force: true });
  }

  /**
   * Runs `work` on the blob, which is downloaded meanwhile where it is not here. Of several that ask for the same
   * blob, in this process or another, one downloads. Data that turns out wrong is thrown away; where some of it was
   * here before this call, it is fetched once more from the start.
   */
  async use<T>(options: UseOptions<T>): Promise<T> {
    return await this.#mutex.run(options.digest, async () => await this.#use(options), options.signal);
  }

  async #use<T>(options: UseOptions<T>): Promise<T> {
    try {
      return await this.#attempt(options);
    } catch (error) {
      if (!(error instanceof StaleData)) throw error;
    }
    try {
      return await this.#attempt(options);
    } catch (error) {
      throw error instanceof StaleData ? error.original : error;
    }
  }

  async #attempt<T>(options: UseOptions<T>): Promise<T> {
    const { digest, size } = options;
    if (this.has(digest, size)) return await this.#useComplete(options);
    using _lock = await lockFile(this.#paths.partial(digest), options.signal);
    if (this.has(digest, size)) {
      rmSync(this.#paths.partial(digest), { force: true });
      return await this.#useComplete(options);
    }
    const partial = await Partial.open(this.#paths.partial(digest), digest, size);
    const resumed = partial.received > 0;
    try {
      const result = await this.#together(partial, options);
      await partial.finish();
      await this.#publish(partial.path, digest);
      return result;
    } catch (error) {
      // Bytes that were found wrong are worth nothing to the next pull, and on a full disk they are in the way.
      if (partial.received === 0 || /^(LAYER|DIGEST|SIZE|DIFF_ID)_|^DISK_FULL$/.test(codeOf(error) ?? '')) {
        rmSync(partial.path, { force: true });
      }
      throw resumed && hasCode(error, 'DIGEST_MISMATCH') ? new StaleData(error) : error;
    } finally {
      await partial.close();
    }
  }

  async #useComplete<T>(options: UseOptions<T>): Promise<T> {
    const { digest, size, signal } = options;
    const path = this.#paths.blob(digest);
    const source: BlobSource = { path, digest, size, available: size, onGrow: (listener) => listener(size) };
    try {
      return await options.work(source, signal);
    } catch (error) {
      if (!hasCode(error, 'DIGEST_MISMATCH')) throw error;
      // Damaged on our own disk: heal it.
      rmSync(path, { force: true });
      throw new StaleData(error);
    }
  }

  /** Download and work side by side; the first that fails stops the other, and its error is the one that counts. */
  async #together<T>(partial: Partial, options: UseOptions<T>): Promise<T> {
    const stop = new AbortController();
    using linked = new LinkedSignal([options.signal, stop.signal]);
    const { signal } = linked;
    let first: unknown;
    const guard = async <R>(part: Promise<R>): Promise<R | undefined> => {
      try {
        return await part;
      } catch (error) {
        first ??= error;
        stop.abort(error);
        return undefined;
      }
    };
    const [result] = await Promise.all([
      guard(options.work(partial, signal)),
      guard(options.download(partial, signal)),
    ]);
    if (first !== undefined) throw first;
    return result as T;
  }
}

/** Wrong data that this call found here and did not bring: another try, from the start, can succeed. */
class StaleData extends Error {
  readonly original: unknown;

  constructor(original: unknown) {
    super(messageOf(original));
    this.original = original;
  }
}

async function sync(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
