/** Which addresses of a subnet pods may have, and which one is next: pure. */
import {
  formatIp,
  formatSubnet,
  type IpAddress,
  type IpSubnet,
  ipBits,
  lastAddress,
  subnetContains,
} from '../../linux/ip.ts';
import { invalidConfig } from '../errors.ts';

export interface AddressRange {
  readonly subnet: IpSubnet;
  /** Both may be given to a pod. */
  readonly first: bigint;
  readonly last: bigint;
  /** Never given to a pod, also where it lies between the two. */
  readonly gateway: bigint;
}

/** Throws NETWORK_INVALID_CONFIG. The defaults are host-local's. */
export function makeRange(
  subnet: IpSubnet,
  given: { readonly gateway?: IpAddress; readonly first?: IpAddress; readonly last?: IpAddress } = {},
): AddressRange {
  const text = formatSubnet(subnet);
  if (subnet.prefix > ipBits(subnet.family) - 2) {
    throw invalidConfig(`cannot use subnet "${text}": it is too small for a gateway and a pod`);
  }
  for (const address of [given.gateway, given.first, given.last]) {
    if (address !== undefined && !subnetContains(subnet, address)) {
      throw invalidConfig(`cannot use address "${formatIp(address)}": it is not in subnet "${text}"`);
    }
  }
  // The first address is the network's (IPv4) or the routers' anycast address (IPv6), the last one of IPv4 is broadcast.
  const lowest = subnet.base + 1n;
  const highest = lastAddress(subnet) - (subnet.family === 4 ? 1n : 0n);
  const gateway = given.gateway?.value ?? lowest;
  const first = given.first?.value ?? lowest;
  const last = given.last?.value ?? highest;
  if (first < lowest || last > highest || first > last || gateway < lowest || gateway > highest) {
    throw invalidConfig(
      `cannot use the address range of subnet "${text}"`,
      'it must be in order, without the network and broadcast address',
    );
  }
  if (first === last && first === gateway) {
    throw invalidConfig(`cannot use the address range of subnet "${text}": the gateway is its only address`);
  }
  return { subnet, first, last, gateway };
}

/** How many pods can have an address. */
export function rangeSize(range: AddressRange): bigint {
  const gatewayInside = range.gateway >= range.first && range.gateway <= range.last;
  return range.last - range.first + 1n - (gatewayInside ? 1n : 0n);
}

export function isInRange(range: AddressRange, address: IpAddress): boolean {
  return (
    address.family === range.subnet.family && address.value >= range.first && address.value <= range.last
  );
}

/** 10.88.0.1-10.88.255.254 */
export function formatRange(range: AddressRange): string {
  const text = (value: bigint): string => formatIp({ family: range.subnet.family, value });
  return `${text(range.first)}-${text(range.last)}`;
}

/**
 * The address after `previous` that is free, round and round, so that an address that was just released is the last
 * to be given again. Undefined where all are taken.
 */
export function nextFree(
  range: AddressRange,
  previous: bigint | undefined,
  isTaken: (address: bigint) => boolean,
): bigint | undefined {
  const inside = previous !== undefined && previous >= range.first && previous <= range.last;
  const start = inside && previous < range.last ? previous + 1n : range.first;
  let at = start;
  do {
    if (at !== range.gateway && !isTaken(at)) return at;
    at = at === range.last ? range.first : at + 1n;
  } while (at !== start);
  return undefined;
}
