/** What would be done for a pod, without doing it: the same translation, on names instead of things. Pure. */
import type { LocalContainerConfig, PodSandboxConfig, UserNamespace } from '../cri/index.ts';
import { type BoundPod, isSidecar, type QosClass, type Volume } from '../kube/index.ts';
import { type PodCgroup, podCgroup } from './cgroups.ts';
import type { KubeletSettings, NodeFacts } from './node.ts';
import type { ObjectLookup } from './objects.ts';
import type { KubeletPaths } from './paths.ts';
import { containerConfig } from './translate/container.ts';
import { podDns } from './translate/dns.ts';
import { sandboxConfig } from './translate/sandbox.ts';
import type { ImageUser } from './translate/security.ts';
import { volumePaths } from './volumes/volumes.ts';

export interface PlannedVolume {
  readonly name: string;
  /** `emptyDir`, `configMap` and so on. */
  readonly kind: string;
  readonly path: string;
  readonly inMemory: boolean;
}

export interface PlannedContainer {
  readonly name: string;
  readonly role: 'init' | 'sidecar' | 'main';
  readonly image: string;
  readonly pullPolicy: string;
  readonly config: LocalContainerConfig;
}

export interface PodPlan {
  readonly qos: QosClass;
  readonly directories: readonly string[];
  readonly cgroup: PodCgroup;
  readonly volumes: readonly PlannedVolume[];
  readonly sandbox: PodSandboxConfig;
  /** In the order in which they start. */
  readonly containers: readonly PlannedContainer[];
}

export interface PlanContext {
  readonly paths: KubeletPaths;
  readonly node: NodeFacts;
  readonly settings: KubeletSettings;
  readonly objects: ObjectLookup;
  /** CRI's cgroup_parent for a path below the cgroup root. */
  readonly cgroupParent: (path: string) => string;
  /** Who an image runs as, where the image is there. */
  readonly imageUser: (image: string) => ImageUser;
  /** The ids of a pod with users of its own. */
  readonly userNamespace?: UserNamespace | undefined;
  /** Shown in place of what is only known once the sandbox stands. */
  readonly podIps: readonly string[];
}

/** Throws CreateContainerConfigError where a container could not be configured. */
export function planPod(pod: BoundPod, context: PlanContext): PodPlan {
  const { paths, node, settings } = context;
  const { uid } = pod.metadata;
  const cgroup = podCgroup(pod, settings);
  const volumes = volumePaths(pod, paths);
  const { userNamespace } = context;
  const containers = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
  return {
    qos: cgroup.qos,
    directories: [paths.pod(uid), paths.volumes(uid), paths.podLogs(pod)],
    cgroup,
    volumes: (pod.spec.volumes ?? []).map((volume) =>
      planVolume(volume, volumes.get(volume.name)?.path ?? ''),
    ),
    sandbox: sandboxConfig({
      pod,
      attempt: 0,
      dns: podDns(pod, settings, node.resolvConf).config,
      clusterDomain: settings.clusterDomain,
      cgroupParent: context.cgroupParent(cgroup.path),
      logDirectory: paths.podLogs(pod),
      userNamespace,
    }),
    containers: containers.map((container) => ({
      name: container.name,
      role: !pod.spec.initContainers?.includes(container)
        ? 'main'
        : isSidecar(container)
          ? 'sidecar'
          : 'init',
      image: container.image,
      pullPolicy: container.imagePullPolicy,
      config: containerConfig({
        ...context,
        pod,
        container,
        attempt: 0,
        crashDelay: undefined,
        imageRef: container.image,
        imageUser: context.imageUser(container.image),
        volumes,
        etcHosts: paths.etcHosts(uid),
        terminationLog: `${paths.container(uid, container.name)}/<random>`,
        userNamespace,
        seccompRoot: paths.seccomp,
      }),
    })),
  };
}

function planVolume(volume: Volume, path: string): PlannedVolume {
  const kind = Object.keys(volume).find((field) => field !== 'name') ?? 'emptyDir';
  const inMemory =
    volume.emptyDir?.medium === 'Memory' || ['secret', 'downwardAPI', 'projected'].includes(kind);
  return { name: volume.name, kind, path, inMemory };
}
