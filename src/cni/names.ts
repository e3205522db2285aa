/** Names by which everything that a pod has in the host's namespace can be traced to it: pure. */
import { createHash } from 'node:crypto';
import { ipBytes } from '../linux/ip.ts';
import { formatMac } from '../linux/netlink/index.ts';
import { invalidConfig } from './errors.ts';

/** Throws NETWORK_INVALID_CONFIG for an id that cannot be a file's content, an alias and a comment. */
export function checkId(id: string): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,126}$/.test(id))
    throw invalidConfig(`cannot attach a sandbox with the id ${JSON.stringify(id)}`);
}

const digest = (text: string): string => createHash('sha256').update(text).digest('hex');

/** `veth` and 8 hex digits: the id's own first ones where it is hex, as the runtime's are. */
export function hostLinkName(id: string): string {
  return `veth${/^[0-9a-f]{8}/.test(id) ? id.slice(0, 8) : digest(id).slice(0, 8)}`;
}

/** The alias of a pod's host-side link; the bridge has the same without an id. */
export function ownerAlias(network: string, id = ''): string {
  return `nodelet:${network}:${id}`;
}

/** The network and id that an alias names; undefined where it is none of ours. */
export function parseOwnerAlias(
  alias: string,
): { readonly network: string; readonly id: string } | undefined {
  const match = /^nodelet:([^:]+):([^:]*)$/.exec(alias);
  return match?.[1] === undefined || match[2] === undefined ? undefined : { network: match[1], id: match[2] };
}

/**
 * A locally administered address that follows from the IP address, so that neighbours that remember a released
 * address remember the right hardware address for its next owner.
 */
export function macOfIp(address: string): string {
  const bytes = ipBytes(address) ?? new Uint8Array();
  const four = bytes.length === 4 ? bytes : Buffer.from(digest(address).slice(0, 8), 'hex');
  return formatMac(Uint8Array.of(0x0a, 0x58, ...four));
}

/** Set, not left to the kernel: programs that rename and renumber new links leave one with a set address alone. */
export function hostLinkMac(id: string): string {
  return formatMac(Buffer.from(`0e${digest(id).slice(0, 10)}`, 'hex'));
}
