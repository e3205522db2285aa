/**
 * Export as an OCI layout (directory or tar) or as a `docker load` archive (tar). A file appears under its name only
 * when it is complete. Export reads blobs of the store and nothing else, so it writes what was pulled, bit for bit.
 */
import { randomBytes } from 'node:crypto';
import { constants, createReadStream, existsSync } from 'node:fs';
import { chmod, copyFile, type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { abortReason, codeOf, messageOf, NodeletError } from '../../base/index.ts';
import { quote, sha256 } from '../digest.ts';
import type { Descriptor } from '../documents.ts';
import { MEDIA } from '../media-types.ts';
import { parseReference } from '../reference.ts';
import type { BlobStore } from '../store/blobs.ts';
import { ANNOTATION } from '../store/index-file.ts';
import type { ImageContent } from '../store/records.ts';
import { decompress } from '../unpack/decompress.ts';
import { diskFull, isNoRoom } from '../unpack/disk.ts';
import { padding, tarEnd, tarHeader } from './tar-writer.ts';

export type ExportFormat = 'oci-archive' | 'oci-dir' | 'docker-archive';

/** One image to export, and the full references that it gets in the archive. */
export interface ExportItem {
  readonly content: ImageContent;
  readonly names: readonly string[];
}

/** Writes `items` to `path`; "-" is standard output (not for a directory). */
export async function exportImages(
  blobs: BlobStore,
  items: readonly ExportItem[],
  path: string,
  format: ExportFormat,
  signal?: AbortSignal,
): Promise<void> {
  if (format === 'oci-dir') {
    await writeDirectory(blobs, items, path, signal);
    return;
  }
  const write = format === 'oci-archive' ? writeOci : writeDocker;
  if (path === '-') {
    await write(blobs, items, new TarOutput(await open('/dev/stdout', 'w'), signal));
    return;
  }
  const temporary = `${path}.${randomBytes(4).toString('hex')}.part`;
  try {
    const file = await open(temporary, 'wx', 0o644);
    try {
      await write(blobs, items, new TarOutput(file, signal));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw exportError(path, error);
  }
}

function exportError(path: string, error: unknown): unknown {
  if (error instanceof NodeletError) return error;
  if (isNoRoom(codeOf(error))) return diskFull(dirname(path), 'export the image', messageOf(error), error);
  return new NodeletError('EXPORT_FAILED', `cannot export to ${quote(path)}: ${messageOf(error)}`, {
    cause: error,
  });
}

/** A tar archive, written item by item. */
class TarOutput {
  readonly #file: FileHandle;
  readonly #signal: AbortSignal | undefined;

  constructor(file: FileHandle, signal: AbortSignal | undefined) {
    this.#file = file;
    this.#signal = signal;
  }

  async bytes(name: string, content: Uint8Array): Promise<void> {
    await this.#write(tarHeader({ name, type: 'file', mode: 0o644, size: content.length }));
    await this.#write(content);
    await this.#write(padding(content.length));
  }

  async directory(name: string): Promise<void> {
    await this.#write(tarHeader({ name: `${name}/`, type: 'directory', mode: 0o755 }));
  }

  /** `size` bytes of `chunks`; throws where they are more or less. */
  async stream(name: string, size: number, chunks: AsyncIterable<Buffer>): Promise<void> {
    await this.#write(tarHeader({ name, type: 'file', mode: 0o644, size }));
    let written = 0;
    for await (const chunk of chunks) {
      written += chunk.length;
      if (written > size) break;
      await this.#write(chunk);
    }
    if (written !== size)
      throw new NodeletError('STORE_CORRUPT', `cannot export "${name}": it does not have ${size} bytes`);
    await this.#write(padding(size));
  }

  async end(): Promise<void> {
    await this.#write(tarEnd);
  }

  async #write(data: Uint8Array): Promise<void> {
    if (this.#signal?.aborted) throw abortReason(this.#signal);
    for (let at = 0; at < data.length; ) at += (await this.#file.write(data, at)).bytesWritten;
  }
}

const ociTypes: Readonly<Record<string, string>> = {
  [MEDIA.dockerConfig]: MEDIA.ociConfig,
  [MEDIA.dockerLayer]: MEDIA.ociLayer,
  [MEDIA.dockerLayerGzip]: MEDIA.ociLayerGzip,
  'application/vnd.docker.image.rootfs.diff.tar.zstd': MEDIA.ociLayerZstd,
};

/**
 * The manifest of an image for an OCI layout. One in docker's schema 2 is rewritten with OCI's types, as skopeo does:
 * many tools look at no others in a layout. Config and layers stay what they are.
 */
function ociManifest(
  blobs: BlobStore,
  content: ImageContent,
): { readonly digest: string; readonly bytes: Buffer } {
  const { manifest, manifestDigest } = content;
  if (manifest.mediaType === MEDIA.ociManifest) {
    const bytes = blobs.read(manifestDigest, sizeOf(blobs, manifestDigest));
    if (bytes !== undefined) return { digest: manifestDigest, bytes };
    throw new NodeletError('STORE_CORRUPT', `cannot export: blob ${manifestDigest} is damaged`, {
      hint: 'pull the image again',
    });
  }
  const convert = ({ mediaType, digest, size }: Descriptor): object => ({
    mediaType: ociTypes[mediaType] ?? mediaType,
    digest,
    size,
  });
  const { config, layers } = manifest;
  const document = {
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    config: convert(config),
    layers: layers.map(convert),
  };
  const bytes = Buffer.from(JSON.stringify(document));
  return { digest: sha256(bytes), bytes };
}

/** index.json of an export: the manifests that are there, each under every name. */
function layoutIndex(blobs: BlobStore, items: readonly ExportItem[]): Buffer {
  const manifests = items.flatMap(({ content, names }) => {
    const { config } = content;
    const { digest, bytes } = ociManifest(blobs, content);
    const variant = config.variant === undefined ? {} : { variant: config.variant };
    const base = {
      mediaType: MEDIA.ociManifest,
      digest,
      size: bytes.length,
      platform: { architecture: config.architecture, os: config.os, ...variant },
    };
    if (names.length === 0) return [base];
    // Both notations that importers look for.
    return names.map((name) => ({
      ...base,
      annotations: { [ANNOTATION.name]: name, 'io.containerd.image.name': name },
    }));
  });
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests }));
}

/** Configs and layers of the images, each once. */
function blobsOf(items: readonly ExportItem[]): readonly string[] {
  const configs = items.map(({ content }) => content.manifest.config.digest);
  const layers = items.flatMap(({ content }) => content.manifest.layers.map((layer) => layer.digest));
  return [...new Set([...configs, ...layers])];
}

/** Manifests, each once. */
function manifestsOf(blobs: BlobStore, items: readonly ExportItem[]): ReadonlyMap<string, Buffer> {
  return new Map(
    items.map(({ content }) => ociManifest(blobs, content)).map(({ digest, bytes }) => [digest, bytes]),
  );
}

function sizeOf(blobs: BlobStore, digest: string): number {
  const size = blobs.size(digest);
  if (size === undefined) {
    throw new NodeletError('STORE_CORRUPT', `cannot export: blob ${digest} is missing in the store`, {
      hint: 'pull the image again',
    });
  }
  return size;
}

const layoutMarker = Buffer.from('{"imageLayoutVersion":"1.0.0"}');

async function writeOci(blobs: BlobStore, items: readonly ExportItem[], out: TarOutput): Promise<void> {
  await out.bytes('oci-layout', layoutMarker);
  await out.bytes('index.json', layoutIndex(blobs, items));
  await out.directory('blobs');
  await out.directory('blobs/sha256');
  for (const [digest, bytes] of manifestsOf(blobs, items))
    await out.bytes(`blobs/sha256/${digest.slice(7)}`, bytes);
  for (const digest of blobsOf(items)) {
    const size = sizeOf(blobs, digest);
    await out.stream(`blobs/sha256/${digest.slice(7)}`, size, readBlob(blobs, digest));
  }
  await out.end();
}

function readBlob(blobs: BlobStore, digest: string): AsyncIterable<Buffer> {
  return createReadStream(blobs.path(digest), { highWaterMark: 1024 * 1024 }) as AsyncIterable<Buffer>;
}

/** `docker load` wants plain tars, named by diffID, and a manifest.json. */
async function writeDocker(blobs: BlobStore, items: readonly ExportItem[], out: TarOutput): Promise<void> {
  const written = new Set<string>();
  const manifest: { Config: string; RepoTags: string[]; Layers: string[] }[] = [];
  for (const { content, names } of items) {
    const { manifest: document, config } = content;
    const configName = `${document.config.digest.slice(7)}.json`;
    const configBytes = blobs.read(document.config.digest, document.config.size);
    if (configBytes === undefined) sizeOf(blobs, document.config.digest);
    if (configBytes !== undefined && !written.has(configName)) await out.bytes(configName, configBytes);
    written.add(configName);
    const layers: string[] = [];
    for (const [i, layer] of document.layers.entries()) {
      const name = `${(config.rootfs.diff_ids[i] ?? '').slice(7)}.tar`;
      layers.push(name);
      if (written.has(name)) continue;
      written.add(name);
      sizeOf(blobs, layer.digest);
      // The header wants the size first: the layer is decompressed twice instead of being kept somewhere.
      let size = 0;
      for await (const chunk of decompress(readBlob(blobs, layer.digest))) size += chunk.length;
      await out.stream(name, size, decompress(readBlob(blobs, layer.digest)));
    }
    const tags = names.filter((name) => !name.includes('@')).map((name) => dockerName(name));
    manifest.push({ Config: configName, RepoTags: tags, Layers: layers });
  }
  await out.bytes('manifest.json', Buffer.from(JSON.stringify(manifest)));
  await out.end();
}

/** Docker writes its own names short in RepoTags. */
function dockerName(name: string): string {
  const { domain, path, tag } = parseReference(name);
  const short = domain === 'docker.io' ? path.replace(/^library\//, '') : `${domain}/${path}`;
  return `${short}:${tag ?? 'latest'}`;
}

async function writeDirectory(
  blobs: BlobStore,
  items: readonly ExportItem[],
  path: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (existsSync(path)) {
    throw new NodeletError('EXPORT_FAILED', `cannot export to ${quote(path)}: it exists already`);
  }
  const temporary = `${path}.${randomBytes(4).toString('hex')}.part`;
  try {
    const folder = join(temporary, 'blobs', 'sha256');
    await mkdir(folder, { recursive: true });
    for (const [digest, bytes] of manifestsOf(blobs, items)) await put(join(folder, digest.slice(7)), bytes);
    for (const digest of blobsOf(items)) {
      if (signal?.aborted) throw abortReason(signal);
      sizeOf(blobs, digest);
      const target = join(folder, digest.slice(7));
      await copyFile(blobs.path(digest), target, constants.COPYFILE_FICLONE);
      await chmod(target, 0o644);
    }
    await put(join(temporary, 'index.json'), layoutIndex(blobs, items));
    await put(join(temporary, 'oci-layout'), layoutMarker);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw exportError(path, error);
  }
}

async function put(path: string, content: Buffer): Promise<void> {
  const file = await open(path, 'wx', 0o644);
  try {
    await file.writeFile(content);
  } finally {
    await file.close();
  }
}
