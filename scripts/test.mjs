// `npm test`: sets up what is missing, then runs the suites and adds up what they count. The last line is
// "N passed, N failed, N skipped". `--all`, as CI does, adds the suite that takes long, on a kernel of its own
// (docs/vm.md); `--only NAME,…` runs some suites and no gates.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { root, setup } from './setup.mjs';

const node = process.execPath;

/** Each is a command that passes or fails as a whole. */
const GATES = {
  'generated sources': ['scripts/generate.mjs', '--check'],
  types: ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json', '--noEmit'],
  lint: ['scripts/lint.mjs'],
};

/**
 * In the order in which they run. `project`: of vitest; `script`: called with `--report FILE`, ends with 77 where it
 * cannot run here, having said why. `retry`: on a machine that others use, too, a second try, which the output shows as
 * "(retry x1)".
 */
const SUITES = {
  unit: { title: 'unit tests', project: 'unit' },
  integration: { title: 'integration tests', project: 'integration', retry: true },
  security: { title: 'known escapes, as attacks', project: 'security', retry: true },
  cri: { title: 'critest and crictl', script: 'scripts/test-cri.mjs' },
  oci: { title: 'podman, containerd and runtime-tools over nodelet oci', project: 'oci', retry: true },
  vm: { title: 'integration tests in a VM with pure cgroup v2', script: 'scripts/test-vm.mjs', long: true },
};

const { all, names } = options();

function options() {
  let parsed;
  try {
    parsed = parseArgs({ options: { all: { type: 'boolean' }, only: { type: 'string' } } });
  } catch (error) {
    refuse(error.message);
  }
  const { all = false, only } = parsed.values;
  const names = only?.split(',') ?? Object.keys(SUITES);
  for (const name of names)
    if (!Object.hasOwn(SUITES, name)) refuse(`there is no suite ${JSON.stringify(name)}`);
  return { all: all || only !== undefined, names: only === undefined ? undefined : names };
}

function refuse(message) {
  console.error(`nodelet: ${message}`);
  console.error(`  hint: npm test [-- --all] [-- --only NAME,…], of ${Object.keys(SUITES).join(', ')}`);
  process.exit(2);
}

const totals = { passed: 0, failed: 0, skipped: 0 };
/** What failed, told again at the end: the output is long. */
const failures = [];
const times = [];

function gate(name, args) {
  console.log(`\n=== ${name}`);
  const ok = spawnSync(node, args, { cwd: root, stdio: 'inherit' }).status === 0;
  totals[ok ? 'passed' : 'failed'] += 1;
  if (!ok) failures.push(`gate: ${name}`);
}

/** The failed tests of one of vitest's reports. */
function failedTests(name, report) {
  return (report.testResults ?? []).flatMap(({ name: path = '', message = '', assertionResults = [] }) => {
    const file = path.slice(path.indexOf('test/'));
    const failed = assertionResults.filter(({ status }) => status === 'failed');
    // The file itself, or what it does before its first test.
    if (message !== '' && failed.length === 0) return [`${name}: ${file}: ${message.split('\n')[0]}`];
    return failed.map(
      (one) => `${name}: ${file}: ${one.fullName}: ${(one.failureMessages?.[0] ?? '').split('\n')[0]}`,
    );
  });
}

/** vitest's report, or that of a script: `{ counts, failures }`, either with vitest's beside it. */
function read(name, path) {
  const report = JSON.parse(readFileSync(path, 'utf8'));
  return {
    counts: report.counts ?? {
      passed: report.numPassedTests,
      failed: report.numFailedTests,
      skipped: report.numPendingTests + (report.numTodoTests ?? 0),
    },
    failures: report.failures?.map((one) => `${name}: ${one}`) ?? failedTests(name, report),
  };
}

function suite(name, { title, project, script, retry = false, long = false }) {
  console.log(`\n=== ${title}`);
  if (long && !all) {
    console.log(`skipped: it takes long; npm test -- --all, or -- --only ${name}`);
    totals.skipped += 1;
    return;
  }
  const report = join(folder, `${name}.json`);
  const args =
    script === undefined
      ? [
          'node_modules/vitest/vitest.mjs',
          'run',
          '--project',
          project,
          '--reporter=default',
          '--reporter=json',
          `--outputFile.json=${report}`,
          ...(retry ? ['--retry=1'] : []),
        ]
      : [script, '--report', report];
  const begin = performance.now();
  const { status } = spawnSync(node, args, { cwd: root, stdio: 'inherit' });
  times.push(`${name} ${Math.round((performance.now() - begin) / 1000)} s`);
  if (status === 77) {
    totals.skipped += 1;
    return;
  }
  let result = { counts: { passed: 0, failed: 1, skipped: 0 }, failures: [`${name}: no report`] };
  try {
    result = read(name, report);
  } catch {
    // It came to nothing: one failure.
  }
  failures.push(...result.failures);
  for (const [kind, count] of Object.entries(result.counts)) totals[kind] += count;
  // A file that cannot even be loaded counts no test.
  if (status !== 0 && result.counts.failed === 0) {
    totals.failed += 1;
    if (result.failures.length === 0) failures.push(`${name}: ended with ${status}`);
  }
}

console.log(
  'nodelet: npm test installs Debian packages (compilers, registry and image tools, QEMU), npm modules, builds, and runs the tests as root',
);
setup({ test: true, vm: all });

const folder = mkdtempSync(join(tmpdir(), 'nodelet-test-'));
try {
  if (names === undefined) for (const [name, args] of Object.entries(GATES)) gate(name, args);
  for (const name of names ?? Object.keys(SUITES)) suite(name, SUITES[name]);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
console.log(`\ntimes: ${times.join(', ')}`);
if (failures.length > 0) console.log(`\nfailed:\n${failures.map((one) => `  ${one}`).join('\n')}`);
console.log(`\n${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exitCode = totals.failed === 0 ? 0 : 1;
