// Lint, format and the import rule, in one command with one exit status.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './setup.mjs';

const bin = (name) => join(root, 'node_modules', '.bin', name);
const checks = [
  ['oxlint', bin('oxlint'), ['--type-aware', '--deny-warnings', 'src', 'test', 'bench', 'scripts']],
  ['biome', bin('biome'), ['check', '--diagnostic-level=error', '.']],
  ['import rule', process.execPath, ['scripts/check-imports.mjs']],
];
let failed = 0;
for (const [name, command, args] of checks) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) {
    console.error(`lint: ${name} found something`);
    failed += 1;
  }
}
process.exitCode = failed === 0 ? 0 : 1;
