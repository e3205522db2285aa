/** A shim that belongs to no pod: its cgroup and directory have no record, so after a crash it is nobody's and collected. */
import { mkdirSync } from 'node:fs';
import { describeError, type Log } from '../base/index.ts';
import type { RuntimeCgroups } from './cgroup.ts';
import { newId } from './ids.ts';
import type { RecordStore } from './records.ts';
import type { RunningShim, ShimStarter } from './shim/start.ts';

export interface ShimContext {
  readonly store: RecordStore;
  readonly cgroups: RuntimeCgroups;
  readonly shims: ShimStarter;
  readonly log: Log;
}

export interface UnownedShim {
  readonly id: string;
  readonly shim: RunningShim;
}

/** Throws SHIM_START_FAILED and what the file system says; nothing is left then. */
export function startUnownedShim({ store, cgroups, shims }: ShimContext): UnownedShim {
  const id = newId();
  mkdirSync(store.sandboxDirectory(id), { recursive: true, mode: 0o700 });
  try {
    using group = cgroups.openShimGroup(id);
    return {
      id,
      shim: shims.start({ sandboxId: id, socketPath: store.shimSocket(id), cgroup: group.number }),
    };
  } catch (error) {
    store.removeSandbox(id);
    throw error;
  }
}

/** Never throws: what cannot be ended is logged, and collected at the next start. */
export async function endUnownedShim(context: ShimContext, { id, shim }: UnownedShim): Promise<void> {
  shim.client.close();
  try {
    await context.cgroups.removeShimGroup(id);
  } catch (error) {
    context.log.warn({ error: describeError(error) }, 'cannot end a shim without a pod');
  }
  shim.pidfd.close();
  context.store.removeSandbox(id);
}
