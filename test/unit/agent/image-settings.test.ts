import { describe, expect, test } from 'vitest';
import { flagName, readFlags, resolveConfig } from '../../../src/agent/index.ts';
import { settingsAsFlags } from '../../../src/cli/agent/background.ts';

describe('when images go by themselves', () => {
  test('the kubelet’s defaults', () => {
    expect(resolveConfig({}).imageGc).toEqual({
      highThresholdPercent: 85,
      lowThresholdPercent: 80,
      minimumAge: 120_000,
      maximumAge: 0,
    });
    expect(resolveConfig({}).keepImageBlobs).toBe(true);
  });

  test('flags are named as people spell them, and read as commander hands them over', () => {
    expect(flagName('imageGCHighThresholdPercent')).toBe('image-gc-high-threshold-percent');
    expect(flagName('imageMinimumGCAge')).toBe('image-minimum-gc-age');
    expect(flagName('podManifestPath')).toBe('pod-manifest-path');
    const flags = {
      imageGcHighThresholdPercent: '60',
      imageGcLowThresholdPercent: '40',
      imageMaximumGcAge: '1h30m',
    };
    expect(resolveConfig(readFlags(flags)).imageGc).toMatchObject({
      highThresholdPercent: 60,
      lowThresholdPercent: 40,
      maximumAge: 5_400_000,
    });
  });

  test('a duration survives the way to an agent in the background', () => {
    const values = readFlags({ imageMinimumGcAge: '90s' });
    expect(settingsAsFlags(values)).toEqual(['--image-minimum-gc-age', '90000ms']);
    expect(readFlags({ imageMinimumGcAge: '90000ms' })).toEqual(values);
  });

  test.each([
    [
      { imageGcHighThresholdPercent: '101' },
      /--image-gc-high-threshold-percent: "101" must be a whole number from 0 to 100/,
    ],
    [{ imageMinimumGcAge: '5' }, /--image-minimum-gc-age: "5" is no duration/],
    [{ imageMinimumGcAge: '5 m' }, /is no duration/],
    [
      { imageGcLowThresholdPercent: '90' },
      /imageGCLowThresholdPercent: 90 is not less than imageGCHighThresholdPercent 85/,
    ],
    [{ imageMaximumGcAge: '1m' }, /imageMaximumGCAge: it is not more than imageMinimumGCAge/],
  ])('%j is refused', (flags, message) => {
    expect(() => resolveConfig(readFlags(flags))).toThrow(message);
  });
});
