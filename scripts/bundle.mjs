// Makes one runnable file of a program in TypeScript, of bench/ or test/, inside the project, so that packages are found.
import { mkdtempSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { root } from './setup.mjs';

/** Calls `work` with the path of the bundle of `entry` (from the project's root), which is gone afterwards. */
export async function withBundle(entry, work) {
  const { build } = await import('esbuild');
  const folder = mkdtempSync(join(root, 'build', 'bundle-'));
  const outfile = join(folder, `${basename(entry, '.ts')}.mjs`);
  try {
    await build({
      absWorkingDir: root,
      entryPoints: [entry],
      outfile,
      bundle: true,
      format: 'esm',
      platform: 'node',
      target: 'node20.18',
      logLevel: 'warning',
      banner: {
        js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
      },
    });
    return work(outfile);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
