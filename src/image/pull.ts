/**
 * One pull: name → document → platform → layers side by side → index entry, in this order, so that an image that has
 * a name can be run. What goes wrong leaves partial downloads behind and nothing else.
 */
import { failpoint, hasCode, LinkedSignal, NodeletError, toError } from '../base/index.ts';
import { chainIds, quote, sha256 } from './digest.ts';
import {
  type Descriptor,
  type ImageDocument,
  type ImageManifest,
  maxConfig,
  maxDocument,
  parseConfig,
  parseDocument,
} from './documents.ts';
import type { LayerStore } from './layers.ts';
import { choosePlatform, formatPlatform, type Platform } from './platform.ts';
import { formatReference, type Reference, storedName } from './reference.ts';
import type { DownloadOptions } from './registry/download.ts';
import { download, type Endpoint, type Repository } from './registry/index.ts';
import { Semaphore } from './semaphore.ts';
import type { BlobStore, BlobTarget } from './store/blobs.ts';
import { ANNOTATION, entryName, type IndexEntry, type IndexFile } from './store/index-file.ts';
import { Lease } from './store/leases.ts';
import type { StorePaths } from './store/paths.ts';
import type { ImageConfig, PullEvent } from './types.ts';
import { requireRoom } from './unpack/disk.ts';
import type { Limits } from './unpack/limits.ts';

export interface PullContext {
  readonly paths: StorePaths;
  readonly blobs: BlobStore;
  readonly layers: LayerStore;
  readonly index: IndexFile;
  /** Downloads at a time, of all pulls together. */
  readonly downloads: Semaphore;
  /** False: the compressed layers of an image are removed when it is unpacked. */
  readonly keepBlobs: boolean;
  /** The same for one pull: a single large image leaves the others something. */
  readonly pullDownloads: number;
  readonly limits: Limits;
  readonly transfer: Omit<DownloadOptions, 'signal'>;
}

export interface PullRequest {
  readonly reference: Reference;
  readonly repository: Repository;
  readonly platform: Platform;
  readonly signal: AbortSignal;
  readonly emit: (event: PullEvent) => void;
}

/** Indexes within indexes. */
const maxNesting = 3;

/** What a name stands for: the document that the registry has under it, and the manifest chosen from it. */
interface Resolved {
  readonly top: Descriptor;
  readonly manifestDigest: string;
  readonly manifest: ImageManifest;
  readonly config: ImageConfig;
}

/** Pulls and returns the image ID. */
export async function pull(context: PullContext, request: PullRequest): Promise<string> {
  const { reference, emit } = request;
  using lease = new Lease(context.paths);
  emit({ kind: 'resolving', reference: formatReference(reference) });
  const resolved = await resolve(context, request, lease);
  const { manifest, config } = resolved;
  emit({
    kind: 'manifest',
    digest: resolved.manifestDigest,
    platform: formatPlatform(config),
    layers: manifest.layers.map(({ digest, size }) => ({ digest, size })),
  });
  await fetchLayers(context, request, manifest, config, lease);
  record(context.index, request.reference, resolved);
  // Killed before this, the blobs stay as long as the image: room, and nothing else.
  if (!context.keepBlobs) dropBlobs(context, manifest, config);
  const id = manifest.config.digest;
  emit({ kind: 'done', id, reference: storedName(reference) });
  return id;
}

/** Not those of layers that were unpacked for an image that keeps its blobs. */
export function dropBlobs(context: PullContext, manifest: ImageManifest, config: ImageConfig): void {
  const chain = chainIds(config.rootfs.diff_ids);
  for (const [i, { digest }] of manifest.layers.entries()) {
    failpoint('pull:before-drop');
    if (context.layers.record(chain[i] ?? '')?.blobDropped === true) context.blobs.drop(digest);
  }
}

async function resolve(context: PullContext, request: PullRequest, lease: Lease): Promise<Resolved> {
  const { reference, platform } = request;
  const image = formatReference(reference);
  const top = await fetchTop(context, request, lease);
  let { digest, document } = top;
  for (let depth = 0; document.kind === 'index'; depth += 1) {
    const { manifests } = document;
    const at = choosePlatform(
      manifests.map((entry) => entry.platform),
      platform,
    );
    // An index without platforms (a nested one, or of a single image) means its only entry.
    const chosen =
      manifests[at] ?? (manifests.length === 1 && !manifests[0]?.platform ? manifests[0] : undefined);
    if (chosen === undefined || depth >= maxNesting) {
      const offered = manifests.flatMap((entry) => (entry.platform ? [formatPlatform(entry.platform)] : []));
      throw new NodeletError(
        'PLATFORM_NOT_FOUND',
        `cannot pull "${image}": it has no image for ${formatPlatform(platform)}`,
        {
          hint: `it offers ${[...new Set(offered)].join(', ') || 'no platform'}`,
        },
      );
    }
    digest = chosen.digest;
    document = (await fetchDocument(context, request, chosen, top.own, lease)).document;
  }
  const configBytes = await fetchConfig(context, request, document.config, top.own, lease);
  const config = parseConfig(configBytes, document.layers.length, `the image config of "${image}"`);
  checkPlatform(config, platform, image);
  return { top: top.descriptor, manifestDigest: digest, manifest: document, config };
}

/** A single manifest has no platform of its own: its config has. Images that do not say are taken at their word. */
function checkPlatform(config: ImageConfig, platform: Platform, image: string): void {
  if (config.os === '' || config.architecture === '') return;
  if (choosePlatform([config], platform) === 0) return;
  throw new NodeletError(
    'PLATFORM_NOT_FOUND',
    `cannot pull "${image}": it is an image for ${formatPlatform(config)}, not for ${formatPlatform(platform)}`,
  );
}

interface Fetched {
  readonly digest: string;
  readonly document: ImageDocument;
  readonly descriptor: Descriptor;
  /** True where it came from the store, which had it from this repository. */
  readonly own: boolean;
}

/**
 * What the name stands for now. The store's own copy is used where the registry says (by a HEAD request, with the
 * credentials of this pull) that it still has it, and only where it came under this repository's name: another
 * registry's word is not enough for the content of a private image that happens to be here.
 */
async function fetchTop(context: PullContext, request: PullRequest, lease: Lease): Promise<Fetched> {
  const { reference, repository, signal } = request;
  const here = new Set(context.index.entries().map((entry) => entryName(entry)));
  const wanted = reference.digest ?? reference.tag ?? 'latest';
  const known = here.has(storedName(reference)) ? await repository.head(wanted, signal) : undefined;
  const current = reference.digest ?? known;
  const own = known !== undefined && known === current && here.has(`${reference.name}@${known}`);
  return await fetchManifest(context, request, current ?? wanted, current, own, lease);
}

async function fetchDocument(
  context: PullContext,
  request: PullRequest,
  descriptor: Descriptor,
  own: boolean,
  lease: Lease,
): Promise<Fetched> {
  return await fetchManifest(context, request, descriptor.digest, descriptor.digest, own, lease);
}

/** A manifest or index from the store where it is this repository's (`own`) and is there, else from the registry. */
async function fetchManifest(
  context: PullContext,
  request: PullRequest,
  name: string,
  digest: string | undefined,
  own: boolean,
  lease: Lease,
): Promise<Fetched> {
  const what = `the manifest of "${formatReference(request.reference)}"`;
  const stored = digest === undefined || !own ? undefined : context.blobs.read(digest, maxDocument);
  if (digest !== undefined && stored !== undefined) {
    lease.hold({ blobs: [digest] });
    const document = parseDocument(stored, undefined, what);
    return {
      digest,
      document,
      descriptor: { mediaType: document.mediaType, digest, size: stored.length },
      own,
    };
  }
  const answer = await request.repository.manifest(name, request.signal);
  const document = parseDocument(answer.bytes, answer.mediaType, what);
  await context.blobs.put(answer.bytes, lease);
  const descriptor = { mediaType: document.mediaType, digest: answer.digest, size: answer.bytes.length };
  return { digest: answer.digest, document, descriptor, own: false };
}

async function fetchConfig(
  context: PullContext,
  request: PullRequest,
  descriptor: Descriptor,
  own: boolean,
  lease: Lease,
): Promise<Buffer> {
  lease.hold({ blobs: [descriptor.digest] });
  // The config names the layers: who has it may have them, so the registry has to show it.
  const stored = !own ? undefined : context.blobs.read(descriptor.digest, maxConfig);
  if (stored !== undefined) return stored;
  const image = formatReference(request.reference);
  if (descriptor.size > maxConfig) {
    throw new NodeletError(
      'RESPONSE_TOO_LARGE',
      `cannot use the image config of "${image}": it has ${descriptor.size} bytes, more than ${maxConfig}`,
    );
  }
  const bytes = await withMirrors(request.repository, async (onSource) => {
    const target = new MemoryTarget(descriptor.size);
    const options = { ...context.transfer, signal: request.signal, onSource };
    await download(request.repository, descriptor, target, options);
    const content = Buffer.concat(target.chunks);
    const found = sha256(content);
    if (found === descriptor.digest) return content;
    throw new NodeletError(
      'DIGEST_MISMATCH',
      `cannot use the image config of "${image}": its digest is ${found}, not ${descriptor.digest}`,
    );
  });
  await context.blobs.put(bytes, lease);
  return bytes;
}

/**
 * Work on a blob that a mirror may have spoilt: where the bytes are wrong, the mirrors that sent some of them are not
 * asked again, and the work is done once more.
 */
async function withMirrors<T>(
  repository: Repository,
  work: (onSource: (endpoint: Endpoint) => void) => Promise<T>,
): Promise<T> {
  for (;;) {
    const sources = new Set<Endpoint>();
    try {
      return await work((endpoint) => sources.add(endpoint));
    } catch (error) {
      if (!hasCode(error, 'DIGEST_MISMATCH', 'SIZE_MISMATCH')) throw error;
      const distrusted = [...sources].filter((endpoint) => repository.distrust(endpoint));
      if (distrusted.length === 0) throw error;
    }
  }
}

/** A config: small, so that it comes in one piece and in order. */
class MemoryTarget implements BlobTarget {
  readonly chunks: Buffer[] = [];
  readonly #size: number;
  offset = 0;

  constructor(size: number) {
    this.#size = size;
  }

  get received(): number {
    return this.offset;
  }

  missing(): readonly (readonly [number, number])[] {
    return this.offset < this.#size ? [[this.offset, this.#size]] : [];
  }

  async write(_at: number, chunks: readonly Buffer[]): Promise<void> {
    for (const chunk of chunks) {
      this.chunks.push(chunk);
      this.offset += chunk.length;
    }
    return await Promise.resolve();
  }
}

async function fetchLayers(
  context: PullContext,
  request: PullRequest,
  manifest: ImageManifest,
  config: ImageConfig,
  lease: Lease,
): Promise<void> {
  const chain = chainIds(config.rootfs.diff_ids);
  lease.hold({ blobs: manifest.layers.map((layer) => layer.digest), chains: chain });
  checkRoom(context, manifest, chain);
  const stop = new AbortController();
  using linked = new LinkedSignal([request.signal, stop.signal]);
  const { signal } = linked;
  const own = new Semaphore(context.pullDownloads);
  let failure: unknown;
  let below: Promise<unknown> = Promise.resolve();
  const tasks = manifest.layers.map((layer, i) => {
    const task = fetchLayer(context, { ...request, signal }, own, layer, {
      chainId: chain[i] ?? '',
      diffId: config.rootfs.diff_ids[i] ?? '',
      below: chain.slice(0, i),
      belowReady: below,
      lease,
    }).catch((error: unknown) => {
      // The first failure is the reason; what stops because of it is not.
      failure ??= error;
      stop.abort(error);
      throw error;
    });
    below = task;
    return task;
  });
  await Promise.allSettled(tasks);
  if (failure !== undefined) throw about(request.reference, failure);
}

async function fetchLayer(
  context: PullContext,
  request: PullRequest,
  own: Semaphore,
  layer: Descriptor,
  target: Pick<Parameters<LayerStore['ensure']>[0], 'chainId' | 'diffId' | 'below' | 'belowReady' | 'lease'>,
): Promise<void> {
  const { signal, repository } = request;
  const { digest, size: total } = layer;
  const emit = (phase: 'waiting' | 'downloading' | 'unpacking' | 'done' | 'exists', current: number): void =>
    request.emit({ kind: 'layer', digest, phase, current, total });
  const use = async <T>(work: Parameters<typeof context.blobs.use<T>>[0]['work']): Promise<T> => {
    const mine = await own.acquire(signal);
    try {
      return await withMirrors(repository, async (onSource) => {
        const release = await context.downloads.acquire(signal);
        try {
          return await context.blobs.use({
            digest,
            size: total,
            signal,
            work,
            download: async (blob, stop) => {
              const options = { ...context.transfer, signal: stop, onSource };
              await download(repository, layer, counted(blob), options);
              release();
              mine();
            },
          });
        } finally {
          release();
        }
      });
    } finally {
      mine();
    }
  };
  const counted = (blob: BlobTarget): BlobTarget => ({
    get offset() {
      return blob.offset;
    },
    get received() {
      return blob.received;
    },
    missing: () => blob.missing(),
    async write(at, chunks) {
      await blob.write(at, chunks);
      emit('downloading', blob.received);
    },
  });
  const enough = (): boolean => !context.keepBlobs || context.blobs.has(digest, total);
  if (context.layers.has(target.chainId) && enough()) {
    emit('exists', total);
    return;
  }
  emit('waiting', 0);
  const made = await context.layers.ensure({
    ...target,
    signal,
    dropBlob: !context.keepBlobs,
    onProgress: (read) => emit('unpacking', read),
    withBlob: use,
  });
  // The layer may have come from another blob with the same content: the layout still lists this one.
  if (!made && !enough()) {
    await use(async (source, own) => await context.layers.verifyBlob(source, own));
  }
  emit('done', total);
}

/** Room for what is missing, twice: compressed, and at least as much again unpacked. */
function checkRoom(context: PullContext, manifest: ImageManifest, chain: readonly string[]): void {
  let bytes = 0;
  for (const [i, layer] of manifest.layers.entries()) {
    if (!context.blobs.has(layer.digest, layer.size)) bytes += layer.size;
    if (!context.layers.has(chain[i] ?? '')) bytes += layer.size;
  }
  if (bytes === 0) return;
  const { reserveBytes, reserveInodes } = context.limits;
  requireRoom(context.paths.images, { bytes: bytes + reserveBytes, inodes: reserveInodes }, 'pull the image');
}

/** Errors of a layer say which image they are about. */
function about(reference: Reference, error: unknown): Error {
  const image = formatReference(reference);
  if (!(error instanceof NodeletError) || error.message.includes(image) || hasCode(error, 'ABORTED'))
    return toError(error);
  return new NodeletError(error.code, `cannot pull ${quote(image)}: ${error.message}`, {
    cause: error.cause,
    details: error.details,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  });
}

/** Writes the names: the tag (or digest) asked for, and the digest that it stands for now, as containerd does. */
function record(index: IndexFile, reference: Reference, resolved: Resolved): void {
  const { top, manifestDigest } = resolved;
  const names = new Set([storedName(reference), `${reference.name}@${top.digest}`]);
  index.update((entries) => setNames(entries, names, top, manifestDigest, new Date()));
}

/**
 * The entries with `names` standing for a document, whatever they stood for before; unchanged where that is so
 * already. Pure.
 */
export function setNames(
  entries: readonly IndexEntry[],
  names: ReadonlySet<string>,
  top: Pick<Descriptor, 'mediaType' | 'digest' | 'size'>,
  manifestDigest: string,
  now: Date,
): readonly IndexEntry[] {
  const right = (entry: IndexEntry): boolean =>
    entry.digest === top.digest &&
    (entry.annotations?.[ANNOTATION.manifest] ?? top.digest) === manifestDigest;
  const old = entries.filter((entry) => names.has(entryName(entry) ?? ''));
  if (old.length === names.size && old.every(right)) return entries;
  const added = [...names].map((name): IndexEntry => {
    const same = old.find((entry) => entryName(entry) === name);
    const pinned = same?.annotations?.[ANNOTATION.pinned];
    return {
      mediaType: top.mediaType,
      digest: top.digest,
      size: top.size,
      annotations: {
        [ANNOTATION.name]: name,
        ...(manifestDigest === top.digest ? {} : { [ANNOTATION.manifest]: manifestDigest }),
        [ANNOTATION.stored]: now.toISOString(),
        ...(pinned === undefined ? {} : { [ANNOTATION.pinned]: pinned }),
      },
    };
  });
  return [...entries.filter((entry) => !names.has(entryName(entry) ?? '')), ...added];
}
