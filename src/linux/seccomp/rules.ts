/**
 * From a profile's rules to one decision for each system call number of an ABI. The semantics are libseccomp's, as
 * runc uses it:
 *
 * - a rule whose action is the default action says nothing;
 * - the comparisons of a rule are ANDed, but an argument that is compared twice turns every comparison of that rule
 *   into a rule of its own (ORed);
 * - rules for one call are ORed; one without comparisons outdoes all others, the first such rule wins;
 * - where rules with different actions overlap, libseccomp's own order decides (see `order`), not the profile's;
 * - names that an ABI lacks are ignored there.
 */
import { invalid, isPermissive, returnValue } from './actions.ts';
import { ALL_ONES, type Comparison, checkArg, comparison } from './comparison.ts';
import { multiplexed } from './multiplex.ts';
import { NARROW_ARGUMENTS } from './syscalls.gen.ts';
import { ABI_FACTS, type Abi, isSyscallName, syscallNumber } from './syscalls.ts';
import type { LinuxSeccomp, SeccompArg } from './types.ts';

/** One way to match: all comparisons hold (none: always). */
export interface Match {
  readonly when: readonly Comparison[];
  readonly action: number;
}

/** What happens to one system call: the first match decides. */
export interface Decision {
  readonly matches: readonly Match[];
  readonly otherwise: number;
}

/** Rules of a profile, checked and independent of any ABI. */
export interface CheckedRules {
  readonly defaultReturn: number;
  readonly rules: readonly CheckedRule[];
  readonly unknown: readonly string[];
}

interface CheckedRule {
  readonly names: readonly string[];
  readonly action: number;
  /** Each is ANDed in itself, all are ORed; an empty list of comparisons always holds. */
  readonly alternatives: readonly (readonly SeccompArg[])[];
  readonly redundant: boolean;
}

/** Throws SECCOMP_PROFILE_INVALID with the field's path, SECCOMP_NOTIFY_UNSUPPORTED. */
export function checkRules(profile: LinuxSeccomp): CheckedRules {
  const defaultReturn = returnValue(profile.defaultAction, profile.defaultErrnoRet, 'defaultAction');
  const unknown = new Set<string>();
  const rules = (profile.syscalls ?? []).map((rule, i) => {
    const field = `syscalls[${i}]`;
    const action = returnValue(rule.action, rule.errnoRet, `${field}.action`);
    const args = rule.args ?? [];
    for (const [j, arg] of args.entries()) checkArg(arg, `${field}.args[${j}]`);
    if (rule.names.length === 0) throw invalid(`${field}.names`, 'at least one system call is needed');
    for (const name of rule.names) if (!isSyscallName(name)) unknown.add(name);
    const twice = new Set(args.map((arg) => arg.index)).size < args.length;
    const alternatives = (twice ? args.map((arg) => [arg]) : [args]).map((some) =>
      some.filter(saysSomething),
    );
    return { names: rule.names, action, alternatives, redundant: action === defaultReturn };
  });
  return { defaultReturn, rules, unknown: [...unknown] };
}

/** A mask of nothing always matches: to libseccomp such a rule has no comparison there. */
function saysSomething(arg: SeccompArg): boolean {
  return arg.op !== 'SCMP_CMP_MASKED_EQ' || BigInt(arg.value) !== 0n;
}

/** The newest number of the ABI's common sequence that the profile names at all, or undefined. */
export function newestNamed(checked: CheckedRules, abi: Abi): number | undefined {
  const apart = ABI_FACTS[abi].apart;
  let newest: number | undefined;
  for (const rule of checked.rules) {
    for (const name of rule.names) {
      const number = syscallNumber(abi, name);
      if (number === undefined || (apart && number >= apart[0] && number <= apart[1])) continue;
      if (newest === undefined || number > newest) newest = number;
    }
  }
  return newest;
}

export interface LoweringOptions {
  /**
   * `kernel`: an argument is compared as wide as the kernel reads it. `register`: always the whole register, as
   * libseccomp does; only for comparing the two.
   */
  readonly argumentWidth: 'kernel' | 'register';
}

/** Number → decision, for every call of the ABI about which the profile says anything. */
export function decisions(checked: CheckedRules, abi: Abi, options: LoweringOptions): Map<number, Decision> {
  const entries = new Map<number, Entry>();
  for (const rule of checked.rules) {
    if (rule.redundant) continue;
    for (const name of rule.names) {
      const number = syscallNumber(abi, name);
      if (number !== undefined) {
        for (const args of rule.alternatives) add(entries, number, name, args, rule.action, abi, options);
      }
      const other = abi === 'i386' ? multiplexed(name) : undefined;
      if (other !== undefined) {
        // Through the multiplexer the arguments are behind a pointer that no filter can follow. A rule about them
        // fails closed there: one that permits is left out, one that denies counts whatever the arguments are.
        if (isPermissive(rule.action) && rule.alternatives.every((args) => args.length > 0)) continue;
        const call: SeccompArg = { index: 0, op: 'SCMP_CMP_EQ', value: other.call };
        add(entries, syscallNumber(abi, other.through)!, other.through, [call], rule.action, abi, options);
      }
    }
  }
  const out = new Map<number, Decision>();
  for (const [number, entry] of entries) out.set(number, decide(entry, checked.defaultReturn));
  return out;
}

interface Conditional {
  readonly args: readonly SeccompArg[];
  readonly match: Match;
}

interface Entry {
  unconditional: number | undefined;
  readonly conditional: Conditional[];
}

function add(
  entries: Map<number, Entry>,
  number: number,
  name: string,
  args: readonly SeccompArg[],
  action: number,
  abi: Abi,
  options: LoweringOptions,
): void {
  let entry = entries.get(number);
  if (entry === undefined) entries.set(number, (entry = { unconditional: undefined, conditional: [] }));
  if (args.length === 0) {
    entry.unconditional ??= action;
    return;
  }
  const narrowBits = options.argumentWidth === 'kernel' ? (NARROW_ARGUMENTS[name] ?? 0) : 0;
  const when: Comparison[] = [];
  for (const arg of args) {
    const narrow = ABI_FACTS[abi].narrow || (narrowBits & (1 << arg.index)) !== 0;
    const compared = comparison(arg, narrow);
    if (compared === false) return;
    if (compared !== true) when.push(compared);
  }
  entry.conditional.push({ args, match: { when, action } });
}

function decide(entry: Entry, defaultReturn: number): Decision {
  if (entry.unconditional !== undefined) return { matches: [], otherwise: entry.unconditional };
  const actions = new Set(entry.conditional.map((one) => one.match.action));
  const sorted =
    actions.size > 1 ? [...entry.conditional].sort((a, b) => order(a.args, b.args)) : entry.conditional;
  const matches: Match[] = [];
  for (const { match } of sorted) {
    if (matches.some((earlier) => sameConditions(earlier, match))) continue;
    if (match.when.length === 0) return { matches, otherwise: match.action };
    matches.push(match);
  }
  return { matches, otherwise: defaultReturn };
}

function sameConditions(a: Match, b: Match): boolean {
  return conditionsKey(a) === conditionsKey(b);
}

function conditionsKey(match: Match): string {
  return match.when.map((c) => `${c.index}${c.op}${c.value}/${c.mask}${c.narrow ? 'n' : ''}`).join('&');
}

/** Equal for decisions that need the same code. */
export function decisionKey(decision: Decision): string {
  return [...decision.matches.map((m) => `${conditionsKey(m)}→${m.action}`), decision.otherwise].join(' ');
}

const precision = { NE: 3, EQ: 3, MASKED_EQ: 3, LE: 2, LT: 2, GE: 1, GT: 1 } as const;

/**
 * libseccomp's order of overlapping rules (its argument tree is kept sorted): the rule whose first argument has the
 * higher index, then equality before upper bounds before lower bounds, then the larger value (for upper bounds the
 * smaller one); of two rules that begin alike, the shorter one.
 */
function order(a: readonly SeccompArg[], b: readonly SeccompArg[]): number {
  const left = sortedArgs(a);
  const right = sortedArgs(b);
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const [x, y] = [left[i]!, right[i]!];
    if (x.index !== y.index) return y.index - x.index;
    const [p, q] = [precision[shortOp(x)], precision[shortOp(y)]];
    if (p !== q) return q - p;
    const [v, w] = [sortValue(x), sortValue(y)];
    if (v !== w) return v > w === (p === 2) ? 1 : -1;
  }
  return left.length - right.length;
}

function sortedArgs(args: readonly SeccompArg[]): SeccompArg[] {
  return [...args].sort((a, b) => a.index - b.index);
}

function shortOp(arg: SeccompArg): keyof typeof precision {
  return arg.op.slice('SCMP_CMP_'.length) as keyof typeof precision;
}

function sortValue(arg: SeccompArg): bigint {
  if (arg.op !== 'SCMP_CMP_MASKED_EQ') return BigInt(arg.value);
  return BigInt(arg.valueTwo ?? 0) & BigInt(arg.value) & ALL_ONES;
}
