/**
 * The nftables table of a network: masquerade and host ports. Fixed rules look into maps; a pod with host ports adds
 * elements whose comment is its id, any other pod adds nothing. Pure.
 */

import type { IpFamily } from '../linux/ip.ts';
import {
  ctStatus,
  dnatByMap,
  fibType,
  inSet,
  ip,
  ip6,
  jump,
  masquerade,
  match,
  matchSubnet,
  meta,
  type NftMap,
  type NftSet,
  returnFromChain,
  type Statement,
  type TableRef,
  type TableSpec,
  th,
} from '../linux/nftables/index.ts';
import type { PodSubnet } from './config.ts';

export function tableOf(bridge: string): TableRef {
  return { family: 'inet', name: `nodelet-${bridge}` };
}

/** The maps of one address family. */
export interface PortMaps {
  /** protocol . host port → pod address . container port, on every local address */
  readonly hostports: NftMap;
  /** local address . protocol . host port → the same, for mappings with a hostIP */
  readonly hostips: NftMap;
  /** pod address . pod address: whoever comes back to itself */
  readonly hairpin: NftSet;
}

export function portMaps(table: TableRef, family: IpFamily): PortMaps {
  const address = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
  return {
    hostports: {
      table,
      name: `hostports${family}`,
      key: ['inet_proto', 'inet_service'],
      data: [address, 'inet_service'],
    },
    hostips: {
      table,
      name: `hostips${family}`,
      key: [address, 'inet_proto', 'inet_service'],
      data: [address, 'inet_service'],
    },
    hairpin: { table, name: `hairpin${family}`, key: [address, address] },
  };
}

export interface TableInput {
  readonly network: string;
  readonly bridge: string;
  readonly subnets: readonly PodSubnet[];
  readonly ipMasq: boolean;
  /**
   * Packets between ports of the bridge pass netfilter (br_netfilter). Without it the answer of a pod to another pod
   * of this node never comes by the translation that has to be undone, so such connections are masqueraded.
   */
  readonly bridgeNetfilter: boolean;
}

export function networkTable(input: TableInput): TableSpec {
  const table = tableOf(input.bridge);
  const maps = input.subnets.map(({ family }) => portMaps(table, family));
  const toHostports = [{ statements: [match(fibType('daddr'), '==', 'local'), jump('hostports')] }];
  return {
    table: { ...table, comment: `pods of network ${input.network} on bridge ${input.bridge}` },
    sets: maps.flatMap(({ hostports, hostips, hairpin }) => [hostports, hostips, hairpin]),
    chains: [
      {
        name: 'hostports',
        rules: input.subnets.flatMap(({ family }) =>
          hostportRules(table, family).map((statements) => ({ statements })),
        ),
      },
      // -100 is dstnat; nft 1.0.6 does not know that name for the hook output.
      { name: 'prerouting', base: { type: 'nat', hook: 'prerouting', priority: -100 }, rules: toHostports },
      { name: 'output', base: { type: 'nat', hook: 'output', priority: -100 }, rules: toHostports },
      {
        name: 'postrouting',
        base: { type: 'nat', hook: 'postrouting', priority: 100 },
        rules: input.subnets.flatMap((subnet) =>
          postroutingRules(table, subnet, input).map((statements) => ({ statements })),
        ),
      },
    ],
  };
}

function hostportRules(table: TableRef, family: IpFamily): Statement[][] {
  const { hostports, hostips } = portMaps(table, family);
  const header = family === 4 ? ip : ip6;
  const nat = family === 4 ? 'ip' : 'ip6';
  return [
    // A packet for 127.0.0.1 cannot leave the host without route_localnet, which opens the host's own loopback
    // services to its neighbours (CVE-2020-8558): `LocalhostPortProxy` serves these.
    [
      family === 4 ? matchSubnet(ip.daddr, '==', '127.0.0.0/8') : match(ip6.daddr, '==', '::1'),
      returnFromChain,
    ],
    [dnatByMap(nat, [header.daddr, meta.l4proto, th.dport], hostips.name)],
    [
      match(meta.nfproto, '==', family === 4 ? 'ipv4' : 'ipv6'),
      dnatByMap(nat, [meta.l4proto, th.dport], hostports.name),
    ],
  ];
}

function postroutingRules(table: TableRef, { family, text }: PodSubnet, input: TableInput): Statement[][] {
  const { hairpin } = portMaps(table, family);
  const header = family === 4 ? ip : ip6;
  const fromPods = matchSubnet(header.saddr, '==', text);
  const rules: Statement[][] = [];
  if (input.ipMasq) {
    rules.push([
      match(meta.oifname, '!=', input.bridge),
      fromPods,
      matchSubnet(header.daddr, '!=', text),
      masquerade,
    ]);
  }
  if (input.bridgeNetfilter)
    rules.push([ctStatus('dnat'), inSet([header.saddr, header.daddr], hairpin.name), masquerade]);
  else rules.push([ctStatus('dnat'), fromPods, matchSubnet(header.daddr, '==', text), masquerade]);
  return rules;
}
