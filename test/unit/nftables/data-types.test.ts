import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatIpBytes } from '../../../src/linux/ip.ts';
import { formatMac } from '../../../src/linux/netlink/index.ts';
import {
  byteOrderOf,
  DATA_TYPES,
  type DataTypeName,
  decodeKey,
  encodeKey,
  fieldsOfTypeId,
  formatKey,
  keySize,
  keyTypeId,
  type Scalar,
} from '../../../src/linux/nftables/data-types.ts';

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

const values: Readonly<Record<DataTypeName, fc.Arbitrary<Scalar>>> = {
  ipv4_addr: bytes(4).map(formatIpBytes),
  ipv6_addr: bytes(16).map(formatIpBytes),
  ether_addr: bytes(6).map(formatMac),
  inet_proto: fc.constantFrom<Scalar>('tcp', 'udp', 'sctp', 'icmp', 47),
  inet_service: fc.integer({ min: 0, max: 65535 }),
  mark: fc.integer({ min: 0, max: 0xffff_ffff }),
  ifname: fc.stringMatching(/^[a-z][a-z0-9.@-]{0,14}$/),
  nf_proto: fc.constantFrom('ipv4', 'ipv6'),
  fib_addrtype: fc.constantFrom('local', 'unicast', 'multicast'),
  integer: fc.integer({ min: 0, max: 0xffff_ffff }),
  uid: fc.integer({ min: 0, max: 0xffff_ffff }),
};

const names = Object.keys(DATA_TYPES) as DataTypeName[];

describe('keys', () => {
  it('of any fields are read back as they were written, each field at a multiple of four', () => {
    fc.assert(
      fc.property(
        fc
          .array(fc.constantFrom(...names), { minLength: 1, maxLength: 4 })
          .chain((fields) =>
            fc.tuple(fc.constant(fields), fc.tuple(...fields.map((field) => values[field]))),
          ),
        ([fields, key]) => {
          const encoded = encodeKey(fields, key);
          expect(encoded.length).toBe(keySize(fields));
          if (fields.length > 1) expect(encoded.length % 4).toBe(0);
          expect(decodeKey(fields, encoded)).toEqual(key);
          expect(fieldsOfTypeId(keyTypeId(fields))).toEqual(fields);
        },
      ),
    );
  });

  it.each<[string, DataTypeName[], Scalar[], string]>([
    ['a protocol and a port', ['inet_proto', 'inet_service'], ['tcp', 8080], '060000001f900000'],
    ['an address and a port', ['ipv4_addr', 'inet_service'], ['10.88.0.5', 80], '0a58000500500000'],
    ['a mark in host order', ['mark'], [0x4000], '00400000'],
    ['a port alone, not padded', ['inet_service'], [443], '01bb'],
    ['the name of an interface', ['ifname'], ['eth0'], '65746830000000000000000000000000'],
  ])('%s', (_name, fields, key, hex) => {
    expect(Buffer.from(encodeKey(fields, key)).toString('hex')).toBe(hex);
  });

  it.each<[string, DataTypeName, Scalar]>([
    ['an IPv6 address', 'ipv4_addr', '::1'],
    ['a port of 65536', 'inet_service', 65536],
    ['half a port', 'inet_service', 0.5],
    ['a negative port', 'inet_service', -1],
    ['a port in text', 'inet_service', '80'],
    ['an unknown protocol', 'inet_proto', 'quic'],
    ['a name that is too long', 'ifname', 'a234567890123456'],
    ['a name with a wildcard', 'ifname', 'eth*'],
    ['no name', 'ifname', ''],
    ['a mark of 33 bits', 'mark', 2 ** 32],
    ['half a hardware address', 'ether_addr', '02:00:00'],
  ])('refuse %s as %s', (_name, field, value) => {
    expect(() => encodeKey([field], [value])).toThrow(expect.objectContaining({ code: 'NFT_INVALID_VALUE' }));
  });

  it('refuse too few values', () => {
    expect(() => encodeKey(['inet_proto', 'inet_service'], ['tcp'])).toThrow(
      expect.objectContaining({ code: 'NFT_INVALID_VALUE' }),
    );
  });

  it('say themselves as nft does', () => {
    expect(formatKey(['ipv4_addr', 'inet_proto', 'inet_service'], ['10.0.0.1', 'tcp', 80])).toBe(
      '10.0.0.1 . tcp . 80',
    );
    expect(formatKey(['mark'], [0x4000])).toBe('0x00004000');
    expect(formatKey(['ifname'], ['eth0'])).toBe('"eth0"');
  });

  it('have the type ids by which nft knows them', () => {
    expect(keyTypeId(['ipv4_addr', 'inet_proto', 'inet_service'])).toBe(0x730d);
    expect(keyTypeId(['ipv4_addr', 'inet_service'])).toBe(0x1cd);
    expect(fieldsOfTypeId(0)).toEqual([]);
    expect(fieldsOfTypeId(63)).toBeUndefined();
    expect([byteOrderOf(['mark']), byteOrderOf(['ipv4_addr']), byteOrderOf(['mark', 'mark'])]).toEqual([
      'host',
      'network',
      undefined,
    ]);
  });
});
