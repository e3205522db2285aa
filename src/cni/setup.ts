/** The stages that make what all pods share: pure. */
import { type IpFamily, parseInterfaceAddress, subnetContains } from '../linux/ip.ts';
import {
  addAddress,
  addLink,
  type BridgeOptions,
  deleteAddress,
  type Link,
  type LinkAddress,
  netlinkConstants,
  setLink,
} from '../linux/netlink/index.ts';
import { type ObservedTable, planTable } from '../linux/nftables/index.ts';
import type { BridgeNetworkConfig, PodSubnet } from './config.ts';
import { bridgeNameTaken, ipv6Disabled, subnetInUse } from './errors.ts';
import { macOfIp, ownerAlias } from './names.ts';
import { networkTable } from './rules.ts';
import type { Stage, Sysctl } from './stages.ts';

/** The bridge's link-local address. */
const BRIDGE_LINK_LOCAL = 'fe80::1/64';

/** The host as it is. */
export interface ObservedHost {
  readonly bridge: Link | undefined;
  /** Addresses of all links, with the link's name. */
  readonly addresses: readonly (LinkAddress & { readonly linkName: string })[];
  /** `absent`: the kernel has none. `disabled`: switched off by sysctl. */
  readonly ipv6: 'on' | 'disabled' | 'absent';
  /** br_netfilter is there, and wanted. */
  readonly bridgeNetfilter: boolean;
  /** Sysctls below net that matter, by name; undefined where they do not exist. */
  readonly sysctls: Readonly<Record<string, string | undefined>>;
  /** Links that learnt a default route from a router's advertisement, and would lose it once the host forwards. */
  readonly routerLinks: readonly string[];
  /** The smallest MTU of the links with a default route. */
  readonly uplinkMtu: number | undefined;
  readonly table: ObservedTable | undefined;
}

export interface SetUpPlan {
  readonly stages: readonly Stage[];
  /** Those in use: without the IPv6 one where it was not asked for and the host has no IPv6. */
  readonly subnets: readonly PodSubnet[];
}

/** The sysctls that `planSetUp` asks about. */
export function setUpSysctls(bridge: string, routerLinks: readonly string[]): string[] {
  return [
    'ipv4/ip_forward',
    'ipv6/conf/all/forwarding',
    ...['accept_ra', 'accept_dad', 'disable_ipv6'].map((name) => `ipv6/conf/${bridge}/${name}`),
    ...routerLinks.map((link) => `ipv6/conf/${link}/accept_ra`),
  ];
}

/** The subnets that the network will use on this host. Throws IPV6_DISABLED for one that was asked for by name. */
export function usableSubnets(config: BridgeNetworkConfig, ipv6: ObservedHost['ipv6']): PodSubnet[] {
  return config.subnets.filter(({ family, text }) => {
    if (family === 4 || ipv6 === 'on') return true;
    if (config.defaultSubnets) return false;
    throw ipv6Disabled(text);
  });
}

/** Nothing where all is right. Throws IPV6_DISABLED, BRIDGE_NAME_TAKEN, SUBNET_IN_USE. */
export function planSetUp(config: BridgeNetworkConfig, host: ObservedHost): SetUpPlan {
  const subnets = usableSubnets(config, host.ipv6);
  if (host.bridge !== undefined && host.bridge.kind !== 'bridge') {
    throw bridgeNameTaken(config.bridge, host.bridge.kind ?? 'device');
  }
  checkOverlap(config, subnets, host);
  const stages = [
    ...bridgeStages(config, subnets, host),
    ...sysctlStages(config, subnets, host),
    ...addressStages(config, subnets, host),
    ...ruleStages(config, subnets, host),
  ];
  return { stages, subnets };
}

/** Another link's address among the pods' would be taken from the host: say podman's bridge on the same subnet. */
function checkOverlap(config: BridgeNetworkConfig, subnets: readonly PodSubnet[], host: ObservedHost): void {
  for (const { linkName, address } of host.addresses) {
    if (linkName === config.bridge) continue;
    const taken = subnets.find(({ subnet }) =>
      subnetContains(subnet, parseInterfaceAddress(address).address),
    );
    if (taken !== undefined) throw subnetInUse(taken.text, linkName, address);
  }
}

function bridgeOptions(subnets: readonly PodSubnet[], host: ObservedHost): BridgeOptions {
  const has = (family: IpFamily): boolean => subnets.some((subnet) => subnet.family === family);
  return {
    stp: false,
    forwardDelay: 0,
    // For this bridge alone, whatever the host's default: Services and host ports between pods of this node need it.
    nfCallIptables: host.bridgeNetfilter && has(4),
    nfCallIp6tables: host.bridgeNetfilter && has(6),
  };
}

function bridgeStages(
  config: BridgeNetworkConfig,
  subnets: readonly PodSubnet[],
  host: ObservedHost,
): Stage[] {
  const { bridge: name } = config;
  const options = bridgeOptions(subnets, host);
  const mtu = config.mtu ?? host.bridge?.mtu ?? host.uplinkMtu ?? 1500;
  const found = host.bridge;
  if (found === undefined) {
    // Without an address of its own a bridge takes its ports' lowest, and changes it as pods come and go.
    const mac = macOfIp(subnets[0]?.gateway ?? '');
    const requests = [
      addLink({ name, mac, mtu, info: { kind: 'bridge', ...options } }),
      setLink(
        { name },
        { alias: ownerAlias(config.name), ...(host.ipv6 === 'absent' ? {} : { addrGenMode: 'none' }) },
      ),
    ];
    return [{ kind: 'links', name: 'bridge', where: 'host', requests: () => requests }];
  }
  const wrong =
    found.bridge?.stp !== false ||
    found.bridge.forwardDelay !== 0 ||
    found.bridge.nfCallIptables !== options.nfCallIptables ||
    found.bridge.nfCallIp6tables !== options.nfCallIp6tables;
  const newMtu = config.mtu !== undefined && found.mtu !== config.mtu ? { mtu: config.mtu } : {};
  if (!wrong && newMtu.mtu === undefined) return [];
  const requests = [
    // The kernel takes a forward delay of 0 with STP off only, and looks at the delay first.
    ...(found.bridge?.stp === false ? [] : [setLink(found, { bridge: { stp: false } })]),
    setLink(found, { ...newMtu, ...(wrong ? { bridge: options } : {}) }),
  ];
  return [{ kind: 'links', name: 'bridge', where: 'host', requests: () => requests }];
}

function sysctlStages(
  config: BridgeNetworkConfig,
  subnets: readonly PodSubnet[],
  host: ObservedHost,
): Stage[] {
  const wanted: Sysctl[] = [];
  const v6 = subnets.some(({ family }) => family === 6);
  if (host.ipv6 !== 'absent') {
    // Before the bridge comes up: a pod that plays router must not give the host a route (CVE-2020-10749).
    wanted.push({ name: `ipv6/conf/${config.bridge}/accept_ra`, value: '0' });
    if (v6) {
      wanted.push({ name: `ipv6/conf/${config.bridge}/accept_dad`, value: '0' });
      wanted.push({ name: `ipv6/conf/${config.bridge}/disable_ipv6`, value: '0' });
    }
  }
  if (config.isGateway) {
    if (subnets.some(({ family }) => family === 4)) wanted.push({ name: 'ipv4/ip_forward', value: '1' });
    if (v6) {
      // A host that forwards no longer hears routers, unless its link says 2; its own default route would run out.
      for (const link of host.routerLinks) {
        if (host.sysctls[`ipv6/conf/${link}/accept_ra`] === '1')
          wanted.push({ name: `ipv6/conf/${link}/accept_ra`, value: '2' });
      }
      wanted.push({ name: 'ipv6/conf/all/forwarding', value: '1' });
    }
  }
  const settings = wanted.filter(({ name, value }) => host.sysctls[name] !== value);
  return settings.length === 0 ? [] : [{ kind: 'sysctls', name: 'bridge-sysctls', where: 'host', settings }];
}

function addressStages(
  config: BridgeNetworkConfig,
  subnets: readonly PodSubnet[],
  host: ObservedHost,
): Stage[] {
  const wanted = config.isGateway ? subnets.map(({ gateway, subnet }) => `${gateway}/${subnet.prefix}`) : [];
  // Neighbours are asked for from a link-local address, and one that the kernel makes itself is late: it appears with
  // the first pod, and a first packet that comes before it waits for a second.
  if (wanted.some((address) => address.includes(':'))) wanted.push(BRIDGE_LINK_LOCAL);
  const found = host.addresses.filter(({ linkName }) => linkName === config.bridge);
  const missing = wanted.filter((address) => !found.some((have) => have.address === address));
  // Addresses of an earlier configuration, on a bridge of ours; one that was adopted keeps what it has.
  const ours = host.bridge?.alias === ownerAlias(config.name);
  const { RT_SCOPE } = netlinkConstants;
  const stale = ours
    ? found.filter(({ address, scope }) => scope === RT_SCOPE.UNIVERSE && !wanted.includes(address))
    : [];
  if (missing.length === 0 && stale.length === 0 && host.bridge?.up === true) return [];
  return [
    {
      kind: 'links',
      name: 'bridge-up',
      where: 'host',
      requests: ({ bridge }) => [
        ...(host.bridge?.up === true ? [] : [setLink(bridge, { up: true })]),
        ...stale.map(({ address }) => deleteAddress({ link: bridge, address })),
        ...missing.map((address) => addAddress({ link: bridge, address, noDad: true })),
      ],
    },
  ];
}

function ruleStages(config: BridgeNetworkConfig, subnets: readonly PodSubnet[], host: ObservedHost): Stage[] {
  const desired = networkTable({
    network: config.name,
    bridge: config.bridge,
    subnets,
    ipMasq: config.ipMasq,
    bridgeNetfilter: host.bridgeNetfilter,
  });
  const transaction = planTable(desired, host.table);
  return transaction.size === 0 ? [] : [{ kind: 'rules', name: 'rules', where: 'host', transaction }];
}
