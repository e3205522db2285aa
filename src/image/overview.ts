/** What images cost and who uses them: pure sums over layers and blobs, shared ones told from those of one image alone. */
import type { LayerInfo } from './catalog.ts';
import type { ImageRecord } from './types.ts';

/** One image with all that is asked of it for a list. */
export interface ImageFacts {
  readonly record: ImageRecord;
  readonly layers: readonly LayerInfo[];
  /** When it was pulled, imported or packed; RFC 3339. */
  readonly stored: string | undefined;
  /** Containers whose root it is. */
  readonly users: readonly string[];
  /** Directories that it is mounted on. */
  readonly mounts: readonly string[];
}

export interface ImageSummary extends ImageFacts {
  /** Bytes on the disk: files of its layers, and what is kept of them compressed. */
  readonly diskSize: number;
  /** Those of them that no other image has: what its removal gives back. */
  readonly uniqueSize: number;
  readonly sharedSize: number;
}

/** Bytes by the key of the thing that takes them: an image counts each of its things once. */
function thingsOf({ record, layers }: ImageFacts): ReadonlyMap<string, number> {
  const things = new Map<string, number>();
  const compressed = layers.reduce((sum, layer) => sum + layer.size, 0);
  things.set(`documents ${record.manifestDigest}`, Math.max(0, record.size - compressed));
  for (const layer of layers) {
    if (layer.blob) things.set(`blob ${layer.digest}`, layer.size);
    things.set(`layer ${layer.chainId}`, layer.unpackedSize ?? 0);
  }
  return things;
}

export function summarize(images: readonly ImageFacts[]): ImageSummary[] {
  const holders = new Map<string, number>();
  const all = images.map(thingsOf);
  for (const things of all) for (const key of things.keys()) holders.set(key, (holders.get(key) ?? 0) + 1);
  return images.map((image, i) => {
    let diskSize = 0;
    let uniqueSize = 0;
    for (const [key, bytes] of all[i] ?? []) {
      diskSize += bytes;
      if (holders.get(key) === 1) uniqueSize += bytes;
    }
    return { ...image, diskSize, uniqueSize, sharedSize: diskSize - uniqueSize };
  });
}

/** A layer in the tree of all layers: below it what stands on it. */
export interface LayerNode {
  readonly chainId: string;
  readonly digest: string;
  readonly unpackedSize: number;
  /** Names (or IDs) of the images whose topmost layer it is. */
  readonly images: readonly string[];
  readonly above: readonly LayerNode[];
}

interface Growing extends LayerNode {
  readonly images: string[];
  readonly above: Growing[];
}

/** The layers of all images as trees: images that begin with the same layers share their trunk. */
export function layerTree(images: readonly Pick<ImageFacts, 'record' | 'layers'>[]): LayerNode[] {
  const roots: Growing[] = [];
  for (const { record, layers } of images) {
    let level = roots;
    let top: Growing | undefined;
    for (const layer of layers) {
      top = level.find((node) => node.chainId === layer.chainId);
      if (top === undefined) {
        const { chainId, digest, unpackedSize = 0 } = layer;
        top = { chainId, digest, unpackedSize, images: [], above: [] };
        level.push(top);
      }
      level = top.above;
    }
    const names = record.repoTags.length > 0 ? record.repoTags : [record.id];
    top?.images.push(...names);
  }
  return roots;
}
