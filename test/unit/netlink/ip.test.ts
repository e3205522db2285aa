import { SocketAddress } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bytesOfIp,
  formatIp,
  formatIpBytes,
  formatSubnet,
  ipBytes,
  ipFromBytes,
  lastAddress,
  parseInterfaceAddress,
  parseIp,
  parseSubnet,
  subnetContains,
  subnetsOverlap,
} from '../../../src/linux/ip.ts';

describe('IP addresses', () => {
  it.each([
    ['the unspecified address', '::', '::'],
    ['loopback', '0:0:0:0:0:0:0:1', '::1'],
    ['capital letters', 'FD00:88::ABCD', 'fd00:88::abcd'],
    ['one zero group is not shortened', 'fd00:1:0:2:3:4:5:6', 'fd00:1:0:2:3:4:5:6'],
    ['the longest run of zeros is', '1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['the first of two equal runs is', '1:0:0:2:3:0:0:4', '1::2:3:0:0:4'],
    ['zeros at the end', '1:2:3::', '1:2:3::'],
    ['IPv4-mapped', '::ffff:10.0.0.1', '::ffff:10.0.0.1'],
    ['dotted elsewhere', '64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
    ['IPv4', '10.88.0.255', '10.88.0.255'],
  ])('%s: %s is %s', (_name, text, canonical) => {
    expect(formatIp(parseIp(text))).toBe(canonical);
  });

  it.each([
    '',
    '10.88.0',
    '10.88.0.256',
    '01.2.3.4',
    'fd00::1%eth0',
    'fd00::1/64',
    ':::',
    '1:2',
    'localhost',
    '10.0.0.1\n',
  ])('refuses %j', (text) => {
    expect(ipBytes(text)).toBeUndefined();
    expect(() => parseIp(text)).toThrow(expect.objectContaining({ code: 'INVALID_ADDRESS' }));
  });

  it('reads back every address that it writes, and writes IPv6 as Node does', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(4, 16),
        fc.uint8Array({ minLength: 16, maxLength: 16 }),
        fc.boolean(),
        (size, random, sparse) => {
          const bytes = Uint8Array.from(random.subarray(0, size), (byte, i) =>
            sparse && random[15 - i]! > 80 ? 0 : byte,
          );
          const text = formatIpBytes(bytes);
          expect(ipBytes(text)).toEqual(bytes);
          expect(bytesOfIp(ipFromBytes(bytes))).toEqual(bytes);
          if (size === 16) {
            // inet_ntop also writes the deprecated IPv4-compatible form, ::1.2.3.4.
            const node = new SocketAddress({ address: text, family: 'ipv6' }).address;
            if (!/^::\d+\./.test(node)) expect(text).toBe(node);
          }
        },
      ),
    );
  });

  it('never throws anything but its own error', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.ipV6(), fc.ipV4()), (text) => {
        const bytes = ipBytes(text);
        expect(bytes === undefined || bytes.length === 4 || bytes.length === 16).toBe(true);
      }),
    );
  });
});

describe('subnets', () => {
  it('drops the bits below the prefix', () => {
    expect(formatSubnet(parseSubnet('10.88.3.7/16'))).toBe('10.88.0.0/16');
    expect(formatSubnet(parseSubnet('fd00:88:0:1::5/64'))).toBe('fd00:88:0:1::/64');
    expect(formatSubnet(parseSubnet('10.1.2.3/0'))).toBe('0.0.0.0/0');
    expect(formatSubnet(parseSubnet('10.1.2.3/32'))).toBe('10.1.2.3/32');
  });

  it('keeps the address of an interface', () => {
    const { address, prefix } = parseInterfaceAddress('10.88.3.7/16');
    expect([formatIp(address), prefix]).toEqual(['10.88.3.7', 16]);
  });

  it.each([
    '10.0.0.0',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/08',
    'fd00::/129',
    '/8',
    '10.0.0.0/',
    'x/8',
    '10.0.0.0/8/8',
  ])('refuses %j', (text) => {
    expect(() => parseSubnet(text)).toThrow(expect.objectContaining({ code: 'INVALID_SUBNET' }));
  });

  it('knows what it contains and what it overlaps', () => {
    const subnet = parseSubnet('10.88.0.0/16');
    expect(formatIp({ family: 4, value: lastAddress(subnet) })).toBe('10.88.255.255');
    expect(subnetContains(subnet, parseIp('10.88.255.255'))).toBe(true);
    expect(subnetContains(subnet, parseIp('10.89.0.0'))).toBe(false);
    expect(subnetContains(subnet, parseIp('::ffff:10.88.0.1'))).toBe(false);
    expect(subnetsOverlap(subnet, parseSubnet('10.88.7.0/24'))).toBe(true);
    expect(subnetsOverlap(subnet, parseSubnet('10.0.0.0/8'))).toBe(true);
    expect(subnetsOverlap(subnet, parseSubnet('10.89.0.0/16'))).toBe(false);
    expect(subnetsOverlap(parseSubnet('0.0.0.0/0'), parseSubnet('::/0'))).toBe(false);
  });
});
