/** What `nodelet run` would do for a manifest, as plain data: what `nodelet plan` prints. */
import type { NetworkStep } from '../../cni/index.ts';
import type { QosClass } from '../../kube/index.ts';
import type { CgroupStep } from '../../linux/cgroups/index.ts';

export interface PlannedPodImage {
  readonly container: string;
  readonly reference: string;
  readonly pullPolicy: string;
  /** `ask`: here, and the registry is asked whether it has another. `missing`: not here, and may not be pulled. */
  readonly action: 'use' | 'pull' | 'ask' | 'missing';
  /** Of the image that is here. */
  readonly id?: string;
  readonly size?: number;
  /** Layer directories, the topmost first. */
  readonly layers?: readonly string[];
}

export interface PlannedOperation {
  readonly index: number;
  readonly op: string;
  /** Who does it: the shim, or the child that becomes the container. */
  readonly where: 'shim' | 'child';
  readonly text: string;
}

export interface PlannedPodVolume {
  readonly name: string;
  readonly kind: string;
  readonly path: string;
  readonly inMemory: boolean;
}

export interface PlannedPodMount {
  readonly containerPath: string;
  readonly hostPath: string;
  readonly readOnly: boolean;
}

export interface PlannedPodContainer {
  readonly name: string;
  readonly role: 'init' | 'sidecar' | 'main';
  readonly id: string;
  readonly image: string;
  readonly mounts: readonly PlannedPodMount[];
  /** The OCI runtime specification's config.json; undefined where the image is not here yet. */
  readonly spec?: unknown;
  readonly operations?: readonly PlannedOperation[];
}

export interface PlannedPodNetwork {
  readonly kind: 'bridge' | 'host';
  /** The next free ones, which another pod may take first. */
  readonly addresses: readonly string[];
  readonly steps: readonly NetworkStep[];
  /** Why the pod could not be connected, where that is known already. */
  readonly problem?: string;
}

export interface PlannedPod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly qos: QosClass;
  /** Why the node would not take the pod. */
  readonly rejection?: { readonly reason: string; readonly message: string };
  readonly directories: readonly string[];
  readonly volumes: readonly PlannedPodVolume[];
  readonly cgroup: { readonly path: string; readonly steps: readonly CgroupStep[] };
  readonly images: readonly PlannedPodImage[];
  readonly sandbox: {
    readonly id: string;
    readonly plans: readonly { readonly name: string; readonly operations: readonly PlannedOperation[] }[];
  };
  readonly network: PlannedPodNetwork;
  /** In the order in which they start. */
  readonly containers: readonly PlannedPodContainer[];
}
