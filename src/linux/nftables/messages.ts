/** The messages of a transaction: one function for each verb and object. */
import { type NetlinkWriter, netlinkConstants } from '../netlink/index.ts';
import { type AnonymousSet, compileRule } from './compile.ts';
import {
  HOOKS,
  NFNL_SUBSYS_NFTABLES,
  NFPROTO,
  NFT_DATA_VERDICT,
  NFT_MSG,
  NFT_SET,
  NFTA_CHAIN,
  NFTA_DATA,
  NFTA_HOOK,
  NFTA_RULE,
  NFTA_SET,
  NFTA_SET_DESC_SIZE,
  NFTA_SET_ELEM,
  NFTA_SET_ELEM_LIST,
  NFTA_TABLE,
  UDATA_CHAIN_COMMENT,
  UDATA_ELEMENT_COMMENT,
  UDATA_RULE_COMMENT,
  UDATA_TABLE_COMMENT,
  VERDICT,
} from './constants.ts';
import { type DataTypeName, encodeKey, keySize, keyTypeId } from './data-types.ts';
import { writeExpression, writeVerdict } from './expressions.ts';
import {
  type Chain,
  type Element,
  type Family,
  isMap,
  isVerdict,
  type NftMap,
  type NftSet,
  type Rule,
  type Table,
  type TableRef,
} from './objects.ts';
import { commentRecord, setUserdata } from './userdata.ts';

const { NLM_F } = netlinkConstants;

/** Elements go into one message up to this size: the list's length is a 16-bit number. */
const ELEMENT_LIST_LIMIT = 60_000;

/** Where messages go: numbers them, and knows which operation each belongs to. */
export class BatchWriter {
  readonly writer: NetlinkWriter;
  #sequence: number;
  #nextSetId = 1;

  constructor(writer: NetlinkWriter, firstSequence: number) {
    this.writer = writer;
    this.#sequence = firstSequence;
  }

  /** The number of the next message. */
  get sequence(): number {
    return this.#sequence;
  }

  nextSetId(): number {
    return this.#nextSetId++;
  }

  message(type: number, flags: number, family: Family | undefined, write: () => void, resource = 0): void {
    const w = this.writer;
    w.beginMessage(type, NLM_F.REQUEST | flags, this.#sequence++);
    w.u8(family === undefined ? 0 : NFPROTO[family]);
    w.u8(0); // NFNETLINK_V0
    w.u16be(resource);
    write();
    w.endMessage();
  }

  nft(message: number, flags: number, family: Family, write: () => void): void {
    this.message((NFNL_SUBSYS_NFTABLES << 8) | message, flags, family, write);
  }
}

/** `create` fails with EEXIST where the object is there; otherwise that is no error. */
export interface AddOptions {
  readonly create?: boolean;
}

const addFlags = (options: AddOptions): number => NLM_F.CREATE | (options.create === true ? NLM_F.EXCL : 0);

export function writeTable(b: BatchWriter, table: Table, options: AddOptions): void {
  b.nft(NFT_MSG.NEWTABLE, addFlags(options), table.family, () => {
    b.writer.attrString(NFTA_TABLE.NAME, table.name);
    b.writer.attrU32be(NFTA_TABLE.FLAGS, 0);
    if (table.comment !== undefined) {
      b.writer.attrBytes(NFTA_TABLE.USERDATA, commentRecord(UDATA_TABLE_COMMENT, table.comment));
    }
  });
}

export function writeDeleteTable(b: BatchWriter, table: TableRef): void {
  b.nft(NFT_MSG.DELTABLE, 0, table.family, () => b.writer.attrString(NFTA_TABLE.NAME, table.name));
}

export function writeChain(b: BatchWriter, chain: Chain, options: AddOptions): void {
  const w = b.writer;
  b.nft(NFT_MSG.NEWCHAIN, addFlags(options), chain.table.family, () => {
    w.attrString(NFTA_CHAIN.TABLE, chain.table.name);
    w.attrString(NFTA_CHAIN.NAME, chain.name);
    const { base } = chain;
    if (base !== undefined) {
      w.nest(NFTA_CHAIN.HOOK, () => {
        w.attrU32be(NFTA_HOOK.HOOKNUM, HOOKS.indexOf(base.hook));
        w.attrU32be(NFTA_HOOK.PRIORITY, base.priority);
      });
      w.attrU32be(NFTA_CHAIN.POLICY, VERDICT[base.policy ?? 'accept']);
      w.attrString(NFTA_CHAIN.TYPE, base.type);
    }
    if (chain.comment !== undefined) {
      w.attrBytes(NFTA_CHAIN.USERDATA, commentRecord(UDATA_CHAIN_COMMENT, chain.comment));
    }
  });
}

export function writeDeleteChain(b: BatchWriter, table: TableRef, name: string): void {
  b.nft(NFT_MSG.DELCHAIN, 0, table.family, () => {
    b.writer.attrString(NFTA_CHAIN.TABLE, table.name);
    b.writer.attrString(NFTA_CHAIN.NAME, name);
  });
}

export function writeSet(b: BatchWriter, set: NftSet | NftMap, options: AddOptions): void {
  writeSetWith(b, set, flagsOf(set), b.nextSetId(), addFlags(options));
}

function flagsOf(set: NftSet | NftMap): number {
  let flags = isMap(set) ? NFT_SET.MAP : 0;
  for (const flag of set.flags ?? []) {
    flags |= flag === 'timeout' ? NFT_SET.TIMEOUT : flag === 'dynamic' ? NFT_SET.EVAL : NFT_SET.CONSTANT;
  }
  return flags;
}

function writeSetWith(
  b: BatchWriter,
  set: NftSet | NftMap,
  flags: number,
  id: number,
  messageFlags: number,
): void {
  const w = b.writer;
  b.nft(NFT_MSG.NEWSET, messageFlags, set.table.family, () => {
    w.attrString(NFTA_SET.TABLE, set.table.name);
    w.attrString(NFTA_SET.NAME, set.name);
    w.attrU32be(NFTA_SET.FLAGS, flags);
    w.attrU32be(NFTA_SET.KEY_TYPE, keyTypeId(set.key));
    w.attrU32be(NFTA_SET.KEY_LEN, keySize(set.key));
    if (isMap(set)) {
      w.attrU32be(NFTA_SET.DATA_TYPE, set.data === 'verdict' ? NFT_DATA_VERDICT : keyTypeId(set.data));
      w.attrU32be(NFTA_SET.DATA_LEN, set.data === 'verdict' ? 0 : keySize(set.data));
    }
    w.attrU32be(NFTA_SET.ID, id);
    const { size, timeout } = set;
    if (size !== undefined) w.nest(NFTA_SET.DESC, () => w.attrU32be(NFTA_SET_DESC_SIZE, size));
    if (timeout !== undefined) w.attrU64be(NFTA_SET.TIMEOUT, BigInt(timeout) * 1000n);
    w.attrBytes(NFTA_SET.USERDATA, setUserdata(set));
  });
}

export function writeDeleteSet(b: BatchWriter, table: TableRef, name: string): void {
  b.nft(NFT_MSG.DELSET, 0, table.family, () => {
    b.writer.attrString(NFTA_SET.TABLE, table.name);
    b.writer.attrString(NFTA_SET.NAME, name);
  });
}

export function writeElements(
  b: BatchWriter,
  set: NftSet | NftMap,
  elements: readonly Element[],
  options: AddOptions,
): void {
  writeElementList(b, NFT_MSG.NEWSETELEM, addFlags(options), set, elements, undefined);
}

/** Only the keys count. */
export function writeDeleteElements(
  b: BatchWriter,
  set: NftSet | NftMap,
  elements: readonly Element[],
): void {
  writeElementList(b, NFT_MSG.DELSETELEM, 0, set, elements, undefined);
}

function writeElementList(
  b: BatchWriter,
  message: number,
  flags: number,
  set: NftSet | NftMap,
  elements: readonly Element[],
  setId: number | undefined,
): void {
  const w = b.writer;
  for (let next = 0; next < elements.length; ) {
    b.nft(message, flags, set.table.family, () => {
      w.attrString(NFTA_SET_ELEM_LIST.TABLE, set.table.name);
      w.attrString(NFTA_SET_ELEM_LIST.SET, set.name);
      if (setId !== undefined) w.attrU32be(NFTA_SET_ELEM_LIST.SET_ID, setId);
      const list = w.beginNest(NFTA_SET_ELEM_LIST.ELEMENTS);
      for (; next < elements.length && w.length - list < ELEMENT_LIST_LIMIT; next++) {
        const element = elements[next];
        if (element !== undefined) writeElement(w, set, element, message === NFT_MSG.DELSETELEM);
      }
      w.endNest(list);
    });
  }
}

function writeElement(w: NetlinkWriter, set: NftSet | NftMap, element: Element, keyOnly: boolean): void {
  const nest = w.beginNest(1); // any type: the kernel reads the list in order
  w.nest(NFTA_SET_ELEM.KEY, () => w.attrBytes(NFTA_DATA.VALUE, encodeKey(set.key, element.key)));
  if (!keyOnly) {
    if (isMap(set) && element.value !== undefined) writeElementValue(w, set.data, element.value);
    if (element.timeout !== undefined) w.attrU64be(NFTA_SET_ELEM.TIMEOUT, BigInt(element.timeout) * 1000n);
    if (element.comment !== undefined) {
      w.attrBytes(NFTA_SET_ELEM.USERDATA, commentRecord(UDATA_ELEMENT_COMMENT, element.comment));
    }
  }
  w.endNest(nest);
}

function writeElementValue(
  w: NetlinkWriter,
  data: readonly DataTypeName[] | 'verdict',
  value: NonNullable<Element['value']>,
): void {
  if (isVerdict(value)) writeVerdict(w, NFTA_SET_ELEM.DATA, value);
  else if (data !== 'verdict') {
    w.nest(NFTA_SET_ELEM.DATA, () => w.attrBytes(NFTA_DATA.VALUE, encodeKey(data, value)));
  }
}

/** Removes all elements. */
export function writeFlushSet(b: BatchWriter, table: TableRef, name: string): void {
  b.nft(NFT_MSG.DELSETELEM, 0, table.family, () => {
    b.writer.attrString(NFTA_SET_ELEM_LIST.TABLE, table.name);
    b.writer.attrString(NFTA_SET_ELEM_LIST.SET, name);
  });
}

/** At the end of its chain, or at the start where `insert` is set. */
export function writeRule(b: BatchWriter, rule: Rule, insert: boolean): void {
  const w = b.writer;
  const compiled = compileRule(rule.table.family, rule.statements, () => b.nextSetId());
  for (const set of compiled.anonymous) writeAnonymousSet(b, rule.table, set);
  b.nft(NFT_MSG.NEWRULE, NLM_F.CREATE | (insert ? 0 : NLM_F.APPEND), rule.table.family, () => {
    w.attrString(NFTA_RULE.TABLE, rule.table.name);
    w.attrString(NFTA_RULE.CHAIN, rule.chain);
    w.nest(NFTA_RULE.EXPRESSIONS, () => {
      for (const expression of compiled.expressions) writeExpression(w, expression);
    });
    if (rule.comment !== undefined) {
      w.attrBytes(NFTA_RULE.USERDATA, commentRecord(UDATA_RULE_COMMENT, rule.comment));
    }
  });
}

function writeAnonymousSet(b: BatchWriter, table: TableRef, anonymous: AnonymousSet): void {
  const common = {
    table,
    name: anonymous.name,
    key: anonymous.key.map(({ type }) => type),
    size: anonymous.elements.length,
  };
  const map = anonymous.name === '__map%d';
  const set: NftSet | NftMap = map ? { ...common, data: 'verdict' } : common;
  const flags = NFT_SET.ANONYMOUS | NFT_SET.CONSTANT | (map ? NFT_SET.MAP : 0);
  writeSetWith(b, set, flags, anonymous.id, NLM_F.CREATE);
  writeElementList(b, NFT_MSG.NEWSETELEM, NLM_F.CREATE, set, anonymous.elements, anonymous.id);
}

/** One rule by its handle, all of a chain, or all of a table. */
export function writeDeleteRules(b: BatchWriter, table: TableRef, chain?: string, handle?: bigint): void {
  b.nft(NFT_MSG.DELRULE, 0, table.family, () => {
    b.writer.attrString(NFTA_RULE.TABLE, table.name);
    if (chain !== undefined) b.writer.attrString(NFTA_RULE.CHAIN, chain);
    if (handle !== undefined) b.writer.attrU64be(NFTA_RULE.HANDLE, handle);
  });
}
