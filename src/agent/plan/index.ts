/**
 * Puts together what each room would do for a pod: the same pure functions that the agent runs by, on what this machine is
 * like now. Nothing is made, opened for writing, reserved or asked of a registry.
 */
import { existsSync } from 'node:fs';
import { describeError, silentLog } from '../../base/index.ts';
import type { BridgeNetwork } from '../../cni/index.ts';
import { ImagePeek, userOf } from '../../image/index.ts';
import { type BoundPod, bindPod, type CheckedPod, type Manifests } from '../../kube/index.ts';
import {
  admit,
  defaultSettings,
  KubeletPaths,
  type KubeletSettings,
  type NodeFacts,
  ObjectStore,
  type PodPlan,
  planPod,
  planPodCgroup,
  probeNode,
  UserNamespaces,
} from '../../kubelet/index.ts';
import { type CgroupHost, directoryOf, readCgroupHost } from '../../linux/cgroups/index.ts';
import { networkAttachment, type PodLaunchPlan, planPodLaunch } from '../../runtime/index.ts';
import type { AgentConfig } from '../config.ts';
import { networkOf } from '../local-node.ts';
import { existing } from '../storage.ts';
import type { PlannedPod, PlannedPodContainer, PlannedPodImage, PlannedPodNetwork } from './types.ts';

export type * from './types.ts';

/** Stands for the UID that is drawn when the pod is taken in. */
const NO_UID = '<uid>';

interface Machine {
  readonly config: AgentConfig;
  readonly host: CgroupHost;
  readonly node: NodeFacts;
  readonly settings: KubeletSettings;
  readonly paths: KubeletPaths;
  readonly objects: ObjectStore;
  readonly images: ImagePeek;
  readonly network: BridgeNetwork | undefined;
}

/** Throws what a container's configuration would fail with (CONTAINER_CONFIG), and CGROUP_V2_MISSING. */
export function planManifests(config: AgentConfig, manifests: Manifests): PlannedPod[] {
  const network = networkOf(config, silentLog);
  try {
    const machine = lookAt(config, manifests, network);
    return manifests.pods.map((pod) => planOne(machine, pod));
  } finally {
    network?.close();
  }
}

function lookAt(config: AgentConfig, manifests: Manifests, network: BridgeNetwork | undefined): Machine {
  const host = readCgroupHost();
  const objects = new ObjectStore();
  for (const configMap of manifests.configMaps) objects.putConfigMap(configMap);
  for (const secret of manifests.secrets) objects.putSecret(secret);
  return {
    config,
    host,
    node: probeNode({
      root: existing(config.kubeletRoot),
      cgroups: { memory: memoryOf(host, config.cgroupRoot) },
      name: config.nodeName,
      maxPods: config.maxPods,
      resolvConf: config.resolvConf,
      ...(config.nodeIps.length > 0 ? { ips: config.nodeIps } : {}),
    }),
    settings: {
      ...defaultSettings,
      clusterDns: config.clusterDns,
      clusterDomain: config.clusterDomain,
      seccompDefault: config.seccompDefault,
      allowedUnsafeSysctls: config.allowedUnsafeSysctls,
      podPidsLimit: config.podPidsLimit,
    },
    paths: new KubeletPaths({ root: config.kubeletRoot, podLogs: config.podLogs }),
    objects,
    images: new ImagePeek(config.root),
    network,
  };
}

function memoryOf(host: CgroupHost, root: string): { readonly v2: boolean; readonly swap: boolean } {
  const v2 = host.controllers.memory?.version === 2;
  // Where our own group is not there yet, that of the system's first processes tells.
  const groups = [root, '/init.scope', '/system.slice'].map((path) => directoryOf(host.unified, path));
  return { v2, swap: v2 && groups.some((group) => existsSync(`${group}/memory.swap.max`)) };
}

function planOne(machine: Machine, checked: CheckedPod): PlannedPod {
  const { config, host, node, settings } = machine;
  const uid = checked.metadata.uid ?? NO_UID;
  const pod = bindPod(checked, { uid, nodeName: node.name, now: new Date() });
  const plan = kubeletPlan(machine, pod);
  const launch = planPodLaunch(config, {
    sandbox: plan.sandbox,
    containers: plan.containers.map(({ image, config: container }) => {
      const record = machine.images.resolve(image);
      return {
        config: { ...container, metadata: { ...container.metadata } },
        image:
          record === undefined
            ? undefined
            : { record, users: machine.images.users(record), lower: machine.images.directories(record) },
      };
    }),
  });
  const rejection = admit(pod, [], node, settings);
  return {
    namespace: pod.metadata.namespace,
    name: pod.metadata.name,
    uid,
    qos: plan.qos,
    ...(rejection === undefined ? {} : { rejection }),
    directories: plan.directories,
    volumes: plan.volumes,
    cgroup: {
      path: `${config.cgroupRoot}/${plan.cgroup.path}`,
      steps: planPodCgroup(host, config.cgroupRoot, plan.cgroup),
    },
    images: plan.containers.map((container) => planImage(machine, container)),
    sandbox: { id: launch.sandboxId, plans: launch.sandbox },
    network: planNetwork(machine, pod, plan, launch.sandboxId),
    containers: plan.containers.map((container, i) => planContainer(container, launch.containers[i])),
  };
}

function kubeletPlan(machine: Machine, pod: BoundPod): PodPlan {
  const { config, network, images, paths, settings } = machine;
  const own = pod.spec.hostUsers === false;
  return planPod(pod, {
    ...machine,
    cgroupParent: (path) => `${config.cgroupRoot}/${path}`,
    imageUser: (image) => {
      const { uid, username } = userOf(images.resolve(image)?.config.config?.User ?? '');
      return { ...(uid === undefined ? {} : { uid: uid.value ?? 0 }), ...(username ? { username } : {}) };
    },
    userNamespace: own
      ? new UserNamespaces(paths, settings.userNamespaces).peek(pod.metadata.uid)
      : undefined,
    podIps: pod.spec.hostNetwork === true ? machine.node.ips : nextAddresses(network),
  });
}

/** The id in a plan is a placeholder; any will do to ask for free addresses. */
const ANY_ID = '0'.repeat(64);

function nextAddresses(network: BridgeNetwork | undefined): string[] {
  try {
    return network?.nextAddresses(ANY_ID) ?? [];
  } catch {
    return []; // why is told with the network's steps
  }
}

function planImage(machine: Machine, container: PodPlan['containers'][number]): PlannedPodImage {
  const { name, image: reference, pullPolicy } = container;
  const record = machine.images.resolve(reference);
  if (record === undefined)
    return { container: name, reference, pullPolicy, action: pullPolicy === 'Never' ? 'missing' : 'pull' };
  return {
    container: name,
    reference,
    pullPolicy,
    action: pullPolicy === 'Always' ? 'ask' : 'use',
    id: record.id,
    size: record.size,
    layers: machine.images.directories(record),
  };
}

function planNetwork(machine: Machine, pod: BoundPod, plan: PodPlan, sandboxId: string): PlannedPodNetwork {
  if (pod.spec.hostNetwork === true) return { kind: 'host', addresses: machine.node.ips, steps: [] };
  const { network } = machine;
  if (network === undefined)
    return { kind: 'bridge', addresses: [], steps: [], problem: 'this agent has no pod network' };
  try {
    const attachment = networkAttachment({ id: sandboxId, config: plan.sandbox }, undefined);
    return { kind: 'bridge', addresses: nextAddresses(network), steps: network.plan(attachment) };
  } catch (error) {
    return { kind: 'bridge', addresses: [], steps: [], problem: describeError(error) };
  }
}

function planContainer(
  container: PodPlan['containers'][number],
  launch: PodLaunchPlan['containers'][number] | undefined,
): PlannedPodContainer {
  return {
    name: container.name,
    role: container.role,
    id: launch?.id ?? '',
    image: container.image,
    mounts: (container.config.mounts ?? []).map((mount) => ({
      containerPath: mount.containerPath ?? '',
      hostPath: [mount.hostPath ?? '', mount.subPath].filter((part) => part !== undefined).join('/'),
      readOnly: mount.readonly === true,
    })),
    ...(launch?.spec === undefined ? {} : { spec: launch.spec }),
    ...(launch?.operations === undefined ? {} : { operations: launch.operations }),
  };
}
