/**
 * From a profile to a classic BPF program (seccomp(2), linux/seccomp.h).
 *
 * Shape: the architecture is looked at first, one comparison each; an unknown one kills the process. Then a balanced
 * binary search over the system call numbers, in which neighbours with the same decision are one range, so that a call
 * costs log2(ranges) comparisons whether it is common or rare. Decisions without argument rules are returns at the
 * leaves; the others are shared code that looks at the arguments.
 */
import { unreachable } from '../../base/index.ts';
import { ENOSYS, flagBits, invalid, isPermissive, RET } from './actions.ts';
import { Assembler, BPF, type Label } from './assemble.ts';
import type { Comparison } from './comparison.ts';
import {
  type CheckedRules,
  checkRules,
  type Decision,
  decisionKey,
  decisions,
  newestNamed,
} from './rules.ts';
import { ABI_FACTS, type Abi, MACHINE_ABIS, X32_BIT } from './syscalls.ts';
import {
  type CompiledSeccomp,
  type LinuxSeccomp,
  type MachineArch,
  SECCOMP_ARCHITECTURES,
  type SeccompArchitecture,
} from './types.ts';

export interface CompileOptions {
  /** The machine whose processes meet the filter. */
  readonly arch: MachineArch;
  /**
   * Whether calls newer than the newest one that the profile names answer ENOSYS instead of the default action, so
   * that a libc falls back to an older call (default true; only where the default action is not permissive).
   */
  readonly enosys?: boolean;
  /** Default `kernel`; see `LoweringOptions`. */
  readonly argumentWidth?: 'kernel' | 'register';
}

/**
 * Compiles a profile. Throws SECCOMP_PROFILE_INVALID with the field's path, SECCOMP_NOTIFY_UNSUPPORTED,
 * SECCOMP_TOO_LONG.
 */
export function compileSeccomp(profile: LinuxSeccomp, options: CompileOptions): CompiledSeccomp {
  const flags = flagBits(profile.flags);
  const checked = checkRules(profile);
  const abis = abisOf(profile.architectures ?? [], options.arch);
  const assembler = new Assembler();
  const writer = new DecisionWriter(assembler);

  // One line of numbers for each architecture as the kernel reports it: x32 is the upper part of x86-64's.
  const lines = new Map<number, Range[]>();
  for (const abi of abis) lines.set(ABI_FACTS[abi].audit, []);
  for (const [audit, ranges] of lines) {
    const here = abis.filter((abi) => ABI_FACTS[abi].audit === audit);
    ranges.push(...merge(here.flatMap((abi) => rangesOf(checked, abi, options, here))));
  }

  // Written backwards, so the machine's own architecture, asked for first, comes last.
  let next = assembler.return(RET.KILL_PROCESS);
  for (const [audit, ranges] of [...lines].reverse()) {
    const search = assembler.load(0, writer.search(ranges, 0, ranges.length));
    next = assembler.branch(BPF.JEQ, audit, search, next);
  }
  const program = assembler.finish(assembler.load(4, next));
  return { program, flags, instructions: program.length / 8, unknown: checked.unknown };
}

function abisOf(names: readonly SeccompArchitecture[], arch: MachineArch): Abi[] {
  for (const [i, name] of names.entries()) {
    if (!SECCOMP_ARCHITECTURES.includes(name)) {
      throw invalid(`architectures[${i}]`, `unknown architecture ${JSON.stringify(name)}`);
    }
  }
  return MACHINE_ABIS[arch].filter((abi, i) => i === 0 || names.includes(ABI_FACTS[abi].oci));
}

/** From `start` (inclusive) to the next range's start. */
interface Range {
  readonly start: number;
  readonly decision: Decision;
  readonly key: string;
}

const LAST = 0xffff_ffff;

/** Ranges that cover the ABI's numbers without a gap, in order. */
function rangesOf(
  checked: CheckedRules,
  abi: Abi,
  options: CompileOptions,
  siblings: readonly Abi[],
): Range[] {
  const plain = { matches: [], otherwise: checked.defaultReturn };
  const enosys = { matches: [], otherwise: RET.ERRNO | ENOSYS };
  const named = decisions(checked, abi, { argumentWidth: options.argumentWidth ?? 'kernel' });
  const newest =
    (options.enosys ?? true) && !isPermissive(checked.defaultReturn) ? newestNamed(checked, abi) : undefined;
  const { apart } = ABI_FACTS[abi];
  const first = abi === 'x32' ? X32_BIT : 0;
  const end = abi === 'x86_64' ? X32_BIT : LAST + 1;

  const ranges: Range[] = [];
  const put = (start: number, decision: Decision) =>
    ranges.push({ start, decision, key: decisionKey(decision) });
  /** What calls that the profile does not name get, from `number` on. */
  const unnamed = (number: number) => {
    const isApart = apart !== undefined && number >= apart[0] && number <= apart[1];
    return newest !== undefined && number > newest && !isApart ? enosys : plain;
  };
  const edges = new Set<number>([first]);
  if (newest !== undefined) edges.add(newest + 1);
  if (apart !== undefined) edges.add(apart[0]).add(apart[1] + 1);
  for (const number of named.keys()) edges.add(number).add(number + 1);
  for (const edge of [...edges].filter((e) => e >= first && e < end).sort((a, b) => a - b)) {
    put(edge, named.get(edge) ?? unnamed(edge));
  }
  if (abi === 'x86_64' && !siblings.includes('x32')) {
    // Numbers with the x32 bit are another ABI, which the profile does not cover; -1 is what a tracer writes to skip
    // a call, and no call at all.
    put(X32_BIT, { matches: [], otherwise: RET.KILL_PROCESS });
    put(LAST, plain);
  }
  return ranges;
}

function merge(ranges: readonly Range[]): Range[] {
  return ranges.filter((range, i) => i === 0 || ranges[i - 1]!.key !== range.key);
}

/** Writes decisions, each distinct one once. */
class DecisionWriter {
  readonly #assembler: Assembler;
  readonly #written = new Map<string, Label>();

  constructor(assembler: Assembler) {
    this.#assembler = assembler;
  }

  /** The number is in A: find its range among [from, to). */
  search(ranges: readonly Range[], from: number, to: number): Label {
    if (to - from === 1) return this.#decision(ranges[from]!);
    const middle = (from + to) >> 1;
    const upper = this.search(ranges, middle, to);
    const lower = this.search(ranges, from, middle);
    return this.#assembler.branch(BPF.JGE, ranges[middle]!.start, upper, lower);
  }

  #decision({ decision, key }: Range): Label {
    if (decision.matches.length === 0) return this.#assembler.return(decision.otherwise);
    let label = this.#written.get(key);
    if (label === undefined) {
      label = this.#assembler.return(decision.otherwise);
      for (const match of decision.matches.toReversed()) {
        let yes = this.#assembler.return(match.action);
        for (const comparison of match.when.toReversed()) yes = this.#compare(comparison, yes, label);
        label = yes;
      }
      this.#written.set(key, label);
    }
    return label;
  }

  #compare(comparison: Comparison, yes: Label, no: Label): Label {
    switch (comparison.op) {
      case 'NE':
        return this.#compare({ ...comparison, op: 'EQ' }, no, yes);
      case 'LT':
        return this.#compare({ ...comparison, op: 'GE' }, no, yes);
      case 'LE':
        return this.#compare({ ...comparison, op: 'GT' }, no, yes);
      case 'EQ':
      case 'MASKED_EQ':
        return this.#equal(comparison, yes, no);
      case 'GE':
      case 'GT':
        return this.#above(comparison, yes, no);
      default:
        return unreachable(comparison.op);
    }
  }

  #equal({ index, value, mask, narrow }: Comparison, yes: Label, no: Label): Label {
    const [valueLow, valueHigh, maskLow, maskHigh] = [low(value), high(value), low(mask), high(mask)];
    let label = yes;
    if (maskLow !== 0) label = this.#word(offset(index), maskLow, valueLow, label, no);
    if (!narrow && maskHigh !== 0) label = this.#word(offset(index) + 4, maskHigh, valueHigh, label, no);
    return label;
  }

  #word(at: number, mask: number, value: number, yes: Label, no: Label): Label {
    const asm = this.#assembler;
    if (mask === LAST) return asm.load(at, asm.branch(BPF.JEQ, value, yes, no));
    if (value === 0) return asm.load(at, asm.branch(BPF.JSET, mask, no, yes));
    return asm.load(at, asm.and(mask, asm.branch(BPF.JEQ, value, yes, no)));
  }

  #above({ index, op, value, narrow }: Comparison, yes: Label, no: Label): Label {
    const asm = this.#assembler;
    const jump = op === 'GT' ? BPF.JGT : BPF.JGE;
    const lower = asm.load(offset(index), asm.branch(jump, low(value), yes, no));
    if (narrow) return lower;
    const upper = high(value);
    // Not above and not equal is below; where the upper half is 0, nothing is below.
    const equal = upper === 0 ? lower : asm.branch(BPF.JEQ, upper, lower, no);
    const above = upper === LAST ? equal : asm.branch(BPF.JGT, upper, yes, equal);
    return asm.load(offset(index) + 4, above);
  }
}

/** Where an argument's lower half is in struct seccomp_data (little-endian: the upper half follows). */
function offset(index: number): number {
  return 16 + index * 8;
}

function low(value: bigint): number {
  return Number(value & 0xffff_ffffn);
}

function high(value: bigint): number {
  return Number(value >> 32n);
}
