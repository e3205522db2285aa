/**
 * Layer directories by chainID: made once however many ask, in this process and in others, side by side with the
 * layers below them, and visible only when complete, checked, and on the disk.
 */
import { mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { failpoint, hasCode, KeyedMutex, readJsonIfExists } from '../base/index.ts';
import { hexOf } from './digest.ts';
import type { BlobSource } from './store/blobs.ts';
import type { Lease } from './store/leases.ts';
import { lockFile } from './store/lock.ts';
import type { StorePaths } from './store/paths.ts';
import type { LayerJob, LayerResult } from './unpack/layer-job.ts';
import type { Limits } from './unpack/limits.ts';
import type { WorkerPool } from './unpack/pool.ts';

/** layer.json. */
export interface LayerRecord {
  readonly chainId: string;
  readonly diffId: string;
  /** Bytes of the uncompressed tar. */
  readonly tarBytes: number;
  /** Entries of the tar, and bytes of its files. */
  readonly entries: number;
  readonly bytes: number;
  /** True where the compressed blob was not kept: that it is missing is no damage. */
  readonly blobDropped?: boolean;
}

/** What makes a layer, without who asks and why. */
export type LayerParts = Pick<LayerRequest, 'chainId' | 'diffId' | 'below' | 'lease' | 'signal' | 'withBlob'>;

export interface LayerRequest {
  readonly chainId: string;
  readonly diffId: string;
  /** chainIDs below, bottom first. */
  readonly below: readonly string[];
  /** Settles when the layer right below is visible; rejects when it never will be. */
  readonly belowReady: Promise<unknown>;
  readonly lease: Lease;
  readonly signal: AbortSignal;
  readonly onProgress: (read: number) => void;
  /** The blob goes when the layer is there. */
  readonly dropBlob?: boolean;
  /** Runs `work` with the layer's blob, which may still be arriving (see BlobStore.use). */
  readonly withBlob: <T>(work: (source: BlobSource, signal: AbortSignal) => Promise<T>) => Promise<T>;
}

export class LayerStore {
  readonly #paths: StorePaths;
  readonly #pool: WorkerPool;
  readonly #limits: Limits;
  readonly #mutex = new KeyedMutex();

  constructor(paths: StorePaths, pool: WorkerPool, limits: Limits) {
    this.#paths = paths;
    this.#pool = pool;
    this.#limits = limits;
  }

  has(chainId: string): boolean {
    return statSync(this.#paths.layer(chainId), { throwIfNoEntry: false }) !== undefined;
  }

  /** Directories for overlayfs, the topmost first. */
  directories(chainIds: readonly string[]): string[] {
    return chainIds.map((chainId) => this.#paths.layerFiles(chainId)).reverse();
  }

  record(chainId: string): LayerRecord | undefined {
    return readJsonIfExists(join(this.#paths.layer(chainId), 'layer.json')) as LayerRecord | undefined;
  }

  /** Makes the layer where it is missing. The lease already names it. Returns false where it was there. */
  async ensure(request: LayerRequest): Promise<boolean> {
    const { chainId, signal } = request;
    if (this.has(chainId)) return false;
    return await this.#mutex.run(
      chainId,
      async () => {
        if (this.has(chainId)) return false;
        const path = join(this.#paths.fresh, `${hexOf(chainId)}.lock`);
        using _lock = await lockFile(path, signal);
        try {
          if (this.has(chainId)) return false;
          await this.#make(request);
          return true;
        } finally {
          rmSync(path, { force: true });
        }
      },
      signal,
    );
  }

  async #make(request: LayerRequest): Promise<void> {
    const directory = join(this.#paths.fresh, request.lease.nextName());
    await this.#orRemove(directory, async () => {
      const record = await this.#build(request, directory);
      failpoint('layer:before-commit');
      const target = this.#paths.layer(request.chainId);
      await this.#pool.run('commit', { directory, target, record }, { signal: request.signal });
    });
  }

  /** Makes `directory` for `work`, and takes it away again where that fails. */
  async #orRemove<T>(directory: string, work: () => Promise<T>): Promise<T> {
    mkdirSync(directory, { mode: 0o700 });
    try {
      return await work();
    } catch (error) {
      await this.#pool.run('remove', { paths: [directory] }).catch((left: unknown) => {
        // The collector takes it at the next start; a service that is being closed has no threads any more.
        if (!hasCode(left, 'ABORTED')) throw left;
      });
      throw error;
    }
  }

  /** Unpacks the layer into `directory`, which is new, and adapts it to those below. */
  async #build(request: LayerRequest, directory: string): Promise<LayerRecord> {
    const { below, signal } = request;
    const lower = this.directories(below);
    let result = await request.withBlob((source, own) =>
      this.#unpack(request, directory, source, own, undefined),
    );
    await request.belowReady;
    const settled = !result.needsLower && (await this.#settle(directory, lower, result, signal));
    if (!settled) {
      result = await request.withBlob((source, own) => this.#unpack(request, directory, source, own, lower));
      await this.#settle(directory, lower, result, signal);
    }
    return {
      chainId: request.chainId,
      diffId: request.diffId,
      tarBytes: result.tarBytes,
      entries: result.summary?.entries ?? 0,
      bytes: result.summary?.bytes ?? 0,
      ...(request.dropBlob === true ? { blobDropped: true } : {}),
    };
  }

  /**
   * Unpacks the layer once more, beside the one that is there, and says what differs. With `mend` the new one takes the
   * place of one that differs.
   */
  async compare(parts: LayerParts, mend: boolean): Promise<readonly string[]> {
    const { chainId, lease, signal } = parts;
    const directory = join(this.#paths.fresh, lease.nextName());
    return await this.#orRemove(directory, async () => {
      const request = { ...parts, belowReady: Promise.resolve(), onProgress: () => {} };
      const record = await this.#build(request, directory);
      const trees = { one: this.#paths.layerFiles(chainId), other: join(directory, 'fs') };
      const differences = await this.#pool.run('compare', trees, { signal });
      if (mend && differences.length > 0) {
        await this.setAside(chainId, lease);
        const target = this.#paths.layer(chainId);
        await this.#pool.run('commit', { directory, target, record }, { signal });
      } else {
        await this.#pool.run('remove', { paths: [directory] });
      }
      return differences;
    });
  }

  /** Takes a layer out of sight, and then away. */
  async setAside(chainId: string, lease: Lease): Promise<void> {
    const trash = join(this.#paths.fresh, lease.nextName());
    renameSync(this.#paths.layer(chainId), trash);
    await this.#pool.run('remove', { paths: [trash] });
  }

  async #settle(
    directory: string,
    lower: readonly string[],
    { summary }: LayerResult,
    signal: AbortSignal,
  ): Promise<boolean> {
    if (summary === undefined) return false;
    return await this.#pool.run('settle', { directory, lower, summary }, { signal });
  }

  async #unpack(
    request: LayerRequest,
    directory: string,
    source: BlobSource,
    signal: AbortSignal,
    lower: readonly string[] | undefined,
  ): Promise<LayerResult> {
    const unpack: LayerJob['unpack'] = {
      directory,
      diffId: request.diffId,
      limits: this.#limits,
      lowest: request.below.length === 0,
      ...(lower === undefined ? {} : { lower }),
    };
    const job: LayerJob = { blob: source.path, digest: source.digest, size: source.size, unpack };
    const running = this.#pool.start('layer', job, { signal, onProgress: request.onProgress });
    source.onGrow((available) => running.grow(available));
    return await running.result;
  }

  /** Reads a blob through and checks its digest, unpacking nothing. */
  async verifyBlob(source: BlobSource, signal: AbortSignal): Promise<void> {
    const running = this.#pool.start(
      'layer',
      { blob: source.path, digest: source.digest, size: source.size },
      { signal },
    );
    source.onGrow((available) => running.grow(available));
    await running.result;
  }
}
