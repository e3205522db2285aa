/** StopPodSandbox and RemovePodSandbox. Both may be repeated, and continue where an earlier try or a crash ended. */
import { failpoint } from '../base/index.ts';
import { ContainerEventType } from '../cri/index.ts';
import type { RuntimeContext } from './context.ts';
import type { Sandbox } from './model.ts';
import { networkAttachment } from './network-attachment.ts';
import { removeContainer } from './remove-container.ts';
import { checkSandbox } from './state.ts';
import { stopAfterStart } from './stop-container.ts';
import { stopShim } from './stop-shim.ts';

export async function stopSandbox(context: RuntimeContext, sandbox: Sandbox): Promise<void> {
  const { record } = sandbox;
  checkSandbox(record.id, record.state, 'stop');
  if (sandbox.stopped) return;
  sandbox.stopping = true;
  await Promise.all(
    [...sandbox.containers.values()].map((container) => stopAfterStart(context, container, 0)),
  );
  failpoint('stop-sandbox:after-containers');
  // The kernel takes its time over a link: the shim ends meanwhile.
  const disconnected = disconnect(context, sandbox);
  const [network, shim] = await Promise.allSettled([disconnected, stopShim(context, sandbox)]);
  if (network.status === 'rejected') throw network.reason;
  failpoint('stop-sandbox:after-network');
  if (shim.status === 'rejected') throw shim.reason;
  failpoint('stop-sandbox:after-shim');
  await context.cgroups.removePauseLeaf(record.config.linux?.cgroupParent ?? '', record.id);
  await context.cgroups.removeShimGroup(record.id);
  sandbox.stopped = true;
  if (record.state === 'notready') return;
  record.state = 'notready';
  context.store.saveSandbox(record);
  context.emit(ContainerEventType.CONTAINER_STOPPED_EVENT, sandbox);
}

/** By the sandbox's id alone: its namespaces may be gone, or go meanwhile. */
async function disconnect(context: RuntimeContext, { record, options }: Sandbox): Promise<void> {
  if (context.network === undefined || options.hostNetwork) return;
  await context.loopbackPorts.close(record.id);
  await context.network.remove(networkAttachment(record, undefined));
}

export async function removeSandbox(context: RuntimeContext, sandbox: Sandbox): Promise<void> {
  checkSandbox(sandbox.id, sandbox.record.state, 'remove');
  await stopSandbox(context, sandbox);
  for (const container of Array.from(sandbox.containers.values()))
    await context.locks.run(container.id, async () => {
      if (context.model.containers.has(container.id)) await removeContainer(context, container);
    });
  failpoint('remove-sandbox:after-containers');
  context.store.removeSandbox(sandbox.id);
  context.model.removeSandbox(sandbox);
  context.emit(ContainerEventType.CONTAINER_DELETED_EVENT, sandbox);
}
