/** A pod into the configuration of its sandbox. Pure. */
import {
  type DNSConfig,
  type PodSandboxConfig,
  type PortMapping,
  ProfileType,
  Protocol,
  type UserNamespace,
} from '../../cri/index.ts';
import { type BoundPod, dottedSysctl } from '../../kube/index.ts';
import { kernelHostname, podHostname } from './hostname.ts';
import { sandboxLabels } from './labels.ts';
import { groupsPolicy, namespaceOptions, supplementalGroups } from './security.ts';

export interface SandboxInput {
  readonly pod: BoundPod;
  readonly attempt: number;
  readonly dns: DNSConfig;
  readonly clusterDomain: string;
  /** As a path below the cgroup root. */
  readonly cgroupParent: string;
  readonly logDirectory: string;
  readonly userNamespace: UserNamespace | undefined;
}

export function sandboxConfig(input: SandboxInput): PodSandboxConfig {
  const { pod, attempt } = input;
  const { name, namespace, uid, annotations } = pod.metadata;
  const security = pod.spec.securityContext;
  const config: PodSandboxConfig = {
    metadata: { name, namespace, uid, attempt },
    logDirectory: input.logDirectory,
    dnsConfig: input.dns,
    labels: sandboxLabels(pod),
    annotations: { ...annotations },
    linux: {
      cgroupParent: input.cgroupParent,
      sysctls: Object.fromEntries(
        (security.sysctls ?? []).map(({ name, value }) => [dottedSysctl(name), value]),
      ),
      securityContext: {
        privileged: [...(pod.spec.initContainers ?? []), ...pod.spec.containers].some(
          (container) => container.securityContext?.privileged,
        ),
        // Whatever the pod's own profile: it may be too narrow for the sandbox itself.
        seccomp: { profileType: ProfileType.RuntimeDefault },
        namespaceOptions: namespaceOptions(pod, input.userNamespace),
        supplementalGroups: supplementalGroups(pod),
        supplementalGroupsPolicy: groupsPolicy(pod),
        ...(security.runAsUser === undefined ? {} : { runAsUser: { value: security.runAsUser } }),
        ...(security.runAsGroup === undefined ? {} : { runAsGroup: { value: security.runAsGroup } }),
      },
    },
  };
  if (!pod.spec.hostNetwork) config.hostname = kernelHostname(pod, podHostname(pod, input.clusterDomain));
  const ports = portMappings(pod);
  if (ports.length > 0) config.portMappings = ports;
  return config;
}

/** Ports of the containers; one without a host port is listed too, as upstream does. */
function portMappings(pod: BoundPod): PortMapping[] {
  const sidecars = (pod.spec.initContainers ?? []).filter(
    (container) => container.restartPolicy === 'Always',
  );
  const mappings = new Map<string, PortMapping>();
  for (const container of [...sidecars, ...pod.spec.containers]) {
    for (const port of container.ports ?? []) {
      const protocol = port.protocol ?? 'TCP';
      const mapping: PortMapping = {
        protocol: Protocol[protocol as keyof typeof Protocol],
        containerPort: port.containerPort,
        hostPort: port.hostPort ?? 0,
        hostIp: port.hostIP ?? '',
      };
      mappings.set(`${protocol}/${mapping.containerPort}/${mapping.hostIp}/${mapping.hostPort}`, mapping);
    }
  }
  return [...mappings.values()];
}
