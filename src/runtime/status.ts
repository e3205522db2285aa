/** Records as CRI shows them. Pure. */
import {
  type ContainerFilter,
  type ContainerStatus,
  type Container as CriContainer,
  ContainerState as CriContainerState,
  NamespaceMode,
  type PodSandbox,
  type PodSandboxFilter,
  PodSandboxState,
  type PodSandboxStatus,
} from '../cri/index.ts';
import type { Container, Sandbox } from './model.ts';
import type { ContainerState } from './state.ts';
import { criSignal } from './stop-signal.ts';

const CONTAINER_STATES: Readonly<Record<ContainerState, CriContainerState>> = {
  created: CriContainerState.CONTAINER_CREATED,
  running: CriContainerState.CONTAINER_RUNNING,
  exited: CriContainerState.CONTAINER_EXITED,
  unknown: CriContainerState.CONTAINER_UNKNOWN,
};

function sandboxState(sandbox: Sandbox): PodSandboxState {
  return sandbox.record.state === 'ready' ? PodSandboxState.SANDBOX_READY : PodSandboxState.SANDBOX_NOTREADY;
}

export function sandboxStatus(sandbox: Sandbox): PodSandboxStatus {
  const { record } = sandbox;
  const addresses = (record.network?.ips ?? []).map((ip) => ip.address.split('/')[0] ?? '');
  const options = record.config.linux?.securityContext?.namespaceOptions ?? {};
  return {
    id: record.id,
    metadata: record.config.metadata,
    state: sandboxState(sandbox),
    createdAt: record.createdAt,
    network: {
      ip: addresses[0] ?? '',
      additionalIps: addresses.slice(1).map((ip) => ({ ip })),
    },
    linux: {
      namespaces: {
        options: {
          network: options.network ?? NamespaceMode.POD,
          pid: options.pid ?? NamespaceMode.POD,
          ipc: options.ipc ?? NamespaceMode.POD,
          targetId: options.targetId ?? '',
          ...(options.usernsOptions === undefined ? {} : { usernsOptions: options.usernsOptions }),
        },
      },
    },
    labels: record.config.labels ?? {},
    annotations: record.config.annotations ?? {},
    runtimeHandler: record.runtimeHandler,
  };
}

export function containerStatus(container: Container): ContainerStatus {
  const { record, sandbox } = container;
  const { config } = record;
  const logDirectory = sandbox.record.config.logDirectory ?? '';
  return {
    id: record.id,
    metadata: config.metadata,
    state: CONTAINER_STATES[record.state],
    createdAt: record.createdAt,
    startedAt: record.startedAt,
    finishedAt: record.finishedAt,
    exitCode: record.exitCode,
    image: config.image,
    imageRef: record.imageRef,
    imageId: record.imageId,
    reason: record.reason,
    message: record.message,
    labels: config.labels ?? {},
    annotations: config.annotations ?? {},
    mounts: config.mounts ?? [],
    logPath: config.logPath && logDirectory ? `${logDirectory}/${config.logPath}` : '',
    resources: { linux: config.linux?.resources ?? {} },
    user: {
      linux: { uid: record.user.uid, gid: record.user.gid, supplementalGroups: [...record.user.groups] },
    },
    stopSignal: criSignal(record.stopSignal),
  };
}

export function listedSandbox(sandbox: Sandbox): PodSandbox {
  const { record } = sandbox;
  return {
    id: record.id,
    metadata: record.config.metadata,
    state: sandboxState(sandbox),
    createdAt: record.createdAt,
    labels: record.config.labels ?? {},
    annotations: record.config.annotations ?? {},
    runtimeHandler: record.runtimeHandler,
  };
}

export function listedContainer(container: Container): CriContainer {
  const { record } = container;
  return {
    id: record.id,
    podSandboxId: record.sandboxId,
    metadata: record.config.metadata,
    image: record.config.image,
    imageRef: record.imageRef,
    imageId: record.imageId,
    state: CONTAINER_STATES[record.state],
    createdAt: record.createdAt,
    labels: record.config.labels ?? {},
    annotations: record.config.annotations ?? {},
  };
}

function labelsMatch(
  labels: Readonly<Record<string, string>> | undefined,
  selector: Readonly<Record<string, string>> | undefined,
): boolean {
  return Object.entries(selector ?? {}).every(([key, value]) => labels?.[key] === value);
}

/** All given conditions hold (CRI: "all those fields are combined with AND"). */
export function sandboxMatches(sandbox: Sandbox, filter: PodSandboxFilter | undefined): boolean {
  if (filter?.id && !sandbox.id.startsWith(filter.id)) return false;
  if (filter?.state !== undefined && sandboxState(sandbox) !== (filter.state.state ?? 0)) return false;
  return labelsMatch(sandbox.record.config.labels, filter?.labelSelector);
}

export function containerMatches(container: Container, filter: ContainerFilter | undefined): boolean {
  if (filter?.id && !container.id.startsWith(filter.id)) return false;
  if (filter?.podSandboxId && !container.sandbox.id.startsWith(filter.podSandboxId)) return false;
  if (filter?.state !== undefined && CONTAINER_STATES[container.record.state] !== (filter.state.state ?? 0))
    return false;
  return labelsMatch(container.record.config.labels, filter?.labelSelector);
}
