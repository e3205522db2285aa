/** Pods at the three stages that they go through on a node; what each promises is in its type. */
import type { Container, ObjectMeta, Pod, PodSecurityContext, PodSpec } from './gen/types.gen.ts';

export type RestartPolicy = 'Always' | 'OnFailure' | 'Never';
export type PodPhase = 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown';
export type QosClass = 'Guaranteed' | 'Burstable' | 'BestEffort';

/** A container after defaulting. */
export interface CheckedContainer extends Container {
  image: string;
  imagePullPolicy: string;
  terminationMessagePath: string;
  terminationMessagePolicy: string;
}

export interface CheckedPodSpec extends PodSpec {
  containers: CheckedContainer[];
  initContainers?: CheckedContainer[];
  restartPolicy: RestartPolicy;
  dnsPolicy: string;
  terminationGracePeriodSeconds: number;
  securityContext: PodSecurityContext;
  enableServiceLinks: boolean;
}

/** A pod that was read, defaulted and validated. */
export interface CheckedPod extends Pod {
  metadata: ObjectMeta & { name: string; namespace: string };
  spec: CheckedPodSpec;
}

/** A checked pod with an identity on a node: what a kubelet works on. Never changed in place. */
export interface BoundPod extends CheckedPod {
  metadata: ObjectMeta & { name: string; namespace: string; uid: string };
}

/** `namespace/name`, as kubectl and the runtime's logs name a pod. */
export function podKey(pod: {
  readonly metadata: { readonly namespace: string; readonly name: string };
}): string {
  return `${pod.metadata.namespace}/${pod.metadata.name}`;
}

/** `name_namespace(uid)`: how the kubelet's messages name a pod. */
export function formatPod(pod: BoundPod): string {
  return `${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})`;
}

/** An init container that runs beside the others for as long as the pod does. */
export function isSidecar(container: Container): boolean {
  return container.restartPolicy === 'Always';
}

/** Gives a checked pod its identity: uid (a new one unless it has one), node and creation time. */
export function bindPod(
  pod: CheckedPod,
  to: { readonly uid: string; readonly nodeName: string; readonly now: Date },
): BoundPod {
  const { metadata, spec } = pod;
  return {
    ...pod,
    metadata: {
      ...metadata,
      uid: to.uid,
      creationTimestamp: metadata.creationTimestamp ?? timestamp(to.now),
    },
    spec: { ...spec, nodeName: to.nodeName },
  };
}

/** RFC 3339 in whole seconds, as metav1.Time is written. */
export function timestamp(at: Date | number): string {
  return `${new Date(at).toISOString().slice(0, 19)}Z`;
}

/** RFC 3339 in microseconds, as metav1.MicroTime is written. */
export function microTimestamp(at: Date | number): string {
  return `${new Date(at).toISOString().slice(0, 23)}000Z`;
}
