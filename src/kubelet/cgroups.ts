/** The cgroups of pods: where they are and what they hold. Pure, but for the interface that makes them. */
import {
  type BoundPod,
  hugePageSize,
  isHugePages,
  podResources,
  type QosClass,
  qosClass,
  resourcesOf,
} from '../kube/index.ts';
import type { KubeletSettings, NodeFacts } from './node.ts';
import { cpuQuota, cpuShares, hugePageUnit } from './translate/resources.ts';

/** Values of one cgroup; what is undefined is not limited. */
export interface CgroupValues {
  /** cpu.shares as of v1; written as `cpu.weight` by the linear rule on v2. */
  readonly cpuShares?: number;
  /** Microseconds in `cpuPeriod`; 0 is no limit. */
  readonly cpuQuota?: number;
  readonly cpuPeriod?: number;
  /** Bytes. */
  readonly memoryLimit?: number;
  readonly pidsLimit?: number;
  /** Bytes by page size as the kernel names it (`2MB`). */
  readonly hugePages?: Readonly<Record<string, number>>;
}

export interface PodCgroup {
  readonly qos: QosClass;
  /** Below the cgroup root: `kubepods/burstable/pod<uid>`. */
  readonly path: string;
  readonly values: CgroupValues;
}

/** Makes and removes the cgroups of pods. */
export interface PodCgroups {
  /** Makes the pod's cgroup (and those above it) with these values, or corrects it. Returns CRI's cgroup_parent. */
  ensure(cgroup: PodCgroup): Promise<string>;
  /** Where `ensure` would make it; nothing is made. */
  parent(cgroup: Pick<PodCgroup, 'path'>): string;
  /** Sets the values of the classes' own cgroups, which follow from all pods. */
  setClasses(classes: readonly QosCgroup[]): Promise<void>;
  /** Ends whatever still runs in it and removes it. Nothing happens where it does not exist. */
  remove(uid: string): Promise<void>;
  /** UIDs of all pods that have a cgroup, for the collection of those without an owner. */
  list(): Promise<string[]>;
}

const KUBEPODS = 'kubepods';

const CLASS_FOLDER: Readonly<Record<QosClass, string>> = {
  Guaranteed: KUBEPODS,
  Burstable: `${KUBEPODS}/burstable`,
  BestEffort: `${KUBEPODS}/besteffort`,
};

/** Every folder in which pods' cgroups are, below the cgroup root. */
export function classFolders(): string[] {
  return Object.values(CLASS_FOLDER);
}

export function podCgroup(
  pod: BoundPod,
  settings: Pick<KubeletSettings, 'cpuCfsQuota' | 'cpuCfsPeriod' | 'podPidsLimit'>,
): PodCgroup {
  const qos = qosClass(pod);
  return { qos, path: `${CLASS_FOLDER[qos]}/pod${pod.metadata.uid}`, values: podValues(pod, qos, settings) };
}

function podValues(
  pod: BoundPod,
  qos: QosClass,
  settings: Pick<KubeletSettings, 'cpuCfsQuota' | 'cpuCfsPeriod' | 'podPidsLimit'>,
): CgroupValues {
  const requests = podResources(pod, 'requests');
  const limits = podResources(pod, 'limits');
  const hugePages = hugePageValues(requests);
  const common: CgroupValues = {
    cpuShares:
      qos === 'BestEffort' ? cpuShares(0) : cpuShares(Number(requests.get('cpu')?.milliValue() ?? 0n)),
    ...(settings.podPidsLimit > 0 ? { pidsLimit: settings.podPidsLimit } : {}),
    ...(Object.keys(hugePages).length > 0 ? { hugePages } : {}),
  };
  if (qos === 'BestEffort') return common;
  // One container without a limit makes the pod without one.
  const all = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
  const limited = (name: string) =>
    all.every((each) => !(resourcesOf(each, 'limits').get(name)?.isZero ?? true));
  const quota = settings.cpuCfsQuota
    ? cpuQuota(Number(limits.get('cpu')?.milliValue() ?? 0n), settings.cpuCfsPeriod)
    : 0;
  return {
    ...common,
    ...(quota > 0 && limited('cpu') ? { cpuQuota: quota, cpuPeriod: settings.cpuCfsPeriod } : {}),
    ...(limited('memory') ? { memoryLimit: Number(limits.get('memory')?.value() ?? 0n) } : {}),
  };
}

function hugePageValues(requests: ReturnType<typeof podResources>): Record<string, number> {
  const values: Record<string, number> = {};
  for (const [name, value] of requests) {
    const size = isHugePages(name) ? hugePageSize(name) : undefined;
    if (size !== undefined) values[hugePageUnit(size)] = Number(value.value());
  }
  return values;
}

export interface QosCgroup {
  /** Below the cgroup root. */
  readonly path: string;
  readonly values: CgroupValues;
}

/** The cgroups above the pods': all of them, those of class Burstable and of class BestEffort. */
export function classCgroups(pods: readonly BoundPod[], node: NodeFacts['podsLimit']): QosCgroup[] {
  let burstable = 0;
  for (const pod of pods) {
    if (qosClass(pod) === 'Burstable')
      burstable += Number(podResources(pod, 'requests').get('cpu')?.milliValue() ?? 0n);
  }
  return [
    { path: KUBEPODS, values: { cpuShares: cpuShares(node.milliCpu), memoryLimit: node.memory } },
    { path: CLASS_FOLDER.Burstable, values: { cpuShares: cpuShares(burstable) } },
    { path: CLASS_FOLDER.BestEffort, values: { cpuShares: cpuShares(0) } },
  ];
}
