/** Which log file a request for a container's log means, in upstream's words where there is none. Pure. */
import { NodeletError } from '../../base/index.ts';
import type { BoundPod } from '../../kube/index.ts';
import type { Observed, ObservedContainer } from '../core/model.ts';
import { restartsAfter } from '../core/restart.ts';

/**
 * The container whose log is wanted: the newest, or the one before it. Without a name the pod has to have one container (or
 * names one by its annotation). Throws CONTAINER_NOT_FOUND, LOG_NOT_FOUND.
 */
export function logContainer(
  pod: BoundPod,
  observed: Observed,
  request: { readonly container?: string; readonly previous?: boolean },
): ObservedContainer {
  const name = request.container ?? defaultContainer(pod);
  const all = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
  const spec = all.find((container) => container.name === name);
  if (spec === undefined) {
    throw new NodeletError(
      'CONTAINER_NOT_FOUND',
      `container ${name} is not valid for pod ${pod.metadata.name}`,
      {
        hint: `choose one of: ${all.map((container) => container.name).join(', ')}`,
      },
    );
  }
  const [latest, before] = observed.containers.filter(
    (each) => each.name === name && each.state !== 'created',
  );
  if (request.previous) {
    // Of a container that waits for its restart the last end is the previous instance.
    const waits = latest?.state === 'exited' && restartsAfter(pod, spec, latest.exitCode);
    const previous = waits ? latest : before;
    if (previous !== undefined) return previous;
    throw new NodeletError(
      'LOG_NOT_FOUND',
      `previous terminated container ${JSON.stringify(name)} in pod ${JSON.stringify(pod.metadata.name)} not found`,
    );
  }
  if (latest !== undefined) return latest;
  throw new NodeletError(
    'LOG_NOT_FOUND',
    `container ${JSON.stringify(name)} in pod ${JSON.stringify(pod.metadata.name)} is waiting to start`,
  );
}

function defaultContainer(pod: BoundPod): string {
  const named = pod.metadata.annotations?.['kubectl.kubernetes.io/default-container'];
  const [first] = pod.spec.containers;
  if (named !== undefined) return named;
  if (pod.spec.containers.length === 1 && first !== undefined) return first.name;
  throw new NodeletError('CONTAINER_NOT_FOUND', `pod ${pod.metadata.name} has more than one container`, {
    hint: `choose one of: ${pod.spec.containers.map((container) => container.name).join(', ')}`,
  });
}
