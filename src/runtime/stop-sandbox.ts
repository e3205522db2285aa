/** StopPodSandbox and RemovePodSandbox. Both may be repeated, and continue where an earlier try or a crash ended. */
import { deferred, failpoint, messageOf, withDeadline } from '../base/index.ts';
import { ContainerEventType } from '../cri/index.ts';
import { POLL } from '../linux/constants.ts';
import { FdWatcher } from '../linux/fd.ts';
import { native } from '../linux/native.ts';
import type { RuntimeContext } from './context.ts';
import type { Sandbox } from './model.ts';
import { removeContainer } from './remove-container.ts';
import { networkAttachment } from './run-sandbox.ts';
import type { ShimClient } from './shim/client.ts';
import { checkSandbox } from './state.ts';
import { stopContainer } from './stop-container.ts';

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
  sandbox.release();
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

export async function stopSandbox(context: RuntimeContext, sandbox: Sandbox): Promise<void> {
  const { record } = sandbox;
  checkSandbox(record.id, record.state, 'stop');
  sandbox.stopping = true;
  await Promise.all(
    [...sandbox.containers.values()].map((container) => stopContainer(context, container, 0)),
  );
  failpoint('stop-sandbox:after-containers');
  if (context.network !== undefined && !sandbox.options.hostNetwork) {
    await context.network.remove(networkAttachment(record, sandbox.namespaces.get('net')?.number));
  }
  failpoint('stop-sandbox:after-network');
  await stopShim(context, sandbox);
  failpoint('stop-sandbox:after-shim');
  await context.cgroups.removePauseLeaf(record.config.linux?.cgroupParent ?? '', record.id);
  await context.cgroups.removeShimGroup(record.id);
  if (record.state === 'notready') return;
  record.state = 'notready';
  context.store.saveSandbox(record);
  context.emit(ContainerEventType.CONTAINER_STOPPED_EVENT, sandbox);
}

export async function removeSandbox(context: RuntimeContext, sandbox: Sandbox): Promise<void> {
  checkSandbox(sandbox.id, sandbox.record.state, 'remove');
  await stopSandbox(context, sandbox);
  for (const container of [...sandbox.containers.values()]) await removeContainer(context, container);
  failpoint('remove-sandbox:after-containers');
  context.store.removeSandbox(sandbox.id);
  context.model.removeSandbox(sandbox);
  context.emit(ContainerEventType.CONTAINER_DELETED_EVENT, sandbox);
}
