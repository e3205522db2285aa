import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { defaultGcPolicy, planGc, type SeenImage } from '../../../src/image/gc-policy.ts';

const minute = 60_000;
const now = 1_000 * minute;

function seen(id: string, more: Partial<SeenImage> = {}): SeenImage {
  return { id, firstSeen: 0, lastUsed: 0, inUse: false, pinned: false, bytes: 10, ...more };
}

/** A disk of 100 bytes with so many in use. */
const disk = (used: number) => ({ capacity: 100, available: 100 - used });

describe('which images go', () => {
  test('none below the high threshold', () => {
    expect(planGc([seen('a')], disk(84), defaultGcPolicy, now)).toEqual({ remove: [], wanted: 0 });
  });

  test('at it, the longest unused first, down to the low one', () => {
    const images = [
      seen('c', { lastUsed: 3 }),
      seen('a', { lastUsed: 1, bytes: 4 }),
      seen('b', { lastUsed: 2, bytes: 3 }),
    ];
    expect(planGc(images, disk(85), defaultGcPolicy, now)).toEqual({ remove: ['a', 'b'], wanted: 5 });
  });

  test('of those that were never used, the oldest', () => {
    const images = [seen('b', { firstSeen: 2 }), seen('a', { firstSeen: 1 })];
    expect(planGc(images, disk(85), defaultGcPolicy, now).remove).toEqual(['a']);
  });

  test('not what is in use, pinned, or younger than two minutes', () => {
    const images = [
      seen('used', { inUse: true }),
      seen('pinned', { pinned: true }),
      seen('young', { firstSeen: now - 2 * minute + 1 }),
      seen('old enough', { firstSeen: now - 2 * minute }),
    ];
    expect(planGc(images, disk(99), defaultGcPolicy, now)).toEqual({ remove: ['old enough'], wanted: 19 });
  });

  test('100 per cent switches it off', () => {
    const policy = { ...defaultGcPolicy, highThresholdPercent: 100 };
    expect(planGc([seen('a')], disk(100), policy, now).remove).toEqual([]);
  });

  test('unused for longer than the maximum age: all, whatever the disk, and they count', () => {
    const policy = { ...defaultGcPolicy, maximumAge: 10 * minute };
    const images = [
      seen('a', { lastUsed: now - 11 * minute }),
      seen('b', { firstSeen: now - 11 * minute }),
      seen('c', { lastUsed: now - 9 * minute }),
      seen('d', { firstSeen: now - 9 * minute }),
    ];
    expect(planGc(images, disk(0), policy, now).remove).toEqual(['a', 'b']);
    expect(planGc(images, disk(90), policy, now)).toEqual({ remove: ['a', 'b'], wanted: 10 });
  });

  test('a disk whose size is not known is left alone', () => {
    expect(planGc([seen('a')], { capacity: 0, available: 0 }, defaultGcPolicy, now).remove).toEqual([]);
  });

  test('whatever there is: nothing that is needed goes, and no more than has to', () => {
    const image = fc.record({
      id: fc.uuid(),
      firstSeen: fc.integer({ min: 0, max: now }),
      lastUsed: fc.integer({ min: 0, max: now }),
      inUse: fc.boolean(),
      pinned: fc.boolean(),
      bytes: fc.integer({ min: 0, max: 50 }),
    });
    fc.assert(
      fc.property(fc.array(image, { maxLength: 12 }), fc.integer({ min: 0, max: 100 }), (images, used) => {
        const { remove, wanted } = planGc(images, disk(used), defaultGcPolicy, now);
        const gone = remove.map((id) => images.find((one) => one.id === id) as SeenImage);
        expect(gone.every((one) => !one.inUse && !one.pinned)).toBe(true);
        expect(new Set(remove).size).toBe(remove.length);
        const allButLast = gone.slice(0, -1).reduce((sum, { bytes }) => sum + bytes, 0);
        if (gone.length > 0) expect(allButLast).toBeLessThan(wanted);
      }),
    );
  });
});
