/**
 * A mount namespace with nothing but an empty read-only root, which every container's begins as a copy of. Nothing of the
 * host is ever mounted in a container's namespace, and nothing has to be unmounted to leave it: detaching the host's mounts
 * waits for an RCU grace period, which on a busy machine is longer than everything else that starts a container.
 */
import { describeError } from '../base/index.ts';
import type { Fd } from '../linux/fd.ts';
import { heldDescriptors } from './held.ts';
import { compileEmptyMounts } from './launch/compile-sandbox.ts';
import type { KernelFeatures } from './launch/context.ts';
import type { Sandbox } from './model.ts';
import { endUnownedShim, type ShimContext, startUnownedShim } from './unowned-shim.ts';

/** A container's root has to be made before its namespace is entered, detached: Linux 6.15 lets all of it be so. */
export function canHaveEmptyMounts(features: KernelFeatures): boolean {
  return features.cloneDetached;
}

export class EmptyMounts {
  #namespace: Fd | undefined;

  /**
   * What a sandbox's containers begin with; undefined: they leave a copy of the host's mounts by pivot_root, as those with a
   * user namespace must, which may only mount a /proc while it sees another.
   */
  of({ record }: Sandbox): Fd | undefined {
    return record.uidMap.length === 0 ? this.#namespace : undefined;
  }

  /** Made by a child of a shim, which is gone when this returns; the namespace lives as long as the descriptor. */
  async make(context: ShimContext, staging: string): Promise<void> {
    try {
      const unowned = startUnownedShim(context);
      try {
        const plan = compileEmptyMounts(unowned.id, staging);
        const { fds } = await unowned.shim.client.run(plan);
        this.#namespace = heldDescriptors(plan, fds).get('mnt');
      } finally {
        await endUnownedShim(context, unowned);
      }
    } catch (error) {
      context.log.warn({ error: describeError(error) }, 'cannot make an empty mount namespace');
    }
  }

  close(): void {
    this.#namespace?.close();
    this.#namespace = undefined;
  }
}
