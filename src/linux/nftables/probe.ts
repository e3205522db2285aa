/** What the kernel has of nftables, asked of the kernel itself: nothing is changed. */
import { describeError, hasCode } from '../../base/index.ts';
import { describeFailure, NetlinkError } from '../netlink/index.ts';
import { Nftables } from './nftables.ts';
import type { BaseChain, Family, NftMap } from './objects.ts';
import { ct, fibType, ip, meta, numgen, th } from './selectors.ts';
import * as s from './statements.ts';
import { NftTransaction } from './transaction.ts';

export interface MissingFeature {
  /** `nat`, `masquerade`, …: the name of the feature. */
  readonly feature: string;
  /** The kernel option that brings it. */
  readonly option: string;
  readonly reason: string;
}

export interface NftablesProbe {
  /** False where the kernel has no nftables at all, or we may not use it; then `missing` has one entry. */
  readonly available: boolean;
  readonly missing: readonly MissingFeature[];
}

interface Feature {
  readonly feature: string;
  readonly option: string;
  readonly base?: BaseChain;
  readonly statements: readonly s.Statement[];
}

const postrouting: BaseChain = { type: 'nat', hook: 'postrouting', priority: 100 };
const prerouting: BaseChain = { type: 'nat', hook: 'prerouting', priority: -100 };

/** One rule for each expression that the pod network and the proxy use. */
const FEATURES: readonly Feature[] = [
  { feature: 'nat', option: 'CONFIG_NFT_NAT', base: prerouting, statements: [s.dnat('ip', '192.0.2.1')] },
  { feature: 'masquerade', option: 'CONFIG_NFT_MASQ', base: postrouting, statements: [s.masquerade] },
  {
    feature: 'fib',
    option: 'CONFIG_NFT_FIB_INET',
    base: prerouting,
    statements: [s.match(fibType('daddr'), '==', 'local')],
  },
  {
    feature: 'conntrack',
    option: 'CONFIG_NFT_CT',
    statements: [s.ctState('new'), s.match(ct.mark, '==', 1)],
  },
  { feature: 'numgen', option: 'CONFIG_NFT_NUMGEN', statements: [s.match(numgen('random', 2), '==', 1)] },
  {
    feature: 'reject',
    option: 'CONFIG_NFT_REJECT_INET',
    base: { type: 'filter', hook: 'input', priority: 0 },
    statements: [s.reject()],
  },
  { feature: 'counter', option: 'CONFIG_NF_TABLES', statements: [s.counter] },
  {
    feature: 'maps',
    option: 'CONFIG_NF_TABLES',
    base: prerouting,
    statements: [s.dnatByMap('ip', [ip.daddr, meta.l4proto, th.dport], 'map')],
  },
];

/** `family` inet needs Linux 5.2 for nat. */
export function probeNftables(netnsFd?: number, family: Family = 'inet'): NftablesProbe {
  try {
    using nft = new Nftables(netnsFd);
    const missing: MissingFeature[] = [];
    nft.check(transactionOf(family, undefined));
    for (const feature of FEATURES) {
      try {
        nft.check(transactionOf(family, feature));
      } catch (error) {
        missing.push({ feature: feature.feature, option: feature.option, reason: reasonOf(error) });
      }
    }
    return { available: true, missing };
  } catch (error) {
    const reason = hasCode(error, 'EPERM') ? 'no permission: CAP_NET_ADMIN is needed' : reasonOf(error);
    return { available: false, missing: [{ feature: 'nftables', option: 'CONFIG_NF_TABLES', reason }] };
  }
}

function transactionOf(family: Family, feature: Feature | undefined): NftTransaction {
  const table = { family, name: 'nodelet-probe' };
  const map: NftMap = {
    table,
    name: 'map',
    key: ['ipv4_addr', 'inet_proto', 'inet_service'],
    data: ['ipv4_addr', 'inet_service'],
  };
  const tx = new NftTransaction().addTable(table).addSet({ ...map, name: 'services' });
  if (feature === undefined) return tx;
  const chain = { table, name: 'probe', ...(feature.base === undefined ? {} : { base: feature.base }) };
  tx.addChain(chain).addSet({ ...map, name: 'ports' });
  const statements = feature.statements.map((statement) =>
    statement.kind === 'natMap' ? { ...statement, map: 'ports' } : statement,
  );
  return tx.addRule({ table, chain: 'probe', statements });
}

function reasonOf(error: unknown): string {
  return error instanceof NetlinkError && error.failures[0] !== undefined
    ? describeFailure(error.failures[0])
    : describeError(error);
}
