/** Checks of bind sources that the kernel would answer less clearly. */

import { realpathSync } from 'node:fs';
import { hasCode, NodeletError } from '../base/index.ts';
import { type LocalMount, MountPropagation } from '../cri/index.ts';
import { mountHolding, readMountinfo } from '../linux/mountinfo.ts';

/** Throws INVALID_ARGUMENT and MOUNT_NOT_SHARED, naming the mount. */
export function checkMounts(mounts: readonly LocalMount[]): void {
  for (const { containerPath = '', hostPath = '', image } of mounts) {
    if ((image?.image ?? '') !== '') continue;
    if (!hostPath.startsWith('/') || hostPath.includes('\0'))
      throw new NodeletError(
        'INVALID_ARGUMENT',
        `mounts: ${JSON.stringify(containerPath)}: hostPath ${JSON.stringify(hostPath)} is not an absolute path`,
      );
  }
  checkSharedMounts(mounts);
}

/** The path that a link leads to; itself where there is nothing yet. */
function resolved(path: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return path;
    throw error;
  }
}

/** A mount that containers and host shall exchange needs a source that the host shares. */
function checkSharedMounts(mounts: readonly LocalMount[]): void {
  const asked = mounts.filter(
    ({ propagation, image }) =>
      (propagation === MountPropagation.PROPAGATION_HOST_TO_CONTAINER ||
        propagation === MountPropagation.PROPAGATION_BIDIRECTIONAL) &&
      (image?.image ?? '') === '',
  );
  if (asked.length === 0) return;
  const table = readMountinfo('self');
  for (const mount of asked) {
    const path = resolved(mount.hostPath ?? '');
    const under = mountHolding(table, path);
    const shared = under?.shared !== undefined;
    const slave = under?.master !== undefined;
    if (mount.propagation === MountPropagation.PROPAGATION_BIDIRECTIONAL ? shared : shared || slave) continue;
    const wanted =
      mount.propagation === MountPropagation.PROPAGATION_BIDIRECTIONAL ? 'a shared' : 'a shared or slave';
    throw new NodeletError(
      'MOUNT_NOT_SHARED',
      `mounts: ${JSON.stringify(mount.containerPath)}: ${JSON.stringify(path)} is mounted on ${JSON.stringify(under?.mountPoint ?? '/')}, which is not ${wanted} mount`,
      {
        hint: `share it on the host first: mount --make-rshared ${under?.mountPoint ?? '/'}`,
      },
    );
  }
}
