/**
 * What a rule looks at: the left side of a match, or one field of a key. Each is plain data that says itself in
 * nft(8)'s words and names the protocol that it presumes.
 */
import type { DataTypeName } from './data-types.ts';

/** The protocol that a packet must have for the selector to make sense; nft and we add the match where it is open. */
export type Needs =
  | { readonly layer: 3; readonly protocol: 'ipv4' | 'ipv6' }
  | { readonly layer: 4; readonly protocol: 'tcp' | 'udp' | 'sctp' };

interface Common {
  /** As nft(8) writes it. */
  readonly text: string;
  readonly type: DataTypeName;
  readonly needs?: Needs;
}

export interface PayloadSelector extends Common {
  readonly kind: 'payload';
  /** NFT_PAYLOAD_NETWORK_HEADER or NFT_PAYLOAD_TRANSPORT_HEADER. */
  readonly base: 1 | 2;
  readonly offset: number;
  readonly length: number;
}

export interface MetaSelector extends Common {
  readonly kind: 'meta';
  readonly key: number;
}

export interface CtSelector extends Common {
  readonly kind: 'ct';
  readonly key: number;
  readonly direction?: 0 | 1;
}

export interface FibSelector extends Common {
  readonly kind: 'fib';
  readonly flags: number;
  readonly result: number;
}

export interface NumgenSelector extends Common {
  readonly kind: 'numgen';
  readonly mode: 'random' | 'inc';
  readonly modulus: number;
  readonly offset: number;
}

export type Selector = PayloadSelector | MetaSelector | CtSelector | FibSelector | NumgenSelector;

const network = (
  text: string,
  type: DataTypeName,
  protocol: 'ipv4' | 'ipv6',
  offset: number,
  length: number,
): PayloadSelector => ({
  kind: 'payload',
  text,
  type,
  base: 1,
  offset,
  length,
  needs: { layer: 3, protocol },
});

const transport = (text: string, offset: number, protocol?: 'tcp' | 'udp' | 'sctp'): PayloadSelector => ({
  kind: 'payload',
  text,
  type: 'inet_service',
  base: 2,
  offset,
  length: 2,
  ...(protocol === undefined ? {} : { needs: { layer: 4, protocol } as const }),
});

const ofMeta = (text: string, key: number, type: DataTypeName): MetaSelector => ({
  kind: 'meta',
  text,
  key,
  type,
});

const ofCt = (text: string, key: number, type: DataTypeName, direction?: 0 | 1): CtSelector => ({
  kind: 'ct',
  text,
  key,
  type,
  ...(direction === undefined ? {} : { direction }),
});

export const ip = {
  saddr: network('ip saddr', 'ipv4_addr', 'ipv4', 12, 4),
  daddr: network('ip daddr', 'ipv4_addr', 'ipv4', 16, 4),
  protocol: network('ip protocol', 'inet_proto', 'ipv4', 9, 1),
} as const;

export const ip6 = {
  saddr: network('ip6 saddr', 'ipv6_addr', 'ipv6', 8, 16),
  daddr: network('ip6 daddr', 'ipv6_addr', 'ipv6', 24, 16),
} as const;

export const tcp = {
  sport: transport('tcp sport', 0, 'tcp'),
  dport: transport('tcp dport', 2, 'tcp'),
} as const;
export const udp = {
  sport: transport('udp sport', 0, 'udp'),
  dport: transport('udp dport', 2, 'udp'),
} as const;
export const sctp = {
  sport: transport('sctp sport', 0, 'sctp'),
  dport: transport('sctp dport', 2, 'sctp'),
} as const;
/** Ports of whatever transport protocol there is. */
export const th = { sport: transport('th sport', 0), dport: transport('th dport', 2) } as const;

export const meta = {
  mark: ofMeta('meta mark', 3, 'mark'),
  iifname: ofMeta('iifname', 6, 'ifname'),
  oifname: ofMeta('oifname', 7, 'ifname'),
  skuid: ofMeta('meta skuid', 10, 'uid'),
  nfproto: ofMeta('meta nfproto', 15, 'nf_proto'),
  l4proto: ofMeta('meta l4proto', 16, 'inet_proto'),
} as const;

export const ct = {
  mark: ofCt('ct mark', 3, 'mark'),
  /** The destination before translation. */
  originalIpDaddr: ofCt('ct original ip daddr', 20, 'ipv4_addr', 0),
  originalIp6Daddr: ofCt('ct original ip6 daddr', 22, 'ipv6_addr', 0),
} as const;

/** The type of an address in the routing table: `fib daddr type`. */
export function fibType(address: 'saddr' | 'daddr'): FibSelector {
  return {
    kind: 'fib',
    text: `fib ${address} type`,
    type: 'fib_addrtype',
    flags: address === 'saddr' ? 1 : 2,
    result: 3,
  };
}

/** A number from 0 (or `offset`) below `modulus`, at random or in turn. */
export function numgen(mode: 'random' | 'inc', modulus: number, offset = 0): NumgenSelector {
  const text = `numgen ${mode} mod ${modulus}${offset === 0 ? '' : ` offset ${offset}`}`;
  return { kind: 'numgen', text, type: 'integer', mode, modulus, offset };
}
