/**
 * When a foreground run stops waiting. A kubelet tries for ever; somebody who waits for a pod that cannot start until
 * something outside it changes is better told so. Pure.
 */
import type { Event, Pod } from '../../kube/index.ts';

/** Waiting reasons of containers that do not go away by waiting. */
const HOPELESS = new Set([
  'ErrImagePull',
  'ImagePullBackOff',
  'RegistryUnavailable',
  'SignatureValidationFailed',
  'ErrImageNeverPull',
  'InvalidImageName',
  'ImageInspectError',
  'CreateContainerConfigError',
  'CreateContainerError',
]);

/** Reasons of warnings about a pod as a whole, before any of its containers is there. */
const HOPELESS_EVENTS = new Set(['FailedMount', 'FailedCreatePodSandBox', 'FailedCreatePodContainer']);

/** True once a container of the pod has run, or runs: from then on its restart policy decides. */
export function hasStarted(pod: Pod): boolean {
  return [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])].some(
    ({ state, lastState }) =>
      state?.running !== undefined || state?.terminated !== undefined || lastState?.terminated !== undefined,
  );
}

/** Why a pod will not start by itself, in a sentence; undefined where it may. */
export function whyHopeless(pod: Pod): string | undefined {
  for (const { name, state } of [
    ...(pod.status?.initContainerStatuses ?? []),
    ...(pod.status?.containerStatuses ?? []),
  ]) {
    const { reason = '', message = '' } = state?.waiting ?? {};
    if (HOPELESS.has(reason))
      return `container "${name}" of pod "${pod.metadata?.name ?? ''}" cannot start: ${reason}${message === '' ? '' : `: ${message}`}`;
  }
  return undefined;
}

/** The same from an event about the pod. */
export function whyHopelessEvent(event: Event): string | undefined {
  if (event.type !== 'Warning' || !HOPELESS_EVENTS.has(event.reason ?? '')) return undefined;
  return `pod "${event.involvedObject.name ?? ''}" cannot start: ${event.reason}: ${(event.message ?? '').trim()}`;
}
