/** Checks of bind sources that the kernel would answer less clearly. */

import { NodeletError } from '../base/index.ts';
import { type LocalMount, MountPropagation } from '../cri/index.ts';
import { mountHolding, readMountinfo } from '../linux/mountinfo.ts';

/** A mount that containers and host shall exchange needs a source that the host shares. */
export function checkSharedMounts(mounts: readonly LocalMount[]): void {
  const asked = mounts.filter((mount) => (mount.propagation ?? 0) !== MountPropagation.PROPAGATION_PRIVATE);
  if (asked.length === 0) return;
  const table = readMountinfo('self');
  for (const mount of asked) {
    const path = mount.hostPath ?? '';
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
