/** Host ports: from port mappings to elements of the table's maps, and who is in the way. Pure. */
import { formatIpBytes, type IpFamily, ipBytes } from '../linux/ip.ts';
import {
  type Element,
  isSameElements,
  type NftMap,
  type NftSet,
  type TableRef,
} from '../linux/nftables/index.ts';
import { invalidConfig } from './errors.ts';
import type { PodAddress } from './ipam/host-local.ts';
import { portMaps } from './rules.ts';
import type { PortMapping } from './types.ts';

/** Elements of one set. */
export interface SetElements {
  readonly set: NftSet | NftMap;
  readonly elements: readonly Element[];
}

/** The address that a mapping is for; undefined for all of a family. */
interface Scope {
  readonly family: IpFamily;
  readonly address: string | undefined;
}

/** `hostIP` as the families and address that it means: empty is every address of both. */
function scopesOf(mapping: PortMapping): Scope[] {
  if (mapping.hostIP === '')
    return [4, 6].map((family) => ({ family: family as IpFamily, address: undefined }));
  const bytes = ipBytes(mapping.hostIP);
  if (bytes === undefined)
    throw invalidConfig(
      `cannot map host port ${mapping.hostPort}: hostIP ${JSON.stringify(mapping.hostIP)} is no IP address`,
    );
  const family = bytes.length === 4 ? 4 : 6;
  return [{ family, address: canonicalHostIp(mapping.hostIP) }];
}

/** The address of a `hostIP` in canonical form; undefined for all addresses, or for what is no address. */
export function canonicalHostIp(hostIP: string): string | undefined {
  const bytes = ipBytes(hostIP);
  return bytes === undefined || bytes.every((byte) => byte === 0) ? undefined : formatIpBytes(bytes);
}

/** Addresses that only the host itself reaches: no rule can serve them, `LocalhostPortProxy` does. */
export function isLoopback(address: string): boolean {
  return address === '::1' || address.startsWith('127.');
}

/**
 * The elements that a pod's mappings are, with its id as their comment. Mappings without a host port are none; so is
 * a mapping for an address family that the pod has no address of, and one for a loopback address.
 */
export function portElements(
  table: TableRef,
  id: string,
  addresses: readonly PodAddress[],
  mappings: readonly PortMapping[],
): SetElements[] {
  const result: SetElements[] = [];
  for (const { subnet, address } of addresses) {
    const { hostports, hostips, hairpin } = portMaps(table, subnet.family);
    const anywhere: Element[] = [];
    const somewhere: Element[] = [];
    for (const mapping of mappings) {
      if (mapping.hostPort === 0) continue;
      for (const scope of scopesOf(mapping)) {
        if (scope.family !== subnet.family || (scope.address !== undefined && isLoopback(scope.address)))
          continue;
        const port = [mapping.protocol, mapping.hostPort];
        const value = [address, mapping.containerPort];
        if (scope.address === undefined) addOnce(anywhere, { key: port, value, comment: id });
        else addOnce(somewhere, { key: [scope.address, ...port], value, comment: id });
      }
    }
    if (anywhere.length > 0) result.push({ set: hostports, elements: anywhere });
    if (somewhere.length > 0) result.push({ set: hostips, elements: somewhere });
    if (anywhere.length + somewhere.length > 0) {
      result.push({ set: hairpin, elements: [{ key: [address, address], comment: id }] });
    }
  }
  return result;
}

/** The same mapping twice is one; the same port to two containers is a mistake. */
function addOnce(elements: Element[], element: Element): void {
  const before = elements.find(({ key }) => key.join(' ') === element.key.join(' '));
  if (before === undefined) elements.push(element);
  else if (!isSameElements([before], [element])) {
    throw invalidConfig(
      `cannot map host port ${element.key.slice(-2).reverse().join('/')} to two ports of one pod`,
    );
  }
}

export interface PortConflict {
  /** `8080/tcp` or `10.0.0.1:8080/tcp` */
  readonly port: string;
  /** The id of the pod that has it. */
  readonly owner: string;
}

/** Who of `existing` has a port that `wanted` wants: a port on every address is in the way of one on any address. */
export function findPortConflict(
  id: string,
  wanted: readonly SetElements[],
  existing: readonly SetElements[],
): PortConflict | undefined {
  for (const want of wanted) {
    for (const element of want.elements) {
      for (const have of existing) {
        if (family(have.set) !== family(want.set) || isHairpin(have.set) || isHairpin(want.set)) continue;
        const other = have.elements.find(
          (candidate) => candidate.comment !== id && collide(candidate, element),
        );
        if (other !== undefined) return { port: portText(element), owner: other.comment ?? '' };
      }
    }
  }
  return undefined;
}

const family = ({ name }: NftSet): string => name.slice(-1);
const isHairpin = ({ name }: NftSet): boolean => name.startsWith('hairpin');

/** Keys are [protocol, port] or [address, protocol, port]. */
function collide(a: Element, b: Element): boolean {
  const samePort = a.key.slice(-2).join(' ') === b.key.slice(-2).join(' ');
  return samePort && (a.key.length === 2 || b.key.length === 2 || a.key[0] === b.key[0]);
}

function portText({ key }: Element): string {
  const [protocol = '', port = ''] = key.slice(-2);
  if (key.length === 2) return `${port}/${protocol}`;
  const address = String(key[0]);
  return `${address.includes(':') ? `[${address}]` : address}:${port}/${protocol}`;
}
