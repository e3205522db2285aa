/** The objects of a rule set, as plain data. Names and comments are checked when a transaction takes them. */
import { NodeletError } from '../../base/index.ts';
import { COMMENT_MAX, type HOOKS, NAME_MAX, type NFPROTO } from './constants.ts';
import type { DataTypeName, Scalar } from './data-types.ts';
import type { Statement } from './statements.ts';

export type Family = keyof typeof NFPROTO;
export type Hook = (typeof HOOKS)[number];

export interface TableRef {
  readonly family: Family;
  readonly name: string;
}

export interface Table extends TableRef {
  readonly comment?: string;
}

/** What makes a chain a base chain: where the kernel enters it. */
export interface BaseChain {
  readonly type: 'filter' | 'nat' | 'route';
  readonly hook: Hook;
  /** -100 is `dstnat`, 0 `filter`, 100 `srcnat`; nft 1.0.6 knows the names for some hooks only. */
  readonly priority: number;
  readonly policy?: 'accept' | 'drop';
}

export interface Chain {
  readonly table: TableRef;
  readonly name: string;
  readonly base?: BaseChain;
  readonly comment?: string;
}

export interface NftSet {
  readonly table: TableRef;
  readonly name: string;
  /** The fields of the key; several are a concatenation. */
  readonly key: readonly DataTypeName[];
  /** `timeout`: elements may expire. `dynamic`: rules add elements. */
  readonly flags?: readonly ('constant' | 'dynamic' | 'timeout')[];
  /** Seconds that an element lives unless it says otherwise. */
  readonly timeout?: number;
  /** The most elements. */
  readonly size?: number;
  readonly comment?: string;
}

/** A set whose elements carry a value: the fields of `data`, or a verdict. */
export interface NftMap extends NftSet {
  readonly data: readonly DataTypeName[] | 'verdict';
}

export type Verdict =
  | { readonly verdict: 'accept' | 'drop' | 'return' }
  | { readonly verdict: 'jump' | 'goto'; readonly chain: string };

export interface Element {
  readonly key: readonly Scalar[];
  /** Of a map: the value; of a verdict map: the verdict. */
  readonly value?: readonly Scalar[] | Verdict;
  readonly comment?: string;
  /** Seconds; only in a set with the flag `timeout`. */
  readonly timeout?: number;
}

export interface Rule {
  readonly table: TableRef;
  readonly chain: string;
  readonly statements: readonly Statement[];
  readonly comment?: string;
}

export function isMap(set: NftSet | NftMap): set is NftMap {
  return 'data' in set;
}

export function isVerdict(value: readonly Scalar[] | Verdict): value is Verdict {
  return 'verdict' in value;
}

/** `inet nodelet-nodelet0` */
export function formatTable(table: TableRef): string {
  return `${table.family} ${table.name}`;
}

export function formatVerdict(verdict: Verdict): string {
  return 'chain' in verdict ? `${verdict.verdict} ${verdict.chain}` : verdict.verdict;
}

/**
 * Words that nft's grammar keeps for itself where a name stands. A name of ours is taken into no rule text unless
 * nft can read it back; the list holds those that are likely, not its whole lexer.
 */
const RESERVED: ReadonlySet<string> = new Set(
  'accept add all and arp bridge chain comment continue counter ct daddr delete dnat drop dup element ether export fib flow flowtable flush goto hook icmp icmpv6 inet insert ip ip6 jump limit list log map mark masquerade meta monitor netdev not numgen or performance policy priority queue quota redirect reject rename reset return rt rule ruleset saddr sctp set snat socket table tcp th to type udp update vlan vmap xor'.split(
    ' ',
  ),
);

/** Throws NFT_INVALID_NAME unless nft(8) can read the name back. */
export function checkName(what: string, name: string): void {
  if (
    !/^[A-Za-z][A-Za-z0-9/_.\\-]*$/.test(name) ||
    Buffer.byteLength(name) > NAME_MAX ||
    RESERVED.has(name)
  ) {
    throw new NodeletError('NFT_INVALID_NAME', `cannot name an nftables ${what} ${JSON.stringify(name)}`, {
      hint: 'use a letter, then letters, digits and / _ . -, and none of the words of its grammar',
    });
  }
}

/** Throws NFT_INVALID_COMMENT: text goes between quotes that know no escape, so none may hold one. */
export function checkComment(comment: string): void {
  // oxlint-disable-next-line no-control-regex -- control characters are what is refused
  if (/["\u0000-\u001f\u007f]/.test(comment) || Buffer.byteLength(comment) >= COMMENT_MAX || comment === '') {
    throw new NodeletError(
      'NFT_INVALID_COMMENT',
      `cannot use ${JSON.stringify(comment)} as an nftables comment`,
      {
        hint: `1 to ${COMMENT_MAX - 1} bytes without quotation marks and control characters`,
      },
    );
  }
}
