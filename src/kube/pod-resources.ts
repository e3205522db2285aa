/** What a pod's containers ask for together, and the class of service that follows from it. */
import type { Container } from './gen/types.gen.ts';
import { Quantity } from './quantity.ts';
import { type CheckedPod, isSidecar, type QosClass } from './types.ts';

export type ResourceList = ReadonlyMap<string, Quantity>;

/** A container's requests or limits, parsed. */
export function resourcesOf(container: Container, which: 'requests' | 'limits'): ResourceList {
  const list = container.resources?.[which] ?? {};
  return new Map(Object.entries(list).map(([name, value]) => [name, Quantity.parse(value)]));
}

/**
 * Requests or limits of the pod: its containers and sidecars run together; before that each init container runs beside
 * the sidecars that started before it, and the largest of these moments counts.
 */
export function podResources(pod: CheckedPod, which: 'requests' | 'limits'): ResourceList {
  const running = new Map<string, Quantity>();
  for (const container of pod.spec.containers) addTo(running, resourcesOf(container, which));
  const sidecars = new Map<string, Quantity>();
  const initial = new Map<string, Quantity>();
  for (const container of pod.spec.initContainers ?? []) {
    const own = resourcesOf(container, which);
    if (isSidecar(container)) {
      addTo(running, own);
      addTo(sidecars, own);
      raiseTo(initial, sidecars);
    } else {
      const moment = new Map(sidecars);
      addTo(moment, own);
      raiseTo(initial, moment);
    }
  }
  raiseTo(running, initial);
  return running;
}

function addTo(sum: Map<string, Quantity>, list: ResourceList): void {
  for (const [name, value] of list) sum.set(name, (sum.get(name) ?? Quantity.zero).add(value));
}

function raiseTo(max: Map<string, Quantity>, list: ResourceList): void {
  for (const [name, value] of list)
    if (value.compare(max.get(name) ?? Quantity.zero) > 0) max.set(name, value);
}

const QOS_RESOURCES = ['cpu', 'memory'] as const;

/**
 * Guaranteed where every container has limits of cpu and memory and requests equal to them, BestEffort where none
 * asks for any, else Burstable.
 */
export function qosClass(pod: CheckedPod): QosClass {
  const containers = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
  let asked = false;
  let guaranteed = true;
  for (const container of containers) {
    const limits = resourcesOf(container, 'limits');
    const requests = resourcesOf(container, 'requests');
    for (const name of QOS_RESOURCES) {
      const limit = limits.get(name);
      const request = requests.get(name);
      if ((limit?.nanos ?? 0n) > 0n || (request?.nanos ?? 0n) > 0n) asked = true;
      if (limit === undefined || limit.isZero || (request ?? limit).compare(limit) !== 0) guaranteed = false;
    }
  }
  if (!asked) return 'BestEffort';
  return guaranteed ? 'Guaranteed' : 'Burstable';
}

const SYSTEM_CRITICAL_PRIORITY = 2_000_000_000;
const CLASS_PRIORITIES: Readonly<Record<string, number>> = {
  'system-cluster-critical': SYSTEM_CRITICAL_PRIORITY,
  'system-node-critical': SYSTEM_CRITICAL_PRIORITY + 1000,
};

/** The priority that the pod's class gives it where no admission has resolved it. */
export function podPriority(pod: CheckedPod): number {
  return pod.spec.priority ?? CLASS_PRIORITIES[pod.spec.priorityClassName ?? ''] ?? 0;
}

/** True for what the machine itself needs: killed last when memory runs out. */
export function isNodeCritical(pod: CheckedPod): boolean {
  return pod.spec.priorityClassName === 'system-node-critical';
}
