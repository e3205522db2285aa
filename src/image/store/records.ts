/** What is in the store, as images: index entries joined with their documents, one record for each image ID. */
import { chainIds } from '../digest.ts';
import { type ImageManifest, maxConfig, maxDocument, parseConfig, parseDocument } from '../documents.ts';
import { parseReference } from '../reference.ts';
import type { ImageConfig, ImageRecord } from '../types.ts';
import type { BlobStore } from './blobs.ts';
import { ANNOTATION, entryManifest, entryName, type IndexEntry, type IndexFile } from './index-file.ts';

/** A manifest with its config: what never changes about an image. */
export interface ImageContent {
  readonly manifestDigest: string;
  readonly manifest: ImageManifest;
  readonly config: ImageConfig;
  readonly chainIds: readonly string[];
  /** Bytes of manifest, config and layers. */
  readonly size: number;
}

/** Reads a manifest and its config from the store; undefined where a part is missing or damaged. */
export function readContent(blobs: BlobStore, manifestDigest: string): ImageContent | undefined {
  const bytes = blobs.read(manifestDigest, maxDocument);
  if (bytes === undefined) return undefined;
  const manifest = parseDocument(bytes, undefined, `manifest ${manifestDigest}`);
  if (manifest.kind !== 'manifest') return undefined;
  const configBytes = blobs.read(manifest.config.digest, maxConfig);
  if (configBytes === undefined) return undefined;
  const config = parseConfig(configBytes, manifest.layers.length, `image config ${manifest.config.digest}`);
  const size = manifest.layers.reduce((sum, layer) => sum + layer.size, bytes.length + configBytes.length);
  return { manifestDigest, manifest, config, chainIds: chainIds(config.rootfs.diff_ids), size };
}

/** `name@digest` for an entry's name, or undefined where it has none that is a reference. */
export function repoDigest(name: string, digest: string): string | undefined {
  try {
    return `${parseReference(name).name}@${digest}`;
  } catch {
    return undefined;
  }
}

export class Records {
  readonly #index: IndexFile;
  readonly #blobs: BlobStore;
  readonly #hasLayer: (chainId: string) => boolean;
  readonly #contents = new Map<string, ImageContent>();
  #cached: { readonly stamp: string; readonly records: readonly ImageRecord[] } | undefined;

  constructor(index: IndexFile, blobs: BlobStore, hasLayer: (chainId: string) => boolean) {
    this.#index = index;
    this.#blobs = blobs;
    this.#hasLayer = hasLayer;
  }

  /** The documents of one manifest; kept, since they cannot change. */
  content(manifestDigest: string): ImageContent | undefined {
    const known = this.#contents.get(manifestDigest);
    if (known !== undefined) return known;
    let content: ImageContent | undefined;
    try {
      content = readContent(this.#blobs, manifestDigest);
    } catch {
      return undefined; // somebody else's entry, of something that is no image
    }
    if (content !== undefined) this.#contents.set(manifestDigest, content);
    return content;
  }

  /** Every image that can be run, by name. */
  list(): readonly ImageRecord[] {
    const stamp = this.#index.stamp();
    if (this.#cached?.stamp === stamp) return this.#cached.records;
    const records = this.#build(this.#index.entries());
    // Where a layer is missing nobody changes the index when it comes back: such a list is not kept.
    this.#cached = records.complete ? { stamp, records: records.list } : undefined;
    return records.list;
  }

  /** Layers have come or gone while index.json stayed as it is. */
  forget(): void {
    this.#cached = undefined;
  }

  #build(entries: readonly IndexEntry[]): {
    readonly list: readonly ImageRecord[];
    readonly complete: boolean;
  } {
    const manifests = new Set(entries.map(entryManifest));
    for (const known of this.#contents.keys()) if (!manifests.has(known)) this.#contents.delete(known);
    let complete = true;
    const groups = new Map<string, { content: ImageContent; entries: IndexEntry[] }>();
    for (const entry of entries) {
      const content = this.content(entryManifest(entry));
      if (content === undefined || !content.chainIds.every(this.#hasLayer)) {
        complete = false;
        continue;
      }
      const id = content.manifest.config.digest;
      const group = groups.get(id);
      if (group === undefined) groups.set(id, { content, entries: [entry] });
      else group.entries.push(entry);
    }
    const list = [...groups].map(([id, group]) => toRecord(id, group.content, group.entries));
    return { list: list.sort((a, b) => order(a) - order(b) || compare(sortKey(a), sortKey(b))), complete };
  }
}

function toRecord(id: string, content: ImageContent, entries: readonly IndexEntry[]): ImageRecord {
  const tags = new Set<string>();
  const digests = new Set<string>();
  let pinned = false;
  for (const entry of entries) {
    pinned ||= entry.annotations?.[ANNOTATION.pinned] === 'true';
    const name = entryName(entry);
    if (name === undefined) continue;
    if (!name.includes('@')) tags.add(name);
    const digest = repoDigest(name, entry.digest);
    if (digest !== undefined) digests.add(digest);
  }
  return {
    id,
    manifestDigest: content.manifestDigest,
    repoTags: [...tags].sort(),
    repoDigests: [...digests].sort(),
    config: content.config,
    chainIds: content.chainIds,
    size: content.size,
    pinned,
  };
}

/** Images with a tag first. */
function order(record: ImageRecord): number {
  return record.repoTags.length > 0 ? 0 : 1;
}

function sortKey(record: ImageRecord): string {
  return record.repoTags[0] ?? record.repoDigests[0] ?? record.id;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
