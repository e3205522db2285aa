/**
 * Mark and sweep. `mark` is pure; `sweep` takes away what is not marked, under the store's lock and without waiting:
 * directories are renamed out of sight, and removed afterwards by somebody who has time.
 */
import { readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { failpoint, hasCode, isTemporaryName } from '../../base/index.ts';
import { chainIds } from '../digest.ts';
import { entryManifest, type IndexEntry } from './index-file.ts';
import { type Lease, leaseOf, readLeases } from './leases.ts';
import { tryLock, withLock } from './lock.ts';
import type { StorePaths } from './paths.ts';
import type { ImageContent } from './records.ts';

export interface Roots {
  readonly entries: readonly IndexEntry[];
  /** Documents of a manifest, undefined where they are not here. */
  readonly content: (manifestDigest: string) => ImageContent | undefined;
  /** Leases. */
  readonly needs: { readonly blobs: readonly string[]; readonly chains: readonly string[] };
  /** chainIDs (any layer of the stack) that writable snapshots stand on. */
  readonly snapshotChains: readonly string[];
}

export interface Marked {
  readonly blobs: ReadonlySet<string>;
  readonly chains: ReadonlySet<string>;
}

/** Everything that somebody needs. Pure. */
export function mark(roots: Roots): Marked {
  const blobs = new Set(roots.needs.blobs);
  const chains = new Set([...roots.needs.chains, ...roots.snapshotChains]);
  for (const entry of roots.entries) {
    blobs.add(entry.digest);
    const manifestDigest = entryManifest(entry);
    blobs.add(manifestDigest);
    const content = roots.content(manifestDigest);
    if (content === undefined) continue;
    blobs.add(content.manifest.config.digest);
    for (const layer of content.manifest.layers) blobs.add(layer.digest);
    for (const chain of chainIds(content.config.rootfs.diff_ids)) chains.add(chain);
  }
  return { blobs, chains };
}

export interface Swept {
  readonly blobs: number;
  readonly layers: number;
  /** Of the blobs. */
  readonly bytes: number;
  /** Paths that are out of sight and still have to be removed. */
  readonly trash: readonly string[];
}

/** How long a broken download waits for somebody to go on with it. */
const partialAge = 7 * 24 * 3600 * 1000;

export interface SweepOptions {
  /**
   * What may go where nobody needs it: only these digests (of an image that was removed: what a broken pull of
   * another has fetched stays for the next try), or everything.
   */
  readonly blobs: ReadonlySet<string> | 'all';
  readonly chains: ReadonlySet<string> | 'all';
  /** Partial downloads go whatever their age. */
  readonly partials: boolean;
  /** Milliseconds since 1970. */
  readonly now: number;
}

/**
 * Removes unmarked blobs and layers, and leftovers. `rootsOf` is called with the store's lock held. What is out of
 * sight belongs to `lease` until it has been removed.
 */
export function sweep(
  paths: StorePaths,
  lease: Lease,
  rootsOf: (needs: Roots['needs']) => Roots,
  options: SweepOptions,
): Swept {
  const mayGo = (scope: ReadonlySet<string> | 'all', digest: string): boolean =>
    scope === 'all' || scope.has(digest);
  return withLock(paths.lock, () => {
    const leases = readLeases(paths);
    const marked = mark(rootsOf(leases.needs));
    let blobs = 0;
    let bytes = 0;
    for (const hex of readdirSync(paths.blobs)) {
      const digest = `sha256:${hex}`;
      if (marked.blobs.has(digest) || !mayGo(options.blobs, digest)) continue;
      const path = join(paths.blobs, hex);
      bytes += statSync(path, { throwIfNoEntry: false })?.size ?? 0;
      rmSync(path, { force: true });
      blobs += 1;
    }
    failpoint('gc:after-blobs');
    const trash: string[] = [];
    for (const hex of readdirSync(paths.layers)) {
      const chain = `sha256:${hex}`;
      if (marked.chains.has(chain) || !mayGo(options.chains, chain)) continue;
      const path = join(paths.fresh, lease.nextName());
      renameSync(join(paths.layers, hex), path);
      trash.push(path);
    }
    failpoint('gc:after-layers');
    const age = options.partials ? 0 : partialAge;
    const leftovers = collectLeftovers(paths, leases.alive, options.now, age, marked.blobs);
    return { blobs, layers: trash.length, bytes, trash: [...trash, ...leftovers] };
  });
}

/** What owners left behind who are gone: half-made layers and snapshots, spool files, old partial downloads. */
function collectLeftovers(
  paths: StorePaths,
  alive: ReadonlySet<string>,
  now: number,
  age: number,
  needed: ReadonlySet<string>,
): string[] {
  const found: string[] = [];
  for (const name of readdirSync(paths.fresh)) {
    const path = join(paths.fresh, name);
    if (name.endsWith('.lock')) removeUnlocked(path);
    else if (!alive.has(leaseOf(name))) found.push(path);
  }
  for (const name of readdirSync(paths.ingest)) {
    const path = join(paths.ingest, name);
    if (/^[0-9a-f]{64}$/.test(name)) {
      const stat = statSync(path, { throwIfNoEntry: false });
      if (stat !== undefined && now - stat.mtimeMs >= age && !needed.has(`sha256:${name}`))
        removeUnlocked(path);
    } else if (!alive.has(leaseOf(name))) {
      found.push(path);
    }
  }
  for (const name of readdirSync(paths.images)) {
    // index.json is only ever replaced under the lock that we hold
    if (isTemporaryName(name)) rmSync(join(paths.images, name), { force: true });
  }
  return found;
}

function removeUnlocked(path: string): void {
  try {
    const lock = tryLock(path, false);
    if (lock === undefined) return;
    rmSync(path, { force: true });
    lock.release();
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}
