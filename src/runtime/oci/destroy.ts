/** Takes a container away: its processes, its cgroup, its record. */
import { killCgroup, removeCgroup } from '../../linux/cgroups/index.ts';
import { Fd } from '../../linux/fd.ts';
import { native } from '../../linux/native.ts';
import type { OciConfig } from './config/index.ts';
import type { OciContext } from './context.ts';
import { runLateHooks } from './hooks.ts';
import { isRunning, type OciRecord, stateOf } from './state.ts';

/** Signals the first process, unless another one has its number by now. False where it has ended. */
export function signalFirst(record: OciRecord, signal: number): boolean {
  if (record.pid === 0) return false;
  const opened = native().pidfdOpen(record.pid);
  if (opened < 0) return false;
  using pidfd = new Fd(opened);
  // Looked at after it was opened: the descriptor is of this process and of no later one.
  if (!isRunning(record)) return false;
  return native().pidfdSendSignal(pidfd.number, signal) === 0;
}

/** Ends what runs. Undoing twice is safe. Throws CGROUP_BUSY where a process cannot be ended. */
export async function destroyContainer(
  context: OciContext,
  record: OciRecord,
  config: OciConfig | undefined,
): Promise<void> {
  signalFirst(record, 9);
  killCgroup(context.host, record.cgroup);
  await removeCgroup(context.host, record.cgroup);
  context.store.remove(record.id);
  if (config !== undefined)
    await runLateHooks(config.hooks, 'poststop', stateOf(record, 'stopped'), context.log);
}
