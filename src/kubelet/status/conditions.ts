import {
  type BoundPod,
  type ContainerStatus,
  isSidecar,
  type PodCondition,
  type PodPhase,
  timestamp,
} from '../../kube/index.ts';

interface Finding {
  readonly status: 'True' | 'False';
  readonly reason?: string;
  readonly message?: string;
}

export interface ConditionInput {
  readonly pod: BoundPod;
  readonly phase: PodPhase;
  readonly statuses: readonly ContainerStatus[];
  /** True where a sandbox stands that containers may be started in. */
  readonly sandboxReady: boolean;
  readonly previous: readonly PodCondition[];
  readonly now: number;
}

/** The conditions that a kubelet owns, in upstream's order. Transition times are kept while a status stays. */
export function podConditions(input: ConditionInput): PodCondition[] {
  const ready = containersReady(input);
  const findings: readonly (readonly [type: string, finding: Finding])[] = [
    ['PodReadyToStartContainers', { status: input.sandboxReady ? 'True' : 'False' }],
    ['Initialized', initialized(input)],
    ['Ready', ready],
    ['ContainersReady', ready],
    ['PodScheduled', { status: 'True' }],
  ];
  return findings.map(([type, finding]) => condition(input, type, finding));
}

function condition(input: ConditionInput, type: string, finding: Finding): PodCondition {
  const before = input.previous.find((each) => each.type === type);
  const { generation } = input.pod.metadata;
  return {
    type,
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    ...finding,
    lastTransitionTime:
      before?.status === finding.status && before.lastTransitionTime !== undefined
        ? before.lastTransitionTime
        : timestamp(input.now),
  };
}

function list(names: readonly string[]): string {
  return `[${names.join(' ')}]`;
}

function initialized(input: ConditionInput): Finding {
  const { pod, phase, statuses } = input;
  if (phase === 'Succeeded') return { status: 'True', reason: 'PodCompleted' };
  const started = pod.spec.containers.some((container) => {
    const status = statuses.find((each) => each.name === container.name);
    return status?.state?.running || status?.state?.terminated || status?.lastState?.terminated;
  });
  if (started) return { status: 'True' };
  const incomplete = (pod.spec.initContainers ?? []).filter((container) => {
    const status = statuses.find((each) => each.name === container.name);
    return isSidecar(container) ? !status?.started : !status?.ready;
  });
  if (incomplete.length === 0) return { status: 'True' };
  return {
    status: 'False',
    reason: 'ContainersNotInitialized',
    message: `containers with incomplete status: ${list(incomplete.map((container) => container.name))}`,
  };
}

function containersReady({ pod, phase, statuses }: ConditionInput): Finding {
  if (phase === 'Succeeded') return { status: 'False', reason: 'PodCompleted' };
  if (phase === 'Failed') return { status: 'False', reason: 'PodFailed' };
  const running = [...(pod.spec.initContainers ?? []).filter(isSidecar), ...pod.spec.containers];
  const unready = running.filter(
    (container) => !statuses.find((each) => each.name === container.name)?.ready,
  );
  if (unready.length === 0) return { status: 'True' };
  return {
    status: 'False',
    reason: 'ContainersNotReady',
    message: `containers with unready status: ${list(unready.map((container) => container.name))}`,
  };
}
