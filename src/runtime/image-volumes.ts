/** Directories for the VOLUMEs of an image: empty but for what the image has there, gone with the container. */
import { mkdirSync } from 'node:fs';
import { join, posix } from 'node:path';
import type { LocalContainerConfig } from '../cri/index.ts';
import type { ImageRecord } from '../image/index.ts';
import type { RuntimeContext } from './context.ts';

/** Destinations of the image's VOLUMEs that no mount of the request covers. */
export function imageVolumes(config: LocalContainerConfig, image: ImageRecord): string[] {
  const taken = new Set((config.mounts ?? []).map((mount) => posix.normalize(mount.containerPath ?? '')));
  return Object.keys(image.config.config?.Volumes ?? {})
    .map((path) => posix.normalize(`/${path}`))
    .filter((path) => path !== '/' && !taken.has(path))
    .sort();
}

export function volumeDirectory(
  context: Pick<RuntimeContext, 'paths'>,
  containerId: string,
  index?: number,
): string {
  const base = join(context.paths.root, 'volumes', containerId);
  return index === undefined ? base : join(base, String(index));
}

export async function makeVolumes(
  context: RuntimeContext,
  config: LocalContainerConfig,
  containerId: string,
  image: ImageRecord,
): Promise<void> {
  const volumes = imageVolumes(config, image);
  for (const [index, path] of volumes.entries()) {
    const directory = volumeDirectory(context, containerId, index);
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    await context.images.copyOut(image, path, directory);
  }
}
