import { unreachable } from '../../base/index.ts';
import { invalid } from './actions.ts';
import { SECCOMP_OPERATORS, type SeccompArg } from './types.ts';

/** One comparison after normalisation: unsigned values, and how much of the register counts. */
export interface Comparison {
  readonly index: number;
  readonly op: 'EQ' | 'NE' | 'LT' | 'LE' | 'GE' | 'GT' | 'MASKED_EQ';
  readonly value: bigint;
  /** For MASKED_EQ, else all ones. */
  readonly mask: bigint;
  /** Only the lower 32 bits of the register are compared. */
  readonly narrow: boolean;
}

export const ALL_ONES = 0xffff_ffff_ffff_ffffn;
const LOW_ONES = 0xffff_ffffn;

/** Throws SECCOMP_PROFILE_INVALID at `field`. */
export function checkArg(arg: SeccompArg, field: string): void {
  if (!Number.isInteger(arg.index) || arg.index < 0 || arg.index > 5) {
    throw invalid(`${field}.index`, `a system call has arguments 0 to 5, found ${arg.index}`);
  }
  if (!SECCOMP_OPERATORS.includes(arg.op))
    throw invalid(`${field}.op`, `unknown operator ${JSON.stringify(arg.op)}`);
  unsigned(arg.value, `${field}.value`);
  unsigned(arg.valueTwo ?? 0, `${field}.valueTwo`);
}

function unsigned(value: number | bigint, field: string): bigint {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) {
    throw invalid(field, `${value} is not an exact integer (give large values as bigint)`);
  }
  const big = BigInt(value);
  if (big < 0n || big > ALL_ONES) throw invalid(field, `${big} is no unsigned 64-bit integer`);
  return big;
}

/**
 * The comparison that the filter has to make, or its outcome where that is already known.
 *
 * `narrow` is for arguments of which the kernel reads 32 bits (an `int`, or any argument of a 32-bit ABI). Their
 * registers' upper halves are whatever the caller left there, so a filter that compares 64 bits decides about another
 * value than the kernel then uses: with "allow socket(2) where family > 40", socket(0x1_0000_0026) is allowed and
 * opens family 38. That is how TIOCSTI filters were passed by (CVE-2019-7303, CVE-2019-10063).
 */
export function comparison(arg: SeccompArg, narrow: boolean): Comparison | boolean {
  const value = BigInt(arg.value);
  const plain = { index: arg.index, mask: ALL_ONES, narrow };
  switch (arg.op) {
    case 'SCMP_CMP_MASKED_EQ':
      return masked(arg.index, value, BigInt(arg.valueTwo ?? 0), narrow);
    case 'SCMP_CMP_EQ':
    case 'SCMP_CMP_NE': {
      const op = arg.op === 'SCMP_CMP_EQ' ? 'EQ' : 'NE';
      if (!narrow) return { ...plain, op, value };
      return isNarrow(value) ? { ...plain, op, value: value & LOW_ONES } : op === 'NE';
    }
    case 'SCMP_CMP_LT':
    case 'SCMP_CMP_LE':
    case 'SCMP_CMP_GE':
    case 'SCMP_CMP_GT': {
      const op = arg.op.slice('SCMP_CMP_'.length) as 'LT' | 'LE' | 'GE' | 'GT';
      // Every 32-bit value is below one that does not fit.
      if (narrow && !isNarrow(value)) return op === 'LT' || op === 'LE';
      const limit = narrow ? value & LOW_ONES : value;
      const most = narrow ? LOW_ONES : ALL_ONES;
      if (limit === 0n && op === 'LT') return false;
      if (limit === 0n && op === 'GE') return true;
      if (limit === most && op === 'GT') return false;
      if (limit === most && op === 'LE') return true;
      return { ...plain, op, value: limit };
    }
    default:
      return unreachable(arg.op);
  }
}

function masked(index: number, mask: bigint, wanted: bigint, narrow: boolean): Comparison | boolean {
  // Bits of the value outside the mask do not count (libseccomp drops them too).
  const value = wanted & mask;
  if (!narrow) {
    if (mask === 0n) return true;
    if (mask === ALL_ONES) return { index, op: 'EQ', value, mask, narrow };
    return { index, op: 'MASKED_EQ', value, mask, narrow };
  }
  if (value >> 32n !== 0n && !isNarrow(wanted)) return false;
  const low = mask & LOW_ONES;
  if (low === 0n) return true;
  if (low === LOW_ONES) return { index, op: 'EQ', value: value & LOW_ONES, mask: ALL_ONES, narrow };
  return { index, op: 'MASKED_EQ', value: value & LOW_ONES, mask: low, narrow };
}

/** Fits 32 bits, or is a negative 32-bit number written as a 64-bit one (0xffffffffffffffff for -1). */
function isNarrow(value: bigint): boolean {
  return value <= LOW_ONES || value >= ALL_ONES - 0x7fff_ffffn;
}
