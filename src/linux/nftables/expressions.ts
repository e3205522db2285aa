/**
 * The kernel's own expressions (nf_tables.h): what a rule is on the wire. A register number counts words of 32 bits
 * from 0; the wire has other names for those at a multiple of four.
 */
import type { NetlinkWriter } from '../netlink/index.ts';
import { NFTA_DATA, NFTA_EXPR, NFTA_LIST_ELEM, NFTA_VERDICT, VERDICT } from './constants.ts';
import type { Verdict } from './objects.ts';

export type Expression =
  | {
      readonly name: 'payload';
      readonly dreg: number;
      readonly base: number;
      readonly offset: number;
      readonly length: number;
    }
  | { readonly name: 'meta'; readonly key: number; readonly dreg?: number; readonly sreg?: number }
  | {
      readonly name: 'ct';
      readonly key: number;
      readonly dreg?: number;
      readonly sreg?: number;
      readonly direction?: number;
    }
  | { readonly name: 'fib'; readonly dreg: number; readonly result: number; readonly flags: number }
  | {
      readonly name: 'numgen';
      readonly dreg: number;
      readonly modulus: number;
      readonly type: number;
      readonly offset: number;
    }
  | { readonly name: 'cmp'; readonly sreg: number; readonly op: number; readonly data: Uint8Array }
  | {
      readonly name: 'bitwise';
      readonly sreg: number;
      readonly dreg: number;
      readonly mask: Uint8Array;
      readonly xor: Uint8Array;
    }
  | { readonly name: 'immediate'; readonly dreg: number; readonly data: Uint8Array }
  | { readonly name: 'immediate'; readonly verdict: Verdict }
  | {
      readonly name: 'lookup';
      readonly set: string;
      /** Of a set that the same transaction makes without a name. */
      readonly setId?: number;
      readonly sreg: number;
      /** Of a map: where its value goes. */
      readonly dreg?: number | 'verdict';
      readonly inverted: boolean;
    }
  | {
      readonly name: 'nat';
      readonly type: number;
      readonly family: number;
      readonly address: number;
      readonly port?: number;
    }
  | { readonly name: 'masq'; readonly flags: number }
  | { readonly name: 'reject'; readonly type: number; readonly code?: number }
  | { readonly name: 'counter' }
  | {
      readonly name: 'dynset';
      readonly set: string;
      readonly op: number;
      readonly sreg: number;
      readonly timeout?: number;
    };

/** NFT_REG_VERDICT. */
const REG_VERDICT = 0;

/** NFT_REG_1 to NFT_REG_4 for words 0, 4, 8, 12, as the kernel tells them back; NFT_REG32_00 + n for the others. */
function register(word: number): number {
  return word % 4 === 0 ? 1 + word / 4 : 8 + word;
}

const value = (w: NetlinkWriter, type: number, data: Uint8Array): void =>
  w.nest(type, () => w.attrBytes(NFTA_DATA.VALUE, data));

export function writeVerdict(w: NetlinkWriter, type: number, verdict: Verdict): void {
  w.nest(type, () =>
    w.nest(NFTA_DATA.VERDICT, () => {
      w.attrU32be(NFTA_VERDICT.CODE, VERDICT[verdict.verdict]);
      if ('chain' in verdict) w.attrString(NFTA_VERDICT.CHAIN, verdict.chain);
    }),
  );
}

/** One element of NFTA_RULE_EXPRESSIONS. */
export function writeExpression(w: NetlinkWriter, e: Expression): void {
  w.nest(NFTA_LIST_ELEM, () => {
    w.attrString(NFTA_EXPR.NAME, e.name);
    w.nest(NFTA_EXPR.DATA, () => writeData(w, e));
  });
}

/** The attributes in the order of each expression's enum, which is the order of their numbers. */
function writeData(w: NetlinkWriter, e: Expression): void {
  switch (e.name) {
    case 'payload':
      w.attrU32be(1, register(e.dreg));
      w.attrU32be(2, e.base);
      w.attrU32be(3, e.offset);
      w.attrU32be(4, e.length);
      return;
    case 'meta':
      if (e.dreg !== undefined) w.attrU32be(1, register(e.dreg));
      w.attrU32be(2, e.key);
      if (e.sreg !== undefined) w.attrU32be(3, register(e.sreg));
      return;
    case 'ct':
      if (e.dreg !== undefined) w.attrU32be(1, register(e.dreg));
      w.attrU32be(2, e.key);
      if (e.direction !== undefined) w.attrU8(3, e.direction);
      if (e.sreg !== undefined) w.attrU32be(4, register(e.sreg));
      return;
    case 'fib':
      w.attrU32be(1, register(e.dreg));
      w.attrU32be(2, e.result);
      w.attrU32be(3, e.flags);
      return;
    case 'numgen':
      w.attrU32be(1, register(e.dreg));
      w.attrU32be(2, e.modulus);
      w.attrU32be(3, e.type);
      w.attrU32be(4, e.offset);
      return;
    case 'cmp':
      w.attrU32be(1, register(e.sreg));
      w.attrU32be(2, e.op);
      value(w, 3, e.data);
      return;
    case 'bitwise':
      w.attrU32be(1, register(e.sreg));
      w.attrU32be(2, register(e.dreg));
      w.attrU32be(3, e.mask.length);
      value(w, 4, e.mask);
      value(w, 5, e.xor);
      return;
    case 'immediate':
      if ('verdict' in e) {
        w.attrU32be(1, REG_VERDICT);
        writeVerdict(w, 2, e.verdict);
      } else {
        w.attrU32be(1, register(e.dreg));
        value(w, 2, e.data);
      }
      return;
    case 'lookup':
      w.attrString(1, e.set);
      w.attrU32be(2, register(e.sreg));
      if (e.dreg !== undefined) w.attrU32be(3, e.dreg === 'verdict' ? REG_VERDICT : register(e.dreg));
      if (e.setId !== undefined) w.attrU32be(4, e.setId);
      w.attrU32be(5, Number(e.inverted));
      return;
    case 'nat':
      w.attrU32be(1, e.type);
      w.attrU32be(2, e.family);
      w.attrU32be(3, register(e.address));
      if (e.port !== undefined) w.attrU32be(5, register(e.port));
      return;
    case 'masq':
      w.attrU32be(1, e.flags);
      return;
    case 'reject':
      w.attrU32be(1, e.type);
      if (e.code !== undefined) w.attrU8(2, e.code);
      return;
    case 'counter':
      return;
    case 'dynset':
      w.attrString(1, e.set);
      w.attrU32be(3, e.op);
      w.attrU32be(4, register(e.sreg));
      if (e.timeout !== undefined) w.attrU64be(6, BigInt(e.timeout) * 1000n);
      return;
  }
}
