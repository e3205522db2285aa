/**
 * What a container is: the vocabulary of the OCI runtime specification 1.2 (config.json), the part that Linux containers
 * here use. Names and meaning are the specification's, so that `nodelet oci` can take a config.json as it stands.
 */
import type { MountSourceType } from '../../cri/index.ts';

export interface OciSpec {
  readonly ociVersion: string;
  readonly root: { readonly path: string; readonly readonly?: boolean };
  readonly hostname?: string;
  readonly domainname?: string;
  readonly process: OciProcess;
  readonly mounts: readonly OciMount[];
  readonly annotations?: Readonly<Record<string, string>>;
  readonly hooks?: OciHooks;
  readonly linux: OciLinux;
}

export interface OciHook {
  readonly path: string;
  readonly args?: readonly string[];
  readonly env?: readonly string[];
  /** Seconds. */
  readonly timeout?: number;
}

export const HOOK_KINDS = [
  'prestart',
  'createRuntime',
  'createContainer',
  'startContainer',
  'poststart',
  'poststop',
] as const;
export type OciHookKind = (typeof HOOK_KINDS)[number];
export type OciHooks = Readonly<Partial<Record<OciHookKind, readonly OciHook[]>>>;

export interface OciScheduler {
  readonly policy: number;
  readonly flags: number;
  readonly nice: number;
  readonly priority: number;
  /** Nanoseconds. */
  readonly runtime: number;
  readonly deadline: number;
  readonly period: number;
}

export interface OciProcess {
  readonly terminal?: boolean;
  readonly consoleSize?: { readonly height: number; readonly width: number };
  readonly user: {
    readonly uid: number;
    readonly gid: number;
    readonly umask?: number;
    readonly additionalGids?: readonly number[];
  };
  readonly args: readonly string[];
  /** NAME=value */
  readonly env: readonly string[];
  readonly cwd: string;
  /** Names with CAP_. */
  readonly capabilities?: OciCapabilities;
  readonly rlimits?: readonly { readonly type: string; readonly soft: number; readonly hard: number }[];
  readonly noNewPrivileges?: boolean;
  readonly oomScoreAdj?: number;
  /** A loaded AppArmor profile that the program begins under. */
  readonly apparmorProfile?: string;
  /** Class and level as ioprio_set(2) takes them. */
  readonly ioPriority?: number;
  readonly scheduler?: OciScheduler;
  /** As personality(2) takes it. */
  readonly personality?: number;
}

export interface OciCapabilities {
  readonly bounding?: readonly string[];
  readonly effective?: readonly string[];
  readonly permitted?: readonly string[];
  readonly inheritable?: readonly string[];
  readonly ambient?: readonly string[];
}

export interface OciIdMap {
  readonly containerID: number;
  readonly hostID: number;
  readonly size: number;
}

/** What the host sees of a pod's user or group id; without a map the id itself, outside it nobody. */
export function hostId(map: readonly OciIdMap[], id: number): number {
  if (map.length === 0) return id;
  const row = map.find((one) => id >= one.containerID && id < one.containerID + one.size);
  return row === undefined ? 65_534 : row.hostID + id - row.containerID;
}

export interface OciMount {
  readonly destination: string;
  /** `bind` (or an option bind/rbind), or a file system type. */
  readonly type?: string;
  readonly source?: string;
  readonly options?: readonly string[];
  readonly uidMappings?: readonly OciIdMap[];
  readonly gidMappings?: readonly OciIdMap[];
  /** Ours: a path inside `source` or `layers`, opened beneath it. */
  readonly subPath?: string;
  /** Ours: a source that is not there becomes an empty directory. */
  readonly makeSource?: boolean;
  /** Ours: in the place of `source` the layers of an image, topmost first, seen as one and read-only. */
  readonly layers?: readonly string[];
  /** Ours: what `source` has to be when it is mounted. */
  readonly sourceType?: MountSourceType;
  /** Ours: the pod slot of the user namespace that has the mappings; default the container's own. */
  readonly idMapSlot?: number;
}

export type OciNamespaceType = 'pid' | 'network' | 'ipc' | 'uts' | 'mount' | 'user' | 'cgroup' | 'time';

export interface OciNamespace {
  readonly type: OciNamespaceType;
  /**
   * Absent: a new one. `pod:` stands for the pod's own, which the shim holds, `target:` for another container's, whose
   * descriptor travels with the plan; else a path to join.
   */
  readonly path?: string;
}

export interface OciDevice {
  readonly path: string;
  /** Ours: where it is on the host, for a user namespace, in which it is bound; absent: at `path`. */
  readonly hostPath?: string;
  readonly type: 'c' | 'b' | 'u' | 'p';
  readonly major?: number;
  readonly minor?: number;
  readonly fileMode?: number;
  readonly uid?: number;
  readonly gid?: number;
}

export interface OciLinux {
  readonly namespaces: readonly OciNamespace[];
  readonly uidMappings?: readonly OciIdMap[];
  readonly gidMappings?: readonly OciIdMap[];
  readonly devices?: readonly OciDevice[];
  readonly cgroupsPath: string;
  readonly sysctl?: Readonly<Record<string, string>>;
  readonly maskedPaths?: readonly string[];
  readonly readonlyPaths?: readonly string[];
  readonly rootfsPropagation?: 'shared' | 'slave' | 'private' | 'unbindable';
}

/** `pod:` as a namespace's path: the one that the shim holds for the whole pod. */
export const POD_NAMESPACE = 'pod:';

/** `target:` as a namespace's path: that of the container that the request names (NamespaceMode.TARGET). */
export const TARGET_NAMESPACE = 'target:';
