import { bytesOfIp, formatIpBytes, type IpAddress, ipBits, ipBytes, parseInterfaceAddress } from '../ip.ts';
import { AF, IFA, IFA_F, NLM_F, RTM } from './constants.ts';
import type { LinkRef } from './link.ts';
import { Attributes, type NetlinkMessage } from './reader.ts';
import type { NetlinkRequest } from './socket.ts';

/** An address of a link. */
export interface LinkAddress {
  readonly linkIndex: number;
  readonly family: 4 | 6;
  /** With its prefix: 10.88.0.1/16 */
  readonly address: string;
  /** IFA_F flags. */
  readonly flags: number;
  readonly scope: number;
}

/** Reads an RTM_NEWADDR or RTM_DELADDR message. */
export function parseAddress(message: NetlinkMessage): LinkAddress {
  const { payload } = message;
  const attributes = new Attributes(payload.subarray(8));
  const bytes = attributes.bytes(IFA.LOCAL) ?? attributes.bytes(IFA.ADDRESS) ?? new Uint8Array(4);
  return {
    linkIndex: payload.readUInt32LE(4),
    family: payload[0] === AF.INET6 ? 6 : 4,
    address: `${formatIpBytes(bytes)}/${payload[1]}`,
    flags: attributes.u32(IFA.FLAGS) ?? payload[2] ?? 0,
    scope: payload[3] ?? 0,
  };
}

export interface AddressSpec {
  readonly link: LinkRef;
  /** With its prefix: 10.88.0.1/16 */
  readonly address: string;
  /** No duplicate address detection (IPv6): usable at once. */
  readonly noDad?: boolean;
}

/** Adds an address; EEXIST where the link has it. */
export function addAddress(spec: AddressSpec): NetlinkRequest {
  return addressRequest(spec, 'add', RTM.NEWADDR, NLM_F.CREATE | NLM_F.EXCL);
}

/** Adds an address, or leaves the one that the link has. */
export function replaceAddress(spec: AddressSpec): NetlinkRequest {
  return addressRequest(spec, 'replace', RTM.NEWADDR, NLM_F.CREATE | NLM_F.REPLACE);
}

/** EADDRNOTAVAIL where the link has no such address. */
export function deleteAddress(spec: AddressSpec): NetlinkRequest {
  return addressRequest(spec, 'delete', RTM.DELADDR, 0);
}

function addressRequest(spec: AddressSpec, verb: string, type: number, flags: number): NetlinkRequest {
  const { address, prefix } = parseInterfaceAddress(spec.address);
  const noDad = spec.noDad === true && address.family === 6;
  return {
    type,
    flags,
    describe: () => `ip address ${verb} ${spec.address} dev ${spec.link.name}${noDad ? ' nodad' : ''}`,
    write(w) {
      w.u8(address.family === 4 ? AF.INET : AF.INET6);
      w.u8(prefix);
      w.u8(0);
      w.u8(0);
      w.u32(spec.link.index);
      const bytes = bytesOfIp(address);
      w.attrBytes(IFA.LOCAL, bytes);
      w.attrBytes(IFA.ADDRESS, bytes);
      if (address.family === 4 && prefix < 31) w.attrBytes(IFA.BROADCAST, broadcastBytes(address, prefix));
      if (noDad) w.attrU32(IFA.FLAGS, IFA_F.NODAD);
    },
  };
}

function broadcastBytes(address: IpAddress, prefix: number): Uint8Array {
  const host = (1n << BigInt(ipBits(address.family) - prefix)) - 1n;
  return bytesOfIp({ family: address.family, value: address.value | host });
}

/** Asks for all addresses, or those of one link. */
export function listAddresses(link?: LinkRef): NetlinkRequest {
  return {
    type: RTM.GETADDR,
    flags: 0,
    describe: () => `ip address show${link === undefined ? '' : ` dev ${link.name}`}`,
    write(w) {
      w.u32(0); // family (any), prefix, flags, scope
      w.u32(link?.index ?? 0);
    },
  };
}

/** Asks for the IPv6 multicast groups that a link listens to. */
export function listGroups(link: LinkRef): NetlinkRequest {
  return {
    type: RTM.GETMULTICAST,
    flags: 0,
    describe: () => `ip -6 maddress show dev ${link.name}`,
    write(w) {
      w.u8(AF.INET6);
      w.u8(0);
      w.u16(0);
      w.u32(link.index);
    },
  };
}

/** The group of a message that `listGroups` was answered with, and the link that listens to it. */
export function parseGroup(message: NetlinkMessage): { readonly linkIndex: number; readonly group: string } {
  const { payload } = message;
  const group = new Attributes(payload.subarray(8)).bytes(IFA.MULTICAST) ?? new Uint8Array(16);
  return { linkIndex: payload.readUInt32LE(4), group: formatIpBytes(group) };
}

/** The group by which neighbours look for an IPv6 address (RFC 4291 section 2.7.1). */
export function solicitedNodeGroup(address: string): string {
  const group = ipBytes('ff02::1:ff00:0') ?? new Uint8Array(16);
  const bytes = ipBytes(address);
  if (bytes?.length === 16) group.set(bytes.subarray(13), 13);
  return formatIpBytes(group);
}
