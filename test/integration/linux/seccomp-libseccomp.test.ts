/**
 * The compiler beside libseccomp, called as runc calls it: the same verdicts for every system call. libseccomp
 * compares whole registers and knows no ENOSYS rule (runc adds that to its output), so both are switched off here.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { CAPABILITIES, defaultCapabilities } from '../../../src/linux/capabilities.ts';
import {
  ABI_FACTS,
  type Abi,
  compileSeccomp,
  type LinuxSeccomp,
  type MachineArch,
  RET,
  runtimeDefault,
  type SeccompAction,
  type SeccompArg,
  syscallName,
  syscallNumber,
  X32_BIT,
} from '../../../src/linux/seccomp/index.ts';
import { run } from '../../unit/linux/seccomp/bpf.ts';

const OPERATORS = ['NE', 'LT', 'LE', 'EQ', 'GE', 'GT', 'MASKED_EQ'];
/** SCMP_ARCH_* beside the machine's own (x32 has one of its own), and what a filter for each machine covers. */
const TOKENS = { x64: [0x4000_0003, 0x4000_003e], arm64: [0xc000_00b7, 0x4000_0028] } as const;
const ABIS: readonly Abi[] = ['x86_64', 'i386', 'x32'];
const COVERED = { x64: ABIS, arm64: ['arm64', 'arm'] } as const;

interface Peer {
  readonly program: Uint8Array;
  /** Names that the installed libseccomp does not know yet. */
  readonly unknown: readonly string[];
}

function value(action: SeccompAction, errno = 1): number {
  const name = action.slice('SCMP_ACT_'.length);
  if (name === 'KILL') return RET.KILL_THREAD;
  return RET[name as keyof typeof RET] + (name === 'ERRNO' || name === 'TRACE' ? errno : 0);
}

/** JSON with integers of 64 bits, which Python reads exactly. */
function json(data: unknown): string {
  return JSON.stringify(data, (_, v: unknown) => (typeof v === 'bigint' ? `@${v}` : v)).replaceAll(
    /"@(\d+)"/g,
    '$1',
  );
}

function libseccomp(profiles: readonly LinuxSeccomp[], arch: MachineArch = 'x64'): Peer[] {
  const input = profiles.map((profile) => ({
    default: value(profile.defaultAction, profile.defaultErrnoRet),
    arches: TOKENS[arch],
    native: arch === 'x64',
    optimize: (profile.syscalls ?? []).length > 32,
    rules: (profile.syscalls ?? []).flatMap((rule) =>
      rule.names.map((name) => ({
        name,
        action: value(rule.action, rule.errnoRet),
        args: (rule.args ?? []).map((arg) => [
          arg.index,
          OPERATORS.indexOf(arg.op.slice('SCMP_CMP_'.length)) + 1,
          arg.value,
          arg.valueTwo ?? 0,
        ]),
      })),
    ),
  }));
  const out = spawnSync('python3', [join(import.meta.dirname, 'seccomp-libseccomp.py')], {
    input: json(input),
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (out.status !== 0) throw new Error(out.stderr);
  const answers = JSON.parse(out.stdout) as { program?: string; error?: string; unknown: string[] }[];
  return answers.map(({ program, error, unknown }) => {
    if (program === undefined) throw new Error(error);
    return { program: new Uint8Array(Buffer.from(program, 'base64')), unknown };
  });
}

function without(profile: LinuxSeccomp, names: readonly string[]): LinuxSeccomp {
  const syscalls = (profile.syscalls ?? [])
    .map((rule) => ({ ...rule, names: rule.names.filter((name) => !names.includes(name)) }))
    .filter((rule) => rule.names.length > 0);
  return { ...profile, syscalls };
}

const compile = (profile: LinuxSeccomp, arch: MachineArch = 'x64') =>
  compileSeccomp(profile, { arch, enosys: false, argumentWidth: 'register' }).program;

let available = false;
beforeAll(() => {
  const out = spawnSync('python3', ['-c', 'import ctypes; ctypes.CDLL("libseccomp.so.2")']);
  available = out.status === 0 && process.arch === 'x64';
});

/** libseccomp's table of x32 lacks calls that its other tables have, up to 2.6. */
const LACKING_ON_X32 = ['map_shadow_stack', 'uretprobe'];

describe('beside libseccomp', () => {
  test.for<[string, MachineArch, readonly string[]]>([
    ['the default capabilities', 'x64', defaultCapabilities],
    ['no capabilities', 'x64', []],
    ['SYS_ADMIN', 'x64', [...defaultCapabilities, 'CAP_SYS_ADMIN']],
    ['all capabilities', 'x64', CAPABILITIES],
    ['the default capabilities', 'arm64', defaultCapabilities],
    ['all capabilities', 'arm64', CAPABILITIES],
  ])('the default profile with %s for %s decides every call alike', ([_, arch, capabilities], context) => {
    if (!available) context.skip('needs x86-64, python3 and libseccomp.so.2');
    const profile = runtimeDefault({ capabilities, arch, kernel: [6, 1] });
    const [peer] = libseccomp([profile], arch);
    const ours = compile(without(profile, peer!.unknown), arch);
    const firsts = [
      0n,
      1n,
      8n,
      37n,
      38n,
      39n,
      40n,
      41n,
      0x2_0000n,
      0x2_0008n,
      0x7e02_0000n,
      0x1000_0011n,
      0xffff_ffffn,
    ];
    const differences: string[] = [];
    for (const abi of COVERED[arch]) {
      const numbers = Array.from({ length: 1024 }, (_, i) => (abi === 'x32' ? X32_BIT + i : i));
      if (abi === 'arm') numbers.push(...Array.from({ length: 16 }, (_, i) => 0x0f_0000 + i));
      for (const nr of numbers) {
        const name = syscallName(abi, nr);
        if (abi === 'x32' && name !== undefined && LACKING_ON_X32.includes(name)) continue;
        for (const first of firsts) {
          const call = { arch: ABI_FACTS[abi].audit, nr, args: [first] };
          const [mine, theirs] = [run(ours, call).value, run(peer!.program, call).value];
          if (mine !== theirs)
            differences.push(`${abi} ${name ?? nr}(${first}): ${mine.toString(16)}, ${theirs.toString(16)}`);
        }
      }
    }
    expect(differences).toEqual([]);
  });

  test('the default profile is a quarter as long and no call takes more steps than the slowest there', (context) => {
    if (!available) context.skip('needs x86-64, python3 and libseccomp.so.2');
    const profile = runtimeDefault({ capabilities: defaultCapabilities, arch: 'x64', kernel: [6, 1] });
    const [peer] = libseccomp([profile]);
    const ours = compileSeccomp(profile, { arch: 'x64' }).program;
    expect(ours.length * 3).toBeLessThan(peer!.program.length);
    const steps = (program: Uint8Array) =>
      Math.max(
        ...ABIS.flatMap((abi) =>
          Array.from({ length: 600 }, (_, i) => {
            const nr = abi === 'x32' ? X32_BIT + i : i;
            return run(program, { arch: ABI_FACTS[abi].audit, nr }).steps;
          }),
        ),
      );
    expect(steps(ours)).toBeLessThan(steps(peer!.program));
  });

  test('random rules with one comparison decide alike', (context) => {
    if (!available) context.skip('needs x86-64, python3 and libseccomp.so.2');
    // Values of 32 bits: beyond them libseccomp 2.5 loses "LT" rules whose upper halves differ. Rules with several
    // comparisons are left out as well: where they overlap, its tree does not come back from a branch that failed.
    const VALUES = [0n, 1n, 2n, 3n, 38n, 40n, 41n, 0x7fff_ffffn, 0x8000_0000n, 0xffff_fffen, 0xffff_ffffn];
    const number = fc.constantFrom(...VALUES);
    const arg: fc.Arbitrary<SeccompArg> = fc.record({
      index: fc.integer({ min: 0, max: 2 }),
      op: fc.constantFrom(...OPERATORS).map((op) => `SCMP_CMP_${op}` as SeccompArg['op']),
      value: number,
      valueTwo: number,
    });
    const names = ['read', 'mmap', 'keyctl'];
    const profile = fc
      .tuple(
        fc.constantFrom<SeccompAction>('SCMP_ACT_ALLOW', 'SCMP_ACT_LOG', 'SCMP_ACT_TRAP'),
        fc.array(fc.tuple(fc.constantFrom(...names), arg), { minLength: 1, maxLength: 6 }),
      )
      .map(
        ([action, rules]): LinuxSeccomp => ({
          defaultAction: 'SCMP_ACT_ERRNO',
          architectures: ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
          syscalls: rules.map(([name, one]) => ({ names: [name], action, args: [one] })),
        }),
      );
    const profiles = fc.sample(profile, 150);
    const peers = libseccomp(profiles);
    for (const [i, peer] of peers.entries()) {
      const ours = compile(profiles[i]!);
      for (const abi of ABIS) {
        for (const name of names) {
          for (const a of VALUES) {
            for (const b of VALUES) {
              for (const c of [0n, 3n, 0xffff_ffffn]) {
                const call = { arch: ABI_FACTS[abi].audit, nr: syscallNumber(abi, name)!, args: [a, b, c] };
                if (run(ours, call).value !== run(peer.program, call).value) {
                  expect.fail(`${abi} ${name}(${a}, ${b}, ${c}) differs under ${json(profiles[i])}`);
                }
              }
            }
          }
        }
      }
    }
  });
});
