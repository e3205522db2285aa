import { NodeletError } from '../../base/index.ts';
import { bytesOfIp, formatIpBytes, formatSubnet, ipBytes, parseSubnet } from '../ip.ts';
import { AF, NLM_F, RT_SCOPE, RT_TABLE, RTA, RTM, RTN, RTNH_F_ONLINK, RTPROT } from './constants.ts';
import type { LinkRef } from './link.ts';
import { Attributes, type NetlinkMessage } from './reader.ts';
import type { NetlinkRequest } from './socket.ts';

/** A route with one next hop; of a multipath route only its destination is told. */
export interface Route {
  readonly family: 4 | 6;
  /** 0.0.0.0/0 and ::/0 for the default routes. */
  readonly destination: string;
  readonly gateway: string | undefined;
  readonly linkIndex: number | undefined;
  readonly source: string | undefined;
  readonly metric: number;
  readonly table: number;
  /** RTPROT: who made it. */
  readonly protocol: number;
  readonly scope: number;
  /** RTN. */
  readonly type: number;
}

/** Reads an RTM_NEWROUTE or RTM_DELROUTE message. */
export function parseRoute(message: NetlinkMessage): Route {
  const { payload } = message;
  const attributes = new Attributes(payload.subarray(12));
  const family = payload[0] === AF.INET6 ? 6 : 4;
  const text = (type: number): string | undefined => {
    const bytes = attributes.bytes(type);
    return bytes === undefined ? undefined : formatIpBytes(bytes);
  };
  return {
    family,
    destination: `${text(RTA.DST) ?? (family === 4 ? '0.0.0.0' : '::')}/${payload[1]}`,
    gateway: text(RTA.GATEWAY),
    linkIndex: attributes.u32(RTA.OIF),
    source: text(RTA.PREFSRC),
    metric: attributes.u32(RTA.PRIORITY) ?? 0,
    table: attributes.u32(RTA.TABLE) ?? payload[4] ?? 0,
    protocol: payload[5] ?? 0,
    scope: payload[6] ?? 0,
    type: payload[7] ?? 0,
  };
}

export interface RouteSpec {
  /** 10.88.0.0/16; 0.0.0.0/0 or ::/0 for a default route. */
  readonly destination: string;
  readonly gateway?: string;
  readonly link: LinkRef;
  readonly source?: string;
  readonly metric?: number;
  /** The gateway is on this link whatever the link's addresses say. */
  readonly onLink?: boolean;
  readonly table?: number;
  readonly protocol?: number;
}

/** EEXIST where there is a route to the destination with the same metric. */
export function addRoute(spec: RouteSpec): NetlinkRequest {
  return routeRequest(spec, 'add', RTM.NEWROUTE, NLM_F.CREATE | NLM_F.EXCL);
}

export function replaceRoute(spec: RouteSpec): NetlinkRequest {
  return routeRequest(spec, 'replace', RTM.NEWROUTE, NLM_F.CREATE | NLM_F.REPLACE);
}

/** ESRCH where there is none. */
export function deleteRoute(spec: RouteSpec): NetlinkRequest {
  return routeRequest(spec, 'delete', RTM.DELROUTE, 0);
}

function routeRequest(spec: RouteSpec, verb: string, type: number, flags: number): NetlinkRequest {
  const subnet = parseSubnet(spec.destination);
  const gateway = spec.gateway === undefined ? undefined : addressOf(spec.gateway, subnet.family);
  const source = spec.source === undefined ? undefined : addressOf(spec.source, subnet.family);
  const table = spec.table ?? RT_TABLE.MAIN;
  return {
    type,
    flags,
    describe() {
      const via = spec.gateway === undefined ? '' : ` via ${spec.gateway}`;
      const from = spec.source === undefined ? '' : ` src ${spec.source}`;
      const metric = spec.metric === undefined ? '' : ` metric ${spec.metric}`;
      const target = subnet.prefix === 0 ? 'default' : formatSubnet(subnet);
      const ip = subnet.family === 6 && subnet.prefix === 0 ? 'ip -6' : 'ip';
      return `${ip} route ${verb} ${target}${via} dev ${spec.link.name}${from}${metric}${spec.onLink === true ? ' onlink' : ''}`;
    },
    write(w) {
      w.u8(subnet.family === 4 ? AF.INET : AF.INET6);
      w.u8(subnet.prefix);
      w.u8(0);
      w.u8(0);
      w.u8(table < 256 ? table : 0);
      w.u8(spec.protocol ?? (type === RTM.DELROUTE ? 0 : RTPROT.STATIC));
      w.u8(scopeOf(type, subnet.family, gateway));
      w.u8(RTN.UNICAST);
      w.u32(spec.onLink === true ? RTNH_F_ONLINK : 0);
      if (subnet.prefix > 0) w.attrBytes(RTA.DST, bytesOfIp({ family: subnet.family, value: subnet.base }));
      if (gateway !== undefined) w.attrBytes(RTA.GATEWAY, gateway);
      w.attrU32(RTA.OIF, spec.link.index);
      if (source !== undefined) w.attrBytes(RTA.PREFSRC, source);
      if (spec.metric !== undefined) w.attrU32(RTA.PRIORITY, spec.metric);
      if (table >= 256) w.attrU32(RTA.TABLE, table);
    },
  };
}

function scopeOf(type: number, family: 4 | 6, gateway: Uint8Array | undefined): number {
  if (type === RTM.DELROUTE) return RT_SCOPE.NOWHERE; // of whatever scope
  return gateway === undefined && family === 4 ? RT_SCOPE.LINK : RT_SCOPE.UNIVERSE;
}

function addressOf(text: string, family: 4 | 6): Uint8Array {
  const bytes = ipBytes(text);
  if (bytes?.length !== (family === 4 ? 4 : 16)) {
    throw new NodeletError('INVALID_ADDRESS', `cannot use ${JSON.stringify(text)} in an IPv${family} route`);
  }
  return bytes;
}

/** Asks for the routes of one family in all tables, or of one link. */
export function listRoutes(family: 4 | 6, link?: LinkRef): NetlinkRequest {
  return {
    type: RTM.GETROUTE,
    flags: 0,
    describe: () => `ip -${family} route show table all${link === undefined ? '' : ` dev ${link.name}`}`,
    write(w) {
      w.u8(family === 4 ? AF.INET : AF.INET6);
      w.raw(new Uint8Array(11));
      if (link !== undefined) w.attrU32(RTA.OIF, link.index);
    },
  };
}
