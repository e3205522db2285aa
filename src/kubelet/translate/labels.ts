/** Upstream's labels and annotations of sandboxes and containers: other tools, and our own recovery, read them. */
import { createHash } from 'node:crypto';
import type { BoundPod, CheckedContainer } from '../../kube/index.ts';

export const LABEL = {
  podName: 'io.kubernetes.pod.name',
  podNamespace: 'io.kubernetes.pod.namespace',
  podUid: 'io.kubernetes.pod.uid',
  containerName: 'io.kubernetes.container.name',
} as const;

export const ANNOTATION = {
  hash: 'io.kubernetes.container.hash',
  restartCount: 'io.kubernetes.container.restartCount',
  terminationMessagePath: 'io.kubernetes.container.terminationMessagePath',
  terminationMessagePolicy: 'io.kubernetes.container.terminationMessagePolicy',
  preStopHandler: 'io.kubernetes.container.preStopHandler',
  ports: 'io.kubernetes.container.ports',
  terminationGracePeriod: 'io.kubernetes.pod.terminationGracePeriod',
  /** Milliseconds of the crash-loop pause before this attempt: so that the loop goes on after a restart of the agent. */
  crashDelay: 'io.nodelet.container.crashDelay',
} as const;

export function sandboxLabels(pod: BoundPod): Record<string, string> {
  return { ...pod.metadata.labels, ...podLabels(pod) };
}

function podLabels(pod: BoundPod): Record<string, string> {
  return {
    [LABEL.podName]: pod.metadata.name,
    [LABEL.podNamespace]: pod.metadata.namespace,
    [LABEL.podUid]: pod.metadata.uid,
  };
}

export function containerLabels(pod: BoundPod, container: CheckedContainer): Record<string, string> {
  return { ...podLabels(pod), [LABEL.containerName]: container.name };
}

export function containerAnnotations(
  pod: BoundPod,
  container: CheckedContainer,
  attempt: number,
  crashDelay: number | undefined,
): Record<string, string> {
  const annotations: Record<string, string> = {
    [ANNOTATION.hash]: containerHash(container),
    [ANNOTATION.restartCount]: String(attempt),
    [ANNOTATION.terminationMessagePath]: container.terminationMessagePath,
    [ANNOTATION.terminationMessagePolicy]: container.terminationMessagePolicy,
    [ANNOTATION.terminationGracePeriod]: String(pod.spec.terminationGracePeriodSeconds),
  };
  const { preStop } = container.lifecycle ?? {};
  if (preStop !== undefined) annotations[ANNOTATION.preStopHandler] = JSON.stringify(preStop);
  if ((container.ports ?? []).length > 0) annotations[ANNOTATION.ports] = JSON.stringify(container.ports);
  if (crashDelay !== undefined) annotations[ANNOTATION.crashDelay] = String(crashDelay);
  return annotations;
}

/** Changes where the container would have to be made anew: name and image, as upstream. */
export function containerHash(container: CheckedContainer): string {
  const hash = createHash('sha256').update(JSON.stringify([container.name, container.image]));
  return hash.digest('hex').slice(0, 8);
}
