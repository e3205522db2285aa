/** RemoveContainer: undoes the create, in reverse. Idempotent; a running container is killed first, as CRI says. */
import { rmSync } from 'node:fs';
import { failpoint } from '../base/index.ts';
import { ContainerEventType } from '../cri/index.ts';
import type { RuntimeContext } from './context.ts';
import { removeImageMounts } from './image-mounts.ts';
import { volumeDirectory } from './image-volumes.ts';
import type { Container } from './model.ts';
import { checkContainer } from './state.ts';
import { stopContainer } from './stop-container.ts';

export async function removeContainer(context: RuntimeContext, container: Container): Promise<void> {
  const { record, sandbox } = container;
  checkContainer(record.id, record.state, 'remove');
  await stopContainer(context, container, 0);
  await context.cgroups.remove(sandbox.record.config.linux?.cgroupParent ?? '', record.id);
  failpoint('remove:after-cgroup');
  if (sandbox.shim?.connected === true) await sandbox.shim.forget(record.id).catch(() => {});
  await context.images.removeSnapshot(record.id);
  failpoint('remove:after-snapshot');
  await removeImageMounts(context.images, record.id, record.config);
  failpoint('remove:after-image-volumes');
  rmSync(volumeDirectory(context, record.id), { recursive: true, force: true });
  failpoint('remove:after-volumes');
  // The record goes last: until then a crash leaves an owner to whom the rest belongs.
  context.store.removeContainer(sandbox.id, record.id);
  context.model.removeContainer(container);
  context.emit(ContainerEventType.CONTAINER_DELETED_EVENT, sandbox, container);
}
