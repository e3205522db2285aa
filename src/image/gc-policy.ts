/**
 * Which images go when the disk of the image store fills up: the kubelet's rules (image_gc_manager.go). Pure; times are
 * milliseconds since 1970.
 */
export interface GcPolicy {
  /** Per cent of the disk in use from which on images are removed, and down to which. 100 switches it off. */
  readonly highThresholdPercent: number;
  readonly lowThresholdPercent: number;
  /** Images that were seen first a shorter time ago stay. */
  readonly minimumAge: number;
  /** Images unused for longer go whatever the disk; 0 for never. */
  readonly maximumAge: number;
}

export const defaultGcPolicy: GcPolicy = {
  highThresholdPercent: 85,
  lowThresholdPercent: 80,
  minimumAge: 120_000,
  maximumAge: 0,
};

/** An image as the collector has seen it. */
export interface SeenImage {
  readonly id: string;
  readonly firstSeen: number;
  /** 0 where no container was seen with it. */
  readonly lastUsed: number;
  readonly inUse: boolean;
  readonly pinned: boolean;
  /** Bytes that its removal gives back at least. */
  readonly bytes: number;
}

export interface Disk {
  readonly capacity: number;
  readonly available: number;
}

export interface GcPlan {
  /** IDs, in the order in which they go. */
  readonly remove: readonly string[];
  /** Bytes that have to become free; 0 where the disk has room. */
  readonly wanted: number;
}

/** Unused too long: all of them. Too full: the longest unused first, and of those the oldest, until there is room. */
export function planGc(images: readonly SeenImage[], disk: Disk, policy: GcPolicy, now: number): GcPlan {
  const idle = images.filter((image) => !image.inUse && !image.pinned);
  const unusedFor = (image: SeenImage): number => now - Math.max(image.lastUsed, image.firstSeen);
  const old = policy.maximumAge > 0 ? idle.filter((image) => unusedFor(image) > policy.maximumAge) : [];
  const used = disk.capacity === 0 ? 0 : Math.floor(((disk.capacity - disk.available) * 100) / disk.capacity);
  if (policy.highThresholdPercent >= 100 || used < policy.highThresholdPercent)
    return { remove: old.map(({ id }) => id), wanted: 0 };
  const wanted = Math.ceil((disk.capacity * (100 - policy.lowThresholdPercent)) / 100) - disk.available;
  let freed = old.reduce((sum, { bytes }) => sum + bytes, 0);
  const remove = [...old];
  const rest = idle
    .filter((image) => !old.includes(image) && now - image.firstSeen >= policy.minimumAge)
    .sort((a, b) => a.lastUsed - b.lastUsed || a.firstSeen - b.firstSeen || (a.id < b.id ? -1 : 1));
  for (const image of rest) {
    if (freed >= wanted) break;
    freed += image.bytes;
    remove.push(image);
  }
  return { remove: remove.map(({ id }) => id), wanted };
}
