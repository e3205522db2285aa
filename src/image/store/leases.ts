/**
 * What work in progress needs of the store. A lease is a file, locked as long as its owner lives; the collector spares
 * what the leases of living owners name, and takes the rest for leftovers. Names of half-made things carry the id of
 * their lease.
 *
 * The rule that makes it safe: a lease names a thing under the store's lock before its owner looks whether the thing
 * is there; the collector marks and sweeps under the same lock.
 */
import { randomBytes } from 'node:crypto';
import { ftruncateSync, readdirSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { NodeletError, readTextIfExists } from '../../base/index.ts';
import { type HeldLock, tryLock, withLock } from './lock.ts';
import type { StorePaths } from './paths.ts';

export interface Needs {
  readonly blobs: readonly string[];
  readonly chains: readonly string[];
}

export class Lease implements Disposable {
  /** Part of the names of everything that this work has half made. */
  readonly id: string;
  readonly #paths: StorePaths;
  readonly #file: string;
  readonly #lock: HeldLock;
  readonly #blobs = new Set<string>();
  readonly #chains = new Set<string>();
  #names = 0;
  #open = true;

  constructor(paths: StorePaths, needs: Partial<Needs> = {}) {
    this.id = `${process.pid}-${randomBytes(6).toString('hex')}`;
    this.#paths = paths;
    this.#file = join(paths.leases, this.id);
    this.#lock = withLock(paths.lock, () => {
      const lock = tryLock(this.#file);
      if (lock === undefined) throw new NodeletError('INTERNAL', `cannot lock the new lease "${this.#file}"`);
      this.#write(lock, needs);
      return lock;
    });
  }

  /** Protects blobs and layers from the collector, whether they exist yet or not. */
  hold(needs: Partial<Needs>): void {
    withLock(this.#paths.lock, () => this.#write(this.#lock, needs));
  }

  #write(lock: HeldLock, needs: Partial<Needs>): void {
    for (const digest of needs.blobs ?? []) this.#blobs.add(digest);
    for (const chain of needs.chains ?? []) this.#chains.add(chain);
    // Nothing to say costs no room: the collector's own lease works on a full disk.
    if (this.#blobs.size + this.#chains.size === 0) return;
    const text = Buffer.from(JSON.stringify({ blobs: [...this.#blobs], chains: [...this.#chains] }));
    // In place: a new file would not have the lock. Readers hold the store's lock.
    ftruncateSync(lock.fd, 0);
    writeSync(lock.fd, text, 0, text.length, 0);
  }

  /** A name for something half made that nobody else uses. */
  nextName(): string {
    this.#names += 1;
    return `${this.id}-${this.#names}`;
  }

  release(): void {
    if (!this.#open) return;
    this.#open = false;
    rmSync(this.#file, { force: true });
    this.#lock.release();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

export interface LeaseState {
  /** Ids of leases whose owner lives. */
  readonly alive: ReadonlySet<string>;
  readonly needs: Needs;
}

/** Reads all leases and removes those of dead owners. Call it with the store's lock held. */
export function readLeases(paths: StorePaths): LeaseState {
  const alive = new Set<string>();
  const blobs: string[] = [];
  const chains: string[] = [];
  for (const id of readdirSync(paths.leases)) {
    const file = join(paths.leases, id);
    const lock = tryLock(file);
    if (lock !== undefined) {
      rmSync(file, { force: true });
      lock.release();
      continue;
    }
    alive.add(id);
    const text = readTextIfExists(file);
    if (text === undefined || text === '') continue; // released, or opened a moment ago
    const needs = JSON.parse(text) as Needs;
    blobs.push(...needs.blobs);
    chains.push(...needs.chains);
  }
  return { alive, needs: { blobs, chains } };
}

/** The lease that a half-made thing's name belongs to. */
export function leaseOf(name: string): string {
  return name.replace(/-\d+$/, '');
}
