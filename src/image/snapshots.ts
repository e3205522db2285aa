/**
 * Writable directories of containers. A snapshot is made under another name and renamed, so one that can be seen is
 * whole. Nothing here is synced: what a container wrote belongs to a container that does not survive a power cut.
 */
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { failpoint, hasCode, NodeletError, readJsonIfExists } from '../base/index.ts';
import { quote } from './digest.ts';
import { Lease } from './store/leases.ts';
import { withLock } from './store/lock.ts';
import type { StorePaths } from './store/paths.ts';
import type { ImageRecord, Snapshot } from './types.ts';
import type { WorkerPool } from './unpack/pool.ts';

/** snapshot.json. */
interface SnapshotRecord {
  readonly imageId: string;
  readonly chainIds: readonly string[];
}

export class SnapshotStore {
  readonly #paths: StorePaths;
  readonly #pool: WorkerPool;
  readonly #hasLayer: (chainId: string) => boolean;

  constructor(paths: StorePaths, pool: WorkerPool, hasLayer: (chainId: string) => boolean) {
    this.#paths = paths;
    this.#pool = pool;
    this.#hasLayer = hasLayer;
  }

  /** See ImageSource.prepare. */
  prepare(key: string, image: Pick<ImageRecord, 'id' | 'chainIds'>): Snapshot {
    const target = this.#pathOf(key);
    const known = this.#record(key);
    if (known !== undefined) {
      if (known.chainIds.join() !== image.chainIds.join()) {
        throw new NodeletError(
          'SNAPSHOT_EXISTS',
          `cannot prepare snapshot ${quote(key)}: it belongs to another image`,
          {
            details: { key, image: known.imageId },
          },
        );
      }
      return this.#snapshot(key, known.chainIds);
    }
    // All under the store's lock: the collector sees the layers without this snapshot, or with it. What a crash leaves
    // half made carries the id of no living lease, and is collected.
    return withLock(this.#paths.lock, () => this.#make(key, image, target));
  }

  #make(key: string, image: Pick<ImageRecord, 'id' | 'chainIds'>, target: string): Snapshot {
    const missing = image.chainIds.find((chainId) => !this.#hasLayer(chainId));
    if (missing !== undefined) {
      throw new NodeletError(
        'IMAGE_NOT_FOUND',
        `cannot prepare a root for image ${image.id}: layer ${missing} is missing`,
        { hint: 'pull the image again' },
      );
    }
    const directory = join(this.#paths.fresh, `snapshot-${randomBytes(6).toString('hex')}-1`);
    try {
      mkdirSync(directory, { mode: 0o700 });
      mkdirSync(join(directory, 'work'), { mode: 0o700 });
      mkdirSync(join(directory, 'upper'), { mode: 0o755 });
      if (image.chainIds.length === 0) mkdirSync(join(directory, 'empty'), { mode: 0o755 });
      this.#copyRootAttributes(image.chainIds, join(directory, 'upper'));
      const record: SnapshotRecord = { imageId: image.id, chainIds: image.chainIds };
      writeFileSync(join(directory, 'snapshot.json'), JSON.stringify(record), { mode: 0o600, flag: 'wx' });
      failpoint('snapshot:before-rename');
      renameSync(directory, target);
    } catch (error) {
      rmSync(directory, { recursive: true, force: true });
      throw error;
    }
    failpoint('snapshot:after-rename');
    return this.#snapshot(key, image.chainIds);
  }

  /** The upper directory is the container's "/": overlayfs shows its owner and mode, not those of the layers. */
  #copyRootAttributes(chainIds: readonly string[], upper: string): void {
    const top = chainIds.at(-1);
    if (top === undefined) return;
    const { uid, gid, mode } = statSync(this.#paths.layerFiles(top));
    chownSync(upper, uid, gid);
    chmodSync(upper, mode & 0o7777);
  }

  async remove(key: string): Promise<void> {
    const path = this.#pathOf(key);
    if (statSync(path, { throwIfNoEntry: false }) === undefined) return;
    using lease = new Lease(this.#paths);
    const trash = join(this.#paths.fresh, lease.nextName());
    try {
      renameSync(path, trash);
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return;
      throw error;
    }
    failpoint('snapshot:after-unlink');
    await this.#pool.run('remove', { paths: [trash] });
  }

  keys(): string[] {
    try {
      return readdirSync(this.#paths.active);
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return []; // a store that is only looked at may not be there
      throw error;
    }
  }

  async usage(key: string): Promise<{ readonly bytes: number; readonly inodes: number }> {
    return await this.#pool.run('measure', { path: join(this.#pathOf(key), 'upper') });
  }

  /** chainIDs that snapshots stand on, and the images that they were made from. */
  inUse(): { readonly chains: readonly string[]; readonly images: ReadonlySet<string> } {
    const chains: string[] = [];
    const images = new Set<string>();
    for (const key of this.keys()) {
      const record = this.#record(key);
      if (record === undefined) continue;
      chains.push(...record.chainIds);
      images.add(record.imageId);
    }
    return { chains, images };
  }

  /** Keys of snapshots by the image that they were made from. */
  users(): ReadonlyMap<string, readonly string[]> {
    const users = new Map<string, string[]>();
    for (const key of this.keys()) {
      const id = this.#record(key)?.imageId;
      if (id !== undefined) users.set(id, [...(users.get(id) ?? []), key]);
    }
    return users;
  }

  /** The one snapshot whose key begins so, as a container wrote to it. Throws CONTAINER_NOT_FOUND. */
  find(prefix: string): { readonly key: string; readonly snapshot: Snapshot } {
    const found = this.keys().filter((key) => key.startsWith(prefix));
    const [key] = found.includes(prefix) ? [prefix] : found;
    const record = key === undefined ? undefined : this.#record(key);
    if (key === undefined || record === undefined || (found.length > 1 && key !== prefix)) {
      const why = found.length > 1 ? `${found.length} containers have IDs that begin so` : 'there is none';
      throw new NodeletError('CONTAINER_NOT_FOUND', `cannot find container ${quote(prefix)}: ${why}`, {
        hint: 'list them with: nodelet ps',
      });
    }
    return { key, snapshot: this.#snapshot(key, record.chainIds) };
  }

  #pathOf(key: string): string {
    if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/.test(key)) {
      throw new NodeletError('INVALID_SNAPSHOT_KEY', `cannot use ${quote(key)} as the key of a snapshot`);
    }
    return this.#paths.snapshot(key);
  }

  #record(key: string): SnapshotRecord | undefined {
    return readJsonIfExists(join(this.#pathOf(key), 'snapshot.json')) as SnapshotRecord | undefined;
  }

  #snapshot(key: string, chainIds: readonly string[]): Snapshot {
    const path = this.#paths.snapshot(key);
    const lower = chainIds.map((chainId) => this.#paths.layerFiles(chainId)).reverse();
    // overlayfs wants a lower directory, and an image may have no layer
    if (lower.length === 0) lower.push(join(path, 'empty'));
    return { lower, upper: join(path, 'upper'), work: join(path, 'work') };
  }
}
