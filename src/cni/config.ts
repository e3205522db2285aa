/** The settings of a bridge network, checked: pure. */
import { formatIp, formatSubnet, type IpFamily, type IpSubnet, parseIp, parseSubnet } from '../linux/ip.ts';
import { invalidConfig } from './errors.ts';
import { type AddressRange, makeRange } from './ipam/range.ts';

/** A subnet of pod addresses; host-local's keys of the same names. */
export interface SubnetOptions {
  readonly subnet: string;
  /** The first and last address that pods may get; default all but network, gateway and broadcast address. */
  readonly rangeStart?: string;
  readonly rangeEnd?: string;
  /** Default: the first address. */
  readonly gateway?: string;
}

export interface BridgeNetworkOptions {
  /** The network's name, also that of its folder of addresses. */
  readonly name: string;
  /** Default `nodelet0`. */
  readonly bridge?: string;
  /** One IPv4 subnet, one IPv6 subnet, or both; default `DEFAULT_SUBNETS`, the IPv6 one where the host has IPv6. */
  readonly subnets?: readonly (string | SubnetOptions)[];
  /** Where addresses are kept, host-local's files; default `/var/lib/cni/networks`. */
  readonly dataDir?: string;
  /** Default: that of the link with the default route, else 1500. */
  readonly mtu?: number;
  /** The bridge has the gateway's address, the host forwards, pods have a default route; default true. */
  readonly isGateway?: boolean;
  /** Packets from pods to anything outside their subnet leave with the host's address; default true. */
  readonly ipMasq?: boolean;
  /** A pod may reach itself by way of the bridge (its own hostPort or Service); default true. */
  readonly hairpin?: boolean;
  /**
   * Packets from pod to pod over the bridge pass netfilter, where br_netfilter is there; default true. Without it pods
   * of one node that reach each other by a host port see the gateway as their client.
   */
  readonly bridgeNetfilter?: boolean;
  /** The network namespace to be the host's; undefined for the process's own. Kept open by its owner. */
  readonly hostNetnsFd?: number;
}

/** 10.88.0.0/16 is what podman and CRI-O's samples use; the ULA is "fd" and the letters "Nodel". */
export const DEFAULT_SUBNETS: readonly string[] = ['10.88.0.0/16', 'fd4e:6f64:656c::/64'];
export const DEFAULT_BRIDGE = 'nodelet0';
export const DEFAULT_DATA_DIR = '/var/lib/cni/networks';
/** The name of the pod's link. */
export const POD_LINK = 'eth0';

export interface PodSubnet {
  readonly family: IpFamily;
  readonly subnet: IpSubnet;
  /** Canonical text. */
  readonly text: string;
  readonly gateway: string;
  readonly range: AddressRange;
}

export interface BridgeNetworkConfig {
  readonly name: string;
  readonly bridge: string;
  readonly subnets: readonly PodSubnet[];
  /** The subnets were not chosen: the IPv6 one is left out where the host has no IPv6. */
  readonly defaultSubnets: boolean;
  readonly dataDir: string;
  readonly mtu: number | undefined;
  readonly isGateway: boolean;
  readonly ipMasq: boolean;
  readonly hairpin: boolean;
  readonly bridgeNetfilter: boolean;
  readonly hostNetnsFd: number | undefined;
}

/** Throws NETWORK_INVALID_CONFIG, INVALID_SUBNET, INVALID_ADDRESS. */
export function resolveConfig(options: BridgeNetworkOptions): BridgeNetworkConfig {
  const { name, bridge = DEFAULT_BRIDGE, mtu } = options;
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/.test(name)) {
    throw invalidConfig(
      `cannot name a network "${name}"`,
      'use letters, digits and _ . -, a letter or digit first',
    );
  }
  if (!/^[A-Za-z][A-Za-z0-9_.-]{0,14}$/.test(bridge)) {
    throw invalidConfig(
      `cannot name a bridge "${bridge}"`,
      'use up to 15 letters, digits and _ . -, a letter first',
    );
  }
  if (mtu !== undefined && (!Number.isInteger(mtu) || mtu < 1280 || mtu > 65535)) {
    throw invalidConfig(`cannot use an MTU of ${mtu}`, 'it is a number from 1280 to 65535');
  }
  const subnets = (options.subnets ?? DEFAULT_SUBNETS).map(resolveSubnet);
  const families = new Set(subnets.map(({ family }) => family));
  if (subnets.length === 0 || families.size !== subnets.length) {
    throw invalidConfig(
      `cannot use the subnets ${JSON.stringify(subnets.map(({ text }) => text))}`,
      'give one IPv4 subnet, one IPv6 subnet, or one of each',
    );
  }
  return {
    name,
    bridge,
    subnets,
    defaultSubnets: options.subnets === undefined,
    dataDir: options.dataDir ?? DEFAULT_DATA_DIR,
    mtu,
    isGateway: options.isGateway ?? true,
    ipMasq: options.ipMasq ?? true,
    hairpin: options.hairpin ?? true,
    bridgeNetfilter: options.bridgeNetfilter ?? true,
    hostNetnsFd: options.hostNetnsFd,
  };
}

function resolveSubnet(given: string | SubnetOptions): PodSubnet {
  const options = typeof given === 'string' ? { subnet: given } : given;
  const subnet = parseSubnet(options.subnet);
  const range = makeRange(subnet, {
    ...(options.gateway === undefined ? {} : { gateway: parseIp(options.gateway) }),
    ...(options.rangeStart === undefined ? {} : { first: parseIp(options.rangeStart) }),
    ...(options.rangeEnd === undefined ? {} : { last: parseIp(options.rangeEnd) }),
  });
  return {
    family: subnet.family,
    subnet,
    text: formatSubnet(subnet),
    gateway: formatIp({ family: subnet.family, value: range.gateway }),
    range,
  };
}
