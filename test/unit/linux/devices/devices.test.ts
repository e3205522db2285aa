import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  allDeviceRules,
  checkDeviceRules,
  type DeviceRule,
  defaultDeviceRules,
  deviceProgram,
  deviceRulesV1,
} from '../../../../src/linux/devices/index.ts';
import { allowed, type DeviceAccess, verify } from './ebpf.ts';

const [MKNOD, READ, WRITE] = [1, 2, 4];

/** `c 1:3 rw` as a request. */
function request(text: string): DeviceAccess {
  const [, type, major, minor, letters = ''] = /^([bc]) (\d+):(\d+) ([rwm]+)$/.exec(text)!;
  const access = Array.from(letters).reduce(
    (bits, letter) => bits | { m: MKNOD, r: READ, w: WRITE }[letter as 'm'],
    0,
  );
  return { type: type as 'b' | 'c', major: Number(major), minor: Number(minor), access };
}

function ask(rules: readonly DeviceRule[], text: string): boolean {
  const program = deviceProgram(rules);
  verify(program);
  return allowed(program, request(text));
}

describe('the default rules', () => {
  test.each<[string, boolean]>([
    ['c 1:3 rw', true],
    ['c 1:5 r', true],
    ['c 1:7 w', true],
    ['c 1:8 r', true],
    ['c 1:9 rw', true],
    ['c 5:0 rw', true],
    ['c 5:2 rw', true],
    ['c 136:17 rw', true],
    ['c 10:200 rw', true],
    ['c 1:1 r', false],
    ['c 1:1 m', true],
    ['b 8:0 m', true],
    ['b 8:0 r', false],
    ['b 1:3 r', false],
    ['c 10:229 r', false],
    ['c 5:1 w', false],
  ])('%s: %s', (text, expected) => {
    expect(ask(defaultDeviceRules, text)).toBe(expected);
  });
});

describe('rules', () => {
  test('of none, everything is denied', () => {
    expect(ask([], 'c 1:3 r')).toBe(false);
  });

  test('of a privileged container, everything is allowed', () => {
    expect(ask(allDeviceRules, 'b 8:0 rwm')).toBe(true);
  });

  test('the last one that matches wins', () => {
    const rules: DeviceRule[] = [
      { allow: true, type: 'a' },
      { allow: false, type: 'c', major: 1, minor: 1 },
    ];
    expect(ask(rules, 'c 1:1 r')).toBe(false);
    expect(ask(rules, 'c 1:2 r')).toBe(true);
    expect(ask([...rules, { allow: true, type: 'c', major: 1, minor: 1, access: 'r' }], 'c 1:1 r')).toBe(
      true,
    );
  });

  test('reading and writing may be allowed by two rules', () => {
    const rules: DeviceRule[] = [
      { allow: true, type: 'c', major: 9, minor: 9, access: 'r' },
      { allow: true, type: 'c', major: 9, minor: 9, access: 'w' },
    ];
    expect(ask(rules, 'c 9:9 rw')).toBe(true);
    expect(ask(rules, 'c 9:9 m')).toBe(false);
  });

  test('denying writing denies opening for both', () => {
    const rules: DeviceRule[] = [
      { allow: true, type: 'a' },
      { allow: false, type: 'c', major: 9, minor: 9, access: 'w' },
    ];
    expect(ask(rules, 'c 9:9 rw')).toBe(false);
    expect(ask(rules, 'c 9:9 r')).toBe(true);
  });

  test('-1 stands for any number', () => {
    expect(checkDeviceRules([{ allow: true, type: 'c', major: -1, minor: -1 }])).toEqual(
      checkDeviceRules([{ allow: true, type: 'c' }]),
    );
  });

  test.each<[string, DeviceRule, RegExp]>([
    [
      'an unknown type',
      { allow: true, type: 'p' as 'c' },
      /devices\[0\]\.type: expected a, b or c, found "p"/,
    ],
    ['an unknown access', { allow: true, type: 'c', access: 'rx' }, /devices\[0\]\.access: .* found "rx"/],
    ['an empty access', { allow: true, type: 'c', access: '' }, /devices\[0\]\.access/],
    [
      'a major number that no device has',
      { allow: true, type: 'c', major: 4096 },
      /major: .*0 to 4095, found 4096/,
    ],
    ['a minor number below zero', { allow: true, type: 'c', major: 1, minor: -2 }, /minor: .* found -2/],
    ['a fraction', { allow: true, type: 'c', major: 1.5 }, /major: .* found 1.5/],
  ])('refused: %s', (_, rule, message) => {
    expect(() => deviceProgram([rule])).toThrow(
      expect.objectContaining({ code: 'DEVICE_RULE_INVALID', message: expect.stringMatching(message) }),
    );
  });

  test('too many for a jump are refused, not miscompiled', () => {
    const rules: DeviceRule[] = Array.from({ length: 9000 }, (_, i) => ({
      allow: true,
      type: 'c',
      major: 1 + (i % 4000),
      minor: i,
    }));
    expect(() => deviceProgram(rules)).toThrow(expect.objectContaining({ code: 'DEVICE_RULE_INVALID' }));
  });
});

test('cgroup v1 gets the same rules as lines, everything denied first', () => {
  expect(deviceRulesV1(defaultDeviceRules.slice(0, 5))).toEqual([
    { file: 'devices.deny', value: 'a' },
    { file: 'devices.allow', value: 'c *:* m' },
    { file: 'devices.allow', value: 'b *:* m' },
    { file: 'devices.allow', value: 'c 1:3 rwm' },
    { file: 'devices.allow', value: 'c 1:5 rwm' },
  ]);
  expect(deviceRulesV1([{ allow: true, type: 'a', major: 4, access: 'r' }])).toEqual([
    { file: 'devices.deny', value: 'a' },
    { file: 'devices.allow', value: 'b 4:* r' },
    { file: 'devices.allow', value: 'c 4:* r' },
  ]);
  expect(deviceRulesV1(allDeviceRules)).toEqual([{ file: 'devices.allow', value: 'a' }]);
});

test('a program decides every access, bit by bit, as the last rule that speaks of it', () => {
  const small = fc.option(fc.integer({ min: 0, max: 3 }), { nil: undefined });
  const rule = fc.record({
    allow: fc.boolean(),
    type: fc.constantFrom('a', 'b', 'c'),
    major: small,
    minor: small,
    access: fc.option(fc.constantFrom('r', 'w', 'm', 'rw', 'rm', 'wm', 'rwm'), { nil: undefined }),
  }) as fc.Arbitrary<DeviceRule>;
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 12 }), (rules) => {
      const program = deviceProgram(rules);
      verify(program);
      for (const type of ['b', 'c'] as const) {
        for (let major = 0; major < 4; major++) {
          for (let minor = 0; minor < 4; minor++) {
            const bitAllowed = (letter: string) =>
              rules.findLast(
                (one) =>
                  (one.type === 'a' || one.type === type) &&
                  (one.major ?? major) === major &&
                  (one.minor ?? minor) === minor &&
                  (one.access ?? 'rwm').includes(letter),
              )?.allow ?? false;
            for (let access = 1; access < 8; access++) {
              const letters = ['m', 'r', 'w'].filter((_, bit) => (access & (1 << bit)) !== 0);
              expect(allowed(program, { type, major, minor, access })).toBe(letters.every(bitAllowed));
            }
          }
        }
      }
    }),
  );
});
