import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readCgroupHost } from '../../../src/linux/cgroups/index.ts';
import { O } from '../../../src/linux/constants.ts';
import {
  allDeviceRules,
  attachDeviceProgram,
  attachedDevicePrograms,
  type DeviceRule,
  defaultDeviceRules,
  deviceRulesV1,
  loadDeviceProgram,
} from '../../../src/linux/devices/index.ts';
import { Fd } from '../../../src/linux/fd.ts';
import { native } from '../../../src/linux/native.ts';
import { check } from '../../../src/linux/syscall-error.ts';

let nodes: string;

beforeAll(() => {
  nodes = mkdtempSync(join(tmpdir(), 'nodelet-devices-'));
  for (const [name, type, major, minor] of [
    ['null', 'c', 1, 3],
    ['zero', 'c', 1, 5],
    ['mem', 'c', 1, 1],
    ['kmsg', 'c', 1, 11],
  ] as const) {
    execFileSync('mknod', [join(nodes, name), type, String(major), String(minor)]);
  }
});

afterAll(() => {
  rmSync(nodes, { recursive: true, force: true });
});

/** Runs `work` with a new v2 cgroup and removes it. */
function withCgroup(work: (directory: string) => void): void {
  const directory = join(readCgroupHost().unified, `nodelet-test-devices-${process.pid}`);
  mkdirSync(directory);
  try {
    work(directory);
  } finally {
    rmdirSync(directory);
  }
}

/** Runs a shell command as a member of the cgroup: its exit code and what it complained of. */
function inside(procs: string, command: string): { status: number | null; complaint: string } {
  const out = spawnSync('sh', ['-c', `echo $$ > ${procs} && ${command}`], { encoding: 'utf8' });
  return { status: out.status, complaint: out.stderr.trim() };
}

function openDirectory(path: string): Fd {
  return new Fd(check(native().openat2(-100, path, O.RDONLY | O.DIRECTORY, 0, 0), 'open', path));
}

function attach(directory: string, rules: readonly DeviceRule[]): void {
  using cgroup = openDirectory(directory);
  using program = loadDeviceProgram(rules);
  attachDeviceProgram(cgroup, program);
  expect(attachedDevicePrograms(cgroup)).toHaveLength(1);
}

describe('a device program on a cgroup', () => {
  test('with the default rules: null and zero open, kernel memory and the kernel log do not', () => {
    withCgroup((directory) => {
      attach(directory, defaultDeviceRules);
      const procs = join(directory, 'cgroup.procs');
      expect(inside(procs, `: < ${nodes}/null && head -c 4 ${nodes}/zero > /dev/null`).status).toBe(0);
      for (const name of ['mem', 'kmsg']) {
        const out = inside(procs, `: < ${nodes}/${name}`);
        expect(out.status).not.toBe(0);
        expect(out.complaint).toContain('Operation not permitted');
      }
    });
  });

  test('with the default rules a node can be made but not opened', () => {
    withCgroup((directory) => {
      attach(directory, defaultDeviceRules);
      const made = join(nodes, 'made');
      const out = inside(join(directory, 'cgroup.procs'), `mknod ${made} c 1 11 && : < ${made}`);
      expect(out.complaint).toContain('Operation not permitted');
      expect(spawnSync('test', ['-c', made]).status).toBe(0);
    });
  });

  test('reading without writing', () => {
    withCgroup((directory) => {
      attach(directory, [
        ...defaultDeviceRules,
        { allow: false, type: 'c', major: 1, minor: 5, access: 'w' },
      ]);
      const procs = join(directory, 'cgroup.procs');
      expect(inside(procs, `: < ${nodes}/zero`).status).toBe(0);
      expect(inside(procs, `: > ${nodes}/zero`).complaint).toContain('Operation not permitted');
      expect(inside(procs, `: <> ${nodes}/zero`).complaint).toContain('Operation not permitted');
    });
  });

  test('that allows everything loads too, and a program outlives its descriptor', () => {
    withCgroup((directory) => {
      attach(directory, allDeviceRules);
      expect(inside(join(directory, 'cgroup.procs'), `: < ${nodes}/kmsg`).status).toBe(0);
    });
  });

  test('of hundreds of rules passes the verifier', () => {
    const rules = Array.from(
      { length: 500 },
      (_, i): DeviceRule => ({
        allow: i % 3 !== 0,
        type: i % 2 === 0 ? 'c' : 'b',
        major: i,
        access: ['r', 'w', 'rw', 'rwm'][i % 4]!,
      }),
    );
    using program = loadDeviceProgram([...defaultDeviceRules, ...rules]);
    expect(program.closed).toBe(false);
  });
});

test('the v1 lines do the same where the devices controller is bound to v1', (context) => {
  const controller = readCgroupHost().controllers.devices;
  if (controller?.version !== 1) context.skip('needs the v1 devices controller');
  const directory = join(controller!.root, `nodelet-test-devices-${process.pid}`);
  mkdirSync(directory);
  try {
    const lines = deviceRulesV1(defaultDeviceRules).map(
      ({ file, value }) => `echo '${value}' > ${directory}/${file}`,
    );
    execFileSync('sh', ['-ec', lines.join('\n')]);
    const procs = join(directory, 'cgroup.procs');
    expect(inside(procs, `: < ${nodes}/null`).status).toBe(0);
    expect(inside(procs, `: < ${nodes}/kmsg`).complaint).toContain('Operation not permitted');
  } finally {
    rmdirSync(directory);
  }
});
