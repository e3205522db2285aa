/** StopPodSandbox and RemovePodSandbox. Both may be repeated, and continue where an earlier try or a crash ended. */
import { failpoint } from '../base/index.ts';
import { ContainerEventType } from '../cri/index.ts';
import type { RuntimeContext } from './context.ts';
import type { Sandbox } from './model.ts';
import { networkAttachment } from './network-attachment.ts';
import { removeContainer } from './remove-container.ts';
import { checkSandbox } from './state.ts';
import { stopContainer } from './stop-container.ts';
import { stopShim } from './stop-shim.ts';

export async function stopSandbox(context: RuntimeContext, sandbox: Sandbox): Promise<void> {
  const { record } = sandbox;
  checkSandbox(record.id, record.state, 'stop');
  sandbox.stopping = true;
  await Promise.all(
    [...sandbox.containers.values()].map((container) => stopContainer(context, container, 0)),
  );
  failpoint('stop-sandbox:after-containers');
  if (context.network !== undefined && !sandbox.options.hostNetwork) {
    await context.loopbackPorts.close(record.id);
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
  for (const container of Array.from(sandbox.containers.values())) await removeContainer(context, container);
  failpoint('remove-sandbox:after-containers');
  context.store.removeSandbox(sandbox.id);
  context.model.removeSandbox(sandbox);
  context.emit(ContainerEventType.CONTAINER_DELETED_EVENT, sandbox);
}
