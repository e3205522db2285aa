// `node scripts/bench.mjs NAME`: bundles bench/NAME.ts and runs it (as root).
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { root, setup } from './setup.mjs';

const name = process.argv[2] ?? '';
const entry = join(root, 'bench', `${name}.ts`);
if (!existsSync(entry)) {
  console.error(`no such benchmark: bench/${name}.ts`);
  process.exit(2);
}
setup({ test: true });
const { build } = await import('esbuild');
// Inside the project, so that packages are found.
const folder = mkdtempSync(join(root, 'build', 'bench-'));
try {
  await build({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile: join(folder, `${name}.mjs`),
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.18',
    logLevel: 'warning',
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
    },
  });
  const { status } = spawnSync(process.execPath, [join(folder, `${name}.mjs`), ...process.argv.slice(3)], {
    cwd: root,
    stdio: 'inherit',
  });
  process.exitCode = status ?? 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
