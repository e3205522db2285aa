import { defineConfig } from 'vitest/config';
import { patience } from './test/fixtures/patience.ts';

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          environment: 'node',
        },
      },
      {
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          environment: 'node',
          // One kernel, one set of cgroups and bridges: files run one after another, each in its own process.
          fileParallelism: false,
          pool: 'forks',
          testTimeout: 60_000 * patience,
          hookTimeout: 120_000 * patience,
        },
      },
      {
        test: {
          // Needs a runtime that serves: `npm run test:cri` starts one.
          name: 'cri',
          include: ['test/cri/**/*.test.ts'],
          environment: 'node',
          fileParallelism: false,
          testTimeout: 60_000 * patience,
          hookTimeout: 120_000 * patience,
        },
      },
    ],
  },
});
