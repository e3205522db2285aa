/** What a run in the VM has come to: every way in which it can go wrong has a sentence, and none passes for success. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { counts, kernelTrouble, problems, type Run } from '../../vm/verdict.mjs';

const report = {
  numPassedTests: 3,
  numFailedTests: 0,
  numFailedTestSuites: 0,
  numPendingTests: 1,
  numTodoTests: 0,
  testResults: [],
};
const fine: Run = {
  console: 'vm: tests begin after 3 s\nvm: tests end after 9 s\n',
  ended: 'itself',
  exit: 0,
  seconds: 12,
  results: { status: 0, report, dmesg: '[ 1.0] Linux version 6.1\n' },
};

test('a run without trouble has none', () => {
  expect(problems(fine)).toEqual([]);
});

describe('a run fails when', () => {
  const rows: [string, Partial<Run>, RegExp][] = [
    [
      'the kernel panics',
      {
        console: '[ 5.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n',
        results: undefined,
      },
      /^the kernel panicked: Attempted to kill init/,
    ],
    [
      'the kernel hits a bug, though all tests passed',
      {
        results: { status: 0, report, dmesg: '[ 7.0] BUG: kernel NULL pointer dereference, address: 0\n' },
      },
      /^the kernel hit a bug: kernel NULL pointer/,
    ],
    [
      'the machine runs out of memory',
      {
        results: {
          status: 0,
          report,
          dmesg: '[ 9.3] Out of memory: Killed process 88 (node) total-vm:1kB\n',
        },
      },
      /^the machine, not a cgroup, ran out of memory: Killed process 88 \(node\)/,
    ],
    [
      'the guest does not come up',
      { ended: 'boot', exit: null, results: undefined },
      /did not come up within 12 s/,
    ],
    ['the guest hangs', { ended: 'deadline', exit: null, results: undefined }, /hung: not done after 12 s/],
    ['it is interrupted', { ended: 'signal', exit: null, results: undefined }, /^stopped by a signal$/],
    [
      'QEMU does',
      { exit: 1, console: 'qemu-system-x86_64: no such drive\n', results: undefined },
      /^QEMU failed/,
    ],
    [
      'a disk is missing',
      { console: 'vm: cannot boot: no virtio disks\n', results: undefined },
      /cannot boot: no virtio disks/,
    ],
    ['it leaves nothing', { results: undefined }, /without leaving its results/],
    [
      'the tests hang',
      { results: { status: 124, report: undefined, dmesg: '' } },
      /^the tests hung: ended by the deadline/,
    ],
    ['vitest crashes', { results: { status: 1, report: undefined, dmesg: '' } }, /left no report \(exit 1\)/],
    [
      'vitest fails without a failed test',
      { results: { status: 1, report, dmesg: '' } },
      /without a failed test/,
    ],
  ];
  test.each(rows)('%s', (_, change, sentence) => {
    const found = problems({ ...fine, ...change });
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(sentence);
    expect(counts(change.results?.report, found.length).failed).toBe(1);
  });
});

test.each([
  '[ 9.3] Memory cgroup out of memory: Killed process 1132 (tail) total-vm:27208kB',
  "[ 9.4] tmpfs: Unknown parameter 'noswap'",
  '[ 9.5] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [node:88]',
  '[ 9.6] rcu: INFO: rcu_preempt self-detected stall on CPU',
])('no trouble: %s', (line) => {
  expect(kernelTrouble(line)).toEqual([]);
});

test('trouble is told once, wherever it stands in the text', () => {
  fc.assert(
    fc.property(fc.array(fc.stringMatching(/^[a-z ]*$/)), fc.nat(), (lines, at) => {
      const panic = '[ 1.0] Kernel panic - not syncing: x';
      const index = at % (lines.length + 1);
      const text = [...lines.slice(0, index), panic, ...lines.slice(index), panic].join('\n');
      expect(kernelTrouble(text)).toEqual([{ what: 'the kernel panicked', said: 'x' }]);
    }),
  );
});

test('a file that could not be loaded counts as one failure, beside failed tests', () => {
  const testResults = [
    { status: 'failed', assertionResults: [] },
    { status: 'failed', assertionResults: [{ status: 'failed' }, { status: 'passed' }] },
    { status: 'passed', assertionResults: [{ status: 'passed' }] },
  ];
  expect(counts({ ...report, numFailedTests: 1, testResults }, 2)).toEqual({
    passed: 3,
    failed: 4,
    skipped: 1,
  });
});

test('no report counts nothing but the problems', () => {
  expect(counts(undefined, 1)).toEqual({ passed: 0, failed: 1, skipped: 0 });
});
