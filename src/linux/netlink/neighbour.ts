import { NodeletError } from '../../base/index.ts';
import { formatIpBytes, ipBytes } from '../ip.ts';
import { AF, NDA, NLM_F, NTF, NUD, RTM } from './constants.ts';
import type { LinkRef } from './link.ts';
import { formatMac, macBytes } from './mac.ts';
import { Attributes, type NetlinkMessage } from './reader.ts';
import type { NetlinkRequest } from './socket.ts';

/** An entry of the neighbour table (ARP, NDP), or of a bridge's or vxlan's forwarding database. */
export interface Neighbour {
  readonly table: 'ipv4' | 'ipv6' | 'fdb';
  readonly linkIndex: number;
  /** The address; of a forwarding entry the remote tunnel end, where it has one. */
  readonly address: string | undefined;
  readonly mac: string | undefined;
  /** NUD state. */
  readonly state: number;
}

/** Reads an RTM_NEWNEIGH or RTM_DELNEIGH message. */
export function parseNeighbour(message: NetlinkMessage): Neighbour {
  const { payload } = message;
  const attributes = new Attributes(payload.subarray(12));
  const address = attributes.bytes(NDA.DST);
  const mac = attributes.bytes(NDA.LLADDR);
  const table = payload[0] === AF.INET6 ? 'ipv6' : payload[0] === AF.BRIDGE ? 'fdb' : 'ipv4';
  return {
    table,
    linkIndex: payload.readInt32LE(4),
    address: address === undefined ? undefined : formatIpBytes(address),
    mac: mac === undefined ? undefined : formatMac(mac),
    state: payload.readUInt16LE(8),
  };
}

export interface NeighbourSpec {
  readonly link: LinkRef;
  readonly address: string;
  readonly mac: string;
  /** `fdb`: a forwarding entry of a vxlan link: frames to `mac` go to the tunnel end `address`. */
  readonly table?: 'ip' | 'fdb';
}

/** Makes a permanent entry, or replaces the one that is there. */
export function replaceNeighbour(spec: NeighbourSpec): NetlinkRequest {
  return neighbourRequest(spec, 'replace', RTM.NEWNEIGH, NLM_F.CREATE | NLM_F.REPLACE);
}

/** ENOENT where there is none. */
export function deleteNeighbour(spec: NeighbourSpec): NetlinkRequest {
  return neighbourRequest(spec, 'delete', RTM.DELNEIGH, 0);
}

function neighbourRequest(spec: NeighbourSpec, verb: string, type: number, flags: number): NetlinkRequest {
  const address = ipBytes(spec.address);
  if (address === undefined) {
    throw new NodeletError('INVALID_ADDRESS', `cannot read ${JSON.stringify(spec.address)} as an IP address`);
  }
  const fdb = spec.table === 'fdb';
  return {
    type,
    flags,
    describe() {
      return fdb
        ? `bridge fdb ${verb} ${spec.mac} dev ${spec.link.name} dst ${spec.address}`
        : `ip neigh ${verb} ${spec.address} lladdr ${spec.mac} dev ${spec.link.name}`;
    },
    write(w) {
      w.u8(fdb ? AF.BRIDGE : address.length === 4 ? AF.INET : AF.INET6);
      w.u8(0);
      w.u16(0);
      w.u32(spec.link.index);
      w.u16(fdb ? NUD.PERMANENT | NUD.NOARP : NUD.PERMANENT);
      w.u8(fdb ? NTF.SELF : 0);
      w.u8(0);
      w.attrBytes(NDA.DST, address);
      w.attrBytes(NDA.LLADDR, macBytes(spec.mac));
    },
  };
}

/** Asks for the neighbour entries of one family. */
export function listNeighbours(family: 4 | 6 | 'fdb'): NetlinkRequest {
  return {
    type: RTM.GETNEIGH,
    flags: 0,
    describe: () => (family === 'fdb' ? 'bridge fdb show' : `ip -${family} neigh show`),
    write(w) {
      w.u8(family === 'fdb' ? AF.BRIDGE : family === 4 ? AF.INET : AF.INET6);
      w.raw(new Uint8Array(11));
    },
  };
}
