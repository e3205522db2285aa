/** What pods own in the host's namespace: elements of the table's maps, and links. */
import { hasCode } from '../base/index.ts';
import type { Link, LinkRef } from '../linux/netlink/index.ts';
import {
  type Element,
  isSameElements,
  type Nftables,
  type NftMap,
  type NftSet,
  NftTransaction,
  type TableRef,
} from '../linux/nftables/index.ts';
import type { PodSubnet } from './config.ts';
import type { SetElements } from './host-ports.ts';
import { hostLinkName, parseOwnerAlias } from './names.ts';
import { portMaps } from './rules.ts';

/** All elements of the maps; nothing where the table or a map is gone. */
export function listPortElements(
  nft: Nftables,
  table: TableRef,
  subnets: readonly PodSubnet[],
): SetElements[] {
  return subnets.flatMap(({ family }) =>
    Object.values(portMaps(table, family)).map((set: NftSet | NftMap) => ({
      set,
      elements: listed(nft, set),
    })),
  );
}

function listed(nft: Nftables, set: NftSet | NftMap): Element[] {
  try {
    return nft.elements(set);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  }
}

/** Only the elements of owners that `isOwner` picks; sets without any are left out. */
export function elementsOfOwners(
  all: readonly SetElements[],
  isOwner: (id: string) => boolean,
): SetElements[] {
  return all
    .map(({ set, elements }) => ({ set, elements: elements.filter(({ comment }) => isOwner(comment ?? '')) }))
    .filter(({ elements }) => elements.length > 0);
}

/** From the elements that a pod has to those that it should have. */
export function planPortElements(have: readonly SetElements[], want: readonly SetElements[]): NftTransaction {
  const tx = new NftTransaction();
  const elementsOf = (list: readonly SetElements[], name: string): readonly Element[] =>
    list.find(({ set }) => set.name === name)?.elements ?? [];
  const wrong = ({ set }: SetElements): boolean =>
    !isSameElements(elementsOf(have, set.name), elementsOf(want, set.name));
  for (const item of have.filter(wrong)) tx.deleteElements(item.set, item.elements);
  for (const item of want.filter(wrong)) tx.addElements(item.set, item.elements);
  return tx;
}

/**
 * The id that a link belongs to; undefined for a link that is none of this network's. One without an alias on our
 * bridge, with a name as we give it, was left by a crash: its owner is `''`.
 */
export function ownerOfLink(link: Link, network: string, bridge: LinkRef | undefined): string | undefined {
  if (link.kind !== 'veth') return undefined;
  const owner = parseOwnerAlias(link.alias);
  if (owner !== undefined) return owner.network === network && owner.id !== '' ? owner.id : undefined;
  const orphan =
    link.alias === '' &&
    bridge !== undefined &&
    link.master === bridge.index &&
    /^veth[0-9a-f]{8}$/.test(link.name);
  return orphan ? '' : undefined;
}

/** The links of this network whose pod is not in `valid`. */
export function strayLinks(
  links: readonly Link[],
  network: string,
  bridge: LinkRef | undefined,
  valid: ReadonlySet<string>,
): { readonly link: Link; readonly owner: string }[] {
  const names = new Set([...valid].map(hostLinkName));
  return links.flatMap((link) => {
    const owner = ownerOfLink(link, network, bridge);
    if (owner === undefined || valid.has(owner) || (owner === '' && names.has(link.name))) return [];
    return [{ link, owner }];
  });
}
