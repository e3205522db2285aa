/** From a table as it should be and as it is to the transaction that lies between: pure. */

import { hasCode } from '../../base/index.ts';
import { isSameRule } from './compare.ts';
import type { AnonymousSet } from './compile.ts';
import type { ListedRule } from './listing.ts';
import type { Nftables } from './nftables.ts';
import {
  type BaseChain,
  type Chain,
  type Element,
  isMap,
  type NftMap,
  type NftSet,
  type Rule,
  type Table,
} from './objects.ts';
import type { Statement } from './statements.ts';
import { NftTransaction } from './transaction.ts';

/** A table as it should be: all its chains and sets. The elements of the sets belong to somebody else. */
export interface TableSpec {
  readonly table: Table;
  readonly sets: readonly (NftSet | NftMap)[];
  readonly chains: readonly ChainSpec[];
}

export interface ChainSpec {
  readonly name: string;
  readonly base?: BaseChain;
  readonly rules: readonly { readonly statements: readonly Statement[]; readonly comment?: string }[];
}

/** What is in the kernel. */
export interface ObservedTable {
  readonly table: Table;
  readonly sets: readonly (NftSet | NftMap)[];
  readonly chains: readonly Chain[];
  readonly rules: readonly ListedRule[];
  elementsOf(name: string, desired: AnonymousSet): readonly Element[];
}

/** Undefined where there is no such table. */
export function observeTable(nft: Nftables, table: Table): ObservedTable | undefined {
  const found = nft.table(table);
  if (found === undefined) return undefined;
  return {
    table: found,
    sets: nft.sets(table),
    chains: nft.chains(table),
    rules: nft.rules(table),
    elementsOf(name, { key }) {
      const set = { table, name, key: key.map(({ type }) => type) };
      try {
        return nft.elements(name.startsWith('__map') ? { ...set, data: 'verdict' } : set);
      } catch (error) {
        if (hasCode(error, 'ENOENT')) return []; // replaced since the rules were listed
        throw error;
      }
    },
  };
}

/**
 * The changes that make `observed` into `desired`: none where it is right. Elements are kept, unless a set's type or
 * a base chain's hook is another one: then the table is made anew. Chains and sets that are not desired go.
 */
export function planTable(desired: TableSpec, observed: ObservedTable | undefined): NftTransaction {
  const tx = new NftTransaction();
  const fresh = observed === undefined || needsRebuild(desired, observed);
  if (fresh && observed !== undefined) tx.deleteTable(desired.table);
  const existing = fresh ? undefined : observed;
  if (existing === undefined) tx.addTable(desired.table);
  const has = (list: readonly { readonly name: string }[] | undefined, name: string): boolean =>
    list?.some((item) => item.name === name) ?? false;
  for (const set of desired.sets) if (!has(existing?.sets, set.name)) tx.addSet(set);
  for (const { name, base } of desired.chains) {
    if (!has(existing?.chains, name))
      tx.addChain({ table: desired.table, name, ...(base === undefined ? {} : { base }) });
  }
  for (const chain of desired.chains) planRules(tx, desired.table, chain, existing);
  for (const { name } of existing?.chains ?? [])
    if (!has(desired.chains, name)) tx.flushChain(desired.table, name);
  for (const { name } of existing?.chains ?? [])
    if (!has(desired.chains, name)) tx.deleteChain(desired.table, name);
  for (const set of existing?.sets ?? []) if (!has(desired.sets, set.name)) tx.deleteSet(set);
  return tx;
}

function planRules(
  tx: NftTransaction,
  table: Table,
  chain: ChainSpec,
  observed: ObservedTable | undefined,
): void {
  const want: Rule[] = chain.rules.map((rule) => ({ table, chain: chain.name, ...rule }));
  const have = (observed?.rules ?? []).filter((rule) => rule.chain === chain.name);
  const same =
    want.length === have.length &&
    want.every((rule, i) => {
      const listed = have[i];
      return (
        listed !== undefined &&
        observed !== undefined &&
        isSameRule(rule, listed, (name, set) => observed.elementsOf(name, set))
      );
    });
  if (same) return;
  if (have.length > 0) tx.flushChain(table, chain.name);
  for (const rule of want) tx.addRule(rule);
}

function needsRebuild(desired: TableSpec, observed: ObservedTable): boolean {
  const wrongChain = desired.chains.some((chain) => {
    const found = observed.chains.find(({ name }) => name === chain.name);
    return found !== undefined && !isSameBase(chain.base, found.base);
  });
  const wrongSet = desired.sets.some((set) => {
    const found = observed.sets.find(({ name }) => name === set.name);
    return found !== undefined && !isSameType(set, found);
  });
  return wrongChain || wrongSet;
}

function isSameBase(a: BaseChain | undefined, b: BaseChain | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  const policy = (base: BaseChain): string => base.policy ?? 'accept';
  return a.type === b.type && a.hook === b.hook && a.priority === b.priority && policy(a) === policy(b);
}

function isSameType(a: NftSet | NftMap, b: NftSet | NftMap): boolean {
  const type = (set: NftSet | NftMap): string =>
    JSON.stringify([set.key, isMap(set) ? set.data : null, [...(set.flags ?? [])].sort(), set.timeout ?? 0]);
  return type(a) === type(b);
}
