/**
 * Reads the whole store and says what is wrong with it: `nodelet image verify`. Each finding names what it is about, what it
 * means for whom, and, where it can be mended with what is here, mends it: a layer from its blob, names from documents, and
 * what cannot be used is taken away, so that the next pull brings it.
 */
import { lstatSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { hasCode, messageOf } from '../base/index.ts';
import { isContentDigest } from './digest.ts';
import type { LayerParts, LayerStore } from './layers.ts';
import { MEDIA } from './media-types.ts';
import type { SnapshotStore } from './snapshots.ts';
import type { BlobSource, BlobStore } from './store/blobs.ts';
import { entryManifest, entryName, type IndexEntry, type IndexFile } from './store/index-file.ts';
import { Lease } from './store/leases.ts';
import type { StorePaths } from './store/paths.ts';
import { type ImageContent, type Records, readContent } from './store/records.ts';
import type { WorkerPool } from './unpack/pool.ts';

export type ProblemKind =
  | 'index-damaged'
  | 'image-incomplete'
  | 'blob-corrupt'
  | 'blob-missing'
  | 'layer-damaged'
  | 'layer-missing'
  | 'layer-changed'
  | 'stray';

export interface Problem {
  readonly kind: ProblemKind;
  /** A digest, a chainID or a path. */
  readonly subject: string;
  readonly message: string;
  /** Names (or manifest digests) of the images that it is part of. */
  readonly images: readonly string[];
  /** What was done about it; undefined where it stays. */
  readonly mended: string | undefined;
}

export interface VerifyReport {
  readonly images: number;
  readonly blobs: number;
  readonly layers: number;
  /** Of the blobs that were read. */
  readonly bytes: number;
  readonly problems: readonly Problem[];
}

export interface VerifyOptions {
  readonly mend?: boolean;
  /** Every layer is unpacked once more and compared, file by file. */
  readonly deep?: boolean;
  readonly signal?: AbortSignal;
}

export interface VerifyParts {
  readonly paths: StorePaths;
  readonly blobs: BlobStore;
  readonly index: IndexFile;
  readonly records: Records;
  readonly layers: LayerStore;
  readonly snapshots: SnapshotStore;
  readonly pool: WorkerPool;
}

export async function verifyStore(parts: VerifyParts, options: VerifyOptions = {}): Promise<VerifyReport> {
  using lease = new Lease(parts.paths);
  return await new Verification(parts, lease, options).run();
}

const HEX = /^[0-9a-f]{64}$/;

/** One image of the index that can be looked into. */
interface Known {
  readonly name: string;
  readonly content: ImageContent;
}

class Verification {
  readonly #parts: VerifyParts;
  readonly #lease: Lease;
  readonly #mend: boolean;
  readonly #deep: boolean;
  readonly #signal: AbortSignal;
  readonly #problems: Problem[] = [];
  #blobs = 0;
  #bytes = 0;
  #layers = 0;

  constructor(parts: VerifyParts, lease: Lease, options: VerifyOptions) {
    this.#parts = parts;
    this.#lease = lease;
    this.#mend = options.mend === true;
    this.#deep = options.deep === true;
    this.#signal = options.signal ?? new AbortController().signal;
  }

  async run(): Promise<VerifyReport> {
    this.#strays();
    // Blobs first: what they say about images counts only where they are whole.
    const corrupt = await this.#readBlobs();
    const images = this.#readIndex();
    for (const [digest, mended] of corrupt) {
      const holders = images.filter(({ content }) => digestsOf(content).includes(digest));
      this.#found('blob-corrupt', digest, 'its content has another digest', holders, mended);
    }
    for (const image of images) this.#missingBlobs(image);
    await this.#readLayers(images);
    this.#parts.records.forget();
    const { blobs, bytes, layers } = this.#counts();
    return { images: images.length, blobs, layers, bytes, problems: this.#problems };
  }

  #counts(): { readonly blobs: number; readonly bytes: number; readonly layers: number } {
    return { blobs: this.#blobs, bytes: this.#bytes, layers: this.#layers };
  }

  #found(
    kind: ProblemKind,
    subject: string,
    message: string,
    images: readonly Known[],
    mended: string | undefined,
  ): void {
    const names = [...new Set(images.map(({ name }) => name))];
    this.#problems.push({ kind, subject, message, images: names, mended });
  }

  /** Names in our own directories that nothing of ours has. */
  #strays(): void {
    const { paths } = this.#parts;
    for (const folder of [paths.blobs, paths.layers]) {
      for (const name of readdirSync(folder)) {
        if (HEX.test(name)) continue;
        const path = join(folder, name);
        let mended: string | undefined;
        if (this.#mend) {
          renameSync(path, join(paths.fresh, this.#lease.nextName()));
          mended = 'removed';
        }
        this.#found('stray', path, 'nothing of the store has such a name', [], mended);
      }
    }
  }

  async #readBlobs(): Promise<ReadonlyMap<string, string | undefined>> {
    const { paths, blobs } = this.#parts;
    const corrupt = new Map<string, string | undefined>();
    for (const hex of readdirSync(paths.blobs).filter((name) => HEX.test(name))) {
      const digest = `sha256:${hex}`;
      const stat = lstatSync(paths.blob(digest), { throwIfNoEntry: false });
      if (stat === undefined) continue; // removed meanwhile
      this.#blobs += 1;
      this.#bytes += stat.size;
      if (stat.isFile() && (await this.#isWhole(digest, stat.size))) continue;
      if (this.#mend) blobs.drop(digest);
      corrupt.set(digest, this.#mend ? 'removed: the next pull brings it again' : undefined);
    }
    return corrupt;
  }

  async #isWhole(digest: string, size: number): Promise<boolean> {
    try {
      await this.#parts.layers.verifyBlob(this.#source(digest, size), this.#signal);
      return true;
    } catch (error) {
      if (hasCode(error, 'DIGEST_MISMATCH', 'SIZE_MISMATCH', 'EIO')) return false;
      if (hasCode(error, 'ENOENT')) return true;
      throw error;
    }
  }

  #source(digest: string, size: number): BlobSource {
    const path = this.#parts.blobs.path(digest);
    return { path, digest, size, available: size, onGrow: (listener) => listener(size) };
  }

  #readIndex(): Known[] {
    const { index, blobs } = this.#parts;
    let entries: readonly IndexEntry[];
    try {
      entries = index.entries();
    } catch (error) {
      if (!hasCode(error, 'STORE_CORRUPT')) throw error;
      entries = this.#mend ? this.#rebuildIndex() : [];
      const mended = this.#mend
        ? `kept as index.json.damaged; ${entries.length} images found again, without their names`
        : undefined;
      this.#found('index-damaged', this.#parts.paths.index, messageOf(error), [], mended);
    }
    const lost: IndexEntry[] = [];
    const known = entries.flatMap((entry) => {
      const name = entryName(entry) ?? entryManifest(entry);
      const content = contentOf(blobs, entryManifest(entry));
      if (content === undefined) lost.push(entry);
      return content === undefined ? [] : [{ name, content }];
    });
    for (const entry of lost) {
      const name = entryName(entry) ?? entryManifest(entry);
      const message = 'its manifest or config is missing or damaged: it cannot be run';
      const mended = this.#mend ? 'its name was removed: pull it again' : undefined;
      this.#found('image-incomplete', name, message, [], mended);
    }
    if (this.#mend && lost.length > 0) {
      const gone = new Set(lost.map((entry) => JSON.stringify(entry)));
      index.update((now) => now.filter((entry) => !gone.has(JSON.stringify(entry))));
    }
    return known;
  }

  /** Every manifest whose config is here, as an entry without a name. */
  #rebuildIndex(): readonly IndexEntry[] {
    const { paths, blobs, index } = this.#parts;
    const entries = readdirSync(paths.blobs)
      .map((hex) => `sha256:${hex}`)
      .filter(isContentDigest)
      .flatMap((digest): IndexEntry[] => {
        const content = contentOf(blobs, digest);
        if (content === undefined) return [];
        const mediaType = content.manifest.mediaType ?? MEDIA.ociManifest;
        return [{ mediaType, digest, size: blobs.size(digest) ?? 0 }];
      });
    renameSync(paths.index, `${paths.index}.damaged`);
    index.update(() => entries);
    return entries;
  }

  #missingBlobs(image: Known): void {
    const { blobs, layers } = this.#parts;
    for (const [i, layer] of image.content.manifest.layers.entries()) {
      if (blobs.has(layer.digest, layer.size)) continue;
      const unpacked = layers.record(image.content.chainIds[i] ?? '');
      if (unpacked?.blobDropped === true || this.#problems.some(({ subject }) => subject === layer.digest))
        continue;
      const message = 'it is not here: the image runs, but cannot be exported; pull it again';
      this.#found('blob-missing', layer.digest, message, [image], undefined);
    }
  }

  /** Layers as the images need them, each once, the lower ones first; then those that nobody needs. */
  async #readLayers(images: readonly Known[]): Promise<void> {
    const { paths, layers } = this.#parts;
    const seen = new Set<string>();
    for (const image of images) {
      const { chainIds } = image.content;
      this.#lease.hold({ chains: chainIds });
      for (const [i, chainId] of chainIds.entries()) {
        if (seen.has(chainId)) continue;
        seen.add(chainId);
        const holders = images.filter(({ content }) => content.chainIds.includes(chainId));
        await this.#layer(image.content, i, holders);
      }
    }
    for (const hex of readdirSync(paths.layers).filter((name) => HEX.test(name))) {
      const chainId = `sha256:${hex}`;
      if (seen.has(chainId)) continue;
      this.#layers += 1;
      const wrong = layerDamage(layers, paths, chainId);
      if (wrong === undefined) continue;
      if (this.#mend) await layers.setAside(chainId, this.#lease);
      this.#found('layer-damaged', chainId, wrong, [], this.#mend ? 'removed' : undefined);
    }
  }

  async #layer(content: ImageContent, i: number, holders: readonly Known[]): Promise<void> {
    const { layers, paths, snapshots } = this.#parts;
    const chainId = content.chainIds[i] ?? '';
    const there = layers.has(chainId);
    if (there) this.#layers += 1;
    const wrong = there ? layerDamage(layers, paths, chainId) : undefined;
    const parts = this.#remaking(content, i);
    const remake = this.#mend && parts !== undefined;
    if (!there || wrong !== undefined) {
      if (there && this.#mend) await layers.setAside(chainId, this.#lease);
      if (remake) await layers.ensure({ ...parts, belowReady: Promise.resolve(), onProgress: () => {} });
      const mended = remake ? 'unpacked again' : undefined;
      const message = wrong ?? 'it is not here: the image cannot be run';
      this.#found(there ? 'layer-damaged' : 'layer-missing', chainId, message, holders, mended);
      return;
    }
    if (!this.#deep || parts === undefined) return;
    const used = snapshots.inUse().chains.includes(chainId);
    const differences = await layers.compare(parts, remake && !used);
    if (differences.length === 0) return;
    const mended = remake && !used ? 'unpacked again' : undefined;
    const hint = used ? ' (containers use it: remove them to have it mended)' : '';
    this.#found('layer-changed', chainId, `${differences.join(', ')}${hint}`, holders, mended);
  }

  /** What it takes to unpack a layer again; undefined where its blob is not here. */
  #remaking(content: ImageContent, i: number): LayerParts | undefined {
    const layer = content.manifest.layers[i];
    const diffId = content.config.rootfs.diff_ids[i];
    if (layer === undefined || diffId === undefined) return undefined;
    if (!this.#parts.blobs.has(layer.digest, layer.size)) return undefined;
    const source = this.#source(layer.digest, layer.size);
    return {
      chainId: content.chainIds[i] ?? '',
      diffId,
      below: content.chainIds.slice(0, i),
      lease: this.#lease,
      signal: this.#signal,
      withBlob: async (work) => await work(source, this.#signal),
    };
  }
}

function digestsOf(content: ImageContent): string[] {
  const { config, layers } = content.manifest;
  return [content.manifestDigest, config.digest, ...layers.map(({ digest }) => digest)];
}

function contentOf(blobs: BlobStore, digest: string): ImageContent | undefined {
  try {
    return readContent(blobs, digest);
  } catch {
    return undefined; // no manifest, or one of something that is no image
  }
}

/** What is wrong with a layer's directory as it lies there. */
function layerDamage(layers: LayerStore, paths: StorePaths, chainId: string): string | undefined {
  const files = lstatSync(paths.layerFiles(chainId), { throwIfNoEntry: false });
  if (files?.isDirectory() !== true) return 'its directory of files is missing';
  try {
    const record = layers.record(chainId);
    if (record === undefined) return 'its layer.json is missing';
    if (record.chainId !== chainId || !isContentDigest(record.diffId))
      return 'its layer.json is of another layer';
  } catch (error) {
    return `its layer.json cannot be read: ${messageOf(error)}`;
  }
  return undefined;
}
