/** From the statements of a rule to the kernel's expressions, in the form that nft(8) itself generates. */
import { NodeletError } from '../../base/index.ts';
import { bytesOfIp, ipBits, ipBytes, parseSubnet } from '../ip.ts';
import { NFPROTO } from './constants.ts';
import { DATA_TYPES, encodeKey, type Scalar } from './data-types.ts';
import type { Expression } from './expressions.ts';
import type { Element, Family } from './objects.ts';
import { meta, type Needs, type Selector } from './selectors.ts';
import { type CompareOp, CT_STATES, CT_STATUSES, type Statement } from './statements.ts';

/** A set without a name that a rule brings along. */
export interface AnonymousSet {
  readonly id: number;
  readonly name: '__set%d' | '__map%d';
  readonly key: readonly Selector[];
  readonly elements: readonly Element[];
}

export interface CompiledRule {
  readonly expressions: readonly Expression[];
  readonly anonymous: readonly AnonymousSet[];
}

const CMP: Readonly<Record<CompareOp, number>> = { '==': 0, '!=': 1, '<': 2, '<=': 3, '>': 4, '>=': 5 };
const CT_STATE = 0;
const CT_STATUS = 2;
const NF_NAT_RANGE_PROTO_RANDOM_FULLY = 0x10;
const ZERO4 = new Uint8Array(4);

/** `nextId` numbers anonymous sets, unique in a transaction. Throws NFT_INVALID_RULE, NFT_INVALID_VALUE. */
export function compileRule(
  family: Family,
  statements: readonly Statement[],
  nextId: () => number,
): CompiledRule {
  const compiler = new Compiler(family, nextId);
  for (const statement of statements) compiler.add(statement);
  return { expressions: compiler.expressions, anonymous: compiler.anonymous };
}

class Compiler {
  readonly expressions: Expression[] = [];
  readonly anonymous: AnonymousSet[] = [];
  readonly #family: Family;
  readonly #nextId: () => number;
  /** The protocols that the packet is known to have at this point of the rule. */
  #layer3: 'ipv4' | 'ipv6' | undefined;
  #layer4: Scalar | undefined;

  constructor(family: Family, nextId: () => number) {
    this.#family = family;
    this.#nextId = nextId;
    if (family !== 'inet') this.#layer3 = family === 'ip' ? 'ipv4' : 'ipv6';
  }

  add(s: Statement): void {
    switch (s.kind) {
      case 'compare':
        if (s.left === meta.nfproto && this.#family !== 'inet')
          throw invalid(`"meta nfproto" in a table of ${this.#family}`);
        this.#load(s.left, 0);
        this.#compare(s.op, encodeKey([s.left.type], [s.value]));
        if (s.op === '==') this.#learnProtocol(s.left, s.value);
        return;
      case 'prefix':
        this.#prefix(s.left, s.op, s.subnet);
        return;
      case 'range':
        this.#load(s.left, 0);
        this.#compare('>=', encodeKey([s.left.type], [s.from]));
        this.#compare('<=', encodeKey([s.left.type], [s.to]));
        return;
      case 'bits':
        this.#load(s.left, 0);
        this.#mask(word(s.mask), ZERO4);
        this.#compare(s.op, word(s.value));
        return;
      case 'ctState':
        this.#anyFlag(CT_STATE, bitsOf(s.any, CT_STATES));
        return;
      case 'ctStatus':
        this.#anyFlag(CT_STATUS, bitsOf(s.any, CT_STATUSES));
        return;
      case 'inSet':
        this.#loadKey(s.key);
        this.expressions.push({
          name: 'lookup',
          ...this.#set('__set%d', s.key, s.set),
          sreg: 0,
          inverted: s.negate,
        });
        return;
      case 'vmap':
        this.#loadKey(s.key);
        this.expressions.push({
          name: 'lookup',
          ...this.#set('__map%d', s.key, s.map),
          sreg: 0,
          dreg: 'verdict',
          inverted: false,
        });
        return;
      case 'verdict':
        this.expressions.push({ name: 'immediate', verdict: s.verdict });
        return;
      case 'nat':
        this.#nat(s);
        return;
      case 'natMap':
        this.#loadKey(s.key);
        this.expressions.push({ name: 'lookup', set: s.map, sreg: 0, dreg: 0, inverted: false });
        this.expressions.push({
          name: 'nat',
          type: natType(s.type),
          family: NFPROTO[s.family],
          address: 0,
          // The port follows the address: one word for IPv4, four for IPv6.
          ...(s.withPort ? { port: s.family === 'ip' ? 1 : 4 } : {}),
        });
        return;
      case 'masquerade':
        this.expressions.push({ name: 'masq', flags: s.fullyRandom ? NF_NAT_RANGE_PROTO_RANDOM_FULLY : 0 });
        return;
      case 'reject':
        this.#reject(s.with === 'tcp reset');
        return;
      case 'counter':
        this.expressions.push({ name: 'counter' });
        return;
      case 'setMark':
        this.#setMark(s);
        return;
      case 'copyMark':
        this.#load(s.from, 0);
        this.expressions.push({ name: s.target.kind, key: s.target.key, sreg: 0 });
        return;
      case 'learn':
        this.#loadKey(s.key);
        this.expressions.push({
          name: 'dynset',
          set: s.set,
          op: s.op === 'add' ? 0 : 1,
          sreg: 0,
          ...(s.timeout === undefined ? {} : { timeout: s.timeout }),
        });
        return;
    }
  }

  /** Loads a selector's value into the words from `dreg` on, after the match for the protocol that it needs. */
  #load(selector: Selector, dreg: number, length?: number): void {
    if (selector.needs !== undefined) this.#need(selector.needs, selector);
    this.#loadOnly(selector, dreg, length);
  }

  #loadOnly(selector: Selector, dreg: number, length?: number): void {
    switch (selector.kind) {
      case 'payload':
        this.expressions.push({
          name: 'payload',
          dreg,
          base: selector.base,
          offset: selector.offset,
          length: length ?? selector.length,
        });
        return;
      case 'meta':
        this.expressions.push({ name: 'meta', key: selector.key, dreg });
        return;
      case 'ct':
        this.expressions.push({
          name: 'ct',
          key: selector.key,
          dreg,
          ...(selector.direction === undefined ? {} : { direction: selector.direction }),
        });
        return;
      case 'fib':
        this.expressions.push({ name: 'fib', dreg, result: selector.result, flags: selector.flags });
        return;
      case 'numgen':
        this.expressions.push({
          name: 'numgen',
          dreg,
          modulus: selector.modulus,
          type: selector.mode === 'random' ? 1 : 0,
          offset: selector.offset,
        });
        return;
    }
  }

  /** The fields of a key one after another; matches for protocols come before all of them. */
  #loadKey(key: readonly Selector[]): void {
    for (const selector of key) if (selector.needs !== undefined) this.#need(selector.needs, selector);
    let at = 0;
    for (const selector of key) {
      this.#loadOnly(selector, at);
      at += Math.ceil(DATA_TYPES[selector.type].size / 4);
    }
    if (at > 16) throw invalid(`a key of ${at * 4} bytes does not fit the registers`);
  }

  #need(needs: Needs, selector: Selector): void {
    if (needs.layer === 3) {
      if (this.#layer3 === needs.protocol) return;
      if (this.#layer3 !== undefined) throw invalid(`"${selector.text}" in a rule for ${this.#layer3}`);
      this.add({ kind: 'compare', left: meta.nfproto, op: '==', value: needs.protocol });
      return;
    }
    if (this.#layer4 === needs.protocol) return;
    if (this.#layer4 !== undefined) throw invalid(`"${selector.text}" in a rule for ${this.#layer4}`);
    this.add({ kind: 'compare', left: meta.l4proto, op: '==', value: needs.protocol });
  }

  #learnProtocol(selector: Selector, value: Scalar): void {
    if (selector === meta.nfproto && (value === 'ipv4' || value === 'ipv6')) this.#layer3 = value;
    if (selector === meta.l4proto) this.#layer4 = value;
  }

  #compare(op: CompareOp, data: Uint8Array): void {
    this.expressions.push({ name: 'cmp', sreg: 0, op: CMP[op], data });
  }

  #mask(mask: Uint8Array, xor: Uint8Array): void {
    this.expressions.push({ name: 'bitwise', sreg: 0, dreg: 0, mask, xor });
  }

  #anyFlag(key: number, bits: number): void {
    this.expressions.push({ name: 'ct', key, dreg: 0 });
    this.#mask(word(bits), ZERO4);
    this.#compare('!=', ZERO4);
  }

  /** A prefix of whole bytes is a shorter load; any other one is masked. */
  #prefix(selector: Selector, op: '==' | '!=', text: string): void {
    const subnet = parseSubnet(text);
    const base = bytesOfIp({ family: subnet.family, value: subnet.base });
    if (base.length !== DATA_TYPES[selector.type].size) throw invalid(`"${selector.text}" against "${text}"`);
    if (subnet.prefix === 0) throw invalid(`"${selector.text}" against "${text}", which is everything`);
    if (subnet.prefix % 8 === 0 && selector.kind === 'payload') {
      const bytes = subnet.prefix / 8;
      this.#load(selector, 0, bytes);
      this.#compare(op, base.subarray(0, bytes));
      return;
    }
    this.#load(selector, 0);
    const bits = BigInt(ipBits(subnet.family));
    const mask = ((1n << BigInt(subnet.prefix)) - 1n) << (bits - BigInt(subnet.prefix));
    this.#mask(bytesOfIp({ family: subnet.family, value: mask }), new Uint8Array(base.length));
    this.#compare(op, base);
  }

  #nat(s: {
    readonly type: 'dnat' | 'snat';
    readonly family: 'ip' | 'ip6';
    readonly address: string;
    readonly port?: number;
  }): void {
    const bytes = ipBytes(s.address);
    if (bytes?.length !== (s.family === 'ip' ? 4 : 16))
      throw invalid(`${s.type} ${s.family} to ${JSON.stringify(s.address)}`);
    this.expressions.push({ name: 'immediate', dreg: 0, data: bytes });
    if (s.port !== undefined) {
      this.expressions.push({ name: 'immediate', dreg: 4, data: encodeKey(['inet_service'], [s.port]) });
    }
    this.expressions.push({
      name: 'nat',
      type: natType(s.type),
      family: NFPROTO[s.family],
      address: 0,
      ...(s.port === undefined ? {} : { port: 4 }),
    });
  }

  #reject(tcpReset: boolean): void {
    if (tcpReset) {
      if (this.#layer4 !== 'tcp') this.add({ kind: 'compare', left: meta.l4proto, op: '==', value: 'tcp' });
      this.expressions.push({ name: 'reject', type: 1 });
      return;
    }
    // Port unreachable: ICMP code 3, ICMPv6 code 4, or the code of inet tables that becomes either.
    const code = this.#family === 'ip' ? 3 : this.#family === 'ip6' ? 4 : 1;
    this.expressions.push({ name: 'reject', type: this.#family === 'inet' ? 2 : 0, code });
  }

  #setMark(s: Extract<Statement, { kind: 'setMark' }>): void {
    if (s.and === 0) this.expressions.push({ name: 'immediate', dreg: 0, data: word(s.xor) });
    else {
      this.#load(s.target, 0);
      this.#mask(word(s.and), word(s.xor));
    }
    this.expressions.push({ name: s.target.kind, key: s.target.key, sreg: 0 });
  }

  #set(
    name: '__set%d' | '__map%d',
    key: readonly Selector[],
    set: string | readonly Element[],
  ): { set: string; setId?: number } {
    if (typeof set === 'string') return { set };
    const id = this.#nextId();
    this.anonymous.push({ id, name, key, elements: set });
    return { set: name, setId: id };
  }
}

/** NFT_NAT_SNAT and NFT_NAT_DNAT. */
function natType(type: 'dnat' | 'snat'): number {
  return type === 'snat' ? 0 : 1;
}

function word(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

function bitsOf<T extends string>(names: readonly T[], table: Readonly<Record<T, number>>): number {
  if (names.length === 0) throw invalid('a match of no flag at all');
  return names.reduce((bits, name) => bits | table[name], 0);
}

function invalid(what: string): NodeletError {
  return new NodeletError('NFT_INVALID_RULE', `cannot write this nftables rule: ${what}`);
}
