/** What a rule does, in order: each statement is plain data and says itself in nft(8)'s words. */
import { DATA_TYPES, formatKey, type Scalar } from './data-types.ts';
import { type Element, formatVerdict, type Verdict } from './objects.ts';
import type { CtSelector, MetaSelector, Selector } from './selectors.ts';

export type CompareOp = '==' | '!=' | '<' | '<=' | '>' | '>=';

/** `ct state` and `ct status` flags, by bit. */
export const CT_STATES = { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 } as const;
export const CT_STATUSES = {
  'seen-reply': 2,
  assured: 4,
  confirmed: 8,
  snat: 16,
  dnat: 32,
  dying: 512,
} as const;

export type RejectWith = 'tcp reset' | 'port-unreachable';

export type Statement =
  | { readonly kind: 'compare'; readonly left: Selector; readonly op: CompareOp; readonly value: Scalar }
  /** `value` is a subnet: 10.88.0.0/16. */
  | { readonly kind: 'prefix'; readonly left: Selector; readonly op: '==' | '!='; readonly subnet: string }
  | { readonly kind: 'range'; readonly left: Selector; readonly from: Scalar; readonly to: Scalar }
  /** `left & mask op value` */
  | {
      readonly kind: 'bits';
      readonly left: Selector;
      readonly mask: number;
      readonly op: '==' | '!=';
      readonly value: number;
    }
  | { readonly kind: 'ctState'; readonly any: readonly (keyof typeof CT_STATES)[] }
  | { readonly kind: 'ctStatus'; readonly any: readonly (keyof typeof CT_STATUSES)[] }
  | {
      readonly kind: 'inSet';
      readonly key: readonly Selector[];
      readonly negate: boolean;
      readonly set: string | readonly Element[];
    }
  | { readonly kind: 'vmap'; readonly key: readonly Selector[]; readonly map: string | readonly Element[] }
  | { readonly kind: 'verdict'; readonly verdict: Verdict }
  | {
      readonly kind: 'nat';
      readonly type: 'dnat' | 'snat';
      readonly family: 'ip' | 'ip6';
      readonly address: string;
      readonly port?: number;
    }
  /** The map's value is an address, and a port behind it where `withPort` is set. */
  | {
      readonly kind: 'natMap';
      readonly type: 'dnat' | 'snat';
      readonly family: 'ip' | 'ip6';
      readonly withPort: boolean;
      readonly key: readonly Selector[];
      readonly map: string;
    }
  | { readonly kind: 'masquerade'; readonly fullyRandom: boolean }
  | { readonly kind: 'reject'; readonly with: RejectWith }
  | { readonly kind: 'counter' }
  /** `target = (target & and) ^ xor`, or the value of `from`. */
  | {
      readonly kind: 'setMark';
      readonly target: MetaSelector | CtSelector;
      readonly and: number;
      readonly xor: number;
    }
  | {
      readonly kind: 'copyMark';
      readonly target: MetaSelector | CtSelector;
      readonly from: MetaSelector | CtSelector;
    }
  /** Adds the packet's key to a dynamic set, or renews it there. */
  | {
      readonly kind: 'learn';
      readonly op: 'add' | 'update';
      readonly set: string;
      readonly key: readonly Selector[];
      readonly timeout?: number;
    };

export const match = (left: Selector, op: CompareOp, value: Scalar): Statement => ({
  kind: 'compare',
  left,
  op,
  value,
});
export const matchSubnet = (left: Selector, op: '==' | '!=', subnet: string): Statement => ({
  kind: 'prefix',
  left,
  op,
  subnet,
});
export const matchRange = (left: Selector, from: Scalar, to: Scalar): Statement => ({
  kind: 'range',
  left,
  from,
  to,
});
export const matchBits = (left: Selector, mask: number, op: '==' | '!=', value: number): Statement => ({
  kind: 'bits',
  left,
  mask,
  op,
  value,
});
export const ctState = (...any: readonly (keyof typeof CT_STATES)[]): Statement => ({ kind: 'ctState', any });
export const ctStatus = (...any: readonly (keyof typeof CT_STATUSES)[]): Statement => ({
  kind: 'ctStatus',
  any,
});
/** The key is in a set: a named one, or one written into the rule. */
export const inSet = (key: readonly Selector[], set: string | readonly Element[]): Statement => ({
  kind: 'inSet',
  key,
  negate: false,
  set,
});
export const notInSet = (key: readonly Selector[], set: string | readonly Element[]): Statement => ({
  kind: 'inSet',
  key,
  negate: true,
  set,
});
export const vmap = (key: readonly Selector[], map: string | readonly Element[]): Statement => ({
  kind: 'vmap',
  key,
  map,
});
export const accept: Statement = { kind: 'verdict', verdict: { verdict: 'accept' } };
export const drop: Statement = { kind: 'verdict', verdict: { verdict: 'drop' } };
export const returnFromChain: Statement = { kind: 'verdict', verdict: { verdict: 'return' } };
export const jump = (chain: string): Statement => ({ kind: 'verdict', verdict: { verdict: 'jump', chain } });
export const goTo = (chain: string): Statement => ({ kind: 'verdict', verdict: { verdict: 'goto', chain } });
export const masquerade: Statement = { kind: 'masquerade', fullyRandom: true };
export const counter: Statement = { kind: 'counter' };
export const reject = (how: RejectWith = 'port-unreachable'): Statement => ({ kind: 'reject', with: how });

export function dnat(family: 'ip' | 'ip6', address: string, port?: number): Statement {
  return { kind: 'nat', type: 'dnat', family, address, ...(port === undefined ? {} : { port }) };
}

export function snat(family: 'ip' | 'ip6', address: string): Statement {
  return { kind: 'nat', type: 'snat', family, address };
}

/** The new destination, address and port, is what `map` has for the key. */
export function dnatByMap(family: 'ip' | 'ip6', key: readonly Selector[], map: string): Statement {
  return { kind: 'natMap', type: 'dnat', family, withPort: true, key, map };
}

export const setMark = (target: MetaSelector | CtSelector, value: number): Statement => ({
  kind: 'setMark',
  target,
  and: 0,
  xor: value,
});
export const orMark = (target: MetaSelector | CtSelector, bits: number): Statement => ({
  kind: 'setMark',
  target,
  and: ~bits >>> 0,
  xor: bits,
});
export const xorMark = (target: MetaSelector | CtSelector, bits: number): Statement => ({
  kind: 'setMark',
  target,
  and: 0xffff_ffff,
  xor: bits,
});

const keyText = (key: readonly Selector[]): string => key.map(({ text }) => text).join(' . ');
const hex = (value: number): string => `0x${value.toString(16).padStart(8, '0')}`;

function elementsText(key: readonly Selector[], elements: readonly Element[]): string {
  const fields = key.map(({ type }) => type);
  const one = (element: Element): string => {
    const text = formatKey(fields, element.key);
    return element.value !== undefined && 'verdict' in element.value
      ? `${text} : ${formatVerdict(element.value)}`
      : text;
  };
  return `{ ${elements.map(one).join(', ')} }`;
}

type FormatterOf = { readonly [K in Statement['kind']]: (s: Extract<Statement, { kind: K }>) => string };

const compareText = (op: CompareOp): string => (op === '==' ? '' : `${op} `);
const setText = (key: readonly Selector[], set: string | readonly Element[]): string =>
  typeof set === 'string' ? `@${set}` : elementsText(key, set);

const FORMATTERS: FormatterOf = {
  compare: (s) => `${s.left.text} ${compareText(s.op)}${DATA_TYPES[s.left.type].format(s.value)}`,
  prefix: (s) => `${s.left.text} ${compareText(s.op)}${s.subnet}`,
  range: (s) => `${s.left.text} ${s.from}-${s.to}`,
  bits: (s) => `${s.left.text} & ${hex(s.mask)} ${s.op} ${hex(s.value)}`,
  ctState: (s) => `ct state ${s.any.join(',')}`,
  ctStatus: (s) => `ct status ${s.any.join(',')}`,
  inSet: (s) => `${keyText(s.key)} ${s.negate ? '!= ' : ''}${setText(s.key, s.set)}`,
  vmap: (s) => `${keyText(s.key)} vmap ${setText(s.key, s.map)}`,
  verdict: (s) => formatVerdict(s.verdict),
  nat(s) {
    const address = s.family === 'ip6' && s.port !== undefined ? `[${s.address}]` : s.address;
    return `${s.type} ${s.family} to ${address}${s.port === undefined ? '' : `:${s.port}`}`;
  },
  natMap: (s) =>
    `${s.type} ${s.family} ${s.withPort ? 'addr . port to' : 'to'} ${keyText(s.key)} map @${s.map}`,
  masquerade: (s) => (s.fullyRandom ? 'masquerade fully-random' : 'masquerade'),
  reject: (s) => (s.with === 'port-unreachable' ? 'reject' : 'reject with tcp reset'),
  counter: () => 'counter',
  setMark: (s) => `${s.target.text} set ${markText(s)}`,
  copyMark: (s) => `${s.target.text} set ${s.from.text}`,
  learn(s) {
    const timeout = s.timeout === undefined ? '' : ` timeout ${s.timeout}s`;
    return `${s.op} @${s.set} { ${keyText(s.key)}${timeout} }`;
  },
};

/** One statement as nft(8) reads it. */
export function formatStatement<K extends Statement['kind']>(
  statement: Extract<Statement, { kind: K }>,
): string {
  return (FORMATTERS[statement.kind] as (s: Statement) => string)(statement);
}

function markText(s: { readonly target: Selector; readonly and: number; readonly xor: number }): string {
  if (s.and === 0) return hex(s.xor);
  if (s.and === 0xffff_ffff) return `${s.target.text} ^ ${hex(s.xor)}`;
  if (s.and === ~s.xor >>> 0) return `${s.target.text} | ${hex(s.xor)}`;
  if (s.xor === 0) return `${s.target.text} & ${hex(s.and)}`;
  return `${s.target.text} & ${hex(s.and)} ^ ${hex(s.xor)}`;
}
