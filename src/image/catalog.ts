/**
 * The images of the store by name: finding, showing, naming, removing. All decisions about what a text means and what
 * a removal takes with it stand here.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { hasCode, NodeletError } from '../base/index.ts';
import { quote } from './digest.ts';
import type { LayerStore } from './layers.ts';
import { imageMounts } from './mounts.ts';
import { type ImageSummary, summarize } from './overview.ts';
import { setNames } from './pull.ts';
import { formatReference, parseReference, type Reference, storedName } from './reference.ts';
import type { SnapshotStore } from './snapshots.ts';
import { type Roots, type SweepOptions, type Swept, sweep } from './store/gc.ts';
import { ANNOTATION, entryManifest, entryName, type IndexEntry, type IndexFile } from './store/index-file.ts';
import { Lease } from './store/leases.ts';
import type { StorePaths } from './store/paths.ts';
import type { ImageContent, Records } from './store/records.ts';
import type { ImageRecord } from './types.ts';
import type { WorkerPool } from './unpack/pool.ts';

/** One line of `image history`, the newest first. */
export interface HistoryLine {
  readonly created: string | undefined;
  readonly createdBy: string;
  readonly comment: string | undefined;
  /** Bytes of the layer as it is stored; 0 where the step made none. */
  readonly size: number;
  readonly layer: string | undefined;
}

export interface LayerInfo {
  readonly digest: string;
  readonly mediaType: string;
  /** Compressed, and unpacked (bytes of its files). */
  readonly size: number;
  readonly unpackedSize: number | undefined;
  readonly diffId: string;
  readonly chainId: string;
  /** The directory that overlayfs stacks. */
  readonly path: string;
  /** False where only the unpacked files are kept. */
  readonly blob: boolean;
}

export interface ImageDetails {
  readonly record: ImageRecord;
  readonly layers: readonly LayerInfo[];
  /** When it was pulled, imported or packed; RFC 3339. */
  readonly stored: string | undefined;
}

export interface Removed {
  /** Names that are gone. */
  readonly untagged: readonly string[];
  /** IDs of images that are gone. */
  readonly images: readonly string[];
  /** Freed: bytes of blobs, and how many blobs and layers. */
  readonly bytes: number;
  readonly blobs: number;
  readonly layers: number;
}

export interface StoreUsage {
  readonly images: { readonly count: number };
  readonly blobs: { readonly count: number; readonly bytes: number };
  /** Bytes of files, and their number. */
  readonly layers: { readonly count: number; readonly bytes: number; readonly inodes: number };
}

export interface CatalogParts {
  readonly paths: StorePaths;
  readonly index: IndexFile;
  readonly records: Records;
  readonly layers: LayerStore;
  readonly snapshots: SnapshotStore;
  readonly pool: WorkerPool;
}

export class Catalog {
  readonly #paths: StorePaths;
  readonly #index: IndexFile;
  readonly #records: Records;
  readonly #layers: LayerStore;
  readonly #snapshots: SnapshotStore;
  readonly #pool: WorkerPool;

  constructor(parts: CatalogParts) {
    this.#paths = parts.paths;
    this.#index = parts.index;
    this.#records = parts.records;
    this.#layers = parts.layers;
    this.#snapshots = parts.snapshots;
    this.#pool = parts.pool;
  }

  list(): readonly ImageRecord[] {
    return this.#records.list();
  }

  /** See ImageSource. Throws AMBIGUOUS_IMAGE where a short ID fits several. */
  resolve(text: string): ImageRecord | undefined {
    const records = this.#records.list();
    const hex = /^(?:sha256:)?([0-9a-f]{4,64})$/.exec(text)?.[1];
    if (hex?.length === 64) {
      const id = `sha256:${hex}`;
      return (
        records.find((record) => record.id === id) ?? records.find((record) => record.manifestDigest === id)
      );
    }
    const named = this.#byReference(text, records);
    if (named !== undefined || hex === undefined) return named;
    const found = records.filter((record) => record.id.startsWith(`sha256:${hex}`));
    if (found.length > 1) {
      throw new NodeletError(
        'AMBIGUOUS_IMAGE',
        `cannot tell which image ${quote(text)} is: ${found.length} IDs begin so`,
        {
          hint: 'give more digits',
        },
      );
    }
    return found[0];
  }

  #byReference(text: string, records: readonly ImageRecord[]): ImageRecord | undefined {
    let reference: Reference;
    try {
      reference = parseReference(text);
    } catch {
      return undefined;
    }
    const { name, digest } = reference;
    if (digest === undefined) {
      const tag = formatReference(reference);
      return records.find((record) => record.repoTags.includes(tag));
    }
    const exact = `${name}@${digest}`;
    // The registry's name for one platform's manifest finds it as well.
    const mine = (record: ImageRecord): boolean =>
      record.manifestDigest === digest && record.repoDigests.some((known) => known.startsWith(`${name}@`));
    return records.find((record) => record.repoDigests.includes(exact)) ?? records.find(mine);
  }

  /** Like resolve. Throws IMAGE_NOT_FOUND. */
  require(text: string): ImageRecord {
    const record = this.resolve(text);
    if (record !== undefined) return record;
    throw notFound(text);
  }

  inspect(text: string): ImageDetails {
    const record = this.require(text);
    const content = this.#records.content(record.manifestDigest);
    const layers = (content?.manifest.layers ?? []).map((layer, i): LayerInfo => {
      const chainId = record.chainIds[i] ?? '';
      return {
        digest: layer.digest,
        mediaType: layer.mediaType,
        size: layer.size,
        unpackedSize: this.#layers.record(chainId)?.bytes,
        diffId: record.config.rootfs.diff_ids[i] ?? '',
        chainId,
        path: this.#paths.layerFiles(chainId),
        blob: existsSync(this.#paths.blob(layer.digest)),
      };
    });
    const entries = this.#index.entries().filter((entry) => entryManifest(entry) === record.manifestDigest);
    const stored = entries
      .map((entry) => entry.annotations?.[ANNOTATION.stored] ?? '')
      .sort()
      .at(-1);
    return { record, layers, stored: stored === '' ? undefined : stored };
  }

  /** Every image with what it costs and who uses it. */
  summaries(): readonly ImageSummary[] {
    const users = this.#snapshots.users();
    const mounts = imageMounts();
    return summarize(
      this.list().map((record) => {
        const { layers, stored } = this.inspect(record.id);
        return {
          record,
          layers,
          stored,
          users: users.get(record.id) ?? [],
          mounts: mounts.get(record.id) ?? [],
        };
      }),
    );
  }

  history(text: string): readonly HistoryLine[] {
    const { record, layers } = this.inspect(text);
    let next = 0;
    const lines = (record.config.history ?? []).map((step): HistoryLine => {
      const layer = step.empty_layer === true ? undefined : layers[next];
      if (layer !== undefined) next += 1;
      return {
        created: step.created,
        createdBy: step.created_by ?? '',
        comment: step.comment,
        size: layer?.size ?? 0,
        layer: layer?.digest,
      };
    });
    // A config may tell less than the manifest has.
    for (const layer of layers.slice(next)) {
      lines.push({
        created: undefined,
        createdBy: '',
        comment: undefined,
        size: layer.size,
        layer: layer.digest,
      });
    }
    return lines.reverse();
  }

  usage(): StoreUsage {
    let bytes = 0;
    const blobs = readdirSync(this.#paths.blobs);
    for (const hex of blobs)
      bytes += statSync(join(this.#paths.blobs, hex), { throwIfNoEntry: false })?.size ?? 0;
    const layers = readdirSync(this.#paths.layers).map((hex) => this.#layers.record(`sha256:${hex}`));
    return {
      images: { count: this.list().length },
      blobs: { count: blobs.length, bytes },
      layers: {
        count: layers.length,
        bytes: layers.reduce((sum, layer) => sum + (layer?.bytes ?? 0), 0),
        inodes: layers.reduce((sum, layer) => sum + (layer?.entries ?? 0), 0),
      },
    };
  }

  /** An image with its documents, and the tags that `text` means: by name that one, by ID all. For export. */
  exportItem(text: string): { readonly content: ImageContent; readonly names: readonly string[] } {
    const record = this.require(text);
    const content = this.#records.content(record.manifestDigest);
    if (content === undefined) throw notFound(text);
    const named =
      this.#byReference(text, [record]) === undefined ? undefined : formatReference(parseReference(text));
    return { content, names: record.repoTags.filter((tag) => named === undefined || tag === named) };
  }

  /** Gives an image one more name. */
  tag(source: string, target: string): void {
    const record = this.require(source);
    const reference = parseReference(target);
    if (reference.digest !== undefined) {
      throw new NodeletError('INVALID_REFERENCE', `cannot tag ${quote(target)}: a tag has no digest`);
    }
    this.#index.update((entries) => {
      const entry = entries.find((candidate) => entryManifest(candidate) === record.manifestDigest);
      if (entry === undefined) return entries;
      return setNames(entries, new Set([storedName(reference)]), entry, record.manifestDigest, new Date());
    });
  }

  /** A pinned image is not pruned. */
  pin(text: string, pinned: boolean): void {
    const record = this.require(text);
    this.#index.update((entries) =>
      entries.map((entry) => {
        if (entryManifest(entry) !== record.manifestDigest) return entry;
        const { [ANNOTATION.pinned]: _, ...annotations } = entry.annotations ?? {};
        return {
          ...entry,
          annotations: pinned ? { ...annotations, [ANNOTATION.pinned]: 'true' } : annotations,
        };
      }),
    );
  }

  /**
   * Removes a name, and the image with its last one; by ID all names. Throws IMAGE_IN_USE where that would take the
   * image of a container, unless `force`: then its layers stay until the container is gone.
   */
  async remove(text: string, options: { readonly force?: boolean } = {}): Promise<Removed> {
    const record = this.require(text);
    const named = this.#byReference(text, [record]);
    const doomed = named === undefined ? undefined : namesToRemove(record, parseReference(text));
    const isDoomed = (name: string | undefined): boolean =>
      doomed === undefined || (name !== undefined && doomed.has(name));
    const all = [...record.repoTags, ...record.repoDigests];
    const last = doomed === undefined || all.every((name) => doomed.has(name));
    if (last && options.force !== true) {
      const [mounted] = imageMounts().get(record.id) ?? [];
      if (mounted !== undefined) {
        throw new NodeletError(
          'IMAGE_IN_USE',
          `cannot remove image ${quote(text)}: it is mounted on "${mounted}"`,
          { hint: `nodelet image umount ${text}` },
        );
      }
      if (this.#snapshots.inUse().images.has(record.id)) {
        throw new NodeletError('IMAGE_IN_USE', `cannot remove image ${quote(text)}: containers use it`, {
          hint: 'remove them first, or use --force',
        });
      }
    }
    const goes = (entry: IndexEntry): boolean => this.#isOf(entry, record) && isDoomed(entryName(entry));
    const scope = last ? scopeOf(this.#records, record) : undefined;
    const { untagged, swept } = await this.#drop(goes, scope);
    return { untagged, images: last ? [record.id] : [], ...swept };
  }

  #isOf(entry: IndexEntry, record: ImageRecord): boolean {
    return this.#records.content(entryManifest(entry))?.manifest.config.digest === record.id;
  }

  /** Takes entries out of the index, then what `scope` names and nobody needs any more. */
  async #drop(
    goes: (entry: IndexEntry) => boolean,
    scope: Omit<SweepOptions, 'now'> | undefined,
  ): Promise<{
    readonly untagged: readonly string[];
    readonly swept: Pick<Swept, 'bytes' | 'blobs' | 'layers'>;
  }> {
    let untagged: readonly string[] = [];
    const unname = (): void => {
      this.#index.update((entries) => {
        const doomed = entries.filter(goes);
        untagged = doomed.flatMap((entry) => entryName(entry) ?? []);
        return doomed.length === 0 ? entries : entries.filter((entry) => !doomed.includes(entry));
      });
    };
    const nothing = { bytes: 0, blobs: 0, layers: 0 };
    let first = nothing;
    try {
      unname();
    } catch (error) {
      if (!hasCode(error, 'DISK_FULL') || scope === undefined) throw error;
      // No room even for a shorter index: make some. Killed in between, the images are named and cannot be run, so
      // they are not shown, and the next pull or prune mends that.
      first = await this.sweep(scope, goes);
      unname();
    }
    const { bytes, blobs, layers } = scope === undefined ? nothing : await this.sweep(scope);
    this.#records.forget();
    return {
      untagged,
      swept: { bytes: bytes + first.bytes, blobs: blobs + first.blobs, layers: layers + first.layers },
    };
  }

  /** IDs of images that containers stand on or that are mounted. */
  used(): ReadonlySet<string> {
    return new Set([...this.#snapshots.inUse().images, ...imageMounts().keys()]);
  }

  /**
   * Removes images without a tag (with `all` every image) that no container uses and that are not pinned, and
   * everything that belongs to no image.
   */
  async prune(options: { readonly all?: boolean } = {}): Promise<Removed> {
    const used = this.used();
    const records = this.list();
    const doomed = records.filter(
      (record) =>
        !record.pinned && !used.has(record.id) && (options.all === true || record.repoTags.length === 0),
    );
    const known = new Set(records.map((record) => record.id));
    const goes = (entry: IndexEntry): boolean => {
      const id = this.#records.content(entryManifest(entry))?.manifest.config.digest;
      // What we wrote and cannot be run any more is not in the list.
      const broken =
        entry.annotations?.[ANNOTATION.stored] !== undefined && (id === undefined || !known.has(id));
      return doomed.some((record) => record.id === id) || (options.all === true && broken);
    };
    const { untagged, swept } = await this.#drop(goes, { blobs: 'all', chains: 'all', partials: true });
    return { untagged, images: doomed.map((record) => record.id), ...swept };
  }

  #mountedChains(): string[] {
    const mounted = imageMounts();
    if (mounted.size === 0) return [];
    return this.list().flatMap((record) => (mounted.has(record.id) ? record.chainIds : []));
  }

  /**
   * Takes away what nobody needs, as far as `options` say, and what dead processes left half made. Index entries that
   * are `leaving` count as gone already.
   */
  async sweep(
    options: Omit<SweepOptions, 'now'>,
    leaving: (entry: IndexEntry) => boolean = () => false,
  ): Promise<Swept> {
    using lease = new Lease(this.#paths);
    const rootsOf = (needs: Roots['needs']): Roots => ({
      entries: this.#index.entries().filter((entry) => !leaving(entry)),
      content: (digest) => this.#records.content(digest),
      needs,
      snapshotChains: [...this.#snapshots.inUse().chains, ...this.#mountedChains()],
    });
    const swept = sweep(this.#paths, lease, rootsOf, { ...options, now: Date.now() });
    this.#records.forget();
    if (swept.trash.length > 0) await this.#pool.run('remove', { paths: swept.trash });
    return swept;
  }
}

function notFound(text: string): NodeletError {
  return new NodeletError('IMAGE_NOT_FOUND', `cannot find image ${quote(text)} on this machine`, {
    hint: `pull it with: nodelet image pull ${text}`,
  });
}

/** A tag's own name, and the digest's name where no other tag of the repository needs it. */
function namesToRemove(record: ImageRecord, reference: Reference): ReadonlySet<string> {
  const name = storedName(reference);
  const names = new Set([name]);
  if (reference.digest !== undefined) return names;
  const others = record.repoTags.filter((tag) => tag !== name && tag.startsWith(`${reference.name}:`));
  if (others.length > 0) return names;
  for (const digest of record.repoDigests) if (digest.startsWith(`${reference.name}@`)) names.add(digest);
  return names;
}

function scopeOf(records: Records, record: ImageRecord): Omit<SweepOptions, 'now'> {
  const layers = records.content(record.manifestDigest)?.manifest.layers ?? [];
  const named = record.repoDigests.map((name) => name.slice(name.indexOf('@') + 1));
  const blobs = new Set([...named, record.manifestDigest, record.id, ...layers.map((layer) => layer.digest)]);
  return { blobs, chains: new Set(record.chainIds), partials: false };
}
