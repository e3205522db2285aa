/** The end of a pod's shim, and with it of its namespaces. */
import { deferred, messageOf, withDeadline } from '../base/index.ts';
import { POLL } from '../linux/constants.ts';
import { FdWatcher } from '../linux/fd.ts';
import { native } from '../linux/native.ts';
import type { RuntimeContext } from './context.ts';
import type { Sandbox } from './model.ts';
import type { ShimClient } from './shim/client.ts';

const SHIM_DEADLINE = 5_000;

/** Ends the shim and with it the pod's namespaces. */
export async function stopShim(context: RuntimeContext, sandbox: Sandbox): Promise<void> {
  const { shim, shimPidfd, record } = sandbox;
  if (shim?.connected === true) {
    try {
      // quit is refused while a process lives.
      if (record.pausePid !== 0) await killPause(sandbox, shim);
      await shim.quit();
    } catch (error) {
      context.log.warn(
        { sandbox: record.id, error: messageOf(error) },
        'the shim did not end by itself; it is killed with its cgroup',
      );
    }
  }
  await context.cgroups.killShimGroup(record.id);
  if (shimPidfd !== undefined) await reap(shimPidfd.number);
  await sandbox.releaseLast();
  record.shimPid = 0;
  record.pausePid = 0;
}

/** The listener stands before the signal: its answer and the event may come in one go. */
async function killPause(sandbox: Sandbox, shim: ShimClient): Promise<void> {
  const ended = deferred<void>();
  const off = shim.exited.on((event) => {
    if (event.name === sandbox.id) ended.resolve();
  });
  try {
    if (await shim.signal(sandbox.id, 9))
      await withDeadline('the end of the pause process', SHIM_DEADLINE, ended.promise);
  } finally {
    off();
  }
}

/** Waits for a child of ours by its pidfd and reaps it. */
async function reap(pidfd: number): Promise<void> {
  if (native().waitPidfd(pidfd) !== null) return;
  await withDeadline(
    'the end of the shim',
    SHIM_DEADLINE,
    new Promise<void>((resolve) => {
      const watcher = new FdWatcher(pidfd, POLL.READABLE, () => {
        if (native().waitPidfd(pidfd) === null) return;
        watcher.close();
        resolve();
      });
    }),
  );
}
