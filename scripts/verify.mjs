// `npm run verify`: the gate before a commit. Generate (and compare), format, lint, types, unit tests.
import { spawnSync } from 'node:child_process';
import { root } from './setup.mjs';

const steps = [
  ['generated sources', ['scripts/generate.mjs', '--check']],
  ['lint and format', ['scripts/lint.mjs']],
  ['types', ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json', '--noEmit']],
  ['unit tests', ['node_modules/vitest/vitest.mjs', 'run', '--project', 'unit']],
];
for (const [name, args] of steps) {
  console.log(`verify: ${name}`);
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) {
    console.error(`verify: ${name} failed`);
    process.exit(1);
  }
}
console.log('verify: all good');
