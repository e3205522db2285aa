import { unreachable } from '../../base/index.ts';
import {
  type BoundPod,
  type CheckedContainer,
  type ContainerState,
  type ContainerStatus,
  formatPod,
  isSidecar,
  timestamp,
  type VolumeMountStatus,
} from '../../kube/index.ts';
import { startKey } from '../core/actions.ts';
import type { Probes } from '../core/containers.ts';
import type { ContainerMemory, Observed, ObservedContainer, PodMemory } from '../core/model.ts';
import { shallStart } from '../core/restart.ts';

export interface ContainerStatusInput {
  readonly pod: BoundPod;
  readonly observed: Observed;
  readonly memory: PodMemory;
  readonly probes: Probes;
  /** True where nothing is started any more. */
  readonly ending: boolean;
  readonly previous: readonly ContainerStatus[];
}

/** `10s`, `1m20s`, `5m0s`: how upstream's messages write a duration. */
export function goDuration(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)}ms`;
  const seconds = Math.round(milliseconds / 1000);
  const minutes = Math.floor(seconds / 60);
  return minutes === 0 ? `${seconds}s` : `${minutes}m${seconds % 60}s`;
}

export function initContainerStatuses(input: ContainerStatusInput): ContainerStatus[] {
  return (input.pod.spec.initContainers ?? []).map((container) => initStatus(input, container));
}

/** Sorted by name, as upstream's. */
export function mainContainerStatuses(input: ContainerStatusInput): ContainerStatus[] {
  return input.pod.spec.containers
    .map((container) => withReadiness(input, container, baseStatus(input, container)))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function initStatus(input: ContainerStatusInput, container: CheckedContainer): ContainerStatus {
  const status = baseStatus(input, container);
  if (isSidecar(container)) return withReadiness(input, container, status);
  const mainWasMade = input.pod.spec.containers.some((main) =>
    input.observed.containers.some((each) => each.name === main.name),
  );
  if (
    status.state?.waiting &&
    mainWasMade &&
    !input.observed.containers.some((each) => each.name === container.name)
  ) {
    status.state = {
      terminated: {
        exitCode: 0,
        reason: 'Completed',
        message:
          'Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally',
      },
    };
  }
  return {
    ...status,
    ready: status.state?.terminated?.exitCode === 0,
    started: status.state?.running !== undefined,
  };
}

/** Started and ready, by the probes where there are any. */
function withReadiness(
  input: ContainerStatusInput,
  container: CheckedContainer,
  status: ContainerStatus,
): ContainerStatus {
  if (status.state?.running === undefined) return { ...status, started: false, ready: false };
  const id = input.observed.containers.find((each) => each.name === container.name)?.id ?? '';
  const results = input.probes.get(id);
  const started = container.startupProbe === undefined || results?.startup === 'success';
  const ready = started && (container.readinessProbe === undefined || results?.readiness === 'success');
  return { ...status, started, ready };
}

function baseStatus(input: ContainerStatusInput, container: CheckedContainer): ContainerStatus {
  const [newest, before] = input.observed.containers.filter((each) => each.name === container.name);
  const previous = input.previous.find((each) => each.name === container.name);
  const status =
    newest === undefined ? absent(input, container, previous) : present(newest, before, container, previous);
  const waiting = waitingState(input, container, newest);
  if (waiting === undefined) return status;
  const lastState = status.state?.terminated ? status.state : status.lastState;
  return { ...status, ...(lastState === undefined ? {} : { lastState }), state: { waiting } };
}

function common(
  container: CheckedContainer,
): Pick<ContainerStatus, 'resources' | 'allocatedResources' | 'volumeMounts'> {
  const { limits, requests } = container.resources ?? {};
  const mounts: VolumeMountStatus[] = (container.volumeMounts ?? []).map((mount) => ({
    name: mount.name,
    mountPath: mount.mountPath,
    ...(mount.readOnly
      ? {
          readOnly: true,
          recursiveReadOnly: isRecursive(mount.recursiveReadOnly) ? 'Enabled' : 'Disabled',
        }
      : {}),
  }));
  return {
    ...(limits || requests
      ? { resources: { ...(limits && { limits }), ...(requests && { requests }) } }
      : {}),
    ...(requests ? { allocatedResources: requests } : {}),
    ...(mounts.length > 0 ? { volumeMounts: mounts } : {}),
  };
}

/** This runtime can always mount recursively read-only, so IfPossible means it. */
export function isRecursive(mode: string | undefined): boolean {
  return mode === 'Enabled' || mode === 'IfPossible';
}

const VANISHED = 137;

function absent(
  input: ContainerStatusInput,
  container: CheckedContainer,
  previous: ContainerStatus | undefined,
): ContainerStatus {
  if (previous?.state?.terminated) return previous;
  const reason = (input.pod.spec.initContainers ?? []).length > 0 ? 'PodInitializing' : 'ContainerCreating';
  const status: ContainerStatus = {
    ...common(container),
    name: container.name,
    state: { waiting: { reason } },
    ready: false,
    restartCount: previous?.restartCount ?? 0,
    image: container.image,
    imageID: '',
    ...(previous?.lastState ? { lastState: previous.lastState } : {}),
  };
  if (!previous?.state?.running || previous.lastState?.terminated) return status;
  // It ran and is gone without a trace: that must not look like a container that never ran.
  return {
    ...status,
    restartCount: status.restartCount + (input.ending ? 0 : 1),
    lastState: {
      terminated: {
        exitCode: VANISHED,
        reason: 'ContainerStatusUnknown',
        message:
          'The container could not be located when the pod was deleted.  The container used to be Running',
      },
    },
  };
}

function present(
  observed: ObservedContainer,
  before: ObservedContainer | undefined,
  container: CheckedContainer,
  previous: ContainerStatus | undefined,
): ContainerStatus {
  const lastState = before === undefined ? previous?.lastState : stateOf(before, undefined);
  return {
    ...common(container),
    name: container.name,
    state: stateOf(observed, previous),
    ...(lastState?.terminated ? { lastState } : {}),
    ready: false,
    restartCount: observed.attempt,
    image: observed.image,
    imageID: observed.imageRef,
    containerID: `nodelet://${observed.id}`,
    ...(observed.user === undefined ? {} : { user: { linux: observed.user } }),
  };
}

function stateOf(observed: ObservedContainer, previous: ContainerStatus | undefined): ContainerState {
  switch (observed.state) {
    case 'running':
      return { running: { startedAt: timestamp(observed.startedAt) } };
    case 'exited':
      return {
        terminated: {
          exitCode: observed.exitCode,
          ...(observed.reason === '' ? {} : { reason: observed.reason }),
          ...(observed.message === '' ? {} : { message: observed.message }),
          startedAt: timestamp(observed.startedAt),
          finishedAt: timestamp(observed.finishedAt),
          containerID: `nodelet://${observed.id}`,
        },
      };
    case 'unknown':
      if (!previous?.state?.running) return { waiting: {} };
      return {
        terminated: {
          exitCode: VANISHED,
          reason: 'ContainerStatusUnknown',
          message: 'The container could not be located when the pod was terminated',
        },
      };
    case 'created':
      return { waiting: {} };
    default:
      return unreachable(observed.state);
  }
}

type Waiting = NonNullable<ContainerState['waiting']>;

/** Why a container that shall run does not, where a start was tried. */
function waitingState(
  input: ContainerStatusInput,
  container: CheckedContainer,
  newest: ObservedContainer | undefined,
): Waiting | undefined {
  if (input.ending || !shallStart(input.pod, container, newest)) return undefined;
  const isInit = (input.pod.spec.initContainers ?? []).includes(container);
  if (isInit && !isSidecar(container) && newest?.state === 'exited' && newest.exitCode === 0)
    return undefined;
  const memory = input.memory.containers[container.name];
  const failure = input.memory.failures[startKey(container.name)];
  const failed = failure === undefined ? undefined : { reason: failure.reason, message: failure.message };
  return crashLoop(input, container, newest, memory) ?? pullFailure(input, container) ?? failed;
}

function crashLoop(
  input: ContainerStatusInput,
  container: CheckedContainer,
  newest: ObservedContainer | undefined,
  memory: ContainerMemory | undefined,
): Waiting | undefined {
  if (newest?.state !== 'exited' || memory?.announcedFor !== newest.id) return undefined;
  const pause = goDuration(memory.crash?.delay ?? newest.crashDelay ?? 0);
  return {
    reason: 'CrashLoopBackOff',
    message: `back-off ${pause} restarting failed container=${container.name} pod=${formatPod(input.pod)}`,
  };
}

function pullFailure(input: ContainerStatusInput, container: CheckedContainer): Waiting | undefined {
  const failure = input.memory.pulls[container.image];
  if (failure === undefined) return undefined;
  if (!failure.announced) return { reason: failure.reason, message: failure.message };
  return {
    reason: 'ImagePullBackOff',
    message: `Back-off pulling image ${JSON.stringify(container.image)}: ${failure.reason}: ${failure.message}`,
  };
}
