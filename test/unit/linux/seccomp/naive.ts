/** What a profile says about one call, read off the profile itself, rule by rule: the yardstick for the compiler. */
import {
  ABI_FACTS,
  type Abi,
  type LinuxSeccomp,
  RET,
  type SeccompArg,
  syscallNumber,
  X32_BIT,
} from '../../../../src/linux/seccomp/index.ts';
import { NARROW_ARGUMENTS, SYSCALL_TABLE } from '../../../../src/linux/seccomp/syscalls.gen.ts';
import type { Call } from './bpf.ts';

const ERRNO_DEFAULT = 1;

function value(action: string, errno: number | undefined): number {
  const name = action.slice('SCMP_ACT_'.length);
  if (name === 'KILL') return RET.KILL_THREAD;
  const base = RET[name as keyof typeof RET];
  return name === 'ERRNO' || name === 'TRACE' ? base + (errno ?? ERRNO_DEFAULT) : base;
}

function holds(arg: SeccompArg, register: bigint, narrow: boolean): boolean {
  // A narrow argument is the 32-bit number that the kernel takes it for.
  const cut = (n: bigint) => (narrow ? BigInt.asUintN(32, n) : n);
  const fits = (n: bigint) => !narrow || n < 1n << 32n || n >= (1n << 64n) - (1n << 31n);
  const a = cut(register);
  const b = BigInt(arg.value);
  const [x, y] = fits(b) ? [a, cut(b)] : [a, b];
  switch (arg.op) {
    case 'SCMP_CMP_EQ':
      return x === y;
    case 'SCMP_CMP_NE':
      return x !== y;
    case 'SCMP_CMP_LT':
      return x < y;
    case 'SCMP_CMP_LE':
      return x <= y;
    case 'SCMP_CMP_GE':
      return x >= y;
    case 'SCMP_CMP_GT':
      return x > y;
    case 'SCMP_CMP_MASKED_EQ': {
      const wanted = BigInt(arg.valueTwo ?? 0);
      if (!narrow) return (a & b) === (wanted & b);
      const masked = wanted & b;
      if (masked >> 32n !== 0n && !fits(wanted)) return false;
      return (a & cut(b)) === cut(masked);
    }
    default:
      throw new Error(arg.op);
  }
}

/** `abis`: those that the compiled filter covers. Rules for one call are expected to have one action. */
export function verdict(profile: LinuxSeccomp, abis: readonly Abi[], call: Call, enosys = true): number {
  const otherwise = value(profile.defaultAction, profile.defaultErrnoRet);
  const candidates = abis.filter((abi) => ABI_FACTS[abi].audit === call.arch);
  if (candidates.length === 0) return RET.KILL_PROCESS;
  let abi = candidates[0]!;
  if (call.arch === ABI_FACTS.x32.audit && call.nr >= X32_BIT) {
    if (candidates.includes('x32')) abi = 'x32';
    else return call.nr === 0xffff_ffff ? otherwise : RET.KILL_PROCESS;
  }

  const multiplexers = { socketcall: socketcalls, ipc: ipcs };
  let conditional: number | undefined;
  for (const rule of profile.syscalls ?? []) {
    const action = value(rule.action, rule.errnoRet);
    if (action === otherwise) continue;
    for (const name of rule.names) {
      if (syscallNumber(abi, name) === call.nr) {
        const all = rule.args ?? [];
        const twice = new Set(all.map((a) => a.index)).size < all.length;
        const args = all.filter((a) => a.op !== 'SCMP_CMP_MASKED_EQ' || BigInt(a.value) !== 0n);
        if (args.length === 0 || (twice && args.length < all.length)) return action;
        const test = (arg: SeccompArg) => {
          const mask = NARROW_ARGUMENTS[name] ?? 0;
          return holds(
            arg,
            call.args?.[arg.index] ?? 0n,
            ABI_FACTS[abi].narrow || ((mask >> arg.index) & 1) === 1,
          );
        };
        if (twice ? args.some(test) : args.every(test)) conditional ??= action;
      }
      for (const [through, calls] of Object.entries(multiplexers)) {
        if (abi !== 'i386' || syscallNumber('i386', through) !== call.nr) continue;
        if (BigInt.asUintN(32, call.args?.[0] ?? 0n) !== BigInt(calls[name] ?? -1)) continue;
        const permits = [RET.ALLOW, RET.LOG].includes(action as never) || action >>> 16 === RET.TRACE >>> 16;
        const all = rule.args ?? [];
        const args = all.filter((a) => a.op !== 'SCMP_CMP_MASKED_EQ' || BigInt(a.value) !== 0n);
        const twice = new Set(all.map((a) => a.index)).size < all.length;
        const unconditional = args.length === 0 || (twice && args.length < all.length);
        if (unconditional || !permits) conditional ??= action;
      }
    }
  }
  // An unconditional rule for the call, found after a conditional one, outdoes it: handled by the return above.
  if (conditional !== undefined) return conditional;
  if (!enosys || [RET.ALLOW, RET.LOG].includes(otherwise as never) || otherwise >>> 16 === RET.TRACE >>> 16) {
    return otherwise;
  }
  const { apart } = ABI_FACTS[abi];
  const isApart = (n: number) => apart !== undefined && n >= apart[0] && n <= apart[1];
  const named = (profile.syscalls ?? []).flatMap((r) => r.names.map((n) => syscallNumber(abi, n) ?? -1));
  const newest = Math.max(-1, ...named.filter((n) => !isApart(n)));
  return newest >= 0 && call.nr > newest && !isApart(call.nr) ? RET.ERRNO + 38 : otherwise;
}

const socketcalls: Readonly<Record<string, number>> = Object.fromEntries(
  (
    'socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown ' +
    'setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg'
  )
    .split(' ')
    .map((name, i) => [name, i + 1]),
);

const ipcs: Readonly<Record<string, number>> = Object.fromEntries(
  ['semop semget semctl semtimedop', 'msgsnd msgrcv msgget msgctl', 'shmat shmdt shmget shmctl'].flatMap(
    (group, tens) => group.split(' ').map((name, i) => [name, tens * 10 + i + 1] as const),
  ),
);

export const ALL_NAMES = Object.keys(SYSCALL_TABLE);
