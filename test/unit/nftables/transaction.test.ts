import { describe, expect, it } from 'vitest';
import { compileRule } from '../../../src/linux/nftables/compile.ts';
import {
  accept,
  checkComment,
  checkName,
  dnatByMap,
  fibType,
  ip,
  ip6,
  jump,
  masquerade,
  match,
  matchSubnet,
  meta,
  type NftMap,
  NftTransaction,
  numgen,
  orMark,
  type Statement,
  tcp,
  th,
  udp,
  vmap,
} from '../../../src/linux/nftables/index.ts';

const table = { family: 'inet', name: 'nodelet-nodelet0' } as const;
const hostports: NftMap = {
  table,
  name: 'hostports4',
  key: ['inet_proto', 'inet_service'],
  data: ['ipv4_addr', 'inet_service'],
};

describe('a transaction says itself as nft reads it', () => {
  it.each<[string, (tx: NftTransaction) => NftTransaction]>([
    ['add table inet nodelet-nodelet0', (tx) => tx.addTable(table)],
    [
      'create table inet nodelet-nodelet0 { comment "pods"; }',
      (tx) => tx.addTable({ ...table, comment: 'pods' }, { create: true }),
    ],
    ['delete table inet nodelet-nodelet0', (tx) => tx.deleteTable(table)],
    ['add chain inet nodelet-nodelet0 hostports', (tx) => tx.addChain({ table, name: 'hostports' })],
    [
      'add chain inet nodelet-nodelet0 output { type nat hook output priority -100; policy accept; comment "x"; }',
      (tx) =>
        tx.addChain({
          table,
          name: 'output',
          base: { type: 'nat', hook: 'output', priority: -100 },
          comment: 'x',
        }),
    ],
    [
      'add map inet nodelet-nodelet0 hostports4 { type inet_proto . inet_service : ipv4_addr . inet_service; }',
      (tx) => tx.addSet(hostports),
    ],
    [
      'add map inet nodelet-nodelet0 v { type ipv4_addr : verdict; }',
      (tx) => tx.addSet({ table, name: 'v', key: ['ipv4_addr'], data: 'verdict' }),
    ],
    [
      'add set inet nodelet-nodelet0 s { type ipv4_addr; flags dynamic,timeout; timeout 60s; size 10; comment "c"; }',
      (tx) =>
        tx.addSet({
          table,
          name: 's',
          key: ['ipv4_addr'],
          flags: ['dynamic', 'timeout'],
          timeout: 60,
          size: 10,
          comment: 'c',
        }),
    ],
    ['delete map inet nodelet-nodelet0 hostports4', (tx) => tx.deleteSet(hostports)],
    ['flush map inet nodelet-nodelet0 hostports4', (tx) => tx.flushSet(hostports)],
    [
      'add element inet nodelet-nodelet0 hostports4 { tcp . 8080 comment "owner" : 10.88.0.5 . 80, udp . 53 : 10.88.0.6 . 53 }',
      (tx) =>
        tx.addElements(hostports, [
          { key: ['tcp', 8080], value: ['10.88.0.5', 80], comment: 'owner' },
          { key: ['udp', 53], value: ['10.88.0.6', 53] },
        ]),
    ],
    [
      'delete element inet nodelet-nodelet0 hostports4 { tcp . 8080 }',
      (tx) => tx.deleteElements(hostports, [{ key: ['tcp', 8080], value: ['10.88.0.5', 80] }]),
    ],
    ['', (tx) => tx.addElements(hostports, []).deleteElements(hostports, [])],
    ['flush chain inet nodelet-nodelet0 c', (tx) => tx.flushChain(table, 'c')],
    ['delete chain inet nodelet-nodelet0 c', (tx) => tx.deleteChain(table, 'c')],
    ['delete rule inet nodelet-nodelet0 c handle 7', (tx) => tx.deleteRule(table, 'c', 7n)],
    [
      'insert rule inet nodelet-nodelet0 c fib daddr type local jump hostports comment "why"',
      (tx) =>
        tx.insertRule({
          table,
          chain: 'c',
          statements: [match(fibType('daddr'), '==', 'local'), jump('hostports')],
          comment: 'why',
        }),
    ],
    [
      'add rule inet nodelet-nodelet0 c oifname != "nodelet0" ip saddr 10.88.0.0/16 masquerade fully-random',
      (tx) =>
        tx.addRule({
          table,
          chain: 'c',
          statements: [
            match(meta.oifname, '!=', 'nodelet0'),
            matchSubnet(ip.saddr, '==', '10.88.0.0/16'),
            masquerade,
          ],
        }),
    ],
    [
      'add rule inet nodelet-nodelet0 c dnat ip addr . port to meta l4proto . th dport map @hostports4',
      (tx) =>
        tx.addRule({
          table,
          chain: 'c',
          statements: [dnatByMap('ip', [meta.l4proto, th.dport], 'hostports4')],
        }),
    ],
    [
      'add rule inet nodelet-nodelet0 c numgen random mod 2 vmap { 0 : goto a, 1 : goto b }',
      (tx) =>
        tx.addRule({
          table,
          chain: 'c',
          statements: [
            vmap(
              [numgen('random', 2)],
              [
                { key: [0], value: { verdict: 'goto', chain: 'a' } },
                { key: [1], value: { verdict: 'goto', chain: 'b' } },
              ],
            ),
          ],
        }),
    ],
    [
      'add rule inet nodelet-nodelet0 c meta mark set meta mark | 0x00004000',
      (tx) => tx.addRule({ table, chain: 'c', statements: [orMark(meta.mark, 0x4000)] }),
    ],
  ])('%s', (text, build) => {
    const tx = build(new NftTransaction());
    expect(tx.error).toBeUndefined();
    expect(tx.toString()).toBe(text);
  });
});

describe('names', () => {
  it.each(['nodelet-nodelet0', 'service-ULMVA6XW-ns1/svc1/tcp/p80', 'a', 'A.b_c', 'x'.repeat(255)])(
    '%s is one',
    (name) => {
      expect(() => checkName('chain', name)).not.toThrow();
    },
  );
  it.each(['', '0a', '-a', 'a b', 'a;b', 'a}', 'a"', 'ä', 'a\n', 'x'.repeat(256), 'accept', 'map', 'th'])(
    '%j is none',
    (name) => {
      expect(() => checkName('chain', name)).toThrow(expect.objectContaining({ code: 'NFT_INVALID_NAME' }));
    },
  );
  it('and comments hold for elements that lead to chains', () => {
    const verdicts: NftMap = { table, name: 'v', key: ['ipv4_addr'], data: 'verdict' };
    const tx = new NftTransaction().addElements(verdicts, [
      { key: ['10.0.0.1'], value: { verdict: 'goto', chain: 'a; flush ruleset' } },
    ]);
    expect(tx.error).toMatchObject({ code: 'NFT_INVALID_NAME' });
  });
});

describe('comments', () => {
  it.each(['a', 'x'.repeat(127), "it's", '{ } ; # $'])('%j is one', (comment) => {
    expect(() => checkComment(comment)).not.toThrow();
  });
  it.each(['', '"', 'a\tb', 'x'.repeat(128), 'é'.repeat(64)])('%j is none', (comment) => {
    expect(() => checkComment(comment)).toThrow(expect.objectContaining({ code: 'NFT_INVALID_COMMENT' }));
  });
});

describe('a rule', () => {
  const names = (family: 'ip' | 'ip6' | 'inet', statements: Statement[]): string[] => {
    let id = 0;
    return compileRule(family, statements, () => ++id).expressions.map(({ name }) => name);
  };

  it('in an inet table matches the protocol that it presumes, once', () => {
    expect(
      names('inet', [match(ip.saddr, '==', '10.0.0.1'), match(ip.daddr, '==', '10.0.0.2'), accept]),
    ).toEqual(['meta', 'cmp', 'payload', 'cmp', 'payload', 'cmp', 'immediate']);
    expect(names('ip', [match(ip.saddr, '==', '10.0.0.1')])).toEqual(['payload', 'cmp']);
  });

  it('does not ask again what it was told', () => {
    expect(names('inet', [match(meta.l4proto, '==', 'tcp'), match(tcp.dport, '==', 80)])).toEqual([
      'meta',
      'cmp',
      'payload',
      'cmp',
    ]);
    expect(names('inet', [match(meta.l4proto, '!=', 'udp'), match(tcp.dport, '==', 80)])).toEqual([
      'meta',
      'cmp',
      'meta',
      'cmp',
      'payload',
      'cmp',
    ]);
  });

  it('puts the matches that a key needs before the whole key', () => {
    expect(names('inet', [dnatByMap('ip', [ip.daddr, meta.l4proto, th.dport], 'm')])).toEqual([
      'meta',
      'cmp',
      'payload',
      'meta',
      'payload',
      'lookup',
      'nat',
    ]);
  });

  it.each<[string, 'ip' | 'ip6' | 'inet', Statement[]]>([
    ['an IPv6 address in an ip table', 'ip', [match(ip6.saddr, '==', '::1')]],
    ['both families in one rule', 'inet', [match(ip.saddr, '==', '10.0.0.1'), match(ip6.daddr, '==', '::1')]],
    ['two transport protocols in one rule', 'inet', [match(tcp.dport, '==', 80), match(udp.dport, '==', 80)]],
    ['meta nfproto outside inet, which nft refuses', 'ip', [match(meta.nfproto, '==', 'ipv4')]],
    ['a subnet of the other family', 'inet', [matchSubnet(ip.saddr, '==', 'fd00::/64')]],
    ['a subnet that is everything', 'inet', [matchSubnet(ip.saddr, '==', '0.0.0.0/0')]],
    ['no connection state at all', 'inet', [{ kind: 'ctState', any: [] }]],
    ['a dnat to a name', 'ip', [{ kind: 'nat', type: 'dnat', family: 'ip', address: 'example.org' }]],
    [
      'a key that no register holds',
      'ip6',
      [
        {
          kind: 'inSet',
          key: [ip6.saddr, ip6.daddr, ip6.saddr, ip6.daddr, th.dport],
          negate: false,
          set: 's',
        },
      ],
    ],
  ])('of %s is refused', (_name, family, statements) => {
    expect(() => names(family, statements)).toThrow(expect.objectContaining({ code: 'NFT_INVALID_RULE' }));
  });
});
