/** Which namespaces a pod and its containers have: CRI's namespace modes, checked and made one with each other. Pure. */
import { NodeletError } from '../base/index.ts';
import {
  type IDMapping,
  NamespaceMode,
  type NamespaceOption,
  type PodSandboxConfig,
  type UserNamespace,
} from '../cri/index.ts';
import type { OciIdMap } from './launch/spec.ts';

const NAMES: Readonly<Record<number, string>> = {
  [NamespaceMode.POD]: 'POD',
  [NamespaceMode.CONTAINER]: 'CONTAINER',
  [NamespaceMode.NODE]: 'NODE',
  [NamespaceMode.TARGET]: 'TARGET',
};

function invalid(field: string, problem: string, hint?: string): NodeletError {
  return new NodeletError('INVALID_ARGUMENT', `${field}: ${problem}`, hint === undefined ? {} : { hint });
}

function modeOf(mode: number | undefined, field: string): NamespaceMode {
  const value = mode ?? NamespaceMode.POD;
  if (NAMES[value] === undefined) throw invalid(field, `${value} is no namespace mode`, 'use 0 to 3');
  return value as NamespaceMode;
}

/** The namespaces of a pod. */
export interface PodNamespaces {
  /** False where the pod uses the host's. */
  readonly network: boolean;
  readonly ipc: boolean;
  readonly pid: Exclude<NamespaceMode, typeof NamespaceMode.TARGET>;
  readonly uidMap: readonly OciIdMap[];
  readonly gidMap: readonly OciIdMap[];
}

const OF_POD = 'config.linux.securityContext.namespaceOptions';

/** Throws INVALID_ARGUMENT, naming the field. */
export function podNamespaces(config: PodSandboxConfig): PodNamespaces {
  const options = config.linux?.securityContext?.namespaceOptions ?? {};
  const pid = modeOf(options.pid, `${OF_POD}.pid`);
  if (pid === NamespaceMode.TARGET)
    throw invalid(
      `${OF_POD}.pid`,
      'TARGET names a container, and a pod begins without any',
      'use it in a container',
    );
  const users = userNamespace(options.usernsOptions, `${OF_POD}.usernsOptions`);
  return {
    network: podOrNode(options.network, `${OF_POD}.network`),
    ipc: podOrNode(options.ipc, `${OF_POD}.ipc`),
    pid,
    ...users,
  };
}

/** A pod's network and IPC namespaces are the pod's or the host's. */
function podOrNode(mode: number | undefined, field: string): boolean {
  const value = modeOf(mode, field);
  if (value === NamespaceMode.TARGET)
    throw invalid(field, 'TARGET names a container, and a pod begins without any', 'use POD or NODE');
  return value !== NamespaceMode.NODE;
}

/** Ids are 32 bits wide, and the last one stands for "no id". */
const ID_END = 0xffff_ffff;

/** As containerd: one row for users, one for groups, with root in it. Throws INVALID_ARGUMENT. */
function userNamespace(
  options: UserNamespace | undefined,
  field: string,
): { readonly uidMap: readonly OciIdMap[]; readonly gidMap: readonly OciIdMap[] } {
  if (options === undefined) return { uidMap: [], gidMap: [] };
  const mode = modeOf(options.mode, `${field}.mode`);
  const { uids = [], gids = [] } = options;
  if (mode === NamespaceMode.NODE) {
    if (uids.length + gids.length > 0)
      throw invalid(
        field,
        'mode NODE is the user namespace of the host and takes no mappings',
        'leave uids and gids empty',
      );
    return { uidMap: [], gidMap: [] };
  }
  if (mode !== NamespaceMode.POD)
    throw invalid(`${field}.mode`, `${NAMES[mode]} does not exist for user namespaces`, 'use POD or NODE');
  return { uidMap: idMap(uids, `${field}.uids`), gidMap: idMap(gids, `${field}.gids`) };
}

function idMap(rows: readonly IDMapping[], field: string): OciIdMap[] {
  const [row] = rows;
  if (row === undefined || rows.length > 1)
    throw invalid(
      field,
      `${rows.length} mappings found`,
      'a pod has exactly one for its users and one for its groups',
    );
  const { containerId = 0, hostId = 0, length = 0 } = row;
  if (containerId !== 0)
    throw invalid(`${field}[0].containerId`, `${containerId} leaves root without an id`, 'begin with 0');
  if (
    !Number.isInteger(length) ||
    length < 1 ||
    !Number.isInteger(hostId) ||
    hostId < 0 ||
    hostId + length > ID_END
  )
    throw invalid(`${field}[0]`, `${length} ids from ${hostId} are not all ids of this machine`);
  return [{ containerID: 0, hostID: hostId, size: length }];
}

/** Where one namespace of a container comes from. */
export type ContainerMode =
  | { readonly from: 'pod' }
  | { readonly from: 'own' }
  | { readonly from: 'host' }
  | { readonly from: 'target'; readonly targetId: string };

export interface ContainerNamespaces {
  readonly network: ContainerMode;
  readonly ipc: ContainerMode;
  readonly pid: ContainerMode;
}

const OF_CONTAINER = 'config.linux.securityContext.namespaceOptions';

/**
 * A container's namespaces, inside what its pod has: POD is whatever the pod has, also the host's, and the host's own can
 * only be had in a pod that has them. A pod without a PID namespace of its own gives each container one. Throws
 * INVALID_ARGUMENT, naming the field.
 */
export function containerNamespaces(
  options: NamespaceOption | undefined,
  pod: PodNamespaces,
): ContainerNamespaces {
  const targetId = options?.targetId ?? '';
  const users = options?.usernsOptions;
  if (users !== undefined) sameUsers(users, pod);
  return {
    network: containerMode(options?.network, pod.network ? 'pod' : 'host', targetId, 'network'),
    ipc: containerMode(options?.ipc, pod.ipc ? 'pod' : 'host', targetId, 'ipc'),
    pid: containerMode(options?.pid, PID_OF_POD[pod.pid], targetId, 'pid'),
  };
}

const PID_OF_POD = {
  [NamespaceMode.POD]: 'pod',
  [NamespaceMode.CONTAINER]: 'own',
  [NamespaceMode.NODE]: 'host',
} as const;

function containerMode(
  mode: number | undefined,
  pod: 'pod' | 'own' | 'host',
  targetId: string,
  kind: 'network' | 'ipc' | 'pid',
): ContainerMode {
  const field = `${OF_CONTAINER}.${kind}`;
  const value = modeOf(mode, field);
  switch (value) {
    case NamespaceMode.POD:
      return { from: pod };
    case NamespaceMode.CONTAINER:
      return { from: 'own' };
    case NamespaceMode.NODE:
      if (pod !== 'host')
        throw invalid(
          field,
          `NODE is the host's, which this pod does not have`,
          'make the pod with NODE, too',
        );
      return { from: 'host' };
    case NamespaceMode.TARGET:
      if (targetId === '') throw invalid(`${OF_CONTAINER}.targetId`, `is empty, and ${kind} is TARGET`);
      return { from: 'target', targetId };
  }
}

/** The user namespace is the pod's; a container that names another is a mistake of the caller's (as containerd). */
function sameUsers(users: UserNamespace, pod: PodNamespaces): void {
  const field = `${OF_CONTAINER}.usernsOptions`;
  const own = userNamespace(users, field);
  if (JSON.stringify([own.uidMap, own.gidMap]) !== JSON.stringify([pod.uidMap, pod.gidMap]))
    throw invalid(
      field,
      'differs from that of the pod, which all its containers share',
      'send the mappings of the pod',
    );
}
