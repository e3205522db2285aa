import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { defaultCapabilities } from '../../../src/linux/capabilities.ts';
import {
  type CompiledSeccomp,
  compileSeccomp,
  type LinuxSeccomp,
  type MachineArch,
  runtimeDefault,
  syscallNumber,
} from '../../../src/linux/seccomp/index.ts';

const arch = process.arch as MachineArch;
const native = arch === 'x64' ? 'x86_64' : 'arm64';
let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'nodelet-seccomp-'));
  execFileSync('cc', [
    '-O1',
    '-Wall',
    '-Werror',
    '-o',
    join(directory, 'probe'),
    join(import.meta.dirname, 'seccomp-probe.c'),
  ]);
});

afterAll(() => {
  rmSync(directory, { recursive: true, force: true });
});

/** Runs calls (`name,arg…`, `i386:name,arg…` or a number) under a filter: "ok", an errno, or "signal N" for each. */
function probe({ program, flags }: CompiledSeccomp, calls: readonly string[]): string[] {
  const filter = join(directory, 'filter');
  writeFileSync(filter, program);
  const numbered = calls.map((call) => {
    const [, compat = '', name = '', args = ''] = /^(i386:)?([^,]+)(.*)$/.exec(call) ?? [];
    const number = /^\d+$/.test(name) ? name : syscallNumber(compat === '' ? native : 'i386', name);
    return `${compat}${number}${args}`;
  });
  const out = execFileSync(join(directory, 'probe'), [filter, String(flags), ...numbered], {
    encoding: 'utf8',
  });
  return out.trim().split('\n');
}

/** What the kernel answers without any filter, for calls that it may not have. */
const permissive = () =>
  compileSeccomp({ defaultAction: 'SCMP_ACT_ALLOW', architectures: ['SCMP_ARCH_X86'] }, { arch });

describe('the default profile in the kernel', () => {
  const profile = () =>
    compileSeccomp(runtimeDefault({ capabilities: defaultCapabilities, arch, kernel: [6, 0] }), { arch });

  test.each<[string, string, string]>([
    ['getpid is allowed', 'getpid', 'ok'],
    ['an AF_UNIX socket is allowed', 'socket,1,1,0', 'ok'],
    ['AF_ALG is EPERM', 'socket,38,5,0', '1'],
    ['AF_VSOCK is EPERM', 'socket,40,1,0', '1'],
    ["AF_ALG with rubbish in the register's upper half is EPERM", 'socket,0x100000026,5,0', '1'],
    ['clone3 is ENOSYS', 'clone3,0,0', '38'],
    ['a new user namespace by clone is EPERM', 'clone,0x10000011,0,0,0,0', '1'],
    ['mount is EPERM', 'mount,0,0,0,0,0', '1'],
    ['keyctl is EPERM', 'keyctl,0,0', '1'],
    ['unshare is EPERM', 'unshare,0x10000000', '1'],
    ['bpf is EPERM', 'bpf,0,0,0', '1'],
    ['io_uring_setup is EPERM', 'io_uring_setup,1,0', '1'],
    ['a call that no kernel has is ENOSYS', '999', '38'],
    ['personality may be asked', 'personality,0xffffffff', 'ok'],
    ['ADDR_NO_RANDOMIZE is EPERM', 'personality,0x40000', '1'],
  ])('%s', (_, call, expected) => {
    expect(probe(profile(), [call])).toEqual([expected]);
  });

  test('32-bit calls are filtered by their own numbers', (context) => {
    if (probe(permissive(), ['i386:getpid'])[0] !== 'ok') context.skip('the kernel runs no 32-bit programs');
    // mount is 21 on i386, which is access on x86-64; and the other way round, 33 is access there.
    expect(probe(profile(), ['i386:getpid', 'i386:mount,0,0,0', 'i386:access,0,0', 'i386:999'])).toEqual([
      'ok',
      '1',
      '14',
      '38',
    ]);
  });

  test('under a profile for x86-64 alone a 32-bit call kills the process with SIGSYS', (context) => {
    if (probe(permissive(), ['i386:getpid'])[0] !== 'ok') context.skip('the kernel runs no 32-bit programs');
    const alone = compileSeccomp({ defaultAction: 'SCMP_ACT_ALLOW' }, { arch });
    expect(probe(alone, ['i386:getpid', 'getpid'])).toEqual(['signal 31', 'ok']);
  });
});

test('without the width rule the kernel opens a socket that the filter did not see', () => {
  const onlyAbove40: LinuxSeccomp = {
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [
      { names: ['socket'], action: 'SCMP_ACT_ERRNO', args: [{ index: 0, op: 'SCMP_CMP_LE', value: 40 }] },
    ],
  };
  // AF_UNIX (1), directly and with bit 32 set.
  const calls = ['socket,1,1,0', 'socket,0x100000001,1,0'];
  expect(probe(compileSeccomp(onlyAbove40, { arch, argumentWidth: 'register' }), calls)).toEqual(['1', 'ok']);
  expect(probe(compileSeccomp(onlyAbove40, { arch }), calls)).toEqual(['1', '1']);
});

test.each<
  [string, Partial<LinuxSeccomp['syscalls'] extends readonly (infer R)[] | undefined ? R : never>, string]
>([
  ['KILL_PROCESS', { action: 'SCMP_ACT_KILL_PROCESS' }, 'signal 31'],
  ['KILL', { action: 'SCMP_ACT_KILL' }, 'signal 31'],
  ['TRAP', { action: 'SCMP_ACT_TRAP' }, 'signal 31'],
  ['ERRNO', { action: 'SCMP_ACT_ERRNO', errnoRet: 95 }, '95'],
  ['LOG', { action: 'SCMP_ACT_LOG' }, 'ok'],
  ['TRACE without a tracer', { action: 'SCMP_ACT_TRACE' }, '38'],
])('the action %s', (_, rule, expected) => {
  const profile: LinuxSeccomp = {
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [{ names: ['getsid'], action: 'SCMP_ACT_ALLOW', ...rule }],
  };
  expect(probe(compileSeccomp(profile, { arch }), ['getsid,0'])).toEqual([expected]);
});

test('the kernel takes a program near its limit, with jumps of every length, and the flags', () => {
  const names = [
    'getpid',
    'getppid',
    'getuid',
    'getgid',
    'getsid',
    'alarm',
    'umask',
    'getpgid',
    'sync',
    'times',
  ];
  const profile: LinuxSeccomp = {
    defaultAction: 'SCMP_ACT_ALLOW',
    flags: ['SECCOMP_FILTER_FLAG_LOG', 'SECCOMP_FILTER_FLAG_SPEC_ALLOW', 'SECCOMP_FILTER_FLAG_TSYNC'],
    syscalls: Array.from({ length: 300 }, (_, i) => ({
      names: [names[i % names.length]!],
      action: 'SCMP_ACT_ERRNO' as const,
      args: [2, 3].map((index) => ({ index, op: 'SCMP_CMP_EQ' as const, value: 0x5_0000_0000 + i })),
    })),
  };
  const compiled = compileSeccomp(profile, { arch });
  expect(compiled.instructions).toBeGreaterThan(2000);
  expect(probe(compiled, ['getpid', `umask,0,0,0x500000006,0x500000006`, `umask,0,0,0x500000006,0`])).toEqual(
    ['ok', '1', 'ok'],
  );
});
