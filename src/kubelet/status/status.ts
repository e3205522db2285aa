/** A pod's status as the API shows it, from what is known about the pod. Pure. */
import { isIPv4, isIPv6 } from 'node:net';
import {
  type BoundPod,
  type ContainerStatus,
  type PodPhase,
  type PodStatus,
  qosClass,
  timestamp,
} from '../../kube/index.ts';
import { mainIsUp, type Probes } from '../core/containers.ts';
import type { Observed, PodMemory, Terminal } from '../core/model.ts';
import { sandboxNeed } from '../core/sandbox.ts';
import { podConditions } from './conditions.ts';
import { initContainerStatuses, mainContainerStatuses } from './containers.ts';
import { podPhase } from './phase.ts';

export interface StatusInput {
  readonly pod: BoundPod;
  readonly observed: Observed;
  readonly memory: PodMemory;
  readonly probes: Probes;
  /** True where nothing is started any more: a stop was asked for, or the pod ended. */
  readonly ending: boolean;
  /** True where, besides, nothing of it is alive any more. */
  readonly ended: boolean;
  readonly terminal: Terminal | undefined;
  /** The status before, for what does not change and the times of what did. */
  readonly previous: PodStatus | undefined;
  readonly hostIps: readonly string[];
  readonly now: number;
}

export function generateStatus(input: StatusInput): PodStatus {
  const { pod, observed, previous, terminal } = input;
  const init = initContainerStatuses({ ...input, previous: previous?.initContainerStatuses ?? [] });
  let main = mainContainerStatuses({ ...input, previous: previous?.containerStatuses ?? [] });
  // Once a pod was initialized, a container that left no trace of an end counts as failed.
  if (input.ended && init.every((status) => status.ready || status.started)) main = main.map(withEnd);
  const statuses = [...init, ...main];
  const phase =
    terminal?.phase ?? endPhase(input, podPhase(pod, statuses, input.ending, mainIsUp(pod, observed)));
  const podIps = podAddresses(input);
  const [hostIp] = input.hostIps;
  const [podIp] = podIps;
  return {
    phase,
    ...(terminal?.reason === undefined ? {} : { reason: terminal.reason }),
    ...(terminal?.message === undefined ? {} : { message: terminal.message }),
    conditions: podConditions({
      pod,
      phase,
      statuses,
      sandboxReady: sandboxNeed(pod, observed).usable !== undefined,
      previous: previous?.conditions ?? [],
      now: input.now,
    }),
    ...(hostIp === undefined ? {} : { hostIP: hostIp, hostIPs: input.hostIps.map((ip) => ({ ip })) }),
    ...(podIp === undefined ? {} : { podIP: podIp, podIPs: podIps.map((ip) => ({ ip })) }),
    startTime: timestamp(input.memory.startTime),
    ...(init.length > 0 ? { initContainerStatuses: init } : {}),
    containerStatuses: main,
    qosClass: qosClass(pod),
    ...(pod.metadata.generation === undefined ? {} : { observedGeneration: pod.metadata.generation }),
  };
}

/** A pod that ended is Failed unless it succeeded, also where it never ran. */
function endPhase(input: StatusInput, phase: PodPhase): PodPhase {
  return input.ended && phase !== 'Succeeded' ? 'Failed' : phase;
}

function withEnd(status: ContainerStatus): ContainerStatus {
  if (status.state?.terminated) return status;
  const terminated = {
    exitCode: 137,
    reason: 'ContainerStatusUnknown',
    message: 'The container could not be located when the pod was terminated',
  };
  return { ...status, state: { terminated } };
}

/** One address of each family, that of the host's first address first; a pod in the host's network has the host's. */
export function podAddresses(
  input: Pick<StatusInput, 'pod' | 'observed' | 'hostIps' | 'previous'>,
): string[] {
  if (input.pod.spec.hostNetwork) {
    return input.observed.sandboxes.length > 0 ? orderAddresses(input.hostIps, input.hostIps) : [];
  }
  const current = orderAddresses(input.observed.sandboxes[0]?.ips ?? [], input.hostIps);
  // A stopped sandbox no longer tells its address; the pod had it.
  return current.length > 0 ? current : (input.previous?.podIPs ?? []).map(({ ip }) => ip);
}

export function orderAddresses(ips: readonly string[], hostIps: readonly string[]): string[] {
  const families = hostIps[0] !== undefined && isIPv6(hostIps[0]) ? [isIPv6, isIPv4] : [isIPv4, isIPv6];
  return families.flatMap((family) => ips.find(family) ?? []);
}
