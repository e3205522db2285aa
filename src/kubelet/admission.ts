/** Whether this node takes a pod, decided once when it comes: upstream's predicates and their reasons. Pure. */
import { type BoundPod, dottedSysctl, hugePageSize, isHugePages, podResources } from '../kube/index.ts';
import type { KubeletSettings, NodeFacts } from './node.ts';
import { hugePageUnit } from './translate/resources.ts';

export interface Rejection {
  readonly reason: string;
  readonly message: string;
}

const SAFE_SYSCTLS = new Set([
  'kernel.shm_rmid_forced',
  'net.ipv4.ip_local_port_range',
  'net.ipv4.tcp_syncookies',
  'net.ipv4.ping_group_range',
  'net.ipv4.ip_unprivileged_port_start',
  'net.ipv4.ip_local_reserved_ports',
  'net.ipv4.tcp_keepalive_time',
  'net.ipv4.tcp_fin_timeout',
  'net.ipv4.tcp_keepalive_intvl',
  'net.ipv4.tcp_keepalive_probes',
  'net.ipv4.tcp_rmem',
  'net.ipv4.tcp_wmem',
]);

/** `others` are the pods that the node has taken and that have not ended. */
export function admit(
  pod: BoundPod,
  others: readonly BoundPod[],
  node: NodeFacts,
  settings: Pick<KubeletSettings, 'allowedUnsafeSysctls'>,
): Rejection | undefined {
  return (
    wrongNode(pod, node) ??
    outOfResources(pod, others, node) ??
    takenPorts(pod, others) ??
    forbiddenSysctl(pod, settings.allowedUnsafeSysctls)
  );
}

function wrongNode(pod: BoundPod, node: NodeFacts): Rejection | undefined {
  const wanted = Object.entries(pod.spec.nodeSelector ?? {});
  if (wanted.every(([key, value]) => node.labels[key] === value)) return undefined;
  return {
    reason: 'NodeAffinity',
    message: "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
  };
}

function outOfResources(pod: BoundPod, others: readonly BoundPod[], node: NodeFacts): Rejection | undefined {
  const { allocatable } = node;
  if (others.length + 1 > allocatable.pods) {
    return insufficient('pods', 1n, BigInt(others.length), BigInt(allocatable.pods));
  }
  const requests = podResources(pod, 'requests');
  const capacities: readonly (readonly [name: string, capacity: number, milli: boolean])[] = [
    ['cpu', allocatable.milliCpu, true],
    ['memory', allocatable.memory, false],
    ['ephemeral-storage', allocatable.ephemeralStorage, false],
    ...[...requests.keys()]
      .filter(isHugePages)
      .map((name) => [name, hugePagesOf(name, node), false] as const),
  ];
  for (const [name, capacity, milli] of capacities) {
    const amount = (each: BoundPod) => {
      const quantity = podResources(each, 'requests').get(name);
      return (milli ? quantity?.milliValue() : quantity?.value()) ?? 0n;
    };
    if ((requests.get(name)?.nanos ?? 0n) === 0n) continue;
    const used = others.reduce((sum, other) => sum + amount(other), 0n);
    if (used + amount(pod) > BigInt(capacity)) return insufficient(name, amount(pod), used, BigInt(capacity));
  }
  return undefined;
}

function hugePagesOf(name: string, node: NodeFacts): number {
  const size = hugePageSize(name);
  return (size === undefined ? undefined : node.hugePages[hugePageUnit(size)]) ?? 0;
}

function insufficient(name: string, requested: bigint, used: bigint, capacity: bigint): Rejection {
  return {
    reason: `OutOf${name}`,
    message: `Node didn't have enough resource: ${name}, requested: ${requested}, used: ${used}, capacity: ${capacity}`,
  };
}

interface HostPort {
  readonly ip: string;
  readonly port: number;
  readonly protocol: string;
}

function hostPorts(pod: BoundPod): HostPort[] {
  const containers = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
  return containers.flatMap((container) =>
    (container.ports ?? []).flatMap(({ hostPort, hostIP = '', protocol = 'TCP' }) =>
      hostPort ? [{ ip: hostIP === '' ? '0.0.0.0' : hostIP, port: hostPort, protocol }] : [],
    ),
  );
}

function takenPorts(pod: BoundPod, others: readonly BoundPod[]): Rejection | undefined {
  const taken = others.flatMap(hostPorts);
  const conflict = hostPorts(pod).some((mine) =>
    taken.some(
      (theirs) =>
        theirs.port === mine.port &&
        theirs.protocol === mine.protocol &&
        (theirs.ip === mine.ip || theirs.ip === '0.0.0.0' || mine.ip === '0.0.0.0'),
    ),
  );
  if (!conflict) return undefined;
  return {
    reason: 'NodePorts',
    message: "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
  };
}

function forbiddenSysctl(pod: BoundPod, allowed: readonly string[]): Rejection | undefined {
  for (const { name } of pod.spec.securityContext.sysctls ?? []) {
    const dotted = dottedSysctl(name);
    const isAllowed = allowed.some((each) =>
      each.endsWith('*') ? dotted.startsWith(each.slice(0, -1)) : dotted === each,
    );
    if (!SAFE_SYSCTLS.has(dotted) && !isAllowed) {
      return {
        reason: 'SysctlForbidden',
        message: `forbidden sysctl: ${JSON.stringify(name)} not allowlisted`,
      };
    }
  }
  return undefined;
}
