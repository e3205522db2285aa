import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NetlinkError } from '../../../src/linux/netlink/index.ts';
import {
  accept,
  counter,
  dnatByMap,
  drop,
  ip,
  isSameElements,
  isSameRule,
  jump,
  masquerade,
  match,
  meta,
  Nftables,
  type NftMap,
  NftTransaction,
  numgen,
  observeTable,
  planTable,
  probeNftables,
  type Statement,
  type TableSpec,
  th,
  vmap,
} from '../../../src/linux/nftables/index.ts';
import { TestNetns } from '../netlink/netns.ts';
import { everything, RULES, setsOf } from './fixtures.ts';

const table = { family: 'inet', name: 'nodelet-test' } as const;

let ns: TestNetns;
let nft: Nftables;
beforeEach(() => {
  ns = new TestNetns('nft');
  nft = new Nftables(ns.fd);
});
afterEach(() => {
  nft.close();
  ns[Symbol.dispose]();
});

describe('a transaction', () => {
  it('happens all together or not at all, and the error names the operation', () => {
    const tx = new NftTransaction()
      .addTable(table)
      .addChain({ table, name: 'good' })
      .addRule({ table, chain: 'missing', statements: [accept] })
      .addRule({ table, chain: 'good', statements: [jump('nowhere')] });
    let caught: unknown;
    try {
      nft.commit(tx);
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(NetlinkError);
    const error = caught as NetlinkError;
    expect(error.code).toBe('ENOENT');
    expect(error.message).toContain('"add rule inet nodelet-test missing accept"');
    expect(error.failures.map(({ index }) => index)).toEqual([2, 3]);
    expect(nft.tables()).toEqual([]);
  });

  it('keeps its first error and is never sent', () => {
    const tx = new NftTransaction()
      .addTable(table)
      .addChain({ table, name: 'no spaces' })
      .addTable({ family: 'inet', name: 'accept' });
    expect(tx.error).toMatchObject({
      code: 'NFT_INVALID_NAME',
      message: expect.stringContaining('"no spaces"') as string,
    });
    expect(() => nft.commit(tx)).toThrow(expect.objectContaining({ code: 'NFT_INVALID_NAME' }));
    expect(nft.tables()).toEqual([]);
  });

  it('with a value that its type cannot hold is never sent', () => {
    const { ports } = setsOf(table);
    const tx = new NftTransaction()
      .addTable(table)
      .addSet(ports)
      .addElements(ports, [{ key: ['tcp', 65536], value: ['10.0.0.1', 1] }]);
    expect(() => nft.commit(tx)).toThrow(expect.objectContaining({ code: 'NFT_INVALID_VALUE' }));
    expect(nft.tables()).toEqual([]);
  });

  it('can be checked without being made', () => {
    const generation = nft.generation();
    nft.check(everything('inet'));
    expect(nft.tables()).toEqual([]);
    expect(nft.generation()).toBe(generation);
    expect(() => nft.check(new NftTransaction().addChain({ table, name: 'c' }))).toThrow(
      expect.objectContaining({ code: 'ENOENT' }),
    );
    nft.commit(everything('inet'));
    expect(nft.generation()).toBeGreaterThan(generation);
  });

  it('that is empty does nothing', () => {
    const generation = nft.generation();
    nft.commit(new NftTransaction());
    expect(nft.generation()).toBe(generation);
  });

  it('tells create, which fails where the object is there, from add, which does not', () => {
    const { plain } = setsOf(table);
    const element = { key: ['10.0.0.1'], comment: 'a' };
    nft.commit(new NftTransaction().addTable(table).addSet(plain).addElements(plain, [element]));
    nft.commit(new NftTransaction().addTable(table).addSet(plain).addElements(plain, [element]));
    for (const tx of [
      new NftTransaction().addTable(table, { create: true }),
      new NftTransaction().addSet(plain, { create: true }),
      new NftTransaction().addElements(plain, [element], { create: true }),
    ]) {
      expect(() => nft.commit(tx)).toThrow(expect.objectContaining({ code: 'EEXIST' }));
    }
  });

  it('refuses another value for a key that is there', () => {
    const { ports } = setsOf(table);
    nft.commit(
      new NftTransaction()
        .addTable(table)
        .addSet(ports)
        .addElements(ports, [{ key: ['tcp', 80], value: ['10.0.0.1', 1] }]),
    );
    const tx = new NftTransaction().addElements(ports, [{ key: ['tcp', 80], value: ['10.0.0.2', 1] }]);
    expect(() => nft.commit(tx)).toThrow(expect.objectContaining({ code: 'EEXIST' }));
  });

  it('inserts before and adds after, and deletes one rule by its handle', () => {
    const rule = (comment: string) => ({ table, chain: 'c', statements: [accept], comment });
    nft.commit(
      new NftTransaction()
        .addTable(table)
        .addChain({ table, name: 'c' })
        .addRule(rule('b'))
        .addRule(rule('c'))
        .insertRule(rule('a')),
    );
    const [a, b, c] = nft.rules(table, 'c');
    expect([a?.comment, b?.comment, c?.comment]).toEqual(['a', 'b', 'c']);
    nft.commit(new NftTransaction().deleteRule(table, 'c', b?.handle ?? 0n));
    expect(nft.rules(table).map(({ comment }) => comment)).toEqual(['a', 'c']);
    nft.commit(new NftTransaction().flushChain(table, 'c'));
    expect(nft.rules(table)).toEqual([]);
    nft.commit(new NftTransaction().deleteChain(table, 'c').deleteTable(table));
    expect(nft.tables()).toEqual([]);
  });
});

describe('listing', () => {
  it('tells tables, chains, sets and elements back as they were written', () => {
    nft.commit(everything('inet'));
    const sets = setsOf(table);
    expect(nft.table(table)).toEqual({ ...table, comment: 'everything of inet' });
    expect(nft.table({ family: 'ip', name: 'nothing' })).toBeUndefined();
    expect(nft.sets(table).sort((a, b) => a.name.localeCompare(b.name))).toEqual(
      Object.values(sets).sort((a, b) => a.name.localeCompare(b.name)),
    );
    expect(nft.chains(table)).toContainEqual({
      table,
      name: 'filter',
      base: { type: 'filter', hook: 'forward', priority: 0, policy: 'drop' },
    });
    expect(nft.chains(table)).toContainEqual({ table, name: 'target' });
    expect(nft.elements(sets.ports)).toEqual(
      expect.arrayContaining([
        { key: ['tcp', 8080], value: ['10.88.0.5', 80], comment: 'f'.repeat(64) },
        { key: ['sctp', 9], value: ['10.88.0.6', 65535] },
      ]),
    );
    expect(nft.elements(sets.verdicts)).toEqual(
      expect.arrayContaining([
        {
          key: ['10.0.0.1', 'tcp', 80],
          value: { verdict: 'goto', chain: 'service-ABC-ns/svc/tcp/http' },
          comment: 'ns/svc:http',
        },
        { key: ['10.0.0.2', 'udp', 53], value: { verdict: 'drop' } },
      ]),
    );
    expect(nft.elements(sets.aff)).toEqual([{ key: ['10.0.0.1'], timeout: 600 }]);
    expect(nft.elements(sets.names)).toEqual([{ key: ['eth0'] }]);
    expect(nft.elements(sets.marks)).toEqual([{ key: [0x4000] }]);
  });

  it('of a set that is not there is ENOENT', () => {
    expect(() => nft.elements(setsOf(table).plain)).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  });

  it('finds each rule again in what the kernel tells back, and no other', () => {
    for (const family of ['ip', 'ip6', 'inet'] as const) {
      const other = { family, name: 'nodelet-test' };
      nft.commit(everything(family));
      const listed = nft.rules(other);
      const elementsOf = (name: string): ReturnType<Nftables['elements']> => {
        const set = nft.sets(other, true).find((candidate) => candidate.name === name);
        return set === undefined ? [] : nft.elements(set);
      };
      for (const row of RULES.filter(({ families }) => families.includes(family))) {
        // Without its comment every rule has to be told from every other by what it does.
        const desired = { table: other, chain: row.chain ?? 'rules', statements: row.statements };
        const same = listed.filter((rule) =>
          isSameRule(desired, { ...rule, comment: undefined }, elementsOf),
        );
        expect(
          same.map(({ comment }) => comment),
          `${family}: ${row.name}`,
        ).toEqual([row.name]);
      }
    }
  });
});

describe('a table that is to be so', () => {
  const map: NftMap = {
    table,
    name: 'hostports',
    key: ['inet_proto', 'inet_service'],
    data: ['ipv4_addr', 'inet_service'],
  };
  const dispatch = (modulus: number): Statement =>
    vmap(
      [numgen('random', modulus)],
      Array.from({ length: modulus }, (_, i) => ({
        key: [i],
        value: { verdict: 'goto' as const, chain: 'slot' },
      })),
    );
  const desired: TableSpec = {
    table: { ...table, comment: 'desired' },
    sets: [map],
    chains: [
      {
        name: 'slot',
        rules: [
          {
            statements: [
              match(meta.nfproto, '==', 'ipv4'),
              dnatByMap('ip', [meta.l4proto, th.dport], 'hostports'),
            ],
          },
        ],
      },
      {
        name: 'prerouting',
        base: { type: 'nat', hook: 'prerouting', priority: -100 },
        rules: [{ statements: [dispatch(3)], comment: 'dispatch' }],
      },
      {
        name: 'postrouting',
        base: { type: 'nat', hook: 'postrouting', priority: 100 },
        rules: [{ statements: [masquerade] }],
      },
    ],
  };
  const apply = (spec: TableSpec): string => {
    const tx = planTable(spec, observeTable(nft, spec.table));
    nft.commit(tx);
    return tx.toString();
  };

  it('is made once; the second plan is empty', () => {
    expect(apply(desired)).toContain('add table inet nodelet-test { comment "desired"; }');
    expect(apply(desired)).toBe('');
  });

  it.each<[string, (tx: NftTransaction) => NftTransaction, string]>([
    [
      'a rule was added',
      (tx) => tx.addRule({ table, chain: 'postrouting', statements: [accept] }),
      'flush chain inet nodelet-test postrouting\nadd rule inet nodelet-test postrouting masquerade fully-random',
    ],
    [
      'a rule was put before',
      (tx) => tx.insertRule({ table, chain: 'postrouting', statements: [drop] }),
      'flush chain inet nodelet-test postrouting\nadd rule inet nodelet-test postrouting masquerade fully-random',
    ],
    [
      'a chain lost its rules',
      (tx) => tx.flushChain(table, 'postrouting'),
      'add rule inet nodelet-test postrouting masquerade fully-random',
    ],
    [
      'a chain was added',
      (tx) =>
        tx
          .addChain({ table, name: 'foreign' })
          .addRule({ table, chain: 'foreign', statements: [counter, jump('slot')] }),
      'flush chain inet nodelet-test foreign\ndelete chain inet nodelet-test foreign',
    ],
    [
      'a set was added',
      (tx) => tx.addSet({ table, name: 'foreign', key: ['ipv4_addr'] }),
      'delete set inet nodelet-test foreign',
    ],
    [
      'the table is gone',
      (tx) => tx.deleteTable(table),
      'add table inet nodelet-test { comment "desired"; }',
    ],
  ])('is mended where %s, and only that', (_name, damage, mend) => {
    apply(desired);
    nft.commit(
      new NftTransaction().addElements(map, [{ key: ['tcp', 80], value: ['10.0.0.1', 80], comment: 'kept' }]),
    );
    nft.commit(damage(new NftTransaction()));
    const text = apply(desired);
    expect(text.startsWith(mend)).toBe(true);
    expect(apply(desired)).toBe('');
    if (!mend.startsWith('add table')) {
      expect(text).toBe(mend);
      expect(nft.elements(map)).toEqual([{ key: ['tcp', 80], value: ['10.0.0.1', 80], comment: 'kept' }]);
    }
  });

  it('is told from one whose anonymous map differs', () => {
    apply(desired);
    const [slot, prerouting, postrouting] = desired.chains;
    const other = {
      ...desired,
      chains: [
        slot!,
        { ...prerouting!, rules: [{ statements: [dispatch(2)], comment: 'dispatch' }] },
        postrouting!,
      ],
    };
    expect(apply(other)).toContain('numgen random mod 2 vmap');
    expect(apply(other)).toBe('');
  });

  it('is made anew where a base chain has another priority', () => {
    apply(desired);
    const [slot, prerouting, postrouting] = desired.chains;
    const other: TableSpec = {
      ...desired,
      chains: [slot!, { ...prerouting!, base: { ...prerouting!.base!, priority: -110 } }, postrouting!],
    };
    expect(apply(other)).toMatch(/^delete table inet nodelet-test\nadd table/);
    expect(nft.chains(table).find(({ name }) => name === 'prerouting')?.base?.priority).toBe(-110);
    expect(apply(other)).toBe('');
  });
});

describe('size', () => {
  it('takes 100,000 elements in one transaction, over many messages, and lists them', () => {
    const { services } = setsOf(table);
    const elements = Array.from({ length: 100_000 }, (_, i) => ({
      key: [`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, 'tcp', 80],
      value: ['10.200.0.1', 1 + (i % 65535)],
      comment: `service ${i}`,
    }));
    nft.commit(new NftTransaction().addTable(table).addSet(services).addElements(services, elements));
    const listed = nft.elements(services);
    expect(listed.length).toBe(elements.length);
    expect(isSameElements(listed, elements)).toBe(true);
    nft.commit(new NftTransaction().deleteElements(services, elements.slice(0, 50_000)));
    expect(nft.elements(services).length).toBe(50_000);
    nft.commit(new NftTransaction().flushSet(services));
    expect(nft.elements(services)).toEqual([]);
  });

  it('takes thousands of rules, and says which of them failed', () => {
    const tx = new NftTransaction().addTable(table).addChain({ table, name: 'c' });
    for (let i = 0; i < 5000; i++)
      tx.addRule({
        table,
        chain: i === 4321 ? 'missing' : 'c',
        statements: [match(ip.saddr, '==', '10.0.0.1'), accept],
      });
    expect(() => nft.commit(tx)).toThrow(expect.objectContaining({ index: 4323, code: 'ENOENT' }));
  });
});

describe('the probe', () => {
  it('finds everything on this kernel and changes nothing', () => {
    expect(probeNftables(ns.fd)).toEqual({ available: true, missing: [] });
    expect(probeNftables(ns.fd, 'ip')).toEqual({ available: true, missing: [] });
    expect(nft.tables()).toEqual([]);
  });
});
