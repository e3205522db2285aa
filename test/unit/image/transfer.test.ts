import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Bandwidth } from '../../../src/image/registry/bandwidth.ts';
import { cut, isStraggler } from '../../../src/image/registry/pieces.ts';
import { proxyEnvironment, proxyFor } from '../../../src/image/registry/proxy.ts';
import { noteOf, Partial, parseNote } from '../../../src/image/store/partial.ts';
import { addRange, bytesOf, missingRanges, prefixOf, type Range } from '../../../src/image/store/ranges.ts';

describe('ranges', () => {
  const pieces = fc.array(fc.tuple(fc.nat(60), fc.nat(60)), { maxLength: 12 });

  test('are what a set of bytes would be', () => {
    fc.assert(
      fc.property(pieces, (list) => {
        const bytes = new Set<number>();
        let ranges: readonly Range[] = [];
        for (const [a, b] of list) {
          ranges = addRange(ranges, a, b);
          for (let i = a; i < b; i += 1) bytes.add(i);
        }
        expect(bytesOf(ranges)).toBe(bytes.size);
        let prefix = 0;
        while (bytes.has(prefix)) prefix += 1;
        expect(prefixOf(ranges)).toBe(prefix);
        const gaps = missingRanges(ranges, 60);
        for (let i = 0; i < 60; i += 1)
          expect(gaps.some(([from, to]) => i >= from && i < to)).toBe(!bytes.has(i));
        // sorted, disjoint, not touching
        for (let i = 1; i < ranges.length; i += 1) expect(ranges[i]![0]).toBeGreaterThan(ranges[i - 1]![1]);
      }),
    );
  });

  test('a note says what was noted, or less', () => {
    const long = Array.from({ length: 1000 }, (_, i): Range => [i * 10, i * 10 + 5]);
    const note = noteOf(long, 20_000);
    expect(note).toHaveLength(4096);
    const read = parseNote(note, 20_000) ?? [];
    expect(read.length).toBeGreaterThan(50);
    expect(read).toEqual(long.slice(0, read.length));
  });

  test.each([
    ['another size', { size: 11, ranges: [[0, 5]] }],
    ['a range beyond the end', { size: 10, ranges: [[0, 11]] }],
    ['a range that ends before it begins', { size: 10, ranges: [[5, 5]] }],
    ['a negative range', { size: 10, ranges: [[-1, 5]] }],
    ['no numbers', { size: 10, ranges: [['0', 5]] }],
    ['no list', { size: 10, ranges: 'x' }],
    ['nothing', null],
  ])('a note with %s is none', (_, note) => {
    expect(parseNote(Buffer.from(JSON.stringify(note)), 10)).toBeUndefined();
  });
});

describe('a partial blob', () => {
  let folder: string;
  let path: string;
  const content = Buffer.from(Array.from({ length: 200 }, (_, i) => i % 251));
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'nodelet-partial-'));
    path = join(folder, 'blob');
    writeFileSync(path, '');
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  test('whatever arrives in whatever order is known again after a restart, and the file is the blob in the end', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(199), fc.integer({ min: 1, max: 50 })), { maxLength: 10 }),
        fc.nat(9),
        async (writes, restartAt) => {
          writeFileSync(path, '');
          let partial = await Partial.open(path, 'd', content.length);
          for (const [i, [from, length]] of writes.entries()) {
            await partial.write(from, [content.subarray(from, from + length)]);
            if (i !== restartAt) continue;
            const { received, offset } = partial;
            await partial.close();
            partial = await Partial.open(path, 'd', content.length);
            expect([partial.received, partial.offset]).toEqual([received, offset]);
          }
          for (const [from, to] of partial.missing()) await partial.write(from, [content.subarray(from, to)]);
          expect(partial.offset).toBe(content.length);
          await partial.finish();
          await partial.close();
          expect(readFileSync(path).equals(content)).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('in order there is no note: the file is as long as what arrived', async () => {
    const partial = await Partial.open(path, 'd', 200);
    await partial.write(0, [content.subarray(0, 70)]);
    await partial.close();
    expect(statSync(path).size).toBe(70);
  });

  test('a file that is too long and has no note is nothing', async () => {
    writeFileSync(path, Buffer.alloc(200 + 4096));
    const partial = await Partial.open(path, 'd', 200);
    expect(partial.received).toBe(0);
    await partial.close();
    expect(statSync(path).size).toBe(0);
  });

  test('the reader hears of what is there without a gap', async () => {
    const partial = await Partial.open(path, 'd', 200);
    const heard: number[] = [];
    partial.onGrow((available) => heard.push(available));
    await partial.write(50, [content.subarray(50, 100)]);
    await partial.write(0, [content.subarray(0, 50)]);
    await partial.write(100, [content.subarray(100, 120)]);
    await partial.close();
    expect(heard).toEqual([0, 100, 120]);
  });
});

describe('pieces', () => {
  test('are cut at the same places whatever was there', () => {
    expect(cut([[0, 25]], 10).map(({ from, to }) => [from, to])).toEqual([
      [0, 10],
      [10, 20],
      [20, 25],
    ]);
    expect(
      cut(
        [
          [3, 12],
          [25, 30],
        ],
        10,
      ).map(({ from, to }) => [from, to]),
    ).toEqual([
      [3, 10],
      [10, 12],
      [25, 30],
    ]);
  });

  const fast = { elapsed: 1000, bytes: 5_000_000 };
  const left = 4_000_000;
  test.each([
    ['a crawling piece', { elapsed: 4000, bytes: 100_000 }, left, 0, [fast, fast], true],
    ['a piece that has just begun', { elapsed: 1000, bytes: 0 }, left, 0, [fast], false],
    ['one that is nearly done', { elapsed: 9000, bytes: 100_000 }, 1000, 0, [fast], false],
    ['one that was begun again three times', { elapsed: 9000, bytes: 0 }, left, 3, [fast], false],
    ['half the pace of the others', { elapsed: 4000, bytes: 10_000_000 }, left, 0, [fast, fast], false],
    ['all are slow', { elapsed: 9000, bytes: 1000 }, left, 0, [{ elapsed: 9000, bytes: 1200 }], false],
    ['nothing to compare with', { elapsed: 9000, bytes: 1000 }, left, 0, [], false],
  ])('%s', (_, pace, rest, attempt, others, expected) => {
    expect(isStraggler(pace, rest, attempt, others)).toBe(expected);
  });
});

test('bandwidth: after half a second’s worth, each byte has to be waited for', async () => {
  let now = 10_000;
  const limit = new Bandwidth(1_000_000, () => now);
  const stop = new AbortController();
  const waits = async (bytes: number): Promise<boolean> => {
    let done = false;
    const taking = limit.take(bytes, stop.signal).then(
      () => (done = true),
      () => false,
    );
    await new Promise((resolve) => setImmediate(resolve));
    void taking;
    return !done;
  };
  expect(await waits(400_000)).toBe(false);
  expect(await waits(90_000)).toBe(false);
  expect(await waits(60_000)).toBe(true);
  now += 10_000;
  expect(await waits(500_000)).toBe(false);
  stop.abort();
});

describe('proxies', () => {
  const env = proxyEnvironment({
    HTTPS_PROXY: 'http://p:3128',
    http_proxy: 'plain:80',
    NO_PROXY:
      'internal.example, .sub.example,10.0.0.0/8 192.0.2.7,port.example:5000,fd00::/8,[2001:db8::1]:443',
  });
  test.each([
    ['https://registry.example/v2/', 'http://p:3128'],
    ['http://registry.example/v2/', 'http://plain:80'],
    ['https://internal.example/', undefined],
    ['https://a.internal.example/', undefined],
    ['https://notinternal.example/', 'http://p:3128'],
    ['https://sub.example/', 'http://p:3128'],
    ['https://a.sub.example/', undefined],
    ['https://10.1.2.3/', undefined],
    ['https://11.1.2.3/', 'http://p:3128'],
    ['https://192.0.2.7:5000/', undefined],
    ['https://port.example:5000/', undefined],
    ['https://port.example/', 'http://p:3128'],
    ['https://[fd12::1]/', undefined],
    ['https://[2001:db8::1]/', undefined],
    ['https://[2001:db8::1]:5000/', 'http://p:3128'],
    ['https://localhost:5000/', undefined],
    ['https://127.0.0.5/', undefined],
    ['https://[::1]:5000/', undefined],
  ])('%s → %s', (url, proxy) => {
    expect(proxyFor(new URL(url), env)).toBe(proxy);
  });

  test('a star is everything, and nothing is nothing', () => {
    expect(
      proxyFor(new URL('https://x/'), proxyEnvironment({ https_proxy: 'http://p', no_proxy: '*' })),
    ).toBe(undefined);
    expect(proxyFor(new URL('https://x/'), proxyEnvironment({}))).toBe(undefined);
  });

  test('any list of exemptions is read', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(...Array.from('a.:*/[]0189, f')), maxLength: 60 }),
        (none) => {
          const found = proxyFor(new URL('https://a.b/'), { http: undefined, https: 'p:1', none });
          expect([undefined, 'http://p:1']).toContain(found);
        },
      ),
    );
  });
});
