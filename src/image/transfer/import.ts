/**
 * Import of OCI layouts (directory or tar) and of `docker save` archives (tar), each of them also compressed. Nothing
 * of an archive is believed: every blob is checked against the digest that it is used under.
 */
import { closeSync, mkdirSync, openSync, readSync, realpathSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { NodeletError } from '../../base/index.ts';
import { chainIds, isContentDigest, quote, sha256 } from '../digest.ts';
import {
  type Descriptor,
  type ImageManifest,
  maxConfig,
  maxDocument,
  parseConfig,
  parseDocument,
} from '../documents.ts';
import { MEDIA } from '../media-types.ts';
import { choosePlatform, formatPlatform, type Platform } from '../platform.ts';
import { dropBlobs, type PullContext, setNames } from '../pull.ts';
import { parseReference, storedName } from '../reference.ts';
import type { BlobTarget } from '../store/blobs.ts';
import { ANNOTATION, type IndexEntry } from '../store/index-file.ts';
import { Lease } from '../store/leases.ts';
import type { ImageConfig } from '../types.ts';
import { detectCompression } from '../unpack/decompress.ts';
import type { WorkerPool } from '../unpack/pool.ts';
import { ArchiveSource, DirectorySource, type ImportSource, type SourceFile } from './source.ts';

export interface ImportOptions {
  /**
   * A name for the image (`repo` or `repo:tag`): takes the place of the archive's own names where it holds one
   * image; of several it is the repository, and their tags are kept.
   */
  readonly name?: string;
  readonly platform: Platform;
  readonly signal?: AbortSignal;
}

export interface Imported {
  readonly id: string;
  /** Full references; empty where neither the archive nor the caller named it. */
  readonly names: readonly string[];
}

/** What an archive says about one image, before anything is stored. */
interface Candidate {
  readonly manifest: ImageManifest;
  readonly manifestBytes: Buffer;
  readonly configBytes: Buffer;
  readonly names: readonly string[];
  /** Where each layer's bytes are. */
  readonly layerFile: (layer: Descriptor, index: number) => SourceFile | undefined;
}

/** What an import has brought that was not here before: it goes again where the import is refused. */
export interface Brought {
  readonly blobs: Set<string>;
  readonly chains: Set<string>;
}

/** An image whose content is in the store, and that has no name yet. */
interface Stored extends Candidate {
  readonly config: ImageConfig;
  readonly manifestDigest: string;
}

/** More images in one archive are refused. */
const maxImages = 200;

/** All images of the archive, or none. `brought` tells of what is there already where it rejects. */
export async function importImages(
  context: PullContext,
  pool: WorkerPool,
  path: string,
  options: ImportOptions,
  brought: Brought,
): Promise<Imported[]> {
  using lease = new Lease(context.paths);
  const spool = join(context.paths.ingest, lease.nextName());
  mkdirSync(spool, { mode: 0o700 });
  try {
    const source = await openSource(context, pool, path, spool, options.signal);
    try {
      const candidates = readCandidates(source, options);
      const stored: Stored[] = [];
      for (const candidate of candidates)
        stored.push(await store(context, source, candidate, lease, brought, options.signal));
      context.index.update((entries) => stored.reduce(recorded, entries));
      for (const { manifest, config } of stored) if (!context.keepBlobs) dropBlobs(context, manifest, config);
      return stored.map(({ manifest, names }) => ({
        id: manifest.config.digest,
        names: [...new Set(names)],
      }));
    } finally {
      source.close();
    }
  } finally {
    await pool.run('remove', { paths: [spool] });
  }
}

async function openSource(
  context: PullContext,
  pool: WorkerPool,
  path: string,
  spool: string,
  signal: AbortSignal | undefined,
): Promise<ImportSource> {
  const file = path === '-' ? '/dev/stdin' : path;
  const stat = statSync(file, { throwIfNoEntry: false });
  if (stat === undefined) {
    throw new NodeletError(
      'ARCHIVE_NOT_FOUND',
      `cannot import ${quote(path)}: there is no such file or directory`,
    );
  }
  if (stat.isDirectory()) return new DirectorySource(realpathSync(file));
  const job = { path: file, directory: spool, reserveBytes: context.limits.reserveBytes };
  return new ArchiveSource(path, await pool.run('archive', job, signal === undefined ? {} : { signal }));
}

function invalid(source: ImportSource, reason: string): NodeletError {
  return new NodeletError('ARCHIVE_INVALID', `cannot import "${source.name}": ${reason}`);
}

function readCandidates(source: ImportSource, options: ImportOptions): Candidate[] {
  const index = source.document('index.json', maxDocument);
  const docker = source.document('manifest.json', maxDocument);
  const dockerEntries = docker === undefined ? [] : parseDockerManifest(source, docker);
  if (index !== undefined) return ociCandidates(source, index, dockerEntries, options);
  if (docker !== undefined) return dockerCandidates(source, dockerEntries, options);
  throw invalid(source, 'it has neither an index.json (OCI layout) nor a manifest.json (docker save)');
}

function ociCandidates(
  source: ImportSource,
  index: Buffer,
  docker: readonly DockerEntry[],
  options: ImportOptions,
): Candidate[] {
  const layout = parseDocument(index, MEDIA.ociIndex, `index.json of "${source.name}"`);
  if (layout.kind !== 'index') throw invalid(source, 'its index.json is no index');
  const wanted: { readonly descriptor: Descriptor; readonly own: string | undefined }[] = [];
  // The same image under several names has an entry for each.
  for (const descriptor of layout.manifests) wanted.push({ descriptor, own: nameOf(source, descriptor) });
  if (wanted.length > maxImages)
    throw invalid(source, `it holds ${wanted.length} images, more than ${maxImages}`);
  const found: Candidate[] = [];
  const unusable: string[] = [];
  for (const { descriptor, own } of wanted) {
    const manifest = chooseManifest(source, descriptor, options.platform, 0);
    if (manifest === undefined) {
      unusable.push(descriptor.digest);
      continue;
    }
    const { config } = manifest.document;
    const configBytes = readChecked(source, config, maxConfig);
    const fromDocker = docker.filter((entry) => entry.config === `blobs/sha256/${config.digest.slice(7)}`);
    const names = [
      ...(own === undefined ? [] : [own]),
      ...(own === undefined ? fromDocker.flatMap((e) => e.tags) : []),
    ];
    found.push({
      manifest: manifest.document,
      manifestBytes: manifest.bytes,
      configBytes,
      names,
      layerFile: (layer) => source.file(blobName(layer.digest)),
    });
  }
  if (found.length === 0) {
    throw new NodeletError(
      'PLATFORM_NOT_FOUND',
      `cannot import "${source.name}": it has no image for ${formatPlatform(options.platform)}`,
      {
        details: { manifests: unusable },
      },
    );
  }
  return renamed(found, options.name);
}

function blobName(digest: string): string {
  return `blobs/sha256/${digest.slice('sha256:'.length)}`;
}

/** A document of the layout, its content checked against the digest that names it. */
function readChecked(source: ImportSource, descriptor: Descriptor, limit: number): Buffer {
  const bytes = source.document(blobName(descriptor.digest), limit);
  if (bytes === undefined) throw invalid(source, `blob ${descriptor.digest} is missing`);
  const found = sha256(bytes);
  if (found !== descriptor.digest) {
    throw new NodeletError(
      'DIGEST_MISMATCH',
      `cannot import "${source.name}": blob ${descriptor.digest} has the digest ${found}`,
    );
  }
  return bytes;
}

function chooseManifest(
  source: ImportSource,
  descriptor: Descriptor,
  platform: Platform,
  depth: number,
): { readonly document: ImageManifest; readonly bytes: Buffer } | undefined {
  const bytes = readChecked(source, descriptor, maxDocument);
  const document = parseDocument(
    bytes,
    descriptor.mediaType,
    `manifest ${descriptor.digest} of "${source.name}"`,
  );
  if (document.kind === 'manifest') return { document, bytes };
  if (depth >= 3) return undefined;
  const { manifests } = document;
  // An archive often holds one platform of an index: what is not there is not offered.
  const here = manifests.filter((entry) => source.file(blobName(entry.digest)) !== undefined);
  const chosen =
    here[
      choosePlatform(
        here.map((entry) => entry.platform),
        platform,
      )
    ] ?? (here.length === 1 && here[0]?.platform === undefined ? here[0] : undefined);
  return chosen === undefined ? undefined : chooseManifest(source, chosen, platform, depth + 1);
}

/**
 * The full reference that an entry's annotations give it. Docker writes it out in full beside a bare tag; others put
 * either a reference or only a tag into ref.name, and a bare tag says nothing about the repository: it becomes
 * `localhost/<archive's name>:<tag>`.
 */
function nameOf(source: ImportSource, descriptor: Descriptor): string | undefined {
  const full = descriptor.annotations?.['io.containerd.image.name'];
  const short = descriptor.annotations?.[ANNOTATION.name];
  for (const name of [full, short !== undefined && /[/:@]/.test(short) ? short : undefined]) {
    if (name === undefined) continue;
    try {
      return storedName(parseReference(name));
    } catch {
      // somebody's own notation
    }
  }
  if (short === undefined) return undefined;
  const base = basename(source.name)
    .toLowerCase()
    .replace(/\.(tar|tgz|oci|tar\.gz|tar\.zst)$/g, '')
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '');
  try {
    return storedName(parseReference(`localhost/${base === '' ? 'image' : base}:${short}`));
  } catch {
    return undefined;
  }
}

interface DockerEntry {
  readonly config: string;
  readonly tags: readonly string[];
  readonly layers: readonly string[];
}

function parseDockerManifest(source: ImportSource, bytes: Buffer): DockerEntry[] {
  const fail = (): NodeletError => invalid(source, 'its manifest.json is malformed');
  let parsed: unknown;
  try {
    parsed = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw fail();
  }
  if (!Array.isArray(parsed) || parsed.length > maxImages) throw fail();
  return parsed.map((item: unknown): DockerEntry => {
    const { Config, RepoTags, Layers } = (typeof item === 'object' && item !== null ? item : {}) as Record<
      string,
      unknown
    >;
    if (typeof Config !== 'string' || !isStrings(Layers)) throw fail();
    const tags = isStrings(RepoTags) ? RepoTags : [];
    return { config: Config, layers: Layers, tags: tags.map((tag) => storedName(parseReference(tag))) };
  });
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

/** A docker archive has no manifest: one is made of what it has, the same each time. */
function dockerCandidates(
  source: ImportSource,
  entries: readonly DockerEntry[],
  options: ImportOptions,
): Candidate[] {
  const found = entries.map((entry): Candidate => {
    const configBytes = source.document(entry.config, maxConfig);
    if (configBytes === undefined)
      throw invalid(source, `the image config ${quote(entry.config)} is missing`);
    const files = entry.layers.map((name) => {
      const file = source.file(name);
      if (file?.digest === undefined) throw invalid(source, `the layer ${quote(name)} is missing`);
      return { ...file, digest: file.digest };
    });
    const manifest: ImageManifest = {
      kind: 'manifest',
      mediaType: MEDIA.ociManifest,
      config: { mediaType: MEDIA.ociConfig, digest: sha256(configBytes), size: configBytes.length },
      layers: files.map((file) => ({ mediaType: layerType(file), digest: file.digest, size: file.size })),
    };
    const { mediaType, config, layers } = manifest;
    return {
      manifest,
      manifestBytes: Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, config, layers })),
      configBytes,
      names: entry.tags,
      layerFile: (_layer, index) => files[index],
    };
  });
  if (found.length === 0) throw invalid(source, 'it holds no image');
  return renamed(found, options.name);
}

function layerType(file: SourceFile): string {
  const head = Buffer.alloc(4);
  if (file.content !== undefined) {
    file.content.copy(head);
  } else if (file.path !== undefined) {
    const fd = openSync(file.path, 'r');
    readSync(fd, head, 0, 4, 0);
    closeSync(fd);
  }
  const types = { none: MEDIA.ociLayer, gzip: MEDIA.ociLayerGzip, zstd: MEDIA.ociLayerZstd };
  return types[detectCompression(head)];
}

function renamed(candidates: readonly Candidate[], name: string | undefined): Candidate[] {
  if (name === undefined) return [...candidates];
  const wanted = parseReference(name);
  if (candidates.length === 1)
    return candidates.map((candidate) => ({ ...candidate, names: [storedName(wanted)] }));
  return candidates.map((candidate) => ({
    ...candidate,
    names: candidate.names.map((old) => `${wanted.name}:${parseReference(old).tag ?? 'latest'}`),
  }));
}

async function store(
  context: PullContext,
  source: ImportSource,
  candidate: Candidate,
  lease: Lease,
  brought: Brought,
  signal: AbortSignal = new AbortController().signal,
): Promise<Stored> {
  const { manifest, manifestBytes, configBytes } = candidate;
  const config = parseConfig(configBytes, manifest.layers.length, `the image config of "${source.name}"`);
  const chain = chainIds(config.rootfs.diff_ids);
  lease.hold({ blobs: manifest.layers.map((layer) => layer.digest), chains: chain });
  const manifestDigest = sha256(manifestBytes);
  const own = { digest: manifestDigest, size: manifestBytes.length };
  for (const { digest, size } of [own, manifest.config, ...manifest.layers])
    if (!context.blobs.has(digest, size)) brought.blobs.add(digest);
  for (const id of chain) if (!context.layers.has(id)) brought.chains.add(id);
  await context.blobs.put(manifestBytes, lease);
  await context.blobs.put(configBytes, lease);
  for (const [i, layer] of manifest.layers.entries()) {
    const file = candidate.layerFile(layer, i);
    const withBlob: Parameters<typeof context.layers.ensure>[0]['withBlob'] = async (work) => {
      await takeOver(context, source, layer, file, lease);
      return await context.blobs.use({
        digest: layer.digest,
        size: layer.size,
        signal,
        work,
        download: async (target) => {
          if (file === undefined) throw invalid(source, `blob ${layer.digest} is missing`);
          await copyInto(file, target);
        },
      });
    };
    const made = await context.layers.ensure({
      chainId: chain[i] ?? '',
      diffId: config.rootfs.diff_ids[i] ?? '',
      below: chain.slice(0, i),
      belowReady: Promise.resolve(),
      lease,
      signal,
      dropBlob: !context.keepBlobs,
      onProgress: () => {},
      withBlob,
    });
    if (!made && context.keepBlobs && !context.blobs.has(layer.digest, layer.size)) {
      await withBlob(async (blob, aborted) => await context.layers.verifyBlob(blob, aborted));
    }
  }
  return { ...candidate, config, manifestDigest };
}

/** The index with the image in it. */
function recorded(entries: readonly IndexEntry[], image: Stored): readonly IndexEntry[] {
  const { manifest, manifestBytes, manifestDigest, names } = image;
  const top = { mediaType: manifest.mediaType, digest: manifestDigest, size: manifestBytes.length };
  if (names.length > 0) return setNames(entries, new Set(names), top, manifestDigest, new Date());
  if (entries.some((entry) => entry.digest === manifestDigest)) return entries;
  return [...entries, { ...top, annotations: { [ANNOTATION.stored]: new Date().toISOString() } }];
}

/** A spool file whose digest the worker computed while it wrote it is moved, not copied. */
async function takeOver(
  context: PullContext,
  source: ImportSource,
  layer: Descriptor,
  file: SourceFile | undefined,
  lease: Lease,
): Promise<void> {
  if (context.blobs.has(layer.digest, layer.size) || file === undefined) return;
  if (file.size !== layer.size) {
    throw new NodeletError(
      'SIZE_MISMATCH',
      `cannot import "${source.name}": blob ${layer.digest} has ${file.size} bytes, its manifest says ${layer.size}`,
    );
  }
  if (file.digest === undefined) return;
  if (file.digest !== layer.digest || !isContentDigest(layer.digest)) {
    throw new NodeletError(
      'DIGEST_MISMATCH',
      `cannot import "${source.name}": blob ${layer.digest} has the digest ${file.digest}`,
    );
  }
  if (file.content !== undefined) await context.blobs.put(file.content, lease);
  else if (file.path !== undefined && file.ours) await context.blobs.adopt(file.path, layer.digest);
}

async function copyInto(file: SourceFile, target: Pick<BlobTarget, 'offset' | 'write'>): Promise<void> {
  if (file.content !== undefined) {
    await target.write(target.offset, [file.content.subarray(target.offset)]);
    return;
  }
  if (file.path === undefined) return;
  const handle = await open(file.path, 'r');
  try {
    for (;;) {
      const buffer = Buffer.allocUnsafeSlow(1024 * 1024);
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, target.offset);
      if (bytesRead === 0) return;
      await target.write(target.offset, [buffer.subarray(0, bytesRead)]);
    }
  } finally {
    await handle.close();
  }
}
