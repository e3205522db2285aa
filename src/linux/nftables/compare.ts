/**
 * Is a rule of the kernel the one that we would write? The kernel tells a rule back with defaults filled in, so
 * expressions are compared attribute by attribute: what we say has to be there, what we leave out has to be nothing.
 */
import { Attributes, NetlinkWriter } from '../netlink/index.ts';
import { type AnonymousSet, compileRule } from './compile.ts';
import { writeExpression } from './expressions.ts';
import { type ListedRule, type RawExpression, readExpressions } from './listing.ts';
import { isAnonymousName } from './nftables.ts';
import { type Element, formatVerdict, isVerdict, type Rule } from './objects.ts';

const LOOKUP_SET = 1;
const LOOKUP_SET_ID = 4;
const NAT = { ADDR_MIN: 3, ADDR_MAX: 4, PROTO_MIN: 5, PROTO_MAX: 6, FLAGS: 7 } as const;
/** Masquerade's and NAT's flags that say which registers are given: the kernel sets them itself. */
const NAT_DERIVED_FLAGS = 0x3;

/** `elementsOf` lists the elements of an anonymous set of the kernel, by the name that it got. */
export function isSameRule(
  desired: Rule,
  listed: ListedRule,
  elementsOf: (name: string, desired: AnonymousSet) => readonly Element[],
): boolean {
  if ((desired.comment ?? '') !== (listed.comment ?? '')) return false;
  let id = 0;
  const compiled = compileRule(desired.table.family, desired.statements, () => ++id);
  const w = new NetlinkWriter();
  for (const expression of compiled.expressions) writeExpression(w, expression);
  const expected = readExpressions(w.bytes());
  if (expected.length !== listed.expressions.length) return false;
  return expected.every((want, i) => {
    const have = listed.expressions[i];
    if (have === undefined || want.name !== have.name) return false;
    if (want.name === 'lookup') return isSameLookup(want, have, compiled.anonymous, elementsOf);
    return isSameExpression(want, have);
  });
}

function isSameExpression(want: RawExpression, have: RawExpression): boolean {
  if (want.name === 'counter') return true; // its numbers are not ours
  const types = new Set([...want.data.types(), ...have.data.types()]);
  for (const type of types) {
    const expected = want.data.bytes(type);
    const found = have.data.bytes(type);
    if (expected !== undefined && found !== undefined) {
      if (!isSameValue(expected, found)) return false;
    } else if (found === undefined || !isImplied(want, type, found)) {
      return false;
    }
  }
  return true;
}

/** Nested values (NFTA_DATA) come with or without the nested flag in their type; their bytes decide. */
function isSameValue(a: Buffer, b: Buffer): boolean {
  if (a.equals(b)) return true;
  if (a.length !== b.length || a.length < 4) return false;
  try {
    const left = new Attributes(a);
    const right = new Attributes(b);
    return left.types().every((type) => {
      const mine = left.bytes(type);
      const theirs = right.bytes(type);
      return mine !== undefined && theirs !== undefined && isSameValue(mine, theirs);
    });
  } catch {
    return false; // plain values that differ
  }
}

/** An attribute that only the kernel tells: zero, or what follows from the others. */
function isImplied(want: RawExpression, type: number, found: Buffer): boolean {
  if (want.name === 'nat') {
    if (type === NAT.ADDR_MAX) return want.data.bytes(NAT.ADDR_MIN)?.equals(found) ?? false;
    if (type === NAT.PROTO_MAX) return want.data.bytes(NAT.PROTO_MIN)?.equals(found) ?? false;
    if (type === NAT.FLAGS) return (found.readUInt32BE(0) & ~NAT_DERIVED_FLAGS) === 0;
  }
  return found.every((byte) => byte === 0);
}

function isSameLookup(
  want: RawExpression,
  have: RawExpression,
  anonymous: readonly AnonymousSet[],
  elementsOf: (name: string, desired: AnonymousSet) => readonly Element[],
): boolean {
  const id = want.data.u32be(LOOKUP_SET_ID);
  const types = new Set([...want.data.types(), ...have.data.types()]);
  types.delete(LOOKUP_SET_ID);
  if (id !== undefined) types.delete(LOOKUP_SET);
  for (const type of types) {
    const expected = want.data.bytes(type);
    const found = have.data.bytes(type);
    if (expected === undefined ? found?.some((byte) => byte !== 0) : !found?.equals(expected)) return false;
  }
  if (id === undefined) return true;
  const name = have.data.string(LOOKUP_SET) ?? '';
  const set = anonymous.find((candidate) => candidate.id === id);
  if (set === undefined || !isAnonymousName(name)) return false;
  return isSameElements(set.elements, elementsOf(name, set));
}

/** The same keys with the same values and comments, in any order. */
export function isSameElements(a: readonly Element[], b: readonly Element[]): boolean {
  const text = (elements: readonly Element[]): string[] => elements.map(elementKey).sort();
  return JSON.stringify(text(a)) === JSON.stringify(text(b));
}

function elementKey(element: Element): string {
  const { value } = element;
  const text = value === undefined ? '' : isVerdict(value) ? formatVerdict(value) : value.join(' . ');
  return `${element.key.join(' . ')} : ${text} # ${element.comment ?? ''}`;
}
