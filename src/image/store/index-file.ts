/**
 * The store's index.json (image-layout.md): which names stand for which documents. Other tools may write it too, so
 * entries and fields that are not ours are kept.
 */
import { readFileSync, statSync } from 'node:fs';
import { hasCode, NodeletError, replaceFileSync } from '../../base/index.ts';
import { isContentDigest } from '../digest.ts';
import { MEDIA } from '../media-types.ts';
import { withLock } from './lock.ts';
import type { StorePaths } from './paths.ts';

export const ANNOTATION = {
  /** The full reference, `docker.io/library/busybox:latest`. */
  name: 'org.opencontainers.image.ref.name',
  /** Where the entry is an index: the digest of the manifest that was chosen from it. */
  manifest: 'dev.nodelet.image.manifest',
  /** When it was pulled, imported or packed; RFC 3339. */
  stored: 'dev.nodelet.image.stored',
  /** "true": prune leaves it. */
  pinned: 'dev.nodelet.image.pinned',
} as const;

/** One entry of index.json as it stands there, checked for what is used of it. */
export interface IndexEntry {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly [other: string]: unknown;
}

export function entryName(entry: IndexEntry): string | undefined {
  return entry.annotations?.[ANNOTATION.name];
}

/** The manifest that an entry stands for on this machine. */
export function entryManifest(entry: IndexEntry): string {
  return entry.annotations?.[ANNOTATION.manifest] ?? entry.digest;
}

interface Cached {
  readonly stamp: string;
  readonly entries: readonly IndexEntry[];
}

export class IndexFile {
  readonly #paths: StorePaths;
  #cached: Cached | undefined;

  constructor(paths: StorePaths) {
    this.#paths = paths;
  }

  /** Changes whenever anybody has written the file. */
  stamp(): string {
    const stat = statSync(this.#paths.index, { throwIfNoEntry: false, bigint: true });
    return stat === undefined ? 'none' : `${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`;
  }

  entries(): readonly IndexEntry[] {
    const stamp = this.stamp();
    if (this.#cached?.stamp !== stamp) this.#cached = { stamp, entries: this.#read() };
    return this.#cached.entries;
  }

  /** Read, change, write, under the store's lock and durably. Nothing is written where `change` returns its argument. */
  update(change: (entries: readonly IndexEntry[]) => readonly IndexEntry[]): void {
    withLock(this.#paths.lock, () => {
      const before = this.#read();
      const after = change(before);
      if (after === before) return;
      const document = { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: after };
      replaceFileSync(this.#paths.index, `${JSON.stringify(document, null, 1)}\n`, {
        durable: true,
        mode: 0o644,
      });
    });
  }

  #read(): readonly IndexEntry[] {
    let text: string;
    try {
      text = readFileSync(this.#paths.index, 'utf8');
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return [];
      throw error;
    }
    try {
      const parsed = JSON.parse(text) as { manifests?: unknown };
      if (!Array.isArray(parsed.manifests)) throw new TypeError('"manifests" is no list');
      return parsed.manifests.filter(isEntry);
    } catch (error) {
      throw new NodeletError(
        'STORE_CORRUPT',
        `cannot read the image store: "${this.#paths.index}" is damaged`,
        {
          cause: error,
          hint: 'move it away: images stay on disk and are found again by pulling or importing them',
        },
      );
    }
  }
}

function isEntry(value: unknown): value is IndexEntry {
  if (typeof value !== 'object' || value === null) return false;
  const { digest, size, mediaType, annotations } = value as Record<string, unknown>;
  return (
    typeof digest === 'string' &&
    isContentDigest(digest) &&
    typeof size === 'number' &&
    typeof mediaType === 'string' &&
    (annotations === undefined || (typeof annotations === 'object' && annotations !== null))
  );
}
