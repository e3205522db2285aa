/**
 * The image service: names, content, layers and writable snapshots below one root directory. Several processes may
 * have it open at once (the agent, and commands beside it).
 */
import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { describeError, Emitter, hasCode, type Log, NodeletError } from '../base/index.ts';
import { workerFile } from '../linux/package-root.ts';
import { Catalog, type HistoryLine, type ImageDetails, type Removed, type StoreUsage } from './catalog.ts';
import { type Change, diffLayers } from './diff.ts';
import { quote } from './digest.ts';
import { maxDocument } from './documents.ts';
import { LayerStore } from './layers.ts';
import { MEDIA } from './media-types.ts';
import { mountImage } from './mounts.ts';
import type { ImageSummary } from './overview.ts';
import { type Packed, type PackOptions, pack } from './pack/index.ts';
import { machinePlatform, type Platform, parsePlatform } from './platform.ts';
import { type PullContext, pull } from './pull.ts';
import { familiarName, formatReference, parseReference, type Reference } from './reference.ts';
import {
  Bandwidth,
  credentialFile,
  defaultChunks,
  defaultRetry,
  type PushOptions,
  push,
  RegistryClient,
  readCredentials,
} from './registry/index.ts';
import { Semaphore } from './semaphore.ts';
import { SharedWork } from './shared-work.ts';
import { SnapshotStore } from './snapshots.ts';
import { BlobStore } from './store/blobs.ts';
import { IndexFile } from './store/index-file.ts';
import { Lease } from './store/leases.ts';
import { StorePaths } from './store/paths.ts';
import { Records } from './store/records.ts';
import { type ExportFormat, exportImages } from './transfer/export.ts';
import { type Brought, type Imported, type ImportOptions, importImages } from './transfer/import.ts';
import type {
  ImageRecord,
  ImageServiceOptions,
  ImageSource,
  ImageUsers,
  PullAuth,
  PullEvent,
  PullOptions,
  PullProgress,
  Snapshot,
} from './types.ts';
import { defaultLimits } from './unpack/limits.ts';
import { WorkerPool } from './unpack/pool.ts';
import { readUsers } from './users.ts';
import { type VerifyOptions, type VerifyReport, verifyStore } from './verify.ts';

export interface Pushed {
  /** In full, and the digest of what it stands for now. */
  readonly name: string;
  readonly digest: string;
}

function incomplete(image: string, digest: string): NodeletError {
  return new NodeletError(
    'IMAGE_INCOMPLETE',
    `cannot push or export image ${quote(image)}: its blob ${digest} is not kept here`,
    { hint: `bring it back with nodelet image pull ${image}, or import it again` },
  );
}

const maxCachedUsers = 64;
/** Blobs at a time, of the node and of one pull. */
const defaultDownloads = 6;
const defaultDownloadsPerPull = 4;

export class ImageService implements ImageSource {
  readonly #log: Log;
  readonly #paths: StorePaths;
  readonly #blobs: BlobStore;
  readonly #index: IndexFile;
  readonly #pool: WorkerPool;
  readonly #layers: LayerStore;
  readonly #records: Records;
  readonly #snapshots: SnapshotStore;
  readonly #catalog: Catalog;
  readonly #client: RegistryClient;
  readonly #context: PullContext;
  readonly #pulls = new SharedWork<string, PullEvent>((event) => event.kind !== 'layer');
  readonly #users = new Map<string, ImageUsers>();
  /** Hears of every pull, whoever asked for it. */
  readonly progress = new Emitter<PullProgress>();
  readonly #credentialFile: string;
  /** Settles when leftovers of earlier processes are gone from the disk. Never rejects. */
  readonly ready: Promise<void>;

  constructor(options: ImageServiceOptions) {
    this.#log = options.log;
    this.#credentialFile = options.credentialFile ?? credentialFile();
    const limits = { ...defaultLimits, ...options.limits };
    const idle = options.idleTimeout === undefined ? {} : { idleTimeout: options.idleTimeout };
    mkdirSync(options.root, { recursive: true, mode: 0o700 });
    this.#paths = new StorePaths(options.root);
    this.#paths.create();
    this.#pool = new WorkerPool({
      file: () => options.workerFile ?? workerFile('image-worker.js'),
      size: options.workers ?? Math.min(4, Math.max(2, availableParallelism())),
      log: options.log,
    });
    this.#blobs = new BlobStore(this.#paths);
    const index = new IndexFile(this.#paths);
    this.#index = index;
    this.#layers = new LayerStore(this.#paths, this.#pool, limits);
    const hasLayer = (chainId: string): boolean => this.#layers.has(chainId);
    this.#records = new Records(index, this.#blobs, hasLayer);
    this.#snapshots = new SnapshotStore(this.#paths, this.#pool, hasLayer);
    this.#catalog = new Catalog({
      paths: this.#paths,
      index,
      records: this.#records,
      layers: this.#layers,
      snapshots: this.#snapshots,
      pool: this.#pool,
    });
    this.#client = new RegistryClient({
      log: options.log,
      insecureRegistries: options.insecureRegistries ?? [],
      ...(options.hostDirectories === undefined ? {} : { hostDirectories: options.hostDirectories }),
      ...(options.env === undefined ? {} : { env: options.env }),
      mirrorCredentials: async (domain, path) =>
        await readCredentials(this.#credentialFile, { domain, path }),
      ...idle,
    });
    const maxDownloads = options.maxDownloads ?? defaultDownloads;
    const chunks = { ...defaultChunks, ...options.chunks };
    this.#context = {
      paths: this.#paths,
      blobs: this.#blobs,
      layers: this.#layers,
      index,
      downloads: new Semaphore(maxDownloads),
      keepBlobs: options.keepBlobs ?? true,
      pullDownloads: options.maxDownloadsPerPull ?? defaultDownloadsPerPull,
      limits,
      transfer: {
        log: options.log,
        retry: defaultRetry,
        chunks,
        extraConnections: new Semaphore(maxDownloads * Math.max(1, chunks.connections - 1)),
        ...(options.maxBandwidth === undefined ? {} : { bandwidth: new Bandwidth(options.maxBandwidth) }),
        ...idle,
      },
    };
    this.ready = this.#recover();
  }

  /** Start-up is recovery: what dead processes left half made goes. Whole things stay, also those without a name. */
  async #recover(): Promise<void> {
    try {
      await this.#catalog.sweep({ blobs: new Set(), chains: new Set(), partials: false });
    } catch (error) {
      if (hasCode(error, 'ABORTED')) return;
      this.#log.warn({ error: describeError(error) }, 'leftovers in the image store could not be removed');
    }
  }

  /** Ends downloads and threads. What is half made then is collected at the next start. */
  async close(): Promise<void> {
    await this.ready;
    await this.#client.close();
    await this.#pool.close();
  }

  /** The directory of the OCI layout; statfs of it tells how full the disk is. */
  get path(): string {
    return this.#paths.images;
  }

  // --- finding and naming ---

  list(): readonly ImageRecord[] {
    return this.#catalog.list();
  }

  /** See ImageSource. Throws AMBIGUOUS_IMAGE where a short ID fits several. */
  resolve(text: string): ImageRecord | undefined {
    return this.#catalog.resolve(text);
  }

  inspect(text: string): ImageDetails {
    return this.#catalog.inspect(text);
  }

  /** Every image with what it costs on the disk, alone and shared, and who uses it. */
  summaries(): readonly ImageSummary[] {
    return this.#catalog.summaries();
  }

  /** The newest step first. */
  history(text: string): readonly HistoryLine[] {
    return this.#catalog.history(text);
  }

  usage(): StoreUsage {
    return this.#catalog.usage();
  }

  /** Gives an image one more name. */
  tag(source: string, target: string): void {
    this.#catalog.tag(source, target);
  }

  /** A pinned image is not pruned. */
  pin(text: string, pinned: boolean): void {
    this.#catalog.pin(text, pinned);
  }

  /**
   * Removes a name, and the image with its last one; by ID all names. Throws IMAGE_IN_USE where that would take the
   * image of a container, unless `force`: then its layers stay until the container is gone.
   */
  async remove(text: string, options: { readonly force?: boolean } = {}): Promise<Removed> {
    return await this.#catalog.remove(text, options);
  }

  /**
   * Removes images without a tag (with `all` every image) that no container uses and that are not pinned, and
   * everything that belongs to no image.
   */
  async prune(options: { readonly all?: boolean } = {}): Promise<Removed> {
    return await this.#catalog.prune(options);
  }

  /** Reads everything that is here and says what is wrong; see verify.ts. */
  async verify(options: VerifyOptions = {}): Promise<VerifyReport> {
    await this.ready;
    const parts = {
      paths: this.#paths,
      blobs: this.#blobs,
      index: this.#index,
      records: this.#records,
      layers: this.#layers,
      snapshots: this.#snapshots,
      pool: this.#pool,
    };
    return await verifyStore(parts, options);
  }

  /** Mounts the image's files read-only on a directory that exists. Throws IMAGE_NOT_FOUND. */
  mount(text: string, target: string): ImageRecord {
    const record = this.#catalog.require(text);
    const scratch = join(this.#paths.snapshots, 'empty');
    mountImage(record.id, this.#layers.directories(record.chainIds), target, scratch);
    return record;
  }

  /** What the container (its ID, or how that begins) changed in its root. Throws CONTAINER_NOT_FOUND. */
  diff(container: string): readonly Change[] {
    const { snapshot } = this.#snapshots.find(container);
    return diffLayers(snapshot.upper, snapshot.lower);
  }

  // --- getting and giving ---

  /** What the caller gives, else what the credential file has. */
  async #authFor(
    reference: Reference,
    options: Pick<PullOptions, 'auth' | 'anonymous' | 'signal'>,
  ): Promise<PullAuth | undefined> {
    if (options.auth !== undefined || options.anonymous === true) return options.auth;
    return await readCredentials(this.#credentialFile, reference, options.signal);
  }

  /**
   * Pulls an image (or finds that it is here and current). Several that pull the same at once share one pull, which
   * is cancelled when the last of them gives up.
   */
  async pull(text: string, options: PullOptions = {}): Promise<ImageRecord> {
    const reference = parseReference(text);
    const platform = this.#platform(options.platform);
    const auth = await this.#authFor(reference, options);
    const { tlsVerify, certDirectory } = options;
    const how = {
      ...(tlsVerify === undefined ? {} : { tlsVerify }),
      ...(certDirectory === undefined ? {} : { certDirectory }),
    };
    const secret = createHash('sha256')
      .update(JSON.stringify([auth ?? null, how]))
      .digest('hex');
    const key = `${formatReference(reference)} ${JSON.stringify(platform)} ${secret}`;
    const start = async (signal: AbortSignal, emit: (event: PullEvent) => void): Promise<string> => {
      const repository = this.#client.repository(reference, auth, how);
      const tell = (event: PullEvent): void => {
        emit(event);
        this.progress.emit({ reference: formatReference(reference), event });
      };
      return await this.#changing(
        pull(this.#context, { reference, repository, platform, signal, emit: tell }),
      );
    };
    return this.#catalog.require(await this.#pulls.join(key, start, options.onEvent, options.signal));
  }

  #platform(text: string | undefined): Platform {
    return text === undefined ? machinePlatform() : parsePlatform(text);
  }

  /** Work that may bring layers: the list of images that can be run is made anew after it. */
  async #changing<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } finally {
      this.#records.forget();
    }
  }

  /** Imports an OCI layout (directory or tar) or a docker archive (tar); "-" is standard input. */
  async import(
    path: string,
    options: Omit<ImportOptions, 'platform'> & { readonly platform?: string } = {},
  ): Promise<readonly Imported[]> {
    const platform = this.#platform(options.platform);
    const brought: Brought = { blobs: new Set(), chains: new Set() };
    const work = importImages(this.#context, this.#pool, path, { ...options, platform }, brought);
    try {
      return await this.#changing(work);
    } catch (error) {
      if (!hasCode(error, 'ABORTED')) await this.#catalog.sweep({ ...brought, partials: false });
      throw error;
    }
  }

  /** Writes images to a file, a new directory or ("-") standard output. */
  async export(
    names: readonly string[],
    path: string,
    format: ExportFormat = 'oci-archive',
    signal?: AbortSignal,
  ): Promise<void> {
    using lease = new Lease(this.#paths);
    const items = names.map((name) => this.#catalog.exportItem(name));
    for (const item of items) {
      const { content } = item;
      const { manifest, manifestDigest } = content;
      const parts = [manifest.config, ...manifest.layers];
      lease.hold({ blobs: [manifestDigest, ...parts.map(({ digest }) => digest)] });
      const missing = parts.find(({ digest, size }) => !this.#blobs.has(digest, size));
      if (missing !== undefined) throw incomplete(names[items.indexOf(item)] ?? '', missing.digest);
    }
    await exportImages(this.#blobs, items, path, format, signal);
  }

  /**
   * Sends an image to a registry under another name (or its own). Only this machine's platform goes, as one manifest.
   * Throws IMAGE_NOT_FOUND, IMAGE_INCOMPLETE, and what the registry says.
   */
  async push(
    source: string,
    target: string,
    options: Pick<PullOptions, 'auth' | 'anonymous' | 'tlsVerify' | 'certDirectory'> & PushOptions = {},
  ): Promise<Pushed> {
    const reference = parseReference(target);
    if (reference.digest !== undefined) {
      throw new NodeletError(
        'INVALID_REFERENCE',
        `cannot push to ${quote(target)}: name a tag, not a digest`,
      );
    }
    const { content } = this.#catalog.exportItem(source);
    const { manifest, manifestDigest } = content;
    using lease = new Lease(this.#paths);
    lease.hold({
      blobs: [manifestDigest, manifest.config.digest, ...manifest.layers.map((layer) => layer.digest)],
    });
    const bytes = this.#blobs.read(manifestDigest, maxDocument);
    const blobs = [...manifest.layers, manifest.config].map(({ digest, size }) => ({
      digest,
      size,
      path: this.#blobs.path(digest),
    }));
    const missing = blobs.find(({ digest, size }) => !this.#blobs.has(digest, size));
    if (bytes === undefined || missing !== undefined)
      throw incomplete(source, missing?.digest ?? manifestDigest);
    const auth = await this.#authFor(reference, options);
    const { tlsVerify, certDirectory } = options;
    const repository = this.#client.repository(reference, auth, {
      actions: 'pull,push',
      ...(tlsVerify === undefined ? {} : { tlsVerify }),
      ...(certDirectory === undefined ? {} : { certDirectory }),
    });
    const document = { digest: manifestDigest, mediaType: manifest.mediaType ?? MEDIA.ociManifest, bytes };
    await push(repository, blobs, document, reference.tag ?? 'latest', options);
    return { name: formatReference(reference), digest: manifestDigest };
  }

  /** Makes an image from programs of this machine; see pack/index.ts. */
  async pack(name: string, paths: readonly string[], options: PackOptions = {}): Promise<Packed> {
    return await this.#changing(pack(this.#context, name, paths, options));
  }

  // --- for containers ---

  prepare(key: string, image: ImageRecord): Snapshot {
    return this.#snapshots.prepare(key, image);
  }

  async removeSnapshot(key: string): Promise<void> {
    await this.#snapshots.remove(key);
  }

  snapshotKeys(): string[] {
    return this.#snapshots.keys();
  }

  async snapshotUsage(key: string): Promise<{ readonly bytes: number; readonly inodes: number }> {
    return await this.#snapshots.usage(key);
  }

  users(image: ImageRecord): ImageUsers {
    const known = this.#users.get(image.id);
    if (known !== undefined) return known;
    const name = image.repoTags[0] ?? image.repoDigests[0];
    const shown = quote(name === undefined ? image.id : familiarName(name));
    const users = readUsers(this.#layers.directories(image.chainIds), shown);
    if (this.#users.size >= maxCachedUsers) this.#users.delete([...this.#users.keys()][0] ?? '');
    this.#users.set(image.id, users);
    return users;
  }

  async copyOut(image: ImageRecord, path: string, target: string): Promise<void> {
    const layers = this.#layers.directories(image.chainIds);
    if (layers.length > 0) await this.#pool.run('copyOut', { layers, path, target });
  }
}
