import { describe, expect, test } from 'vitest';
import {
  ABI_FACTS,
  type Abi,
  compileSeccomp,
  type LinuxSeccomp,
  RET,
  type SeccompArg,
  type SeccompRule,
  syscallNumber,
  X32_BIT,
} from '../../../../src/linux/seccomp/index.ts';
import { run, verify } from './bpf.ts';
import { ALL_NAMES } from './naive.ts';

const ERRNO = (errno: number) => RET.ERRNO + errno;
const X86: LinuxSeccomp['architectures'] = ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'];

function ask(profile: LinuxSeccomp, abi: Abi, call: string | number, ...args: bigint[]): number {
  const { program } = compileSeccomp(profile, { arch: abi.startsWith('arm') ? 'arm64' : 'x64' });
  verify(program);
  const nr = typeof call === 'number' ? call : syscallNumber(abi, call)!;
  return run(program, { arch: ABI_FACTS[abi].audit, nr, args }).value;
}

function denyByDefault(...syscalls: SeccompRule[]): LinuxSeccomp {
  return { defaultAction: 'SCMP_ACT_ERRNO', architectures: [...X86!, 'SCMP_ARCH_ARM'], syscalls };
}

const allow = (names: string[], ...args: SeccompArg[]): SeccompRule => ({
  names,
  action: 'SCMP_ACT_ALLOW',
  args,
});

describe('actions', () => {
  test.each<[string, Pick<SeccompRule, 'action' | 'errnoRet'>, number]>([
    ['KILL ends the thread', { action: 'SCMP_ACT_KILL' }, RET.KILL_THREAD],
    ['KILL_THREAD too', { action: 'SCMP_ACT_KILL_THREAD' }, RET.KILL_THREAD],
    ['KILL_PROCESS', { action: 'SCMP_ACT_KILL_PROCESS' }, RET.KILL_PROCESS],
    ['TRAP', { action: 'SCMP_ACT_TRAP' }, RET.TRAP],
    ['ERRNO is EPERM where none is given', { action: 'SCMP_ACT_ERRNO' }, ERRNO(1)],
    ['ERRNO 0 makes a call succeed without doing it', { action: 'SCMP_ACT_ERRNO', errnoRet: 0 }, ERRNO(0)],
    ['ERRNO', { action: 'SCMP_ACT_ERRNO', errnoRet: 13 }, ERRNO(13)],
    ['TRACE', { action: 'SCMP_ACT_TRACE', errnoRet: 5 }, RET.TRACE + 5],
    ['LOG', { action: 'SCMP_ACT_LOG' }, RET.LOG],
  ])('%s', (_, rule, expected) => {
    const profile: LinuxSeccomp = {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['mkdir'], ...rule }],
    };
    expect(ask(profile, 'x86_64', 'mkdir')).toBe(expected);
    expect(ask(profile, 'x86_64', 'rmdir')).toBe(RET.ALLOW);
  });

  test.each<[string, LinuxSeccomp, string, RegExp]>([
    [
      'NOTIFY, by name',
      { defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ names: ['mkdir'], action: 'SCMP_ACT_NOTIFY' }] },
      'SECCOMP_NOTIFY_UNSUPPORTED',
      /"SCMP_ACT_NOTIFY" in syscalls\[0\]\.action/,
    ],
    [
      'an errno where the action has none',
      { defaultAction: 'SCMP_ACT_ALLOW', defaultErrnoRet: 1 },
      'SECCOMP_PROFILE_INVALID',
      /defaultAction: SCMP_ACT_ALLOW takes no errno/,
    ],
    [
      'an errno that the kernel would cut',
      denyByDefault({ names: ['mkdir'], action: 'SCMP_ACT_ERRNO', errnoRet: 4096 }),
      'SECCOMP_PROFILE_INVALID',
      /syscalls\[0\]\.action: errno has to be an integer from 0 to 4095, found 4096/,
    ],
    [
      'a seventh argument',
      denyByDefault(allow(['mkdir'], { index: 6, op: 'SCMP_CMP_EQ', value: 0 })),
      'SECCOMP_PROFILE_INVALID',
      /syscalls\[0\]\.args\[0\]\.index: .* found 6/,
    ],
    [
      'a number that lost its last digits',
      denyByDefault(allow(['mkdir'], { index: 0, op: 'SCMP_CMP_EQ', value: 2 ** 60 })),
      'SECCOMP_PROFILE_INVALID',
      /syscalls\[0\]\.args\[0\]\.value: .*not an exact integer/,
    ],
    [
      'a rule without names',
      denyByDefault(allow([])),
      'SECCOMP_PROFILE_INVALID',
      /syscalls\[0\]\.names: at least one/,
    ],
    [
      'an unknown architecture',
      { defaultAction: 'SCMP_ACT_ALLOW', architectures: ['SCMP_ARCH_VAX' as 'SCMP_ARCH_X86'] },
      'SECCOMP_PROFILE_INVALID',
      /architectures\[0\]: unknown architecture "SCMP_ARCH_VAX"/,
    ],
    [
      'the flag that only a supervisor can use',
      { defaultAction: 'SCMP_ACT_ALLOW', flags: ['SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'] },
      'SECCOMP_PROFILE_INVALID',
      /flags\[0\]: .*needs a rule with SCMP_ACT_NOTIFY/,
    ],
  ])('refuses %s', (_, profile, code, message) => {
    expect(() => compileSeccomp(profile, { arch: 'x64' })).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });

  test('flags are the bits of seccomp(2)', () => {
    const flags = [
      'SECCOMP_FILTER_FLAG_TSYNC',
      'SECCOMP_FILTER_FLAG_LOG',
      'SECCOMP_FILTER_FLAG_SPEC_ALLOW',
    ] as const;
    expect(compileSeccomp({ defaultAction: 'SCMP_ACT_ALLOW', flags }, { arch: 'x64' }).flags).toBe(1 | 2 | 4);
  });
});

describe('architectures', () => {
  const profile: LinuxSeccomp = { defaultAction: 'SCMP_ACT_ALLOW' };

  test('an empty profile is one return behind the look at the architecture', () => {
    const { program, instructions } = compileSeccomp(profile, { arch: 'arm64' });
    expect(run(program, { arch: ABI_FACTS.arm64.audit, nr: 7 }).value).toBe(RET.ALLOW);
    expect(instructions).toBeLessThan(6);
  });

  test.each<[Abi, number]>([
    ['x86_64', RET.ALLOW],
    ['i386', RET.KILL_PROCESS],
    ['x32', RET.KILL_PROCESS],
    ['arm64', RET.KILL_PROCESS],
  ])('a profile for x86-64 alone gives %s the right answer', (abi, expected) => {
    const { program } = compileSeccomp(profile, { arch: 'x64' });
    const nr = abi === 'x32' ? X32_BIT + 1 : 1;
    expect(run(program, { arch: ABI_FACTS[abi].audit, nr }).value).toBe(expected);
  });

  test('a call that a tracer skips (-1) is not taken for x32', () => {
    const { program } = compileSeccomp(profile, { arch: 'x64' });
    expect(run(program, { arch: ABI_FACTS.x86_64.audit, nr: 0xffff_ffff }).value).toBe(RET.ALLOW);
  });

  test("another family's architectures are accepted and have no effect", () => {
    const foreign: LinuxSeccomp = { ...profile, architectures: ['SCMP_ARCH_S390X', 'SCMP_ARCH_AARCH64'] };
    expect(compileSeccomp(foreign, { arch: 'x64' }).program).toEqual(
      compileSeccomp(profile, { arch: 'x64' }).program,
    );
  });

  test('names that an architecture lacks are ignored there, names that none has are reported', () => {
    const some = denyByDefault(allow(['waitpid', 'mkdir', 'riscv_hwprobe', 'mkdirr', 'constructor']));
    expect(ask(some, 'i386', 'waitpid')).toBe(RET.ALLOW);
    expect(ask(some, 'x86_64', 'mkdir')).toBe(RET.ALLOW);
    expect(compileSeccomp(some, { arch: 'x64' }).unknown).toEqual(['mkdirr', 'constructor']);
  });
});

describe('calls newer than the profile', () => {
  const profile = denyByDefault(allow(['read', 'statx', 'openat2']));

  test.each<[string, Abi, number, number]>([
    ['the newest named call', 'x86_64', 437, RET.ALLOW],
    ['an older one that is not named', 'x86_64', 436, ERRNO(1)],
    ['the next one', 'x86_64', 438, ERRNO(38)],
    ['one that does not exist', 'x86_64', 999, ERRNO(38)],
    ['the next one on i386', 'i386', 438, ERRNO(38)],
    ['the next one on x32', 'x32', X32_BIT + 438, ERRNO(38)],
    ["x32's own block, which holds nothing new", 'x32', X32_BIT + 520, ERRNO(1)],
    ['beyond that block', 'x32', X32_BIT + 548, ERRNO(38)],
    ['the next one on arm', 'arm', 438, ERRNO(38)],
    ["arm's private calls", 'arm', 0x0f_0002, ERRNO(1)],
  ])('%s', (_, abi, nr, expected) => {
    expect(ask(profile, abi, nr)).toBe(expected);
  });

  test('a private call that is named does not make all numbers below it old', () => {
    const named = denyByDefault(allow(['read', 'cacheflush']));
    expect(ask(named, 'arm', 'cacheflush')).toBe(RET.ALLOW);
    expect(ask(named, 'arm', 470)).toBe(ERRNO(38));
  });

  test.each(['SCMP_ACT_ALLOW', 'SCMP_ACT_LOG', 'SCMP_ACT_TRACE'] as const)(
    'are left to the default %s',
    (action) => {
      const permissive: LinuxSeccomp = { ...profile, defaultAction: action };
      expect(ask(permissive, 'x86_64', 999)).toBe(ask({ defaultAction: action }, 'x86_64', 1));
    },
  );

  test('a profile that names nothing answers everything with its default', () => {
    expect(ask({ defaultAction: 'SCMP_ACT_ERRNO' }, 'x86_64', 999)).toBe(ERRNO(1));
  });
});

describe('arguments', () => {
  test('of one rule all have to hold', () => {
    const profile = denyByDefault(
      allow(['mmap'], { index: 0, op: 'SCMP_CMP_EQ', value: 1 }, { index: 1, op: 'SCMP_CMP_GT', value: 5 }),
    );
    expect(ask(profile, 'x86_64', 'mmap', 1n, 6n)).toBe(RET.ALLOW);
    expect(ask(profile, 'x86_64', 'mmap', 1n, 5n)).toBe(ERRNO(1));
    expect(ask(profile, 'x86_64', 'mmap', 2n, 6n)).toBe(ERRNO(1));
  });

  test('that appear twice in a rule are alternatives, and so is everything else in that rule', () => {
    const profile = denyByDefault(
      allow(
        ['mmap'],
        { index: 0, op: 'SCMP_CMP_EQ', value: 1 },
        { index: 0, op: 'SCMP_CMP_EQ', value: 2 },
        { index: 1, op: 'SCMP_CMP_EQ', value: 9 },
      ),
    );
    expect(ask(profile, 'x86_64', 'mmap', 1n, 0n)).toBe(RET.ALLOW);
    expect(ask(profile, 'x86_64', 'mmap', 2n, 0n)).toBe(RET.ALLOW);
    expect(ask(profile, 'x86_64', 'mmap', 0n, 9n)).toBe(RET.ALLOW);
    expect(ask(profile, 'x86_64', 'mmap', 0n, 0n)).toBe(ERRNO(1));
  });

  test.each([
    ['rule before', [allow(['mmap']), allow(['mmap'], { index: 0, op: 'SCMP_CMP_EQ', value: 1 })]],
    ['rule after', [allow(['mmap'], { index: 0, op: 'SCMP_CMP_EQ', value: 1 }), allow(['mmap'])]],
  ])('do not count beside a %s without arguments', (_, rules) => {
    expect(ask(denyByDefault(...rules), 'x86_64', 'mmap', 2n)).toBe(RET.ALLOW);
  });

  test('a rule with the default action does not outdo one with another action', () => {
    const profile = denyByDefault(
      { names: ['mmap'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 },
      allow(['mmap']),
    );
    expect(ask(profile, 'x86_64', 'mmap')).toBe(RET.ALLOW);
  });

  test('of overlapping rules with different actions, equality comes before ranges, whatever the order', () => {
    const trap: SeccompRule = {
      names: ['mmap'],
      action: 'SCMP_ACT_TRAP',
      args: [{ index: 0, op: 'SCMP_CMP_EQ', value: 3 }],
    };
    const wide = allow(['mmap'], { index: 0, op: 'SCMP_CMP_LT', value: 10 });
    for (const rules of [
      [trap, wide],
      [wide, trap],
    ]) {
      expect(ask(denyByDefault(...rules), 'x86_64', 'mmap', 3n)).toBe(RET.TRAP);
      expect(ask(denyByDefault(...rules), 'x86_64', 'mmap', 4n)).toBe(RET.ALLOW);
    }
  });

  test('that the kernel reads as int are compared as int: rubbish above does not get past', () => {
    const profile = denyByDefault(allow(['socket'], { index: 0, op: 'SCMP_CMP_GT', value: 40 }));
    expect(ask(profile, 'x86_64', 'socket', 41n)).toBe(RET.ALLOW);
    expect(ask(profile, 'x86_64', 'socket', 0x1_0000_0026n)).toBe(ERRNO(1));
    const wide = compileSeccomp(profile, { arch: 'x64', argumentWidth: 'register' });
    const call = {
      arch: ABI_FACTS.x86_64.audit,
      nr: syscallNumber('x86_64', 'socket')!,
      args: [0x1_0000_0026n],
    };
    expect(run(wide.program, call).value).toBe(RET.ALLOW);
  });

  test('that are 64 bits wide are compared as such', () => {
    const profile = denyByDefault(allow(['mmap'], { index: 1, op: 'SCMP_CMP_LE', value: 0x1_0000_0000n }));
    expect(ask(profile, 'x86_64', 'mmap', 0n, 0x1_0000_0000n)).toBe(RET.ALLOW);
    expect(ask(profile, 'x86_64', 'mmap', 0n, 0x1_0000_0001n)).toBe(ERRNO(1));
    expect(ask(profile, 'x86_64', 'mmap', 0n, 0x2_0000_0000n)).toBe(ERRNO(1));
  });
});

describe("i386's multiplexers", () => {
  test('a rule for a call holds through socketcall and ipc too', () => {
    const profile = denyByDefault(allow(['bind', 'shmget', 'accept']));
    expect(ask(profile, 'i386', 'socketcall', 2n)).toBe(RET.ALLOW);
    expect(ask(profile, 'i386', 'socketcall', 5n)).toBe(RET.ALLOW);
    expect(ask(profile, 'i386', 'socketcall', 1n)).toBe(ERRNO(1));
    expect(ask(profile, 'i386', 'ipc', 23n)).toBe(RET.ALLOW);
    expect(ask(profile, 'i386', 'ipc', 24n)).toBe(ERRNO(1));
  });

  test('a rule that permits only some arguments permits nothing there: they cannot be read', () => {
    const profile = denyByDefault(allow(['socket'], { index: 0, op: 'SCMP_CMP_LT', value: 38 }));
    expect(ask(profile, 'i386', 'socket', 2n)).toBe(RET.ALLOW);
    expect(ask(profile, 'i386', 'socketcall', 1n)).toBe(ERRNO(1));
  });

  test('a rule that denies some arguments denies all there', () => {
    const profile: LinuxSeccomp = {
      defaultAction: 'SCMP_ACT_ALLOW',
      architectures: X86,
      syscalls: [
        { names: ['socket'], action: 'SCMP_ACT_ERRNO', args: [{ index: 0, op: 'SCMP_CMP_EQ', value: 38 }] },
      ],
    };
    expect(ask(profile, 'i386', 'socket', 2n)).toBe(RET.ALLOW);
    expect(ask(profile, 'i386', 'socketcall', 1n)).toBe(ERRNO(1));
    expect(ask(profile, 'i386', 'socketcall', 2n)).toBe(RET.ALLOW);
  });
});

test('a program beyond the length that the kernel takes is refused with its length', () => {
  const args = (n: number): SeccompArg[] =>
    [0, 1, 2, 3].map((index) => ({ index, op: 'SCMP_CMP_EQ', value: BigInt(n * 8 + index) << 20n }));
  const profile = denyByDefault(...ALL_NAMES.slice(0, 450).map((name, i) => allow([name], ...args(i))));
  expect(() => compileSeccomp(profile, { arch: 'x64' })).toThrow(
    expect.objectContaining({
      code: 'SECCOMP_TOO_LONG',
      message: expect.stringMatching(/compiles to \d{4,} instructions, the kernel takes 4096/),
    }),
  );
});
