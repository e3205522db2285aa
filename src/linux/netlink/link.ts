import {
  AF,
  IFF,
  IFLA,
  IFLA_INET6_ADDR_GEN_MODE,
  IFLA_INFO,
  NLM_F,
  OPERSTATES,
  RTEXT_FILTER_SKIP_STATS,
  RTM,
} from './constants.ts';
import {
  type BridgeOptions,
  type BridgePortOptions,
  type BridgePortState,
  type BridgeState,
  describeLinkInfo,
  type LinkInfo,
  readBridge,
  readBridgePort,
  writeBridgePort,
  writeIfinfo,
  writeLinkInfo,
} from './link-info.ts';
import { formatMac, macBytes } from './mac.ts';
import { Attributes, type NetlinkMessage } from './reader.ts';
import type { NetlinkRequest } from './socket.ts';
import type { NetlinkWriter } from './writer.ts';

/** A link by its index, with its name for messages. */
export interface LinkRef {
  readonly index: number;
  readonly name: string;
}

/** A link as the kernel tells it. */
export interface Link extends LinkRef {
  readonly up: boolean;
  /** IFF flags. */
  readonly flags: number;
  readonly operState: (typeof OPERSTATES)[number];
  readonly mtu: number;
  readonly mac: string;
  /** The alias (IFLA_IFALIAS): we keep the owner there. Empty for none. */
  readonly alias: string;
  /** The index of the bridge (or bond) that the link is a port of. */
  readonly master: number | undefined;
  /** The index of the other end, in the namespace `peerNetnsId`, or in this one where that is undefined. */
  readonly peer: number | undefined;
  readonly peerNetnsId: number | undefined;
  /** `bridge`, `veth`, …; undefined for a hardware device. */
  readonly kind: string | undefined;
  readonly bridge: BridgeState | undefined;
  readonly port: BridgePortState | undefined;
  readonly promiscuity: number;
}

/** Reads an RTM_NEWLINK or RTM_DELLINK message. */
export function parseLink(message: NetlinkMessage): Link {
  const { payload } = message;
  const flags = payload.readUInt32LE(8);
  const attributes = new Attributes(payload.subarray(16));
  const info = attributes.nest(IFLA.LINKINFO);
  const kind = info?.string(IFLA_INFO.KIND);
  const data = info?.nest(IFLA_INFO.DATA);
  const slave = info?.string(IFLA_INFO.SLAVE_KIND) === 'bridge' ? info.nest(IFLA_INFO.SLAVE_DATA) : undefined;
  return {
    index: payload.readInt32LE(4),
    name: attributes.string(IFLA.IFNAME) ?? '',
    up: (flags & IFF.UP) !== 0,
    flags,
    operState: OPERSTATES[attributes.u8(IFLA.OPERSTATE) ?? 0] ?? 'unknown',
    mtu: attributes.u32(IFLA.MTU) ?? 0,
    mac: formatMac(attributes.bytes(IFLA.ADDRESS) ?? new Uint8Array()),
    alias: attributes.string(IFLA.IFALIAS) ?? '',
    master: attributes.u32(IFLA.MASTER),
    peer: attributes.u32(IFLA.LINK),
    peerNetnsId: attributes.i32(IFLA.LINK_NETNSID),
    kind,
    bridge: kind === 'bridge' && data !== undefined ? readBridge(data) : undefined,
    port: slave === undefined ? undefined : readBridgePort(slave),
    promiscuity: attributes.u32(IFLA.PROMISCUITY) ?? 0,
  };
}

export interface LinkSpec {
  readonly name: string;
  readonly info: LinkInfo;
  readonly mac?: string;
  readonly mtu?: number;
  /** The bridge to be a port of. */
  readonly master?: LinkRef;
  readonly up?: boolean;
}

/** Makes a link; EEXIST where the name is taken. */
export function addLink(spec: LinkSpec): NetlinkRequest {
  return {
    type: RTM.NEWLINK,
    flags: NLM_F.CREATE | NLM_F.EXCL,
    describe() {
      const mac = spec.mac === undefined ? '' : ` address ${spec.mac}`;
      const mtu = spec.mtu === undefined ? '' : ` mtu ${spec.mtu}`;
      const master = spec.master === undefined ? '' : ` master ${spec.master.name}`;
      return `ip link add ${spec.name}${mac}${mtu}${master}${spec.up === true ? ' up' : ''} ${describeLinkInfo(spec.info)}`;
    },
    write(w) {
      const flags = spec.up === true ? IFF.UP : 0;
      writeIfinfo(w, 0, flags, flags);
      w.attrString(IFLA.IFNAME, spec.name);
      if (spec.mac !== undefined) w.attrBytes(IFLA.ADDRESS, macBytes(spec.mac));
      if (spec.mtu !== undefined) w.attrU32(IFLA.MTU, spec.mtu);
      if (spec.master !== undefined) w.attrU32(IFLA.MASTER, spec.master.index);
      writeLinkInfo(w, spec.info);
    },
  };
}

export interface LinkChange {
  readonly up?: boolean;
  readonly mtu?: number;
  readonly mac?: string;
  /** The bridge to join; null to leave the one that it is in. */
  readonly master?: LinkRef | null;
  readonly newName?: string;
  readonly alias?: string;
  /** `none`: no link-local address is made when the link comes up. */
  readonly addrGenMode?: 'eui64' | 'none';
  /** Moves the link into another network namespace. */
  readonly netnsFd?: number;
  /** Of a bridge itself. */
  readonly bridge?: BridgeOptions;
  /** Of a port of a bridge; it has to be one already. */
  readonly port?: BridgePortOptions;
}

/** Changes a link, found by its index where one is given, else by its name; ENODEV where there is none. */
export function setLink(
  target: { readonly name: string; readonly index?: number },
  change: LinkChange,
): NetlinkRequest {
  return {
    type: RTM.NEWLINK, // unlike RTM_SETLINK it also changes what is particular to a kind
    flags: 0,
    describe: () => `ip link set ${target.name}${describeChange(change)}`,
    write(w) {
      writeIfinfo(
        w,
        target.index ?? 0,
        change.up === true ? IFF.UP : 0,
        change.up === undefined ? 0 : IFF.UP,
      );
      if (target.index === undefined) w.attrString(IFLA.IFNAME, target.name);
      else if (change.newName !== undefined) w.attrString(IFLA.IFNAME, change.newName);
      if (change.mac !== undefined) w.attrBytes(IFLA.ADDRESS, macBytes(change.mac));
      if (change.mtu !== undefined) w.attrU32(IFLA.MTU, change.mtu);
      if (change.master !== undefined) w.attrU32(IFLA.MASTER, change.master?.index ?? 0);
      if (change.alias !== undefined) w.attrString(IFLA.IFALIAS, change.alias);
      if (change.netnsFd !== undefined) w.attrU32(IFLA.NET_NS_FD, change.netnsFd);
      if (change.addrGenMode !== undefined) writeAddrGenMode(w, change.addrGenMode);
      if (change.bridge !== undefined) writeLinkInfo(w, { kind: 'bridge', ...change.bridge });
      if (change.port !== undefined) writeBridgePort(w, change.port);
    },
  };
}

function writeAddrGenMode(w: NetlinkWriter, mode: 'eui64' | 'none'): void {
  w.nest(IFLA.AF_SPEC, () =>
    w.nest(AF.INET6, () => w.attrU8(IFLA_INET6_ADDR_GEN_MODE, mode === 'none' ? 1 : 0)),
  );
}

function describeChange(change: LinkChange): string {
  const words: string[] = [''];
  if (change.newName !== undefined) words.push(`name ${change.newName}`);
  if (change.mac !== undefined) words.push(`address ${change.mac}`);
  if (change.mtu !== undefined) words.push(`mtu ${change.mtu}`);
  if (change.master === null) words.push('nomaster');
  else if (change.master !== undefined) words.push(`master ${change.master.name}`);
  if (change.alias !== undefined) words.push(`alias ${JSON.stringify(change.alias)}`);
  if (change.addrGenMode !== undefined) words.push(`addrgenmode ${change.addrGenMode}`);
  if (change.netnsFd !== undefined) words.push('netns POD');
  if (change.bridge !== undefined) words.push(describeLinkInfo({ kind: 'bridge', ...change.bridge }));
  if (change.port?.hairpin !== undefined)
    words.push(`type bridge_slave hairpin ${change.port.hairpin ? 'on' : 'off'}`);
  if (change.port?.isolated !== undefined) words.push(`isolated ${change.port.isolated ? 'on' : 'off'}`);
  if (change.up !== undefined) words.push(change.up ? 'up' : 'down');
  return words.join(' ');
}

/** Removes a link, and its peer with it; ENODEV where there is none. */
export function deleteLink(target: { readonly name: string; readonly index?: number }): NetlinkRequest {
  return {
    type: RTM.DELLINK,
    flags: 0,
    describe: () => `ip link delete ${target.name}`,
    write(w) {
      writeIfinfo(w, target.index ?? 0, 0, 0);
      if (target.index === undefined) w.attrString(IFLA.IFNAME, target.name);
    },
  };
}

/** Asks for one link. */
export function getLink(target: { readonly name: string } | { readonly index: number }): NetlinkRequest {
  return {
    type: RTM.GETLINK,
    flags: 0,
    describe: () => `ip link show ${'name' in target ? target.name : `index ${target.index}`}`,
    write(w) {
      writeIfinfo(w, 'index' in target ? target.index : 0, 0, 0);
      w.attrU32(IFLA.EXT_MASK, RTEXT_FILTER_SKIP_STATS);
      if ('name' in target) w.attrString(IFLA.IFNAME, target.name);
    },
  };
}

/** Asks for all links, or those that are ports of `master`, or of one kind; the kernel filters. */
export function listLinks(
  filter: { readonly master?: LinkRef; readonly kind?: string } = {},
): NetlinkRequest {
  const { master, kind } = filter;
  return {
    type: RTM.GETLINK,
    flags: 0,
    describe() {
      return `ip link show${master === undefined ? '' : ` master ${master.name}`}${kind === undefined ? '' : ` type ${kind}`}`;
    },
    write(w) {
      writeIfinfo(w, 0, 0, 0);
      w.attrU32(IFLA.EXT_MASK, RTEXT_FILTER_SKIP_STATS);
      if (master !== undefined) w.attrU32(IFLA.MASTER, master.index);
      if (kind !== undefined) w.nest(IFLA.LINKINFO, () => w.attrString(IFLA_INFO.KIND, kind));
    },
  };
}
