/** Keeps the image store's disk below its threshold: looks at it now and then, and removes what gc-policy.ts says. */
import { statfsSync } from 'node:fs';
import { describeError, hasCode, type Log, sleep } from '../base/index.ts';
import { type Disk, type GcPolicy, planGc, type SeenImage } from './gc-policy.ts';
import type { ImageService } from './service.ts';

export interface CollectorOptions {
  readonly images: ImageService;
  readonly policy: GcPolicy;
  readonly log: Log;
  /** Milliseconds between two looks; the kubelet's five minutes. */
  readonly interval?: number;
  /** For tests: a disk of any size. */
  readonly disk?: () => Disk;
  readonly now?: () => number;
}

export interface Collected {
  readonly images: readonly string[];
  /** Bytes that had to become free, and that were still missing afterwards. */
  readonly wanted: number;
  readonly missing: number;
}

const fiveMinutes = 300_000;

export class ImageCollector {
  readonly #options: CollectorOptions;
  readonly #now: () => number;
  readonly #disk: () => Disk;
  readonly #seen = new Map<string, { firstSeen: number; lastUsed: number }>();
  readonly #stop = new AbortController();
  #loop: Promise<void> | undefined;

  constructor(options: CollectorOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#disk = options.disk ?? (() => diskOf(options.images.path));
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  async #run(): Promise<void> {
    const { log, interval = fiveMinutes } = this.#options;
    const { signal } = this.#stop;
    for (;;) {
      try {
        await this.collect();
      } catch (error) {
        if (signal.aborted || hasCode(error, 'ABORTED')) return;
        log.warn({ error: describeError(error) }, 'images could not be collected');
      }
      try {
        await sleep(interval, signal);
      } catch {
        return;
      }
    }
  }

  /** One look. What cannot be removed is left for the next. */
  async collect(): Promise<Collected> {
    const { images, policy, log } = this.#options;
    const now = this.#now();
    const plan = planGc(this.#look(now), this.#disk(), policy, now);
    const removed: string[] = [];
    for (const id of plan.remove) {
      if (this.#stop.signal.aborted) break;
      try {
        await images.remove(id);
        removed.push(id);
      } catch (error) {
        // A container has come meanwhile, or somebody else has removed it.
        if (!hasCode(error, 'IMAGE_IN_USE', 'IMAGE_NOT_FOUND')) throw error;
      }
    }
    if (removed.length > 0) log.info({ images: removed, wanted: plan.wanted }, 'images were collected');
    const missing = plan.wanted === 0 ? 0 : Math.max(0, plan.wanted - this.#freed(plan.wanted));
    if (missing > 0) log.warn({ missing }, 'the disk of the images stays too full: what is left is in use');
    return { images: removed, wanted: plan.wanted, missing };
  }

  #freed(wanted: number): number {
    const { capacity, available } = this.#disk();
    const target = Math.ceil((capacity * (100 - this.#options.policy.lowThresholdPercent)) / 100);
    return wanted - Math.max(0, target - available);
  }

  #look(now: number): SeenImage[] {
    const summaries = this.#options.images.summaries();
    const here = new Set(summaries.map(({ record }) => record.id));
    for (const id of this.#seen.keys()) if (!here.has(id)) this.#seen.delete(id);
    return summaries.map(({ record, users, mounts, uniqueSize }) => {
      const inUse = users.length > 0 || mounts.length > 0;
      const before = this.#seen.get(record.id) ?? { firstSeen: now, lastUsed: 0 };
      const seen = inUse ? { ...before, lastUsed: now } : before;
      this.#seen.set(record.id, seen);
      return { id: record.id, ...seen, inUse, pinned: record.pinned, bytes: uniqueSize };
    });
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }
}

function diskOf(path: string): Disk {
  const { blocks, bavail, bsize } = statfsSync(path);
  return { capacity: blocks * bsize, available: bavail * bsize };
}
