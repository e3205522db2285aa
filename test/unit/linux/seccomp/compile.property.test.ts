import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  ABI_FACTS,
  type Abi,
  compileSeccomp,
  type LinuxSeccomp,
  type MachineArch,
  type SeccompArchitecture,
  type SeccompRule,
  syscallNumber,
  X32_BIT,
} from '../../../../src/linux/seccomp/index.ts';
import { run, verify } from './bpf.ts';
import { ALL_NAMES, verdict } from './naive.ts';

const MACHINES: Readonly<Record<MachineArch, readonly Abi[]>> = {
  x64: ['x86_64', 'i386', 'x32'],
  arm64: ['arm64', 'arm'],
};

/** Values at which comparisons of 32-bit halves go wrong, and their neighbours. */
const interesting = fc.oneof(
  { weight: 3, arbitrary: fc.bigInt(0n, 70n) },
  fc.constantFrom(
    0x7fff_ffffn,
    0x8000_0000n,
    0xffff_ffffn,
    0x1_0000_0000n,
    0x1_0000_0026n,
    0x7fff_ffff_ffff_ffffn,
    0x8000_0000_0000_0000n,
    0xffff_ffff_0000_0000n,
    0xffff_ffff_8000_0000n,
    0xffff_ffff_ffff_ffffn,
  ),
  fc.bigInt(0n, 0xffff_ffff_ffff_ffffn),
  // Negative 32-bit numbers, as a register and as a profile's value hold them.
  fc.bigInt(0xffff_ffff_7fff_fff0n, 0xffff_ffff_8000_0010n),
  fc.bigInt(0x8000_0000n, 0x8000_0010n),
);

/** A few calls, so that rules meet; among them ones with narrow arguments and multiplexed ones. */
const SOME = [
  'read',
  'socket',
  'socketcall',
  'ipc',
  'shmget',
  'ioctl',
  'mmap',
  'personality',
  'clone',
  'prctl',
];
const name = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...SOME) },
  fc.constantFrom(...ALL_NAMES),
  fc.constantFrom('riscv_hwprobe', 'no_such_call'),
);

const arg = fc.record({
  index: fc.integer({ min: 0, max: 5 }),
  value: interesting,
  valueTwo: fc.option(interesting, { nil: undefined }),
  op: fc.constantFrom(
    ...(['NE', 'LT', 'LE', 'EQ', 'GE', 'GT', 'MASKED_EQ'] as const).map((op) => `SCMP_CMP_${op}` as const),
  ),
});

const action = fc.constantFrom(
  { action: 'SCMP_ACT_ALLOW' as const },
  { action: 'SCMP_ACT_LOG' as const },
  { action: 'SCMP_ACT_KILL_PROCESS' as const },
  { action: 'SCMP_ACT_TRAP' as const },
  { action: 'SCMP_ACT_ERRNO' as const },
  { action: 'SCMP_ACT_ERRNO' as const, errnoRet: 38 },
  { action: 'SCMP_ACT_TRACE' as const, errnoRet: 7 },
);

/**
 * Rules with arguments all have one action in a profile, and none is about a multiplexer, which has rules from other
 * names: which of two overlapping rules wins is tested elsewhere.
 */
const profile = fc
  .record({
    fallback: action,
    conditionalAction: action,
    plain: fc.array(fc.record({ names: fc.array(name, { minLength: 1, maxLength: 30 }), action }), {
      maxLength: 3,
    }),
    conditional: fc.array(
      fc.record({
        names: fc.array(
          name.filter((n) => n !== 'socketcall' && n !== 'ipc'),
          { minLength: 1, maxLength: 3 },
        ),
        args: fc.array(arg, { minLength: 1, maxLength: 3 }),
      }),
      { maxLength: 8 },
    ),
    // Calls that are already unconditional may appear twice with different actions: the first one counts.
    architectures: fc.subarray<SeccompArchitecture>([
      'SCMP_ARCH_X86',
      'SCMP_ARCH_X32',
      'SCMP_ARCH_ARM',
      'SCMP_ARCH_S390X',
    ]),
  })
  .map(({ fallback, conditionalAction, plain, conditional, architectures }): LinuxSeccomp => {
    const rules: SeccompRule[] = [
      ...plain.map((rule) => ({ names: rule.names, ...rule.action })),
      ...conditional.map((rule) => ({ ...rule, ...conditionalAction })),
    ];
    return {
      defaultAction: fallback.action,
      defaultErrnoRet: 'errnoRet' in fallback ? fallback.errnoRet : undefined,
      architectures,
      syscalls: rules,
    };
  });

const registers = fc.array(interesting, { minLength: 6, maxLength: 6 });

describe.each<MachineArch>(['x64', 'arm64'])('on %s', (arch) => {
  test('a compiled program decides as the rules do, for random profiles, calls and arguments', () => {
    fc.assert(
      fc.property(
        profile,
        fc.array(fc.tuple(name, registers, fc.nat(600)), { minLength: 5 }),
        (given, calls) => {
          const { program } = compileSeccomp(given, { arch });
          verify(program);
          const covered = MACHINES[arch].filter(
            (abi, i) => i === 0 || given.architectures?.includes(ABI_FACTS[abi].oci),
          );
          for (const [called, args, anyNumber] of calls) {
            for (const abi of MACHINES[arch]) {
              const base = abi === 'x32' ? X32_BIT : 0;
              // 32-bit processes have no upper halves.
              const seen = abi === 'i386' || abi === 'arm' ? args.map((a) => a & 0xffff_ffffn) : args;
              for (const nr of [syscallNumber(abi, called) ?? 0, base + anyNumber]) {
                const call = { arch: ABI_FACTS[abi].audit, nr, args: seen };
                expect(run(program, call).value).toBe(verdict(given, covered, call));
              }
            }
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test('programs of a thousand instructions, with jumps farther than a branch reaches, decide alike', () => {
    const many = fc
      .array(
        fc.record({
          names: fc.array(fc.constantFrom(...ALL_NAMES), { minLength: 1, maxLength: 4 }),
          args: fc.array(arg, { minLength: 1, maxLength: 2 }),
        }),
        {
          minLength: 60,
          maxLength: 90,
        },
      )
      .map(
        (rules): LinuxSeccomp => ({
          defaultAction: 'SCMP_ACT_ERRNO',
          architectures: ['SCMP_ARCH_X86', 'SCMP_ARCH_X32', 'SCMP_ARCH_ARM'],
          syscalls: rules.map((rule) => ({ ...rule, action: 'SCMP_ACT_ALLOW' as const })),
        }),
      );
    fc.assert(
      fc.property(many, registers, (given, args) => {
        const { program, instructions } = compileSeccomp(given, { arch });
        expect(instructions).toBeGreaterThan(400);
        verify(program);
        for (const abi of MACHINES[arch]) {
          for (const called of given.syscalls!.flatMap((rule) => rule.names)) {
            const call = { arch: ABI_FACTS[abi].audit, nr: syscallNumber(abi, called) ?? 1, args };
            if (abi === 'i386' || abi === 'arm') call.args = args.map((a) => a & 0xffff_ffffn);
            expect(run(program, call).value).toBe(verdict(given, MACHINES[arch], call));
          }
        }
      }),
      { numRuns: 15 },
    );
  });

  test('numbers beyond every table, and -1, are decided like the rules say', () => {
    fc.assert(
      fc.property(profile, fc.integer({ min: 0, max: 0xffff_ffff }), (given, nr) => {
        const { program } = compileSeccomp(given, { arch });
        const covered = MACHINES[arch].filter(
          (abi, i) => i === 0 || given.architectures?.includes(ABI_FACTS[abi].oci),
        );
        for (const number of [
          nr,
          0xffff_ffff,
          X32_BIT,
          X32_BIT - 1,
          X32_BIT + 512,
          X32_BIT + 547,
          X32_BIT + 548,
        ]) {
          for (const audit of [...MACHINES[arch].map((abi) => ABI_FACTS[abi].audit), 0x8000_0016]) {
            const call = { arch: audit, nr: number };
            expect(run(program, call).value).toBe(verdict(given, covered, call));
          }
        }
      }),
      { numRuns: 200 },
    );
  });
});
