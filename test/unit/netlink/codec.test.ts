import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hasCode } from '../../../src/base/index.ts';
import {
  Attributes,
  attributeList,
  forEachAttribute,
  formatMac,
  macBytes,
  NetlinkWriter,
  parseMessages,
  readAcknowledgement,
} from '../../../src/linux/netlink/index.ts';

describe('netlink messages', () => {
  it('are laid out as netlink(7) says: header, family header, padded attributes', () => {
    const w = new NetlinkWriter();
    w.beginMessage(16, 0x405, 0x01020304);
    w.u8(2);
    w.u8(0);
    w.u16(0x1122);
    w.attrString(3, 'lo');
    w.nest(18, () => w.attrU16be(1, 0x5060));
    w.endMessage();
    expect(w.bytes().toString('hex')).toBe(
      [
        '28000000 1000 0504 04030201 00000000', // length 40, type, flags, sequence, port
        '02 00 2211',
        '0700 0300 6c6f00 00', // length 7, "lo\0", one byte of padding
        '0c00 1280', // length 12, nested
        '0600 0100 5060 0000',
      ]
        .join('')
        .replaceAll(' ', ''),
    );
  });

  it('stand one after another in a batch, each at a multiple of 4', () => {
    const w = new NetlinkWriter(16);
    for (const [i, name] of ['a', 'bcd', ''].entries()) {
      w.beginMessage(20 + i, 0, i);
      w.attrString(1, name);
      w.endMessage();
    }
    const messages = parseMessages(w.bytes());
    expect(messages.map(({ type, sequence }) => [type, sequence])).toEqual([
      [20, 0],
      [21, 1],
      [22, 2],
    ]);
    expect(messages.map(({ payload }) => new Attributes(payload).string(1))).toEqual(['a', 'bcd', '']);
  });

  it('refuse an attribute that a 16-bit length cannot say, flat or nested', () => {
    const w = new NetlinkWriter();
    w.beginMessage(1, 0, 1);
    w.attrBytes(1, new Uint8Array(65531)); // exactly fits
    expect(() => w.attrBytes(2, new Uint8Array(65532))).toThrow(
      expect.objectContaining({ code: 'NETLINK_ATTRIBUTE_TOO_LONG' }),
    );
    expect(() =>
      w.nest(3, () => {
        w.attrBytes(1, new Uint8Array(40000));
        w.attrBytes(1, new Uint8Array(40000));
      }),
    ).toThrow(expect.objectContaining({ code: 'NETLINK_ATTRIBUTE_TOO_LONG' }));
  });

  it('read back what was written, whatever it is', () => {
    const value = fc.oneof(
      fc.record({ kind: fc.constant('u8' as const), value: fc.integer({ min: 0, max: 255 }) }),
      fc.record({ kind: fc.constant('u16' as const), value: fc.integer({ min: 0, max: 0xffff }) }),
      fc.record({ kind: fc.constant('u32' as const), value: fc.integer({ min: 0, max: 0xffff_ffff }) }),
      fc.record({ kind: fc.constant('u32be' as const), value: fc.integer({ min: 0, max: 0xffff_ffff }) }),
      fc.record({ kind: fc.constant('u64be' as const), value: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) }),
      fc.record({
        kind: fc.constant('string' as const),
        value: fc.string().filter((s) => !s.includes('\0')),
      }),
      fc.record({ kind: fc.constant('bytes' as const), value: fc.uint8Array({ maxLength: 70 }) }),
    );
    fc.assert(
      fc.property(fc.array(value, { maxLength: 20 }), fc.nat(3), (values, depth) => {
        const w = new NetlinkWriter(1);
        w.beginMessage(7, 0, 9);
        const marks = Array.from({ length: depth }, () => w.beginNest(5));
        for (const [i, item] of values.entries()) {
          const type = i + 1;
          if (item.kind === 'u8') w.attrU8(type, item.value);
          else if (item.kind === 'u16') w.attrU16(type, item.value);
          else if (item.kind === 'u32') w.attrU32(type, item.value);
          else if (item.kind === 'u32be') w.attrU32be(type, item.value);
          else if (item.kind === 'u64be') w.attrU64be(type, item.value);
          else if (item.kind === 'string') w.attrString(type, item.value);
          else w.attrBytes(type, item.value);
        }
        for (const mark of marks.reverse()) w.endNest(mark);
        w.endMessage();
        expect(w.length % 4).toBe(0);
        let at = new Attributes(parseMessages(w.bytes())[0]!.payload);
        for (let i = 0; i < depth; i++) at = at.nest(5)!;
        for (const [i, item] of values.entries()) {
          const type = i + 1;
          if (item.kind === 'bytes') expect(Uint8Array.from(at.bytes(type)!)).toEqual(item.value);
          else expect(at[item.kind](type)).toEqual(item.value);
        }
      }),
    );
  });

  it('of any bytes are read or refused by name, never past their end', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
        const datagram = Buffer.from(bytes);
        try {
          for (const message of parseMessages(datagram)) {
            readAcknowledgement(message);
            forEachAttribute(message.payload, () => {});
          }
          attributeList(datagram);
        } catch (error) {
          expect(hasCode(error, 'NETLINK_MALFORMED')).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });

  it.each([
    ['a header cut short', '10000000'],
    ['a length below the header', '0f000000000000000000000000000000'],
    ['a length beyond the datagram', '20000000000000000000000000000000'],
  ])('refuse %s', (_name, hex) => {
    expect(() => parseMessages(Buffer.from(hex, 'hex'))).toThrow(
      expect.objectContaining({ code: 'NETLINK_MALFORMED' }),
    );
  });

  it.each([
    ['an attribute header cut short', '0400'],
    ['a length of 3', '03000100'],
    ['a length beyond the end', '08000100aabb'],
  ])('refuse %s', (_name, hex) => {
    expect(() => new Attributes(Buffer.from(hex, 'hex'))).toThrow(
      expect.objectContaining({ code: 'NETLINK_MALFORMED' }),
    );
  });

  it('refuse to read a number from too few bytes', () => {
    const attributes = new Attributes(Buffer.from('0600010001020000', 'hex'));
    expect(attributes.u16(1)).toBe(0x0201);
    expect(() => attributes.u32(1)).toThrow(expect.objectContaining({ code: 'NETLINK_MALFORMED' }));
    expect(attributes.u32(2)).toBeUndefined();
  });
});

describe('acknowledgements', () => {
  const message = (flags: number, payload: Buffer) => ({ type: 2, flags, sequence: 1, payload });

  it('carry an errno', () => {
    const payload = Buffer.alloc(20);
    payload.writeInt32LE(-17, 0);
    expect(readAcknowledgement(message(0, payload))).toEqual({ errno: 17 });
    expect(readAcknowledgement(message(0, Buffer.alloc(20)))).toEqual({ errno: 0 });
  });

  it.each([
    ['capped', 0x300, 16],
    ['with the whole request before it', 0x200, 24],
  ])('carry the words of the kernel: %s', (_name, flags, requestSize) => {
    const w = new NetlinkWriter();
    w.raw(new Uint8Array([0xea, 0xff, 0xff, 0xff])); // -22
    const request = Buffer.alloc(requestSize);
    request.writeUInt32LE(24, 0);
    w.raw(request);
    w.attrString(1, 'Unknown device type');
    w.attrU32(2, 32);
    w.attrU32(5, 3);
    expect(readAcknowledgement(message(flags, w.bytes()))).toEqual({
      errno: 22,
      kernelMessage: 'Unknown device type',
      attributeOffset: 32,
      missingAttribute: 3,
    });
  });
});

describe('hardware addresses', () => {
  it('are read and written', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 6, maxLength: 6 }), (bytes) => {
        expect(macBytes(formatMac(bytes))).toEqual(bytes);
      }),
    );
  });

  it.each(['', '0a:58:0a:58:00', '0a:58:0a:58:00:05:06', '0a-58-0a-58-00-05', 'zz:58:0a:58:00:05'])(
    'refuse %j',
    (text) => {
      expect(() => macBytes(text)).toThrow(expect.objectContaining({ code: 'INVALID_MAC' }));
    },
  );
});
