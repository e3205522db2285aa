import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatRange, isInRange, makeRange, nextFree, rangeSize } from '../../../src/cni/ipam/range.ts';
import { parseRecord } from '../../../src/cni/ipam/store.ts';
import { formatIp, parseIp, parseSubnet } from '../../../src/linux/ip.ts';

const range = (subnet: string, given: { gateway?: string; first?: string; last?: string } = {}) =>
  makeRange(parseSubnet(subnet), {
    ...(given.gateway === undefined ? {} : { gateway: parseIp(given.gateway) }),
    ...(given.first === undefined ? {} : { first: parseIp(given.first) }),
    ...(given.last === undefined ? {} : { last: parseIp(given.last) }),
  });

describe('a range of addresses', () => {
  it.each([
    ['10.88.0.0/16', {}, '10.88.0.1-10.88.255.254', 65533n],
    ['10.88.0.0/30', {}, '10.88.0.1-10.88.0.2', 1n],
    ['10.88.0.0/24', { gateway: '10.88.0.254' }, '10.88.0.1-10.88.0.254', 253n],
    ['10.88.0.0/24', { first: '10.88.0.10', last: '10.88.0.19' }, '10.88.0.10-10.88.0.19', 10n],
    ['fd00:88::/64', {}, 'fd00:88::1-fd00:88::ffff:ffff:ffff:ffff', 2n ** 64n - 2n],
    ['fd00:88::/126', {}, 'fd00:88::1-fd00:88::3', 2n],
  ])('%s %j is %s: %s pods', (subnet, given, text, size) => {
    const made = range(subnet, given);
    expect(formatRange(made)).toBe(text);
    expect(rangeSize(made)).toBe(size);
  });

  it.each<[string, string, Parameters<typeof range>[1]]>([
    ['too small', '10.88.0.0/31', {}],
    ['a single address', '10.88.0.1/32', {}],
    ['a start outside', '10.88.0.0/24', { first: '10.89.0.1' }],
    ['a gateway of another family', '10.88.0.0/24', { gateway: 'fd00::1' }],
    ['an end before the start', '10.88.0.0/24', { first: '10.88.0.9', last: '10.88.0.8' }],
    ['the broadcast address', '10.88.0.0/24', { last: '10.88.0.255' }],
    ['the network address', '10.88.0.0/24', { first: '10.88.0.0' }],
    ['the gateway as its only address', '10.88.0.0/24', { first: '10.88.0.1', last: '10.88.0.1' }],
  ])('of %s is refused', (_name, subnet, given) => {
    expect(() => range(subnet, given)).toThrow(expect.objectContaining({ code: 'NETWORK_INVALID_CONFIG' }));
  });

  it('gives every address once before it gives one again, whatever was given last, and never the gateway', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 24, max: 30 }),
        fc.option(fc.bigInt({ min: 0n, max: 2n ** 32n - 1n }), { nil: undefined }),
        fc.nat(300),
        (prefix, previous, offset) => {
          const made = range(`10.88.0.0/${prefix}`);
          const taken = new Set<bigint>();
          let last =
            previous === undefined
              ? undefined
              : previous % 7n === 0n
                ? previous
                : made.first + (BigInt(offset) % (made.last - made.first + 1n));
          for (let i = 0n; i < rangeSize(made); i++) {
            const next = nextFree(made, last, (address) => taken.has(address));
            expect(next).toBeDefined();
            if (next === undefined) return;
            expect(next).not.toBe(made.gateway);
            expect(isInRange(made, { family: 4, value: next })).toBe(true);
            expect(taken.has(next)).toBe(false);
            taken.add(next);
            last = next;
          }
          expect(nextFree(made, last, (address) => taken.has(address))).toBeUndefined();
        },
      ),
    );
  });

  it('goes on after the one that was given last, and round at the end', () => {
    const made = range('10.88.0.0/29');
    const next = (previous: string): string =>
      formatIp({ family: 4, value: nextFree(made, parseIp(previous).value, () => false) ?? 0n });
    expect(['10.88.0.2', '10.88.0.6', '10.88.0.7', '192.0.2.1'].map(next)).toEqual([
      '10.88.0.3',
      '10.88.0.2',
      '10.88.0.2',
      '10.88.0.2',
    ]);
  });
});

describe('the file of an address', () => {
  it.each([
    ['as host-local writes it', 'abc\r\neth0', { id: 'abc', ifname: 'eth0' }],
    ['with a Unix line end', 'abc\neth0\n', { id: 'abc', ifname: 'eth0' }],
    ['of an old version, without the interface', 'abc', { id: 'abc', ifname: '' }],
    ['empty', '', 'empty'],
    ['of blanks', ' \r\n', 'empty'],
    ['of zeros, after a power cut', '\0\0\0\0', 'unreadable'],
    ['with more lines', 'abc\r\neth0\r\nmore', 'unreadable'],
    ['with a path as its id', '../../x\r\neth0', 'unreadable'],
  ])('%s', (_name, text, record) => {
    expect(parseRecord(text)).toEqual(record);
  });

  it('is read whatever it holds, and read back as it was written', () => {
    fc.assert(
      fc.property(
        fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,70}$/),
        fc.stringMatching(/^[a-z][a-z0-9.-]{0,14}$/),
        (id, ifname) => {
          expect(parseRecord(`${id}\r\n${ifname}`)).toEqual({ id, ifname });
        },
      ),
    );
    fc.assert(
      fc.property(fc.string(), (text) => {
        const record = parseRecord(text);
        expect(typeof record === 'string' || record.id !== '').toBe(true);
      }),
    );
  });
});
