import { describe, expect, it } from 'vitest';
import {
  accept,
  type Family,
  match,
  Nftables,
  NftTransaction,
  tcp,
} from '../../../src/linux/nftables/index.ts';
import { TestNetns } from '../netlink/netns.ts';
import { everything, RULES, setsOf } from './fixtures.ts';

/** The kernel's bytecode as nft(8) reads it, without handles: two namespaces with the same rules print the same. */
function bytecode(ns: TestNetns): string {
  const text = ns
    .run('nft', '--debug=netlink', 'list', 'ruleset')
    .replace(/^((?:ip|ip6|inet) \S+ \S+) \d+( \d+)?$/gm, '$1')
    .replace(/__(set|map)\d+/g, '__$1N')
    .replace(/ expires \S+/g, '')
    .replace(/timeout \d+ms expires \d+ms/g, '')
    .replace(/ +$/gm, '');
  // The order of a set's elements is the kernel's hash table's.
  return text.replace(/(?:^\telement .*\n)+/gm, (elements) => elements.split('\n').sort().join('\n'));
}

const listing = (ns: TestNetns): string => ns.run('nft', 'list', 'ruleset').replace(/ expires \w+/g, '');

describe.each<Family>(['ip', 'ip6', 'inet'])(
  "what we write into a table of family %s, beside Debian's nft",
  (family) => {
    it('is listed, and loaded again from its listing, unchanged', () => {
      using ours = new TestNetns('ours');
      using again = new TestNetns('again');
      using nft = new Nftables(ours.fd);
      nft.commit(everything(family));
      const listed = listing(ours);
      ours.feed(ours.run('nft', 'list', 'ruleset'), 'nft', '--check', '--file', '-');
      again.feed(listed, 'nft', '--file', '-');
      expect(listing(again)).toBe(listed);
      expect(bytecode(again)).toBe(bytecode(ours));
      expect(() => JSON.parse(ours.run('nft', '-j', 'list', 'ruleset'))).not.toThrow();
    });

    it('is what nft makes of our text: the same bytecode, rule for rule', () => {
      using ours = new TestNetns('ours');
      using theirs = new TestNetns('theirs');
      using nft = new Nftables(ours.fd);
      const tx = everything(family);
      nft.commit(tx);
      theirs.feed(tx.toString(), 'nft', '--file', '-');
      expect(listing(ours)).toBe(listing(theirs));
      expect(bytecode(ours)).toBe(bytecode(theirs));
    });

    it('means the same where nft would load two ports at once', () => {
      using ours = new TestNetns('ours');
      using theirs = new TestNetns('theirs');
      using nft = new Nftables(ours.fd);
      const table = { family, name: 'nodelet-test' };
      const tx = new NftTransaction().addTable(table).addChain({ table, name: 'c' });
      tx.addRule({
        table,
        chain: 'c',
        statements: [match(tcp.sport, '==', 1024), match(tcp.dport, '==', 80), accept],
      });
      nft.commit(tx);
      theirs.feed(tx.toString(), 'nft', '--file', '-');
      expect(listing(ours)).toBe(listing(theirs));
    });

    it('has every statement once', () => {
      using ours = new TestNetns('ours');
      using nft = new Nftables(ours.fd);
      nft.commit(everything(family));
      const comments = nft.rules({ family, name: 'nodelet-test' }).map(({ comment }) => comment ?? '');
      expect(comments.sort()).toEqual(
        RULES.filter((row) => row.families.includes(family))
          .map(({ name }) => name)
          .sort(),
      );
    });
  },
);

describe('a rule set of somebody else', () => {
  it('does not disturb ours: a typeof set, a bridge table, an interval map', () => {
    using ns = new TestNetns('foreign');
    ns.feed(
      [
        'table ip foreign {',
        '  set a { typeof ip saddr . tcp dport; flags interval; elements = { 10.0.0.0/8 . 80-90 } }',
        '  map b { type ipv4_addr : verdict; flags interval; elements = { 10.0.0.0/8 : accept } }',
        '  chain c { type filter hook input priority 5; policy drop; ip saddr . tcp dport @a accept; }',
        '}',
        'table bridge b { chain c { type filter hook prerouting priority 0; policy accept; ether type arp accept; } }',
        'table netdev n { }',
      ]
        .join('\n')
        .replaceAll('; }', ';\n}')
        .replaceAll('} }', '}\n}'),
      'nft',
      '--file',
      '-',
    );
    const before = listing(ns);
    using nft = new Nftables(ns.fd);
    nft.commit(everything('inet'));
    expect(
      nft
        .tables()
        .map(({ name }) => name)
        .sort(),
    ).toEqual(['foreign', 'nodelet-test']);
    expect(nft.chains().find(({ name }) => name === 'c')?.base).toEqual({
      type: 'filter',
      hook: 'input',
      priority: 5,
      policy: 'drop',
    });
    nft.commit(new NftTransaction().deleteTable({ family: 'inet', name: 'nodelet-test' }));
    expect(listing(ns)).toBe(before);
  });
});

describe('names and comments', () => {
  it.each(['a"b', 'line\nbreak', 'x'.repeat(128), ''])(
    'refuse a comment that nft could not read back: %j',
    (comment) => {
      const table = { family: 'ip' as const, name: 't' };
      const tx = new NftTransaction()
        .addTable(table)
        .addElements(setsOf(table).plain, [{ key: ['10.0.0.1'], comment }]);
      expect(tx.error).toMatchObject({ code: 'NFT_INVALID_COMMENT' });
    },
  );

  it('may hold anything else, and never become a rule', () => {
    using ns = new TestNetns('inject');
    using nft = new Nftables(ns.fd);
    const table = { family: 'ip' as const, name: 'nodelet-test' };
    const { plain } = setsOf(table);
    const comment = "'; flush ruleset; # { } $(reboot) `x` \\ ,|é";
    nft.commit(
      new NftTransaction()
        .addTable(table)
        .addSet(plain)
        .addElements(plain, [{ key: ['10.0.0.1'], comment }]),
    );
    expect(nft.elements(plain)).toEqual([{ key: ['10.0.0.1'], comment }]);
    ns.feed(ns.run('nft', 'list', 'ruleset'), 'nft', '--check', '--file', '-');
    using again = new TestNetns('again');
    again.feed(listing(ns), 'nft', '--file', '-');
    expect(listing(again)).toBe(listing(ns));
  });
});
