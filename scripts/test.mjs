// `npm test`: sets up what is missing, then runs every suite and adds up what they count. The last line is
// "N passed, N failed, N skipped". `--no-vm` leaves out the suite on a kernel of its own (docs/vm.md), as skipped.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, setup } from './setup.mjs';

console.log(
  'nodelet: npm test installs Debian packages (compilers, registry and image tools, QEMU), npm modules, builds, and runs the tests as root',
);
const vm = !process.argv.includes('--no-vm');
setup({ test: true, vm });

const folder = mkdtempSync(join(tmpdir(), 'nodelet-test-'));
const totals = { passed: 0, failed: 0, skipped: 0 };
/** What failed, told again at the end: the output is long. */
const failures = [];

/** One gate: a command that passes or fails as a whole. */
function gate(name, command, args) {
  console.log(`\n=== ${name}`);
  const ok = spawnSync(command, args, { cwd: root, stdio: 'inherit' }).status === 0;
  totals[ok ? 'passed' : 'failed'] += 1;
  if (!ok) failures.push(`gate: ${name}`);
}

/** The failed tests of one of vitest's reports. */
function collect(where, report) {
  for (const { name = '', message = '', assertionResults = [] } of report.testResults ?? []) {
    const file = name.slice(name.indexOf('test/'));
    const failed = assertionResults.filter(({ status }) => status === 'failed');
    for (const one of failed)
      failures.push(`${where}: ${file}: ${one.fullName}: ${(one.failureMessages?.[0] ?? '').split('\n')[0]}`);
    // The file itself, or what it does before its first test.
    if (message !== '' && failed.length === 0) failures.push(`${where}: ${file}: ${message.split('\n')[0]}`);
  }
}

function suite(project) {
  console.log(`\n=== ${project} tests`);
  const report = join(folder, `${project}.json`);
  const args = [
    'node_modules/vitest/vitest.mjs',
    'run',
    '--project',
    project,
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    // On a machine that others use, too: a second try, which the output shows as "(retry x1)".
    ...(project === 'integration' ? ['--retry=1'] : []),
  ];
  const result = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
  let counted;
  try {
    counted = JSON.parse(readFileSync(report, 'utf8'));
  } catch {
    totals.failed += 1;
    failures.push(`${project}: no report`);
    return;
  }
  collect(project, counted);
  totals.passed += counted.numPassedTests;
  totals.failed += counted.numFailedTests;
  totals.skipped += counted.numPendingTests + (counted.numTodoTests ?? 0);
  // A file that cannot even be loaded counts no test.
  if (result.status !== 0 && counted.numFailedTests === 0) totals.failed += 1;
}

/** The integration tests on another kernel, as one more suite; 77 is what it ends with where it cannot run. */
function vmSuite() {
  console.log('\n=== integration tests in a VM with pure cgroup v2');
  if (!vm) {
    console.log('skipped: the VM suite (--no-vm)');
    totals.skipped += 1;
    return;
  }
  const report = join(folder, 'vm.json');
  const { status } = spawnSync(node, ['scripts/test-vm.mjs', '--report', report], {
    cwd: root,
    stdio: 'inherit',
  });
  if (status === 77) {
    totals.skipped += 1;
    return;
  }
  let counts = { passed: 0, failed: 1, skipped: 0 };
  try {
    const parsed = JSON.parse(readFileSync(report, 'utf8'));
    collect('vm', parsed);
    ({ counts } = parsed);
  } catch {
    // It came to nothing: one failure.
    failures.push('vm: no report');
  }
  for (const [kind, count] of Object.entries(counts)) totals[kind] += count;
  if (status !== 0 && counts.failed === 0) totals.failed += 1;
}

const node = process.execPath;
try {
  gate('generated sources', node, ['scripts/generate.mjs', '--check']);
  gate('types', node, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json', '--noEmit']);
  gate('lint', node, ['scripts/lint.mjs']);
  suite('unit');
  suite('integration');
  vmSuite();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
if (failures.length > 0) console.log(`\nfailed:\n${failures.map((one) => `  ${one}`).join('\n')}`);
console.log(`\n${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exitCode = totals.failed === 0 ? 0 : 1;
