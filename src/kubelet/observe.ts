/** Reads what the runtime has of a pod into the model. */

import { hasCode } from '../base/index.ts';
import {
  type Container,
  type ContainerStatus,
  ContainerState as CriContainerState,
  type LocalRuntime,
  type PodSandbox,
  PodSandboxState,
  type PodSandboxStatus,
} from '../cri/index.ts';
import type { ContainerState, Observed, ObservedContainer, ObservedSandbox } from './core/model.ts';
import { MAX_POD_MESSAGES, terminationMessage } from './files/termination.ts';
import { ANNOTATION, LABEL } from './translate/labels.ts';

const NANOS = 1e6;

const STATES: Readonly<Record<CriContainerState, ContainerState>> = {
  [CriContainerState.CONTAINER_CREATED]: 'created',
  [CriContainerState.CONTAINER_RUNNING]: 'running',
  [CriContainerState.CONTAINER_EXITED]: 'exited',
  [CriContainerState.CONTAINER_UNKNOWN]: 'unknown',
};

export class Observer {
  readonly #runtime: LocalRuntime;
  readonly #uid: string;
  readonly #maxMessage: number;
  /** An exit does not change any more; its message is read once. */
  readonly #exited = new Map<string, ObservedContainer>();

  /** `containers` is how many the pod has: they share the room for termination messages. */
  constructor(runtime: LocalRuntime, uid: string, containers: number) {
    this.#runtime = runtime;
    this.#uid = uid;
    this.#maxMessage = Math.floor(MAX_POD_MESSAGES / Math.max(1, containers));
  }

  async observe(): Promise<Observed> {
    const labelSelector = { [LABEL.podUid]: this.#uid };
    const [{ items = [] }, { containers = [] }] = await Promise.all([
      this.#runtime.listPodSandbox({ filter: { labelSelector } }),
      this.#runtime.listContainers({ filter: { labelSelector } }),
    ]);
    const observed = {
      sandboxes: (await Promise.all(items.map((item) => this.#sandbox(item)))).flat().sort(byAge),
      containers: (await Promise.all(containers.map((item) => this.#container(item)))).flat().sort(byAge),
    };
    const ids = new Set(observed.containers.map(({ id }) => id));
    for (const id of this.#exited.keys()) if (!ids.has(id)) this.#exited.delete(id);
    return observed;
  }

  /** None where it was removed between the two calls. */
  async #sandbox(item: PodSandbox): Promise<ObservedSandbox[]> {
    const response = await present(this.#runtime.podSandboxStatus({ podSandboxId: item.id ?? '' }));
    return response?.status === undefined ? [] : [sandboxOf(response.status)];
  }

  async #container(item: Container): Promise<ObservedContainer[]> {
    const known = this.#exited.get(item.id ?? '');
    if (known !== undefined) return [known];
    const response = await present(this.#runtime.containerStatus({ containerId: item.id ?? '' }));
    if (response?.status === undefined) return [];
    const observed = containerOf(response.status, item.podSandboxId ?? '', this.#maxMessage);
    if (observed.state === 'exited') this.#exited.set(observed.id, observed);
    return [observed];
  }
}

async function present<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (hasCode(error, 'NOT_FOUND')) return undefined;
    throw error;
  }
}

interface Aged {
  readonly createdAt: number;
  readonly attempt: number;
}

/** The newest first; attempts decide between two that were made in one millisecond. */
function byAge(a: Aged, b: Aged): number {
  return b.createdAt - a.createdAt || b.attempt - a.attempt;
}

export function sandboxOf(status: PodSandboxStatus): ObservedSandbox {
  const additional = (status.network?.additionalIps ?? []).map(({ ip }) => ip ?? '');
  return {
    id: status.id ?? '',
    attempt: status.metadata?.attempt ?? 0,
    ready: status.state === PodSandboxState.SANDBOX_READY,
    createdAt: (status.createdAt ?? 0) / NANOS,
    ips: [status.network?.ip ?? '', ...additional].filter((ip) => ip !== ''),
  };
}

export function containerOf(
  status: ContainerStatus,
  sandboxId: string,
  maxMessage: number,
): ObservedContainer {
  const state = STATES[status.state ?? CriContainerState.CONTAINER_UNKNOWN];
  const annotations = status.annotations ?? {};
  const user = status.user?.linux;
  const crashDelay = Number(annotations[ANNOTATION.crashDelay]);
  const restartCount = Number(annotations[ANNOTATION.restartCount] ?? status.metadata?.attempt ?? 0);
  return {
    id: status.id ?? '',
    name: status.labels?.[LABEL.containerName] ?? status.metadata?.name ?? '',
    sandboxId,
    attempt: Number.isInteger(restartCount) ? restartCount : 0,
    state,
    createdAt: (status.createdAt ?? 0) / NANOS,
    startedAt: (status.startedAt ?? 0) / NANOS,
    finishedAt: (status.finishedAt ?? 0) / NANOS,
    exitCode: status.exitCode ?? 0,
    reason: status.reason ?? '',
    message:
      state === 'exited' ? Buffer.from(terminationMessage(status)).subarray(-maxMessage).toString() : '',
    image: status.image?.userSpecifiedImage || status.image?.image || '',
    imageRef: status.imageRef ?? '',
    logPath: status.logPath ?? '',
    ...(Number.isFinite(crashDelay) && crashDelay > 0 ? { crashDelay } : {}),
    ...(user === undefined
      ? {}
      : {
          user: { uid: user.uid ?? 0, gid: user.gid ?? 0, supplementalGroups: user.supplementalGroups ?? [] },
        }),
  };
}
