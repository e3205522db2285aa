// Bundles the program into dist/: one file a door, what a command does not need in chunks loaded on demand.
// `--out DIR` bundles into another directory (the tests' own, so that dist/ may be made anew meanwhile).
import { existsSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

const { values } = parseArgs({ options: { out: { type: 'string' } } });
const out = values.out === undefined ? join(root, 'dist') : resolve(values.out);

const entries = {
  cli: 'src/cli/main.ts',
  index: 'src/index.ts',
  'image-worker': 'src/image/unpack/worker.ts',
  oci: 'src/runtime/oci/bin.ts',
};
const present = Object.entries(entries).filter(([, path]) => existsSync(join(root, path)));

rmSync(out, { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: Object.fromEntries(present),
  outdir: out,
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.18',
  chunkNames: 'chunks/[name]-[hash]',
  sourcemap: 'linked',
  sourcesContent: false,
  legalComments: 'none',
  logLevel: 'warning',
  // CommonJS packages inside an ES module bundle still call require().
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
  },
});
console.log(`built ${values.out ?? 'dist'}/ (${present.map(([name]) => `${name}.js`).join(', ')})`);
