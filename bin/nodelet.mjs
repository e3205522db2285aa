#!/usr/bin/env -S node --max-semi-space-size=1
// The program is bundled into dist/ by `npm run build:ts`; this only finds it. V8's young generation stays small: where it may
// grow it does so at the first busy moment, by 32 MiB, and never shrinks again.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
const bundle = new URL('../dist/cli.js', import.meta.url);
if (major < 20 || (major === 20 && minor < 18)) {
  console.error(`nodelet: Node.js 20.18 or newer is needed, this is ${process.version}`);
  process.exitCode = 125;
} else if (!existsSync(bundle)) {
  console.error(`nodelet: cannot find "${fileURLToPath(bundle)}": this checkout is not built`);
  console.error('  hint: build it with: npm ci && npm run build');
  process.exitCode = 125;
} else {
  await import(bundle.href);
}
