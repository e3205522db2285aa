/** Where the kubelet half keeps what: upstream's layout below a root that can be moved. */
import { join } from 'node:path';
import type { BoundPod } from '../kube/index.ts';

export interface KubeletDirectories {
  /** `/var/lib/kubelet` */
  readonly root: string;
  /** `/var/log/pods` */
  readonly podLogs: string;
  /** `/var/log/containers`: links to container logs, for collectors of logs; none are made where it is undefined. */
  readonly containerLogs?: string;
}

/** A plugin's name as a directory name: `kubernetes.io~empty-dir`. */
export type VolumePlugin = 'empty-dir' | 'configmap' | 'secret' | 'downward-api' | 'projected' | 'host-path';

export class KubeletPaths {
  readonly directories: KubeletDirectories;

  constructor(directories: KubeletDirectories) {
    this.directories = directories;
  }

  get pods(): string {
    return join(this.directories.root, 'pods');
  }

  /** Profiles that `seccompProfile: {type: Localhost}` names. */
  get seccomp(): string {
    return join(this.directories.root, 'seccomp');
  }

  pod(uid: string): string {
    return join(this.pods, uid);
  }

  /** Our own record of the pod: start time, stop request, terminal phase. */
  record(uid: string): string {
    return join(this.pod(uid), 'nodelet.json');
  }

  userNamespace(uid: string): string {
    return join(this.pod(uid), 'userns');
  }

  etcHosts(uid: string): string {
    return join(this.pod(uid), 'etc-hosts');
  }

  volumes(uid: string): string {
    return join(this.pod(uid), 'volumes');
  }

  volume(uid: string, plugin: VolumePlugin, name: string): string {
    return join(this.volumes(uid), `kubernetes.io~${plugin}`, name);
  }

  /** Binds of subPaths, for a runtime that cannot make them. */
  subPaths(uid: string): string {
    return join(this.pod(uid), 'volume-subpaths');
  }

  /** Holds the termination message files of one container's attempts. */
  container(uid: string, container: string): string {
    return join(this.pod(uid), 'containers', container);
  }

  podLogs(pod: BoundPod): string {
    const { namespace, name, uid } = pod.metadata;
    return join(this.directories.podLogs, `${namespace}_${name}_${uid}`);
  }

  containerLogs(pod: BoundPod, container: string): string {
    return join(this.podLogs(pod), container);
  }

  /** The link under which collectors find a container's log. */
  logLink(pod: BoundPod, container: string, id: string): string | undefined {
    const folder = this.directories.containerLogs;
    if (folder === undefined) return undefined;
    const { namespace, name } = pod.metadata;
    // as upstream, the part before the id is cut so that the name fits a file name
    const base = `${name}_${namespace}_${container}-${id}`.slice(0, 251);
    return join(folder, `${base}.log`);
  }
}

/** The log of one attempt, relative to the pod's log directory: what CRI calls `log_path`. */
export function relativeLogPath(container: string, attempt: number): string {
  return `${container}/${attempt}.log`;
}

/** True for a UID that is safe as a part of a path. */
export function isSafeUid(uid: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(uid);
}
