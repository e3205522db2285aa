import { expect, test } from 'vitest';
import { mergeResources } from '../../../src/runtime/merge-resources.ts';

const NOW = {
  cpuShares: 100,
  cpuQuota: 5000,
  cpusetCpus: '0',
  memoryLimitInBytes: 100,
  memorySwapLimitInBytes: 200,
  hugepageLimits: [{ pageSize: '2MB', limit: 1 }],
  unified: { 'memory.high': '50' },
};

test.each([
  ['nothing', {}, NOW],
  [
    'what the wire makes of nothing',
    { cpuShares: 0, cpuQuota: 0, cpusetCpus: '', memoryLimitInBytes: 0, hugepageLimits: [], unified: {} },
    NOW,
  ],
  ['one value', { cpuShares: 7 }, { ...NOW, cpuShares: 7 }],
  ['no limit', { cpuQuota: -1 }, { ...NOW, cpuQuota: -1 }],
  [
    'one page size of two',
    { hugepageLimits: [{ pageSize: '1GB', limit: 0 }] },
    {
      ...NOW,
      hugepageLimits: [
        { pageSize: '2MB', limit: 1 },
        { pageSize: '1GB', limit: 0 },
      ],
    },
  ],
  [
    'a page size again',
    { hugepageLimits: [{ pageSize: '2MB', limit: 9 }] },
    { ...NOW, hugepageLimits: [{ pageSize: '2MB', limit: 9 }] },
  ],
  [
    'one file of two',
    { unified: { 'memory.low': '1' } },
    { ...NOW, unified: { 'memory.high': '50', 'memory.low': '1' } },
  ],
  [
    'memory and swap',
    { memoryLimitInBytes: 300, memorySwapLimitInBytes: 400 },
    { ...NOW, memoryLimitInBytes: 300, memorySwapLimitInBytes: 400 },
  ],
])('an update with %s', (_, update, expected) => {
  expect(mergeResources(NOW, update)).toEqual(expected);
});

test('a new memory limit without a word on swap allows none', () => {
  const { memorySwapLimitInBytes: _, ...rest } = NOW;
  expect(mergeResources(NOW, { memoryLimitInBytes: 300 })).toEqual({ ...rest, memoryLimitInBytes: 300 });
});
