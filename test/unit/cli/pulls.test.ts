import { describe, expect, test } from 'vitest';
import { PullEventLines } from '../../../src/cli/render/pull-events.ts';
import { Pace, PullBoard } from '../../../src/cli/render/pulls.ts';
import type { PullEvent } from '../../../src/image/index.ts';

const layer = (digest: string, phase: 'downloading' | 'unpacking' | 'done', current: number): PullEvent => ({
  kind: 'layer',
  digest,
  phase,
  current,
  total: 1_000_000,
});

describe('speed', () => {
  test('is what arrived lately, not since the beginning', () => {
    const pace = new Pace();
    expect(pace.perSecond).toBeUndefined();
    pace.add(5_000_000, 0);
    pace.add(5_000_000, 100);
    expect(pace.perSecond).toBeUndefined();
    for (let at = 1000; at <= 10_000; at += 1000) pace.add(5_000_000 + at * 100, at);
    expect(pace.perSecond).toBeCloseTo(100_000, -3);
    for (let at = 11_000; at <= 15_000; at += 1000) pace.add(6_000_000, at);
    expect(pace.perSecond).toBe(0);
  });

  test('is shown with the totals while something arrives', () => {
    let now = 0;
    const board = new PullBoard(() => now);
    board.apply('app', {
      kind: 'manifest',
      digest: 'sha256:m',
      platform: 'linux/amd64',
      layers: [
        { digest: 'sha256:a', size: 1_000_000 },
        { digest: 'sha256:b', size: 1_000_000 },
      ],
    });
    board.apply('app', layer('sha256:a', 'downloading', 100_000));
    now = 1000;
    board.apply('app', layer('sha256:a', 'downloading', 600_000));
    board.apply('app', layer('sha256:b', 'unpacking', 250_000));
    expect(board.lines()).toEqual([
      'app (linux/amd64): 0 of 2 layers, 250kB of 2MB, 500kB/s',
      '  a [--------------          ]       600kB of 1MB  downloading',
      '  b [======                  ]       250kB of 1MB  unpacking',
    ]);
    for (const digest of ['sha256:a', 'sha256:b']) board.apply('app', layer(digest, 'done', 1_000_000));
    expect(board.lines()).toEqual(['app (linux/amd64): 2 of 2 layers, 2MB of 2MB']);
  });
});

test('events for programs: ten lines a second about a layer, and each end', () => {
  let now = 0;
  const lines = new PullEventLines(() => now);
  const seen: number[] = [];
  for (let bytes = 0; bytes <= 1_000_000; bytes += 10_000) {
    for (const line of lines.apply('app', layer('sha256:a', 'downloading', bytes)))
      if (line.kind === 'layer') seen.push(line.current);
    now += 10;
  }
  expect(seen[0]).toBe(0);
  expect(seen.at(-1)).toBe(1_000_000);
  expect(seen.length).toBeLessThanOrEqual(12);
  expect(lines.apply('app', layer('sha256:a', 'done', 1_000_000))).toEqual([
    { image: 'app', kind: 'layer', digest: 'sha256:a', phase: 'done', current: 1_000_000, total: 1_000_000 },
  ]);
  expect(lines.apply('app', { kind: 'resolving', reference: 'x' })).toHaveLength(1);
});
