import { defineConfig } from 'vitest/config';
import { patience } from './test/fixtures/patience.ts';

/** One kernel, one set of cgroups and bridges: files run one after another, each in its own process. */
const realKernel = (name: string) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    environment: 'node',
    fileParallelism: false,
    pool: 'forks' as const,
    testTimeout: 60_000 * patience,
    hookTimeout: 120_000 * patience,
  },
});

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
      realKernel('integration'),
      realKernel('security'),
      {
        test: {
          name: 'oci',
          include: ['test/oci/**/*.test.ts'],
          environment: 'node',
          fileParallelism: false,
          pool: 'forks',
          testTimeout: 60_000 * patience,
          hookTimeout: 240_000 * patience,
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
