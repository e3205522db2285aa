/**
 * Images as volumes (KEP-4639). Nothing is unpacked or mounted on the host: the container's own plan lays the image's layers on
 * each other. A snapshot that nobody writes to keeps the layers from being collected while the container exists.
 */
import { posix } from 'node:path';
import { NodeletError } from '../base/index.ts';
import type { LocalContainerConfig, LocalMount } from '../cri/index.ts';
import type { ImageRecord, ImageSource } from '../image/index.ts';

type Images = Pick<ImageSource, 'resolve' | 'prepare' | 'removeSnapshot'>;

function imageOf(mount: LocalMount): string {
  return mount.image?.image ?? '';
}

/** Throws INVALID_ARGUMENT and IMAGE_NOT_FOUND, naming the mount. */
function resolve(images: Images, mount: LocalMount): ImageRecord {
  const field = `mounts: ${JSON.stringify(mount.containerPath ?? '')}`;
  if ((mount.hostPath ?? '') !== '')
    throw new NodeletError('INVALID_ARGUMENT', `${field}: hostPath and image exclude each other`);
  const path = mount.imageSubPath ?? '';
  if (path.startsWith('/') || path.split('/').includes('..') || path.includes('\0'))
    throw new NodeletError(
      'INVALID_ARGUMENT',
      `${field}: imageSubPath ${JSON.stringify(path)} leads out of the image`,
      { hint: 'use a relative path without ".."' },
    );
  const image = images.resolve(imageOf(mount));
  if (image === undefined)
    throw new NodeletError(
      'IMAGE_NOT_FOUND',
      `${field}: image ${JSON.stringify(imageOf(mount))} is not on this machine`,
      { hint: `pull it first: nodelet image pull ${imageOf(mount)}` },
    );
  return image;
}

/** Snapshots beside a container's own carry its id, too. */
function snapshotKey(containerId: string, index: number): string {
  return `${containerId}-${index}`;
}

/** The container whose snapshot this is. */
export function ownerOfSnapshot(key: string): string {
  return key.slice(0, 64);
}

/** Layers by destination, topmost first. May be repeated: what was made is found again. */
export function prepareImageMounts(
  images: Images,
  containerId: string,
  config: LocalContainerConfig,
): Map<string, readonly string[]> {
  const layers = new Map<string, readonly string[]>();
  for (const [i, mount] of (config.mounts ?? []).entries()) {
    if (imageOf(mount) === '') continue;
    const { lower } = images.prepare(snapshotKey(containerId, i), resolve(images, mount));
    layers.set(posix.normalize(mount.containerPath ?? '').replace(/(.)\/$/, '$1'), lower);
  }
  return layers;
}

export async function removeImageMounts(
  images: Images,
  containerId: string,
  config: LocalContainerConfig,
): Promise<void> {
  for (const [i, mount] of (config.mounts ?? []).entries())
    if (imageOf(mount) !== '') await images.removeSnapshot(snapshotKey(containerId, i));
}
