/** What only links of one kind have: IFLA_LINKINFO. */
import { ipBytes } from '../ip.ts';
import { AF, IFLA, IFLA_BR, IFLA_BRPORT, IFLA_INFO, IFLA_VXLAN, VETH_INFO_PEER } from './constants.ts';
import { macBytes } from './mac.ts';
import type { Attributes } from './reader.ts';
import type { NetlinkWriter } from './writer.ts';

export interface BridgeOptions {
  /** Spanning tree. */
  readonly stp?: boolean;
  /** Hundredths of a second that a new port listens before it forwards; 0 is allowed with STP off. */
  readonly forwardDelay?: number;
  readonly vlanFiltering?: boolean;
  readonly multicastSnooping?: boolean;
  /** Bridged IPv4 and IPv6 packets pass netfilter on this bridge, whatever the namespace's default (br_netfilter). */
  readonly nfCallIptables?: boolean;
  readonly nfCallIp6tables?: boolean;
}

export interface BridgePortOptions {
  /** A frame may leave by the port that it came from. */
  readonly hairpin?: boolean;
  /** No traffic to other isolated ports. */
  readonly isolated?: boolean;
  readonly learning?: boolean;
}

/** The other end of a veth pair, made in the same request, in another namespace where `netnsFd` is given. */
export interface VethPeer {
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  readonly netnsFd?: number;
}

export interface VxlanOptions {
  readonly id: number;
  readonly local?: string;
  readonly port?: number;
  readonly learning?: boolean;
}

export type LinkInfo =
  | ({ readonly kind: 'bridge' } & BridgeOptions)
  | { readonly kind: 'veth'; readonly peer: VethPeer }
  | ({ readonly kind: 'vxlan' } & VxlanOptions)
  | { readonly kind: 'dummy' | 'ifb' };

/** struct ifinfomsg; `change` is the mask of the flags to set. */
export function writeIfinfo(
  w: NetlinkWriter,
  index: number,
  flags: number,
  change: number,
  family: number = AF.UNSPEC,
): void {
  w.u8(family);
  w.u8(0);
  w.u16(0);
  w.u32(index);
  w.u32(flags);
  w.u32(change);
}

export function writeLinkInfo(w: NetlinkWriter, info: LinkInfo): void {
  w.nest(IFLA.LINKINFO, () => {
    w.attrString(IFLA_INFO.KIND, info.kind);
    switch (info.kind) {
      case 'bridge':
        w.nest(IFLA_INFO.DATA, () => writeBridge(w, info));
        break;
      case 'veth':
        w.nest(IFLA_INFO.DATA, () => writeVethPeer(w, info.peer));
        break;
      case 'vxlan':
        w.nest(IFLA_INFO.DATA, () => writeVxlan(w, info));
        break;
      case 'dummy':
      case 'ifb':
        break;
    }
  });
}

function writeBridge(w: NetlinkWriter, options: BridgeOptions): void {
  if (options.stp !== undefined) w.attrU32(IFLA_BR.STP_STATE, Number(options.stp));
  if (options.forwardDelay !== undefined) w.attrU32(IFLA_BR.FORWARD_DELAY, options.forwardDelay);
  if (options.vlanFiltering !== undefined) w.attrU8(IFLA_BR.VLAN_FILTERING, Number(options.vlanFiltering));
  if (options.multicastSnooping !== undefined)
    w.attrU8(IFLA_BR.MCAST_SNOOPING, Number(options.multicastSnooping));
  if (options.nfCallIptables !== undefined)
    w.attrU8(IFLA_BR.NF_CALL_IPTABLES, Number(options.nfCallIptables));
  if (options.nfCallIp6tables !== undefined)
    w.attrU8(IFLA_BR.NF_CALL_IP6TABLES, Number(options.nfCallIp6tables));
}

function writeVethPeer(w: NetlinkWriter, peer: VethPeer): void {
  w.nest(VETH_INFO_PEER, () => {
    writeIfinfo(w, 0, 0, 0); // it cannot be up yet: opening a veth needs both ends
    w.attrString(IFLA.IFNAME, peer.name);
    if (peer.mac !== undefined) w.attrBytes(IFLA.ADDRESS, macBytes(peer.mac));
    if (peer.mtu !== undefined) w.attrU32(IFLA.MTU, peer.mtu);
    if (peer.netnsFd !== undefined) w.attrU32(IFLA.NET_NS_FD, peer.netnsFd);
  });
}

function writeVxlan(w: NetlinkWriter, options: VxlanOptions): void {
  w.attrU32(IFLA_VXLAN.ID, options.id);
  const local = options.local === undefined ? undefined : ipBytes(options.local);
  if (local !== undefined) w.attrBytes(local.length === 4 ? IFLA_VXLAN.LOCAL : IFLA_VXLAN.LOCAL6, local);
  if (options.port !== undefined) w.attrU16be(IFLA_VXLAN.PORT, options.port);
  if (options.learning !== undefined) w.attrU8(IFLA_VXLAN.LEARNING, Number(options.learning));
}

/** The port of a bridge: IFLA_INFO_SLAVE_DATA. */
export function writeBridgePort(w: NetlinkWriter, port: BridgePortOptions): void {
  w.nest(IFLA.LINKINFO, () => {
    w.attrString(IFLA_INFO.SLAVE_KIND, 'bridge');
    w.nest(IFLA_INFO.SLAVE_DATA, () => {
      if (port.hairpin !== undefined) w.attrU8(IFLA_BRPORT.MODE, Number(port.hairpin));
      if (port.isolated !== undefined) w.attrU8(IFLA_BRPORT.ISOLATED, Number(port.isolated));
      if (port.learning !== undefined) w.attrU8(IFLA_BRPORT.LEARNING, Number(port.learning));
    });
  });
}

export interface BridgeState {
  readonly stp: boolean;
  readonly forwardDelay: number;
  readonly vlanFiltering: boolean;
  readonly nfCallIptables: boolean;
  readonly nfCallIp6tables: boolean;
}

export function readBridge(data: Attributes): BridgeState {
  return {
    stp: (data.u32(IFLA_BR.STP_STATE) ?? 0) !== 0,
    forwardDelay: data.u32(IFLA_BR.FORWARD_DELAY) ?? 0,
    vlanFiltering: (data.u8(IFLA_BR.VLAN_FILTERING) ?? 0) !== 0,
    nfCallIptables: (data.u8(IFLA_BR.NF_CALL_IPTABLES) ?? 0) !== 0,
    nfCallIp6tables: (data.u8(IFLA_BR.NF_CALL_IP6TABLES) ?? 0) !== 0,
  };
}

export interface BridgePortState {
  readonly hairpin: boolean;
  readonly isolated: boolean;
  readonly learning: boolean;
  /** The state of the spanning tree protocol: 3 is forwarding, also with STP off. */
  readonly state: number;
}

export function readBridgePort(data: Attributes): BridgePortState {
  return {
    hairpin: (data.u8(IFLA_BRPORT.MODE) ?? 0) !== 0,
    isolated: (data.u8(IFLA_BRPORT.ISOLATED) ?? 0) !== 0,
    learning: (data.u8(IFLA_BRPORT.LEARNING) ?? 1) !== 0,
    state: data.u8(IFLA_BRPORT.STATE) ?? 0,
  };
}

/** The words of ip(8) for what `writeLinkInfo` writes. */
export function describeLinkInfo(info: LinkInfo): string {
  switch (info.kind) {
    case 'bridge':
      return `type bridge${describeBridge(info)}`;
    case 'veth': {
      const { name, mac, mtu, netnsFd } = info.peer;
      const address = mac === undefined ? '' : ` address ${mac}`;
      return `type veth peer name ${name}${address}${mtu === undefined ? '' : ` mtu ${mtu}`}${netnsFd === undefined ? '' : ' netns POD'}`;
    }
    case 'vxlan': {
      const local = info.local === undefined ? '' : ` local ${info.local}`;
      return `type vxlan id ${info.id}${local}${info.port === undefined ? '' : ` dstport ${info.port}`}`;
    }
    case 'dummy':
    case 'ifb':
      break;
  }
  return `type ${info.kind}`;
}

function describeBridge(options: BridgeOptions): string {
  const words: string[] = [''];
  const add = (word: string, value: boolean | number | undefined): void => {
    if (value !== undefined) words.push(`${word} ${Number(value)}`);
  };
  add('stp_state', options.stp);
  add('forward_delay', options.forwardDelay);
  add('vlan_filtering', options.vlanFiltering);
  add('mcast_snooping', options.multicastSnooping);
  add('nf_call_iptables', options.nfCallIptables);
  add('nf_call_ip6tables', options.nfCallIp6tables);
  return words.join(' ');
}
