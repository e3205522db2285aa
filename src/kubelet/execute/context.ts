import type { Log } from '../../base/index.ts';
import type { ImageService, LocalRuntime, UserNamespace } from '../../cri/index.ts';
import type { BoundPod, CheckedContainer } from '../../kube/index.ts';
import type { PodCgroups } from '../cgroups.ts';
import { PodError } from '../errors.ts';
import type { EventRecorder } from '../events.ts';
import type { NodeCredentials, PullRecords } from '../images/index.ts';
import type { KubeletSettings, NodeFacts } from '../node.ts';
import type { ObjectLookup } from '../objects.ts';
import type { KubeletPaths } from '../paths.ts';
import { orderAddresses } from '../status/status.ts';
import type { UserNamespaces } from '../userns.ts';

/** What all pods of a kubelet share. */
export interface KubeletContext {
  readonly runtime: LocalRuntime;
  readonly images: ImageService;
  readonly cgroups: PodCgroups;
  readonly userNamespaces: UserNamespaces;
  readonly objects: ObjectLookup;
  readonly paths: KubeletPaths;
  readonly node: NodeFacts;
  readonly settings: KubeletSettings;
  readonly events: EventRecorder;
  readonly nodeCredentials: Pick<NodeCredentials, 'entries'>;
  readonly pullRecords: PullRecords;
  readonly log: Log;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

export interface PodContext extends KubeletContext {
  readonly pod: BoundPod;
}

export function containerOf(pod: BoundPod, name: string): CheckedContainer {
  const all = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
  const found = all.find((container) => container.name === name);
  if (found === undefined)
    throw new PodError('CreateContainerConfigError', `the pod has no container "${name}"`);
  return found;
}

/** The pod's own ids, where it has its own users. */
export function userNamespaceOf({ pod, userNamespaces }: PodContext): UserNamespace | undefined {
  return pod.spec.hostUsers === false ? userNamespaces.ensure(pod.metadata.uid) : undefined;
}

/** The address at which the pod's servers are asked, of those that its sandbox has. */
export function podAddress({ pod, node }: PodContext, ips: readonly string[]): string {
  return orderAddresses(pod.spec.hostNetwork ? node.ips : ips, node.ips)[0] ?? '';
}
