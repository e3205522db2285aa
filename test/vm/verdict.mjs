// What a run has come to, from what the guest left: pure.

/** What the kernel says when it is in trouble, each with what it means. */
const TROUBLE = [
  [/Kernel panic - not syncing: (.*)/, 'the kernel panicked'],
  [/\bBUG: (.*)/, 'the kernel hit a bug'],
  [/\bOops: (.*)/, 'the kernel hit a bug'],
  [/general protection fault.*|unable to handle .*/, 'the kernel hit a bug'],
  [/\bOut of memory: (Killed process .*)/, 'the machine, not a cgroup, ran out of memory'],
  [/INFO: (task .* blocked for more than .*)/, 'a task hangs in the kernel'],
  [/EXT4-fs error .*/, 'a file system broke'],
];

/** Kernel messages that stand for no trouble of ours: emulation is slow, and says so. */
const HARMLESS = /soft lockup|rcu.*stall|hrtimer: interrupt took|clocksource/;

/** Troubles that the kernel reported, each once: `{ what, said }`. */
export function kernelTrouble(text) {
  const found = new Map();
  for (const line of text.split('\n')) {
    if (HARMLESS.test(line)) continue;
    for (const [pattern, what] of TROUBLE) {
      const match = pattern.exec(line);
      if (match !== null && !found.has(what)) found.set(what, (match[1] ?? match[0]).trim());
    }
  }
  return [...found].map(([what, said]) => ({ what, said }));
}

/**
 * Why a run failed beside its failed tests, as sentences; empty where nothing else went wrong.
 *
 * ended: why QEMU ended, as boot() has it; exit: its status; seconds: how long it ran.
 * results: what the guest left, undefined where it came to nothing: `status` the command's exit status (124 by its own
 * deadline, 137 by the kill after that), `report` vitest's JSON or undefined, `dmesg`.
 */
export function problems({ console, ended, exit, seconds, results }) {
  const found = kernelTrouble(`${console}\n${results?.dmesg ?? ''}`).map(
    ({ what, said }) => `${what}: ${said}`,
  );
  if (ended === 'boot') found.push(`the guest did not come up within ${seconds} s`);
  if (ended === 'deadline') found.push(`the guest hung: not done after ${seconds} s`);
  if (ended === 'signal') found.push('stopped by a signal');
  if (ended === 'itself' && exit !== 0) found.push(`QEMU failed (exit ${exit})`);
  const boot = /^vm: cannot boot: (.*)$/m.exec(console)?.[1];
  if (boot !== undefined) found.push(`the guest cannot boot: ${boot}`);
  if (results === undefined) {
    if (found.length === 0) found.push('the guest ended without leaving its results');
    return found;
  }
  if (results.status === 124 || results.status === 137)
    found.push('the tests hung: ended by the deadline inside the guest');
  else if (results.report === undefined) found.push(`the tests left no report (exit ${results.status})`);
  else if (
    results.status !== 0 &&
    results.report.numFailedTests === 0 &&
    results.report.numFailedTestSuites === 0
  )
    found.push(`vitest failed (exit ${results.status}) without a failed test: see the console above`);
  return found;
}

/** Counts as `npm test` adds them up; a file that could not be loaded, and each problem, counts as one failure. */
export function counts(report, problemCount) {
  const files = report?.testResults ?? [];
  const broken = files.filter(
    (file) => file.status === 'failed' && !file.assertionResults.some((test) => test.status === 'failed'),
  );
  return {
    passed: report?.numPassedTests ?? 0,
    failed: (report?.numFailedTests ?? 0) + broken.length + problemCount,
    skipped: (report?.numPendingTests ?? 0) + (report?.numTodoTests ?? 0),
  };
}
