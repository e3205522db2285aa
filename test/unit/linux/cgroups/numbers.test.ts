import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  clampShares,
  containerCpuWeight,
  parseIdList,
  parsePressure,
  podCpuWeight,
} from '../../../../src/linux/cgroups/index.ts';
import { parseBlkio, parseFlatKeyed, parseIoStat, parseLimit } from '../../../../src/linux/cgroups/stats.ts';

test.each([
  [0, 1, 1],
  [2, 1, 1],
  [10, 4, 1],
  [102, 17, 4],
  [256, 35, 10],
  [512, 59, 20],
  [1024, 100, 39],
  [2048, 174, 79],
  [4096, 303, 157],
  [262_144, 10_000, 10_000],
  [10_000_000, 10_000, 10_000],
])('%d shares are a weight of %d in a container and of %d in a pod', (shares, container, pod) => {
  expect(containerCpuWeight(shares)).toBe(container);
  expect(podCpuWeight(shares)).toBe(pod);
});

test('weights stay in range and grow with shares', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 300_000 }), (shares) => {
      for (const weight of [containerCpuWeight, podCpuWeight]) {
        expect(weight(shares)).toBeGreaterThanOrEqual(1);
        expect(weight(shares)).toBeLessThanOrEqual(10_000);
        expect(weight(shares + 1)).toBeGreaterThanOrEqual(weight(shares));
      }
      expect(clampShares(shares)).toBeLessThanOrEqual(262_144);
    }),
  );
});

describe('parsers', () => {
  test('a list of ids', () => {
    expect([...(parseIdList('0-2,5\n') ?? [])]).toEqual([0, 1, 2, 5]);
    for (const bad of ['', '1-', 'a', '3-1', '1,,2', '-1', '100000'])
      expect(parseIdList(bad)).toBeUndefined();
  });

  test('a list of ids holds exactly what was written', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(500), fc.nat(20)), { minLength: 1, maxLength: 6 }), (parts) => {
        const text = parts
          .map(([from, more]) => (more === 0 ? `${from}` : `${from}-${from + more}`))
          .join(',');
        const expected = new Set(
          parts.flatMap(([from, more]) => Array.from({ length: more + 1 }, (_, i) => from + i)),
        );
        expect(parseIdList(text)).toEqual(expected);
      }),
    );
  });

  test('keyed numbers', () => {
    expect(parseFlatKeyed('usage_usec 12\nnice 3\nbroken\nname -1\n')).toEqual(
      new Map([
        ['usage_usec', 12],
        ['nice', 3],
      ]),
    );
  });

  test('limits', () => {
    expect(parseLimit('4096\n')).toBe(4096);
    expect(parseLimit('max\n')).toBeUndefined();
    expect(parseLimit('9223372036854771712\n')).toBeUndefined();
  });

  test('pressure', () => {
    const text =
      'some avg10=0.17 avg60=0.39 avg300=0.15 total=7676465\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=12\n';
    expect(parsePressure(text)).toEqual({
      some: { avg10: 0.17, avg60: 0.39, avg300: 0.15, totalMicros: 7_676_465 },
      full: { avg10: 0, avg60: 0, avg300: 0, totalMicros: 12 },
    });
    expect(parsePressure('some avg10=1.00 avg60=0.00 avg300=0.00 total=5\n')?.full).toBeUndefined();
    expect(parsePressure('')).toBeUndefined();
  });

  test('I/O of several devices is summed', () => {
    expect(
      parseIoStat(
        '8:0 rbytes=100 wbytes=20 rios=3 wios=4 dbytes=9 dios=1\n253:1 rbytes=1 wbytes=2 rios=3 wios=4\n',
      ),
    ).toEqual({ readBytes: 101, writtenBytes: 22, reads: 6, writes: 8 });
    expect(parseBlkio('8:0 Read 5\n8:0 Write 6\n8:0 Sync 11\n8:16 Read 1\nTotal 12\n')).toEqual({
      read: 6,
      write: 6,
    });
  });

  test('whatever text comes, numbers stay numbers', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        for (const value of parseFlatKeyed(text).values()) expect(Number.isFinite(value)).toBe(true);
        for (const value of Object.values(parseIoStat(text))) expect(Number.isFinite(value)).toBe(true);
        parsePressure(`some ${text}`);
        parseIdList(text);
      }),
    );
  });
});
