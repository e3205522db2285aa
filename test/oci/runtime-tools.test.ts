/** The validation programs of runtime-tools v0.9.0 with Nodelet as their runtime. docs/conformance.md tells of each that it does not pass. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pLimit from 'p-limit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { NODELET_OCI } from '../fixtures/oci.ts';
import { hierarchiesOf } from '../fixtures/oci-cgroups.ts';
import { patience } from '../fixtures/patience.ts';
import { KNOWN_FAILURES } from './runtime-tools/known-failures.ts';
import { buildPrograms, judge, obstacle, PROGRAMS, type Verdict } from './runtime-tools/programs.ts';

/** They look for these files, which a machine with nothing but cgroup v2 does not have. */
const CGROUPS_V1 = existsSync('/sys/fs/cgroup/memory/memory.limit_in_bytes');
const why = obstacle();
const ofCgroups = (name: string) => /^(linux_cgroups|delete_)/.test(name);
const wanted = PROGRAMS.filter((name) => CGROUPS_V1 || !ofCgroups(name));

let directory = '';
let state = '';
const verdicts = new Map<string, Verdict>();

beforeAll(async () => {
  if (why !== undefined) return;
  directory = mkdtempSync(join(tmpdir(), 'nodelet-runtime-tools-'));
  state = join(directory, 'state');
  mkdirSync(join(directory, 'bundles'));
  const runtime = join(directory, 'runtime');
  writeFileSync(runtime, `#!/bin/sh\nexec ${NODELET_OCI} --root ${state} "$@"\n`);
  chmodSync(runtime, 0o755);
  const folder = buildPrograms();
  const run = async (name: string) => {
    verdicts.set(name, await judge(folder, name, { runtime, temporary: join(directory, 'bundles') }));
  };
  // Those of cgroups name the same ones; the others mostly sleep between two looks at a state.
  const [free, alone] = [pLimit(4), pLimit(1)];
  await Promise.all(wanted.map((name) => (ofCgroups(name) ? alone : free)(async () => await run(name))));
}, 600_000 * patience);

afterAll(() => {
  if (why === undefined)
    // Parents that a runtime makes stay: these are of the programs alone.
    for (const root of hierarchiesOf()) spawnSync('rmdir', [`${root}/testdir/cgrouptest`, `${root}/testdir`]);
  if (directory !== '') rmSync(directory, { recursive: true, force: true });
});

describe.skipIf(why !== undefined)('runtime-tools', () => {
  test.for(PROGRAMS)('%s', (name, context) => {
    const verdict = verdicts.get(name);
    if (verdict === undefined) {
      context.skip('it knows cgroup v1 only, and this machine has none');
      return;
    }
    const known = KNOWN_FAILURES[name]?.failures ?? [];
    const others = verdict.failures.filter((failure) => !known.some((part) => failure.includes(part)));
    expect(others, verdict.output.slice(-4000)).toEqual([]);
  });

  test('what the programs leave can be deleted, and nothing stays', () => {
    for (const id of existsSync(state) ? readdirSync(state) : []) {
      const done = spawnSync(NODELET_OCI, ['--root', state, 'delete', '--force', id], { encoding: 'utf8' });
      expect(done).toMatchObject({ status: 0, stderr: '' });
    }
    expect(readdirSync(state)).toEqual([]);
    expect(readFileSync('/proc/self/mounts', 'utf8')).not.toContain(directory);
  });
});

test('each failure that is expected belongs to a program, and is told of in docs/conformance.md', () => {
  const text = readFileSync('docs/conformance.md', 'utf8');
  for (const [name, { reason }] of Object.entries(KNOWN_FAILURES)) {
    expect(PROGRAMS).toContain(name);
    expect(text).toContain(`| ${name} | ${reason} |`);
  }
});
