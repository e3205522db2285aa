import { NodeletError } from '../../base/index.ts';
import type { LinuxSeccomp, SeccompAction, SeccompFlag } from './types.ts';

/** SECCOMP_RET_* of linux/seccomp.h; the lower 16 bits are data (errno, or what a tracer is told). */
export const RET = {
  KILL_PROCESS: 0x8000_0000,
  KILL_THREAD: 0x0000_0000,
  TRAP: 0x0003_0000,
  ERRNO: 0x0005_0000,
  TRACE: 0x7ff0_0000,
  LOG: 0x7ffc_0000,
  ALLOW: 0x7fff_0000,
} as const;

export const EPERM = 1;
export const ENOSYS = 38;

/** The kernel cuts a larger errno down to this (MAX_ERRNO). */
const MAX_ERRNO = 4095;

/** The filter's return value for an action. Throws SECCOMP_PROFILE_INVALID naming `field`. */
export function returnValue(action: SeccompAction, errno: number | undefined, field: string): number {
  if (errno !== undefined && action !== 'SCMP_ACT_ERRNO' && action !== 'SCMP_ACT_TRACE') {
    throw invalid(field, `${action} takes no errno, found ${errno}`);
  }
  switch (action) {
    // As libseccomp and the specification define it: the plain KILL ends the thread.
    case 'SCMP_ACT_KILL':
    case 'SCMP_ACT_KILL_THREAD':
      return RET.KILL_THREAD;
    case 'SCMP_ACT_KILL_PROCESS':
      return RET.KILL_PROCESS;
    case 'SCMP_ACT_TRAP':
      return RET.TRAP;
    case 'SCMP_ACT_ERRNO':
      return RET.ERRNO | data(errno, MAX_ERRNO, field);
    case 'SCMP_ACT_TRACE':
      return RET.TRACE | data(errno, 0xffff, field);
    case 'SCMP_ACT_LOG':
      return RET.LOG;
    case 'SCMP_ACT_ALLOW':
      return RET.ALLOW;
    case 'SCMP_ACT_NOTIFY':
      throw new NodeletError(
        'SECCOMP_NOTIFY_UNSUPPORTED',
        `cannot use "SCMP_ACT_NOTIFY" in ${field}: no supervisor`,
        {
          hint: 'nodelet runs no seccomp agent; use SCMP_ACT_ERRNO or SCMP_ACT_LOG in its place',
          details: { field },
        },
      );
    default:
      throw invalid(field, `unknown action ${JSON.stringify(action)}`);
  }
}

function data(errno: number | undefined, most: number, field: string): number {
  const value = errno ?? EPERM;
  if (!Number.isInteger(value) || value < 0 || value > most) {
    throw invalid(field, `errno has to be an integer from 0 to ${most}, found ${value}`);
  }
  return value;
}

/** True for what lets a call happen (TRACE: a tracer decides, and handles calls that it does not know). */
export function isPermissive(value: number): boolean {
  // `& ` works on signed 32-bit numbers; KILL_PROCESS has the sign bit.
  const action = (value & 0xffff_0000) >>> 0;
  return action === RET.ALLOW || action === RET.LOG || action === RET.TRACE;
}

const FLAG_BITS: Readonly<Record<SeccompFlag, number>> = {
  SECCOMP_FILTER_FLAG_TSYNC: 1,
  SECCOMP_FILTER_FLAG_LOG: 2,
  SECCOMP_FILTER_FLAG_SPEC_ALLOW: 4,
  SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: 32,
};

/** The flags argument of seccomp(2). */
export function flagBits(flags: LinuxSeccomp['flags']): number {
  let bits = 0;
  for (const [i, flag] of (flags ?? []).entries()) {
    if (flag === 'SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV') {
      // The kernel answers EINVAL without a listener, and there is none without NOTIFY.
      throw invalid(`flags[${i}]`, `"${flag}" needs a rule with SCMP_ACT_NOTIFY`);
    }
    const bit = FLAG_BITS[flag];
    if (bit === undefined) throw invalid(`flags[${i}]`, `unknown flag ${JSON.stringify(flag)}`);
    bits |= bit;
  }
  return bits;
}

/** SECCOMP_PROFILE_INVALID at a field path such as `syscalls[3].args[0].op`. */
export function invalid(field: string, problem: string): NodeletError {
  return new NodeletError('SECCOMP_PROFILE_INVALID', `cannot use the seccomp profile: ${field}: ${problem}`, {
    hint: 'the format is LinuxSeccomp of the OCI runtime specification',
    details: { field },
  });
}
