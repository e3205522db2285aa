import { type BoundPod, type ContainerStatus, isSidecar, type PodPhase } from '../../kube/index.ts';
import { restartsAfter } from '../core/restart.ts';

/** A container's last end, whether it shows as its state or, while it waits for a restart, as its last state. */
function lastExit(status: ContainerStatus): number | undefined {
  return (status.state?.terminated ?? (status.state?.waiting ? status.lastState?.terminated : undefined))
    ?.exitCode;
}

/**
 * The pod's phase from its containers' statuses. `ending` is true where nothing will be restarted any more;
 * `initialized` where a container beside the init containers has been up.
 */
export function podPhase(
  pod: BoundPod,
  statuses: readonly ContainerStatus[],
  ending: boolean,
  initialized: boolean,
): PodPhase {
  const byName = new Map(statuses.map((status) => [status.name, status]));
  let pendingInit = false;
  let pendingSidecar = false;
  let running = 0;
  let waiting = 0;
  let unknown = 0;
  for (const container of pod.spec.initContainers ?? []) {
    const status = byName.get(container.name);
    if (isSidecar(container)) {
      if (status?.state?.running) {
        running += 1;
        if (!status.started) pendingSidecar = true;
      } else if (status === undefined) unknown += 1;
      else if (lastExit(status) === undefined) {
        pendingSidecar = true;
        if (status.state?.waiting) waiting += 1;
        else unknown += 1;
      }
      continue;
    }
    const exit = status === undefined ? undefined : lastExit(status);
    if (exit === undefined) pendingInit = true;
    else if (exit !== 0 && !restartsAfter(pod, container, exit)) return 'Failed';
  }
  let stopped = 0;
  let succeeded = 0;
  let restarting = 0;
  for (const container of pod.spec.containers) {
    const status = byName.get(container.name);
    const exit = status === undefined ? undefined : lastExit(status);
    if (status?.state?.running) running += 1;
    else if (exit !== undefined) {
      stopped += 1;
      if (restartsAfter(pod, container, exit)) restarting += 1;
      // A container that waits for its restart did not succeed, whatever its last exit code was.
      if (status?.state?.terminated?.exitCode === 0) succeeded += 1;
    } else if (status?.state?.waiting) waiting += 1;
    else unknown += 1;
  }
  if (pendingInit || (pendingSidecar && !initialized) || waiting > 0) return 'Pending';
  if (unknown > 0) return 'Pending';
  if (running > 0) return 'Running';
  if (stopped === 0) return 'Pending';
  if (!ending && restarting > 0) return 'Running';
  return stopped === succeeded ? 'Succeeded' : 'Failed';
}
