/** The image store of `--root`, opened for one command. */
import type { Command } from 'commander';
import { type AgentConfig, readFlags, resolveConfig } from '../../agent/index.ts';
import type { Log } from '../../base/index.ts';
import type { ImagePeek, ImageService } from '../../image/index.ts';
import { globalsOf } from '../context.ts';
import { note } from '../output.ts';

/** Directories as --root and --state name them. */
export function imageConfig(command: Command): AgentConfig {
  const { root, state } = globalsOf(command);
  return resolveConfig(readFlags({ root, state }));
}

/** Warnings as lines; the rest is silence. */
const warnings: Log = {
  debug() {},
  info() {},
  warn(fields, message) {
    note(`Warning: ${message}${'error' in fields ? `: ${String(fields.error)}` : ''}`);
  },
  error(fields, message) {
    warnings.warn(fields, message);
  },
  child() {
    return warnings;
  },
};

export interface StoreOptions {
  readonly insecureRegistries?: readonly string[];
  readonly credentialFile?: string;
  readonly hostDirectories?: readonly string[];
  readonly maxBandwidth?: number;
  readonly keepBlobs?: boolean;
}

/** `--no-keep-blobs`, for commands that bring images. */
export function addKeepBlobs(command: Command): void {
  command.option('--no-keep-blobs', 'remove the compressed layers once they are unpacked');
}

export interface KeepBlobs {
  readonly keepBlobs: boolean;
}

/** Opens the store, and closes it whatever becomes of the work. */
export async function withImages<T>(
  command: Command,
  work: (images: ImageService) => Promise<T>,
  options: StoreOptions = {},
): Promise<T> {
  const { openImages } = await import('../../image/index.ts');
  const images = openImages({ root: imageConfig(command).root, log: warnings, ...options });
  try {
    return await work(images);
  } finally {
    await images.close();
  }
}

/** For commands that change nothing: a store that is not there is not made. */
export async function peekImages(command: Command): Promise<ImagePeek> {
  const { ImagePeek } = await import('../../image/index.ts');
  return new ImagePeek(imageConfig(command).root);
}
