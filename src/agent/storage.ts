/** Whether pods can be run here: by this user, with their files below --root. */
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { hasCode, NodeletError } from '../base/index.ts';
import { fileSystemName, tryOverlay } from '../linux/overlay.ts';

/** Throws ROOT_REQUIRED. */
export function checkRoot(): void {
  if (process.getuid?.() === 0) return;
  throw new NodeletError(
    'ROOT_REQUIRED',
    'cannot run pods: root is needed to make namespaces, cgroups and mounts',
    { hint: 'run it with sudo' },
  );
}

/** The directory itself, or the first above it that is there: they are in the same file system. */
export function existing(path: string): string {
  return existsSync(path) ? path : existing(dirname(path));
}

/** What the kernel says of a file system that cannot be an upper layer, or of an overlayfs that it does not have. */
const UNSUITABLE = ['EINVAL', 'EOPNOTSUPP', 'ENOSYS', 'ENODEV', 'EROFS'] as const;

/**
 * Before anything is made below it. Throws ROOT_UNSUITABLE where the file system cannot hold containers' layers: with an
 * EINVAL the first container would tell it, later and in other words.
 */
export function checkStorage(root: string): void {
  const directory = existing(root);
  try {
    tryOverlay(directory);
  } catch (error) {
    // A disk that is full is no reason not to look after what runs; what it lacks is told by whoever wants to write there.
    if (!hasCode(error, ...UNSUITABLE)) return;
    throw unsuitable(root, directory, error);
  }
}

function unsuitable(root: string, directory: string, cause: unknown): NodeletError {
  if (hasCode(cause, 'ENODEV'))
    return new NodeletError('ROOT_UNSUITABLE', `cannot use root "${root}": this kernel has no overlayfs`, {
      hint: 'modprobe overlay, or use a kernel with CONFIG_OVERLAY_FS',
      cause,
    });
  return new NodeletError(
    'ROOT_UNSUITABLE',
    `cannot use root "${root}": "${directory}" is on ${fileSystemName(directory)}, which the kernel does not take for the writable layer of a container`,
    { hint: STORAGE_MEND, cause, details: { setting: 'root', value: root } },
  );
}

export const STORAGE_MEND =
  'choose a --root on ext4, XFS, Btrfs or a tmpfs, for example: mount -t tmpfs tmpfs /mnt && nodelet --root /mnt/nodelet …; in a container, a volume';
