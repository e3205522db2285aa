/** What a running pod is made of. Everything is read from the kernel now, nothing from our own records but names. */
import { readdirSync } from 'node:fs';
import { hostLinkName } from '../../cni/index.ts';
import type { Pod } from '../../kube/index.ts';
import { capabilityNames } from '../../linux/capabilities.ts';
import { type MountInfo, readMountinfo } from '../../linux/mountinfo.ts';
import { type NamespaceKind, type Namespaces, readNamespaces } from '../../linux/namespaces.ts';
import { Rtnetlink } from '../../linux/netlink/index.ts';
import { readCgroup, readOomScoreAdj, readProcessFile, readStatus, readUidMap } from '../../linux/procfs.ts';
import type { Agent } from '../agent.ts';
import { explainLimits } from './limits.ts';
import type {
  ExplainedContainer,
  ExplainedLink,
  ExplainedMount,
  ExplainedNamespace,
  PodExplanation,
} from './types.ts';

export * from './types.ts';

const KINDS = [
  'user',
  'pid',
  'mnt',
  'net',
  'ipc',
  'uts',
  'cgroup',
  'time',
] as const satisfies readonly NamespaceKind[];

type KnownPod = Pod & {
  readonly metadata: { readonly uid: string; readonly name: string; readonly namespace: string };
};

interface Running {
  readonly name: string;
  readonly pid: number;
  readonly namespaces: Namespaces;
}

export function explainPod(agent: Agent, pod: KnownPod): PodExplanation {
  const { uid, name, namespace } = pod.metadata;
  const { runtime } = agent.ownNode('explain a pod');
  const { model } = runtime.context;
  const observed = agent.kubelet.observed(uid);
  const sandboxId = observed?.sandboxes[0]?.id ?? '';
  const sandbox = model.findSandbox(sandboxId);
  const cgroup = sandbox?.record.config.linux?.cgroupParent ?? '';
  const host = readNamespaces('self') ?? {};
  const containers = [...(sandbox?.containers.values() ?? [])].filter(
    (one) => one.record.state === 'running',
  );
  const running: Running[] = [];
  for (const { record } of containers) {
    const namespaces = readNamespaces(record.pid);
    if (namespaces !== undefined)
      running.push({ name: record.config.metadata?.name ?? '', pid: record.pid, namespaces });
  }
  return {
    pod: `${namespace}/${name}`,
    uid,
    phase: pod.status?.phase ?? 'Unknown',
    qosClass: pod.status?.qosClass ?? '',
    sandboxId,
    shimPid: sandbox?.record.shimPid ?? 0,
    pausePid: sandbox?.record.pausePid ?? 0,
    cgroup,
    podLimits: cgroup === '' ? [] : explainLimits(runtime.context.cgroups.host, cgroup),
    host: {
      namespaces: KINDS.map((kind) => ({ kind, inode: host[kind] ?? 0 })),
      capabilities: capabilityNames(agent.host.capabilities).length,
    },
    network: explainNetwork(
      agent,
      sandboxId,
      sandbox?.namespaces.get('net')?.number,
      pod.spec?.hostNetwork === true,
    ),
    containers: containers.flatMap((container) => {
      const explained = explainContainer(agent, container.id, running, host);
      return explained === undefined ? [] : [explained];
    }),
  };
}

function explainContainer(
  agent: Agent,
  id: string,
  running: readonly Running[],
  host: Namespaces,
): ExplainedContainer | undefined {
  const { context } = agent.ownNode('explain a container').runtime;
  const container = context.model.container(id);
  const { record, sandbox } = container;
  const { pid } = record;
  const status = readStatus(pid);
  const namespaces = readNamespaces(pid);
  if (status === undefined || namespaces === undefined) return undefined;
  const path = context.cgroups.path(sandbox.record.config.linux?.cgroupParent ?? '', id);
  const mounts = readMountinfo(pid);
  const name = record.config.metadata?.name ?? '';
  return {
    name,
    id,
    state: record.state,
    pid,
    innerPid: status.namespacePids.at(-1) ?? pid,
    command: (readProcessFile(pid, 'cmdline') ?? '').split('\0').filter((word) => word !== ''),
    namespaces: KINDS.map((kind) =>
      explainNamespace(
        kind,
        namespaces,
        host,
        running.filter((one) => one.name !== name),
      ),
    ),
    cgroup: readCgroup(pid)?.find((one) => one.hierarchy === 0)?.path ?? path,
    limits: explainLimits(context.cgroups.host, path),
    uid: status.uids[0],
    gid: status.gids[0],
    groups: status.groups,
    uidMap: namespaces.user === host.user ? [] : (readUidMap(pid) ?? []),
    capabilities: {
      effective: capabilityNames(status.capabilities.effective),
      permitted: capabilityNames(status.capabilities.permitted),
      inheritable: capabilityNames(status.capabilities.inheritable),
      bounding: capabilityNames(status.capabilities.bounding),
      ambient: capabilityNames(status.capabilities.ambient),
    },
    seccompMode: status.seccompMode,
    seccompFilters: status.seccompFilters,
    noNewPrivileges: status.noNewPrivileges,
    oomScoreAdj: readOomScoreAdj(pid) ?? 0,
    mounts: mounts.map(explainMount),
    devices: devicesOf(pid),
    maskedPaths: maskedOf(mounts),
    readonlyPaths: mounts
      .filter(
        (mount) => mount.type === 'proc' && mount.mountPoint !== '/proc' && mount.options.includes('ro'),
      )
      .map((mount) => mount.mountPoint),
  };
}

function explainNamespace(
  kind: (typeof KINDS)[number],
  own: Namespaces,
  host: Namespaces,
  others: readonly Running[],
): ExplainedNamespace {
  const inode = own[kind] ?? 0;
  if (inode === host[kind]) return { kind, inode, sharedWith: ['host'] };
  return {
    kind,
    inode,
    sharedWith: others.filter((one) => one.namespaces[kind] === inode).map((one) => one.name),
  };
}

function explainMount(mount: MountInfo): ExplainedMount {
  const propagation = [
    mount.shared === undefined ? '' : 'shared',
    mount.master === undefined ? '' : 'slave',
    mount.unbindable ? 'unbindable' : '',
  ].filter((word) => word !== '');
  return {
    path: mount.mountPoint,
    type: mount.type,
    source: mount.source,
    root: mount.root,
    options: [...mount.options],
    propagation: propagation.length === 0 ? 'private' : propagation.join(','),
  };
}

/** Paths below /proc and /sys on which the null device or an empty directory lies. */
function maskedOf(mounts: readonly MountInfo[]): string[] {
  return mounts
    .filter((mount) => /^\/(proc|sys)\//.test(mount.mountPoint))
    .filter(
      (mount) =>
        (mount.type === 'tmpfs' && mount.superOptions.includes('nr_inodes=1')) ||
        (mount.type === 'devtmpfs' && mount.root === '/null'),
    )
    .map((mount) => mount.mountPoint);
}

/** Names in the container's /dev, as the host sees them through /proc/<pid>/root. */
function devicesOf(pid: number): string[] {
  try {
    return listDevices(`/proc/${pid}/root/dev`);
  } catch {
    return []; // it has just ended
  }
}

function listDevices(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isCharacterDevice() || entry.isBlockDevice())
    .map((entry) => `/dev/${entry.name}`)
    .sort();
}

function explainNetwork(
  agent: Agent,
  sandboxId: string,
  netns: number | undefined,
  hostNetwork: boolean,
): PodExplanation['network'] {
  const bridge = agent.local?.network?.config.bridge ?? '';
  if (hostNetwork || netns === undefined)
    return { hostNetwork: true, links: [], hostLink: '', bridge: '', routes: [] };
  using rt = new Rtnetlink(netns);
  const links = rt.links();
  const addresses = rt.addresses();
  const explained: ExplainedLink[] = links.map((link) => ({
    name: link.name,
    mac: link.mac,
    mtu: link.mtu,
    up: link.up,
    addresses: addresses.filter((one) => one.linkIndex === link.index).map((one) => one.address),
  }));
  const routes = ([4, 6] as const).flatMap((family) =>
    rt
      .routes(family)
      .filter((route) => route.table === MAIN_TABLE)
      .map((route) => {
        const link = links.find((one) => one.index === route.linkIndex)?.name ?? '';
        const via = route.gateway === undefined ? '' : ` via ${route.gateway}`;
        const destination = route.destination.endsWith('/0')
          ? `default${family === 6 ? ' (IPv6)' : ''}`
          : route.destination;
        return `${destination}${via} dev ${link}`;
      }),
  );
  return {
    hostNetwork: false,
    links: explained,
    hostLink: agent.local?.network === undefined ? '' : hostLinkName(sandboxId),
    bridge,
    routes,
  };
}

/** RT_TABLE_MAIN: the one that `ip route` shows. */
const MAIN_TABLE = 254;
