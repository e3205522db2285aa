/**
 * IP addresses and subnets as bytes and as bigints: what netlink carries and what address ranges count with.
 * Text is accepted as inet_pton(3) does and written as RFC 5952 asks.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { NodeletError } from '../base/index.ts';

export type IpFamily = 4 | 6;

/** An address: its family and its value, 32 or 128 bits, in network order. */
export interface IpAddress {
  readonly family: IpFamily;
  readonly value: bigint;
}

/** A subnet in CIDR notation; `base` has no bit set below the prefix. */
export interface IpSubnet {
  readonly family: IpFamily;
  readonly base: bigint;
  readonly prefix: number;
}

/** 32 or 128. */
export function ipBits(family: IpFamily): number {
  return family === 4 ? 32 : 128;
}

/** The bytes (4 or 16, network order) of an address in text; undefined where the text is none. No zone, no prefix. */
export function ipBytes(text: string): Uint8Array | undefined {
  if (isIPv4(text)) return Uint8Array.from(text.split('.'), Number);
  if (!isIPv6(text) || text.includes('%')) return undefined;
  const bytes = new Uint8Array(16);
  let rest = text;
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  if (dotted?.[1] !== undefined && dotted[2] !== undefined) {
    const [a = 0, b = 0, c = 0, d = 0] = dotted[2].split('.').map(Number);
    rest = `${dotted[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const [head = '', tail] = rest.split('::');
  const groups = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((g) => Number.parseInt(g, 16));
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  for (const [i, group] of before.entries()) writeGroup(bytes, i, group);
  for (const [i, group] of after.entries()) writeGroup(bytes, 8 - after.length + i, group);
  return bytes;
}

function writeGroup(bytes: Uint8Array, index: number, group: number): void {
  bytes[index * 2] = group >> 8;
  bytes[index * 2 + 1] = group & 0xff;
}

/** The canonical text of 4 or 16 bytes. */
export function formatIpBytes(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length !== 16) {
    throw new NodeletError('INVALID_ADDRESS', `cannot read an address of ${bytes.length} bytes`);
  }
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[i * 2] ?? 0) << 8) | (bytes[i * 2 + 1] ?? 0));
  const run = longestZeroRun(groups);
  // RFC 5952 section 5: the dotted form for IPv4-mapped addresses only.
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    return `::ffff:${bytes.subarray(12).join('.')}`;
  }
  const text = (part: number[]): string => part.map((group) => group.toString(16)).join(':');
  if (run.length < 2) return text(groups);
  return `${text(groups.slice(0, run.start))}::${text(groups.slice(run.start + run.length))}`;
}

function longestZeroRun(groups: readonly number[]): { readonly start: number; readonly length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start++) {
    let length = 0;
    while (groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  return best;
}

/** Reads an address; throws INVALID_ADDRESS where the text is none. */
export function parseIp(text: string): IpAddress {
  const bytes = ipBytes(text);
  if (bytes === undefined)
    throw new NodeletError('INVALID_ADDRESS', `cannot read ${JSON.stringify(text)} as an IP address`);
  return ipFromBytes(bytes);
}

export function ipFromBytes(bytes: Uint8Array): IpAddress {
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return { family: bytes.length === 4 ? 4 : 6, value };
}

export function bytesOfIp(address: IpAddress): Uint8Array {
  const bytes = new Uint8Array(ipBits(address.family) / 8);
  let value = address.value;
  for (let i = bytes.length - 1; i >= 0; i--) {
    bytes[i] = Number(value & 0xffn);
    value >>= 8n;
  }
  return bytes;
}

export function formatIp(address: IpAddress): string {
  return formatIpBytes(bytesOfIp(address));
}

/** Reads `address/prefix`; bits below the prefix are dropped. Throws INVALID_SUBNET. */
export function parseSubnet(text: string): IpSubnet {
  const { address, prefix } = parseInterfaceAddress(text);
  const host = BigInt(ipBits(address.family) - prefix);
  return { family: address.family, base: (address.value >> host) << host, prefix };
}

/** Reads `address/prefix` and keeps the address: 10.88.0.5/16. Throws INVALID_SUBNET. */
export function parseInterfaceAddress(text: string): {
  readonly address: IpAddress;
  readonly prefix: number;
} {
  const match = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text);
  const bytes = match?.[1] === undefined ? undefined : ipBytes(match[1]);
  const prefix = Number(match?.[2]);
  if (bytes === undefined || prefix > bytes.length * 8) {
    throw new NodeletError('INVALID_SUBNET', `cannot read ${JSON.stringify(text)} as a subnet`, {
      hint: 'write it as ADDRESS/PREFIX, for example 10.88.0.0/16 or fd00:88::/64',
    });
  }
  return { address: ipFromBytes(bytes), prefix };
}

export function formatSubnet(subnet: IpSubnet): string {
  return `${formatIp({ family: subnet.family, value: subnet.base })}/${subnet.prefix}`;
}

/** The last address of a subnet: the broadcast address in IPv4. */
export function lastAddress(subnet: IpSubnet): bigint {
  return subnet.base | ((1n << BigInt(ipBits(subnet.family) - subnet.prefix)) - 1n);
}

export function subnetContains(subnet: IpSubnet, address: IpAddress): boolean {
  return (
    address.family === subnet.family && address.value >= subnet.base && address.value <= lastAddress(subnet)
  );
}

/** True where two subnets share an address. */
export function subnetsOverlap(a: IpSubnet, b: IpSubnet): boolean {
  return a.family === b.family && a.base <= lastAddress(b) && b.base <= lastAddress(a);
}
