import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { codecOf, type Message } from '../../../src/cri/wire/codec.ts';
import { MESSAGES } from '../../../src/cri/wire/tables.gen.ts';
import { bytesOf, textOf } from '../../../src/cri/wire/text.ts';

const text = fc.string({ unit: 'binary', maxLength: 12 });
/** Integers that a double holds exactly, within the type's range; whole beyond 2^53 as well. */
const wide = (low: number, high: number) =>
  fc.oneof(
    fc.integer(),
    fc.maxSafeInteger(),
    fc.double({ min: low, max: high, noNaN: true }).map((value) => Math.trunc(value) + 0),
  );
const SCALARS: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  string: text,
  text: fc.uint8Array({ maxLength: 8 }).map(textOf),
  bool: fc.boolean(),
  bytes: fc.uint8Array({ maxLength: 8 }),
  int32: fc.integer(),
  enum: fc.integer(),
  uint32: fc.nat({ max: 0xffff_ffff }),
  int64: wide(-(2 ** 63), 2 ** 63 - 1024),
  uint64: wide(0, 2 ** 64 - 2048).map(Math.abs),
  double: fc.double({ noNaN: true }),
};

/** Any value of a message, by its table. */
function arbitrary(type: string, depth = 3): fc.Arbitrary<Message> {
  const fields = (MESSAGES[type] ?? []).flatMap((row) => {
    const [, name = '', typed = ''] = row.split(' ');
    const repeated = typed.endsWith('[]');
    const of = repeated ? typed.slice(0, -2) : typed;
    const one =
      of === 'map'
        ? fc.dictionary(text, text, { maxKeys: 3 })
        : (SCALARS[of] ?? (depth > 0 ? arbitrary(of, depth - 1) : undefined));
    if (one === undefined) return [];
    return [[name, fc.option(repeated ? fc.array(one, { maxLength: 3 }) : one, { nil: undefined })] as const];
  });
  return fc.record(Object.fromEntries(fields)) as fc.Arbitrary<Message>;
}

/** As it comes back: defaults and empty lists are not on the wire. */
function canonical(type: string, message: Message): Message {
  const result: Message = {};
  for (const row of MESSAGES[type] ?? []) {
    const [, name = '', typed = ''] = row.split(' ');
    const of = typed.replace('[]', '');
    const value = message[name];
    if (of === 'enum' && !typed.endsWith('[]')) result[name] = value ?? 0;
    if (value === undefined) continue;
    const sub = (one: unknown): unknown => (MESSAGES[of] === undefined ? one : canonical(of, one as Message));
    if (typed.endsWith('[]')) {
      if ((value as unknown[]).length > 0) result[name] = (value as unknown[]).map(sub);
    } else if (of === 'map') {
      if (Object.keys(value as object).length > 0) result[name] = { ...(value as object) };
    } else if (MESSAGES[of] !== undefined) result[name] = sub(value);
    else if (value !== '' && value !== false && !(value instanceof Uint8Array && value.length === 0)) {
      if (value !== 0 || Object.is(value, -0)) result[name] = value;
    }
  }
  if (/^U?Int64Value$/.test(type)) result.value ??= 0;
  return result;
}

describe('a message', () => {
  test.each(Object.keys(MESSAGES).map((name) => [name] as const))('%s comes back as it was sent', (name) => {
    const codec = codecOf(name);
    fc.assert(
      fc.property(arbitrary(name), (message) => {
        expect(codec.decode(Uint8Array.from(codec.encode(message)))).toEqual(canonical(name, message));
      }),
      { numRuns: 25 },
    );
  });

  test('with any bytes in it is read or refused, and never more', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...Object.keys(MESSAGES)),
        fc.uint8Array({ maxLength: 200 }),
        (name, bytes) => {
          try {
            codecOf(name).decode(bytes);
          } catch (error) {
            expect(error).toBeInstanceOf(Error);
          }
        },
      ),
      { numRuns: 3000 },
    );
  });

  test('cut off anywhere is refused, or is a shorter one', () => {
    const codec = codecOf('PodSandboxConfig');
    const whole = codec.encode({
      metadata: { name: 'web', uid: 'u', namespace: 'n', attempt: 3 },
      labels: { a: 'b' },
    });
    for (let end = 0; end < whole.length; end += 1) {
      try {
        const part = codec.decode(whole.subarray(0, end));
        expect(codec.encode(part).length).toBeLessThanOrEqual(end);
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
    }
  });
});

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

describe('on the wire', () => {
  test.each([
    [
      'an unknown field is skipped, whatever its type',
      'PodIP',
      'f8 07 01  f9 07 0102030405060708  fa 07 02 6162  fb 07 08 01 fc 07  fd 07 01020304  0a 01 78',
      { ip: 'x' },
    ],
    ['an unknown enum value is kept', 'NamespaceOption', '08 63', { network: 99, pid: 0, ipc: 0 }],
    ['repeated numbers may be packed', 'PortForwardRequest', '12 03 50 bb 03', { port: [80, 443] }],
    ['or not', 'PortForwardRequest', '10 50 10 bb 03', { port: [80, 443] }],
    [
      'a message in two parts is one',
      'RunPodSandboxRequest',
      '0a 03 12 01 61  0a 07 0a 05 0a 03 77 65 62',
      { config: { hostname: 'a', metadata: { name: 'web' } } },
    ],
    ['the last of a scalar counts', 'PodIP', '0a 01 61 0a 01 62', { ip: 'b' }],
    [
      'a negative int32 has ten bytes',
      'ExecSyncResponse',
      '18 ff ff ff ff ff ff ff ff ff 01',
      { exitCode: -1 },
    ],
    [
      'zero that is there is not nothing',
      'LinuxContainerSecurityContext',
      '2a 00',
      { runAsUser: { value: 0 }, supplementalGroupsPolicy: 0 },
    ],
    [
      'a label may have any name',
      'PodSandboxFilter',
      '1a 0e 0a 09 5f5f70726f746f5f5f 12 01 78',
      { labelSelector: JSON.parse('{"__proto__":"x"}') },
    ],
    [
      'the value of a variable need not be UTF-8',
      'KeyValue',
      '0a 01 6b 12 03 61 ff 62',
      { key: 'k', value: 'a\udcffb' },
    ],
  ] as const)('%s', (_, name, bytes, message) => {
    expect(codecOf(name).decode(hex(bytes))).toEqual(message);
  });

  test.each([
    ['a string that is no UTF-8', 'PodIP', '0a 01 ff'],
    ['a number where a string belongs', 'PodIP', '08 01'],
    ['a length beyond the end', 'PodIP', '0a 7f 61'],
    ['a field number of zero', 'PodIP', '02 01 61'],
    ['a group that does not end', 'PodIP', 'fb 07 '.repeat(200)],
    ['a varint without end', 'PortForwardRequest', '10 ff ff ff ff ff ff ff ff ff ff ff'],
  ] as const)('%s is refused', (_, name, bytes) => {
    expect(() => codecOf(name).decode(hex(bytes))).toThrow(Error);
  });

  test('64 bits beyond 2^53 are the nearest double, within the type’s range', () => {
    const codec = codecOf('Int64Value');
    const now = Number(1_796_054_400_123_456_789n);
    expect(codec.decode(codec.encode({ value: now }))).toEqual({ value: now });
    expect(codec.encode({ value: 2 ** 63 })).toEqual(hex('08 ff ff ff ff ff ff ff ff 7f'));
    expect(codec.encode({ value: -(2 ** 63) })).toEqual(hex('08 80 80 80 80 80 80 80 80 80 01'));
    expect(codec.encode({ value: Number.NaN })).toEqual(hex('08 00'));
    expect(codec.encode({ value: 12.7 })).toEqual(hex('08 0c'));
    expect(codecOf('UInt64Value').encode({ value: -1 })).toEqual(hex('08 00'));
  });
});

test('every byte string has a text of its own', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      const kept = JSON.parse(JSON.stringify(textOf(bytes))) as string;
      expect(Buffer.from(bytesOf(kept))).toEqual(Buffer.from(bytes));
    }),
  );
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (value) => {
      expect(textOf(bytesOf(value))).toBe(value);
    }),
  );
});

describe('as Go writes it, every message with every field', () => {
  const file = fileURLToPath(new URL('../../fixtures/cri-messages.txt', import.meta.url));
  const rows = readFileSync(file, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => line.split(' ') as [string, string]);

  test('is there', () => {
    expect(rows.map(([name]) => name).sort()).toEqual(Object.keys(MESSAGES).sort());
  });

  test.each(rows)('%s is read and written to the byte', (name, bytes) => {
    const codec = codecOf(name);
    expect(codec.encode(codec.decode(Buffer.from(bytes, 'hex'))).toString('hex')).toBe(bytes);
  });
});
