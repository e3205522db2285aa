/** nftables by netlink: objects, transactions, listing; no `nft` program. */
export { isSameElements, isSameRule } from './compare.ts';
export { NFNLGRP_NFTABLES } from './constants.ts';
export type { DataTypeName, Scalar } from './data-types.ts';
export type { ListedRule, RawExpression } from './listing.ts';
export type { AddOptions } from './messages.ts';
export { Nftables } from './nftables.ts';
export type {
  BaseChain,
  Chain,
  Element,
  Family,
  Hook,
  NftMap,
  NftSet,
  Rule,
  Table,
  TableRef,
  Verdict,
} from './objects.ts';
export { checkComment, checkName, formatTable } from './objects.ts';
export { type MissingFeature, type NftablesProbe, probeNftables } from './probe.ts';
export { ct, fibType, ip, ip6, meta, numgen, type Selector, sctp, tcp, th, udp } from './selectors.ts';
export * from './statements.ts';
export { type ChainSpec, type ObservedTable, observeTable, planTable, type TableSpec } from './table-plan.ts';
export { formatElement, formatRule } from './text.ts';
export { NftTransaction } from './transaction.ts';
