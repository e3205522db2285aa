/** Events of a runtime that sends none (containerd before 1.7): what has changed between two lists, once a second. */
import { sleep } from '../../base/index.ts';
import {
  type Container,
  type ContainerEventResponse,
  ContainerEventType,
  ContainerState,
  type PodSandbox,
  PodSandboxState,
} from '../api.gen.ts';
import type { RuntimeCalls } from '../served.ts';

/** Milliseconds between two lists, as the kubelet's. */
const PERIOD = 1000;

export interface Listed {
  readonly sandboxes: readonly PodSandbox[];
  readonly containers: readonly Container[];
}

const { CONTAINER_CREATED_EVENT, CONTAINER_STARTED_EVENT, CONTAINER_STOPPED_EVENT, CONTAINER_DELETED_EVENT } =
  ContainerEventType;

const CONTAINER_EVENTS: Readonly<Record<number, ContainerEventType>> = {
  [ContainerState.CONTAINER_CREATED]: CONTAINER_CREATED_EVENT,
  [ContainerState.CONTAINER_RUNNING]: CONTAINER_STARTED_EVENT,
  [ContainerState.CONTAINER_EXITED]: CONTAINER_STOPPED_EVENT,
  [ContainerState.CONTAINER_UNKNOWN]: CONTAINER_STOPPED_EVENT,
};

function sandboxEvent(kind: ContainerEventType, sandbox: PodSandbox): ContainerEventResponse {
  const { id = '', metadata, state, labels, annotations } = sandbox;
  return {
    containerId: id,
    containerEventType: kind,
    podSandboxStatus: { id, metadata, state, labels, annotations },
  };
}

function containerEvent(kind: ContainerEventType, container: Container): ContainerEventResponse {
  const { id = '', metadata, state, labels, annotations } = container;
  return {
    containerId: id,
    containerEventType: kind,
    containersStatuses: [{ id, metadata, state, labels, annotations }],
  };
}

function changes<T extends { readonly id?: string; readonly state?: number }>(
  before: readonly T[],
  after: readonly T[],
  kindOf: (state: number) => ContainerEventType,
  eventOf: (kind: ContainerEventType, one: T) => ContainerEventResponse,
): ContainerEventResponse[] {
  const old = new Map(before.map((one) => [one.id ?? '', one]));
  const events: ContainerEventResponse[] = [];
  for (const one of after) {
    const known = old.get(one.id ?? '');
    old.delete(one.id ?? '');
    // Zero is not on the wire.
    const state = one.state ?? 0;
    if (known === undefined || (known.state ?? 0) !== state) events.push(eventOf(kindOf(state), one));
  }
  return [...events, ...[...old.values()].map((one) => eventOf(CONTAINER_DELETED_EVENT, one))];
}

/** What has happened from one list to the next; several steps of one container in between are one. Pure. */
export function eventsBetween(before: Listed, after: Listed): ContainerEventResponse[] {
  const ofSandbox = (state: number): ContainerEventType =>
    state === PodSandboxState.SANDBOX_READY ? CONTAINER_STARTED_EVENT : CONTAINER_STOPPED_EVENT;
  const ofContainer = (state: number): ContainerEventType =>
    CONTAINER_EVENTS[state] ?? CONTAINER_STOPPED_EVENT;
  return [
    ...changes(before.sandboxes, after.sandboxes, ofSandbox, sandboxEvent),
    ...changes(before.containers, after.containers, ofContainer, containerEvent),
  ];
}

async function list(runtime: RuntimeCalls, signal: AbortSignal | undefined): Promise<Listed> {
  const [{ items = [] }, { containers = [] }] = await Promise.all([
    runtime.listPodSandbox({}, signal),
    runtime.listContainers({}, signal),
  ]);
  return { sandboxes: items, containers };
}

/** Ends when `signal` fires. Throws what the lists throw. */
export async function* relisted(
  runtime: RuntimeCalls,
  signal?: AbortSignal,
): AsyncGenerator<ContainerEventResponse> {
  try {
    let before = await list(runtime, signal);
    for (;;) {
      await sleep(PERIOD, signal);
      const after = await list(runtime, signal);
      yield* eventsBetween(before, after);
      before = after;
    }
  } catch (error) {
    if (signal?.aborted !== true) throw error;
  }
}
