import {
  accept,
  counter,
  ct,
  ctState,
  ctStatus,
  dnat,
  dnatByMap,
  drop,
  type Family,
  fibType,
  goTo,
  inSet,
  ip,
  ip6,
  jump,
  masquerade,
  match,
  matchBits,
  matchRange,
  matchSubnet,
  meta,
  type NftMap,
  type NftSet,
  NftTransaction,
  notInSet,
  numgen,
  orMark,
  reject,
  returnFromChain,
  type Statement,
  setMark,
  snat,
  type TableRef,
  tcp,
  th,
  udp,
  vmap,
  xorMark,
} from '../../../src/linux/nftables/index.ts';

/** Sets and maps that the rules below look into, in a table of `family`. */
export function setsOf(
  table: TableRef,
): Record<
  'plain' | 'pairs' | 'marks' | 'names' | 'aff' | 'verdicts' | 'ports' | 'ports6' | 'services',
  NftSet | NftMap
> {
  const address = table.family === 'ip6' ? ('ipv6_addr' as const) : ('ipv4_addr' as const);
  return {
    plain: { table, name: 'plain', key: [address], comment: 'plain addresses' },
    pairs: { table, name: 'pairs', key: [address, address] },
    marks: { table, name: 'marks', key: ['mark'] },
    names: { table, name: 'names', key: ['ifname'] },
    aff: { table, name: 'aff', key: [address], flags: ['dynamic', 'timeout'], timeout: 10800, size: 1000 },
    verdicts: { table, name: 'verdicts', key: [address, 'inet_proto', 'inet_service'], data: 'verdict' },
    ports: {
      table,
      name: 'hostports',
      key: ['inet_proto', 'inet_service'],
      data: ['ipv4_addr', 'inet_service'],
    },
    ports6: {
      table,
      name: 'hostports6',
      key: ['inet_proto', 'inet_service'],
      data: ['ipv6_addr', 'inet_service'],
    },
    services: {
      table,
      name: 'services',
      key: [address, 'inet_proto', 'inet_service'],
      data: [address, 'inet_service'],
    },
  };
}

export interface RuleRow {
  readonly name: string;
  readonly families: readonly Family[];
  readonly chain?: 'pre' | 'post' | 'filter';
  readonly statements: readonly Statement[];
}

const all: readonly Family[] = ['ip', 'ip6', 'inet'];
const v4: readonly Family[] = ['ip', 'inet'];
const v6: readonly Family[] = ['ip6', 'inet'];

/** One row for each statement, and for what the pod network and the proxy make of them. */
export const RULES: readonly RuleRow[] = [
  { name: 'accept', families: all, statements: [accept] },
  { name: 'drop with a counter', families: all, statements: [counter, drop] },
  { name: 'return', families: all, statements: [returnFromChain] },
  { name: 'jump and goto', families: all, statements: [match(meta.l4proto, '==', 'udp'), jump('target')] },
  { name: 'goto', families: all, statements: [match(meta.l4proto, '!=', 'sctp'), goTo('target')] },
  { name: 'an address', families: v4, statements: [match(ip.saddr, '==', '10.1.2.3'), accept] },
  { name: 'an IPv6 address', families: v6, statements: [match(ip6.daddr, '==', '::1'), returnFromChain] },
  {
    name: 'a byte-aligned subnet',
    families: v4,
    statements: [matchSubnet(ip.daddr, '!=', '10.88.0.0/16'), accept],
  },
  {
    name: 'a subnet that is not',
    families: v4,
    statements: [matchSubnet(ip.daddr, '==', '10.88.4.0/22'), accept],
  },
  {
    name: 'a host as a subnet',
    families: v4,
    statements: [matchSubnet(ip.daddr, '==', '10.88.4.1/32'), accept],
  },
  {
    name: 'an IPv6 subnet',
    families: v6,
    statements: [
      matchSubnet(ip6.saddr, '==', 'fd00:88::/64'),
      matchSubnet(ip6.daddr, '!=', 'fd00:88::/61'),
      accept,
    ],
  },
  {
    name: 'both addresses',
    families: v4,
    statements: [match(ip.saddr, '==', '10.0.0.1'), match(ip.daddr, '==', '10.0.0.2'), accept],
  },
  {
    name: 'interfaces',
    families: all,
    statements: [match(meta.oifname, '!=', 'nodelet0'), match(meta.iifname, '==', 'eth0'), accept],
  },
  { name: 'a port', families: all, statements: [match(tcp.dport, '==', 80), accept] },
  { name: 'not a port', families: all, statements: [match(udp.sport, '!=', 53), drop] },
  { name: 'ports in a range', families: all, statements: [matchRange(tcp.dport, 30000, 32767), accept] },
  { name: 'a user', families: all, chain: 'post', statements: [match(meta.skuid, '==', 0), accept] },
  { name: 'a mark', families: all, statements: [match(meta.mark, '==', 0x4000), accept] },
  {
    name: 'bits of a mark',
    families: all,
    statements: [
      matchBits(meta.mark, 0x4000, '!=', 0),
      matchBits(meta.mark, 0xff0000, '==', 0x10000),
      accept,
    ],
  },
  { name: 'setting bits of a mark', families: all, statements: [orMark(meta.mark, 0x4000)] },
  { name: 'flipping bits of a mark', families: all, statements: [xorMark(meta.mark, 0x4000)] },
  { name: 'setting a mark', families: all, statements: [setMark(ct.mark, 0x10)] },
  {
    name: 'copying a mark',
    families: all,
    statements: [
      { kind: 'copyMark', target: ct.mark, from: meta.mark },
      { kind: 'copyMark', target: meta.mark, from: ct.mark },
    ],
  },
  { name: 'connection states', families: all, statements: [ctState('established', 'related'), accept] },
  { name: 'a new connection', families: all, statements: [ctState('new'), jump('target')] },
  {
    name: 'a translated connection',
    families: all,
    chain: 'post',
    statements: [ctStatus('dnat'), masquerade],
  },
  {
    name: 'the destination before translation',
    families: ['ip'],
    statements: [match(ct.originalIpDaddr, '==', '10.1.1.1'), accept],
  },
  {
    name: 'the IPv6 destination before translation',
    families: ['ip6'],
    statements: [match(ct.originalIp6Daddr, '==', 'fd00::9'), accept],
  },
  {
    name: 'a local destination',
    families: all,
    statements: [match(fibType('daddr'), '==', 'local'), jump('target')],
  },
  { name: 'a foreign source', families: all, statements: [match(fibType('saddr'), '!=', 'local'), accept] },
  { name: 'masquerade', families: all, chain: 'post', statements: [masquerade] },
  {
    name: 'masquerade of pods',
    families: v4,
    chain: 'post',
    statements: [
      match(meta.oifname, '!=', 'nodelet0'),
      matchSubnet(ip.saddr, '==', '10.88.0.0/16'),
      matchSubnet(ip.daddr, '!=', '10.88.0.0/16'),
      masquerade,
    ],
  },
  { name: 'dnat', families: v4, chain: 'pre', statements: [dnat('ip', '10.0.0.1')] },
  {
    name: 'dnat with a port',
    families: v4,
    chain: 'pre',
    statements: [match(meta.l4proto, '==', 'tcp'), dnat('ip', '10.0.0.1', 8080)],
  },
  {
    name: 'dnat with an IPv6 port',
    families: v6,
    chain: 'pre',
    statements: [match(meta.l4proto, '==', 'tcp'), dnat('ip6', 'fd00::1', 8080)],
  },
  { name: 'snat', families: v4, chain: 'post', statements: [snat('ip', '10.0.0.1')] },
  {
    name: 'dnat by a map',
    families: ['inet'],
    chain: 'pre',
    statements: [match(meta.nfproto, '==', 'ipv4'), dnatByMap('ip', [meta.l4proto, th.dport], 'hostports')],
  },
  {
    name: 'dnat by an IPv6 map',
    families: ['inet'],
    chain: 'pre',
    statements: [match(meta.nfproto, '==', 'ipv6'), dnatByMap('ip6', [meta.l4proto, th.dport], 'hostports6')],
  },
  {
    name: 'a slot of the proxy',
    families: ['ip'],
    chain: 'pre',
    statements: [dnatByMap('ip', [ip.daddr, meta.l4proto, th.dport], 'services')],
  },
  {
    name: 'a slot of the IPv6 proxy',
    families: ['ip6'],
    chain: 'pre',
    statements: [dnatByMap('ip6', [ip6.daddr, meta.l4proto, th.dport], 'services')],
  },
  { name: 'in a set', families: v4, statements: [inSet([ip.saddr], 'plain'), drop] },
  { name: 'not in a set', families: v4, statements: [notInSet([ip.saddr], 'plain'), drop] },
  {
    name: 'a pair in a set',
    families: v4,
    chain: 'post',
    statements: [ctStatus('dnat'), inSet([ip.saddr, ip.daddr], 'pairs'), masquerade],
  },
  {
    name: 'an IPv6 pair in a set',
    families: ['ip6'],
    chain: 'post',
    statements: [inSet([ip6.saddr, ip6.daddr], 'pairs'), masquerade],
  },
  {
    name: 'in a set of the rule',
    families: v4,
    statements: [inSet([ip.saddr], [{ key: ['10.0.0.1'] }, { key: ['10.0.0.2'] }]), accept],
  },
  {
    name: 'not in a set of ports',
    families: all,
    statements: [notInSet([tcp.dport], [{ key: [80] }, { key: [443] }]), drop],
  },
  {
    name: 'names in a set of the rule',
    families: all,
    statements: [inSet([meta.iifname], [{ key: ['eth0'] }, { key: ['eth1'] }]), accept],
  },
  {
    name: 'a verdict map',
    families: ['ip'],
    statements: [vmap([ip.daddr, meta.l4proto, th.dport], 'verdicts')],
  },
  {
    name: 'dispatch at random',
    families: all,
    statements: [
      vmap(
        [numgen('random', 3)],
        [0, 1, 2].map((i) => ({ key: [i], value: { verdict: 'goto' as const, chain: 'target' } })),
      ),
    ],
  },
  {
    name: 'dispatch in turn',
    families: all,
    statements: [
      vmap(
        [numgen('inc', 2, 5)],
        [5, 6].map((i) => ({ key: [i], value: { verdict: 'goto' as const, chain: 'target' } })),
      ),
    ],
  },
  { name: 'reject', families: all, chain: 'filter', statements: [reject()] },
  { name: 'reject with a reset', families: all, chain: 'filter', statements: [reject('tcp reset')] },
  {
    name: 'learning an address',
    families: v4,
    statements: [{ kind: 'learn', op: 'update', set: 'aff', key: [ip.saddr] }],
  },
  {
    name: 'learning it for a while',
    families: v4,
    statements: [{ kind: 'learn', op: 'add', set: 'aff', key: [ip.saddr], timeout: 30 }],
  },
];

/** A table with all sets, base chains and every rule of its family, each rule with its name as comment. */
export function everything(family: Family, name = 'nodelet-test'): NftTransaction {
  const table = { family, name };
  const sets = setsOf(table);
  const tx = new NftTransaction().addTable({ ...table, comment: `everything of ${family}` });
  for (const set of Object.values(sets)) tx.addSet(set);
  tx.addChain({ table, name: 'target' });
  // Not into "target" itself: kernels before 6.2 look for loops in chains that nothing calls, too.
  tx.addChain({ table, name: 'rules' });
  tx.addChain({ table, name: 'pre', base: { type: 'nat', hook: 'prerouting', priority: -100 } });
  tx.addChain({ table, name: 'out', base: { type: 'nat', hook: 'output', priority: -100 } });
  tx.addChain({
    table,
    name: 'post',
    base: { type: 'nat', hook: 'postrouting', priority: 100, policy: 'accept' },
  });
  tx.addChain({
    table,
    name: 'filter',
    base: { type: 'filter', hook: 'forward', priority: 0, policy: 'drop' },
  });
  for (const row of RULES) {
    if (!row.families.includes(family)) continue;
    tx.addRule({ table, chain: row.chain ?? 'rules', statements: row.statements, comment: row.name });
  }
  const address = family === 'ip6' ? ['fd00::1', 'fd00::2'] : ['10.0.0.1', '10.0.0.2'];
  const [a = '', b = ''] = address;
  tx.addElements(sets.plain, [{ key: [a], comment: 'first' }, { key: [b] }]);
  tx.addElements(sets.pairs, [{ key: [a, b], comment: 'a pair' }]);
  tx.addElements(sets.marks, [{ key: [0x4000] }]);
  tx.addElements(sets.names, [{ key: ['eth0'] }]);
  tx.addElements(sets.aff, [{ key: [a], timeout: 600 }]);
  tx.addChain({ table, name: 'service-ABC-ns/svc/tcp/http' });
  tx.addElements(sets.verdicts, [
    {
      key: [a, 'tcp', 80],
      value: { verdict: 'goto', chain: 'service-ABC-ns/svc/tcp/http' },
      comment: 'ns/svc:http',
    },
    { key: [b, 'udp', 53], value: { verdict: 'drop' } },
  ]);
  tx.addElements(sets.ports, [
    { key: ['tcp', 8080], value: ['10.88.0.5', 80], comment: 'f'.repeat(64) },
    { key: ['sctp', 9], value: ['10.88.0.6', 65535] },
  ]);
  tx.addElements(sets.ports6, [{ key: ['udp', 8080], value: ['fd00:88::5', 80], comment: 'f'.repeat(64) }]);
  tx.addElements(sets.services, [{ key: [a, 'tcp', 80], value: [b, 8080] }]);
  return tx;
}
