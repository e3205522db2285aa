/** What the kernel tells of tables, chains, sets, elements and rules, read into the shapes that we write. */
import { Attributes, attributeList, type NetlinkMessage } from '../netlink/index.ts';
import {
  HOOKS,
  NFPROTO,
  NFT_DATA_VERDICT,
  NFT_SET,
  NFTA_CHAIN,
  NFTA_DATA,
  NFTA_EXPR,
  NFTA_HOOK,
  NFTA_RULE,
  NFTA_SET,
  NFTA_SET_DESC_SIZE,
  NFTA_SET_ELEM,
  NFTA_SET_ELEM_LIST,
  NFTA_TABLE,
  NFTA_VERDICT,
  UDATA_CHAIN_COMMENT,
  UDATA_ELEMENT_COMMENT,
  UDATA_RULE_COMMENT,
  UDATA_SET,
  UDATA_TABLE_COMMENT,
  VERDICT,
} from './constants.ts';
import { decodeKey, fieldsOfTypeId } from './data-types.ts';
import {
  type BaseChain,
  type Chain,
  type Element,
  type Family,
  isMap,
  type NftMap,
  type NftSet,
  type Table,
  type Verdict,
} from './objects.ts';
import { readComment } from './userdata.ts';

/** One expression as the kernel tells it: its name and attributes by number. */
export interface RawExpression {
  readonly name: string;
  readonly data: Attributes;
}

export interface ListedRule {
  readonly chain: string;
  readonly handle: bigint;
  readonly comment: string | undefined;
  readonly expressions: readonly RawExpression[];
}

const families: ReadonlyMap<number, Family> = new Map(
  (Object.keys(NFPROTO) as Family[]).map((family) => [NFPROTO[family], family]),
);

/** The family of a message; undefined for those that we do not speak of (bridge, arp, netdev). */
function familyOf(message: NetlinkMessage): Family | undefined {
  return families.get(message.payload[0] ?? 0);
}

const attributesOf = (message: NetlinkMessage): Attributes => new Attributes(message.payload.subarray(4));

export function readTable(message: NetlinkMessage): Table | undefined {
  const family = familyOf(message);
  if (family === undefined) return undefined;
  const attributes = attributesOf(message);
  const comment = readComment(attributes.bytes(NFTA_TABLE.USERDATA), UDATA_TABLE_COMMENT);
  return {
    family,
    name: attributes.string(NFTA_TABLE.NAME) ?? '',
    ...(comment === undefined ? {} : { comment }),
  };
}

export function readChain(message: NetlinkMessage): Chain | undefined {
  const family = familyOf(message);
  if (family === undefined) return undefined;
  const attributes = attributesOf(message);
  const base = readBase(attributes);
  const comment = readComment(attributes.bytes(NFTA_CHAIN.USERDATA), UDATA_CHAIN_COMMENT);
  return {
    table: { family, name: attributes.string(NFTA_CHAIN.TABLE) ?? '' },
    name: attributes.string(NFTA_CHAIN.NAME) ?? '',
    ...(base === undefined ? {} : { base }),
    ...(comment === undefined ? {} : { comment }),
  };
}

function readBase(attributes: Attributes): BaseChain | undefined {
  const hook = attributes.nest(NFTA_CHAIN.HOOK);
  const name = HOOKS[hook?.u32be(NFTA_HOOK.HOOKNUM) ?? -1];
  const type = attributes.string(NFTA_CHAIN.TYPE);
  if (hook === undefined || name === undefined) return undefined;
  if (type !== 'filter' && type !== 'nat' && type !== 'route') return undefined;
  return {
    type,
    hook: name,
    priority: hook.i32be(NFTA_HOOK.PRIORITY) ?? 0,
    policy: attributes.u32be(NFTA_CHAIN.POLICY) === VERDICT.drop ? 'drop' : 'accept',
  };
}

/** Undefined for a set whose types we do not know. */
export function readSet(message: NetlinkMessage): NftSet | NftMap | undefined {
  const family = familyOf(message);
  const attributes = attributesOf(message);
  const key = fieldsOfTypeId(attributes.u32be(NFTA_SET.KEY_TYPE) ?? 0);
  if (family === undefined || key === undefined || key.length === 0) return undefined;
  const flags = attributes.u32be(NFTA_SET.FLAGS) ?? 0;
  const timeout = attributes.u64be(NFTA_SET.TIMEOUT);
  const size = attributes.nest(NFTA_SET.DESC)?.u32be(NFTA_SET_DESC_SIZE);
  const comment = readComment(attributes.bytes(NFTA_SET.USERDATA), UDATA_SET.COMMENT);
  const names = flagNames(flags);
  const set: NftSet = {
    table: { family, name: attributes.string(NFTA_SET.TABLE) ?? '' },
    name: attributes.string(NFTA_SET.NAME) ?? '',
    key,
    ...(names.length === 0 ? {} : { flags: names }),
    ...(timeout === undefined ? {} : { timeout: Number(timeout / 1000n) }),
    ...(size === undefined ? {} : { size }),
    ...(comment === undefined ? {} : { comment }),
  };
  if ((flags & NFT_SET.MAP) === 0) return set;
  const type = attributes.u32be(NFTA_SET.DATA_TYPE) ?? 0;
  const data = type === NFT_DATA_VERDICT ? 'verdict' : fieldsOfTypeId(type);
  return data === undefined ? undefined : { ...set, data };
}

function flagNames(flags: number): ('constant' | 'dynamic' | 'timeout')[] {
  return [
    ...((flags & NFT_SET.CONSTANT) === 0 ? [] : (['constant'] as const)),
    ...((flags & NFT_SET.EVAL) === 0 ? [] : (['dynamic'] as const)),
    ...((flags & NFT_SET.TIMEOUT) === 0 ? [] : (['timeout'] as const)),
  ];
}

/** The elements of one message of a dump of `set`. */
export function readElements(message: NetlinkMessage, set: NftSet | NftMap): Element[] {
  return attributeList(attributesOf(message).bytes(NFTA_SET_ELEM_LIST.ELEMENTS)).map((bytes) => {
    const attributes = new Attributes(bytes);
    const key = attributes.nest(NFTA_SET_ELEM.KEY)?.bytes(NFTA_DATA.VALUE) ?? Buffer.alloc(0);
    const data = attributes.nest(NFTA_SET_ELEM.DATA);
    const value = data === undefined || !isMap(set) ? undefined : readValue(set, data);
    const comment = readComment(attributes.bytes(NFTA_SET_ELEM.USERDATA), UDATA_ELEMENT_COMMENT);
    const timeout = attributes.u64be(NFTA_SET_ELEM.TIMEOUT);
    return {
      key: decodeKey(set.key, key),
      ...(value === undefined ? {} : { value }),
      ...(comment === undefined ? {} : { comment }),
      ...(timeout === undefined ? {} : { timeout: Number(timeout / 1000n) }),
    };
  });
}

function readValue(map: NftMap, data: Attributes): Element['value'] {
  if (map.data !== 'verdict') return decodeKey(map.data, data.bytes(NFTA_DATA.VALUE) ?? Buffer.alloc(0));
  const verdict = data.nest(NFTA_DATA.VERDICT);
  return verdict === undefined ? undefined : readVerdict(verdict);
}

const verdictNames: ReadonlyMap<number, Verdict['verdict']> = new Map(
  (Object.keys(VERDICT) as Verdict['verdict'][]).map((name) => [VERDICT[name], name]),
);

function readVerdict(attributes: Attributes): Verdict | undefined {
  const name = verdictNames.get(attributes.i32be(NFTA_VERDICT.CODE) ?? Number.NaN);
  if (name === undefined) return undefined;
  if (name !== 'jump' && name !== 'goto') return { verdict: name };
  return { verdict: name, chain: attributes.string(NFTA_VERDICT.CHAIN) ?? '' };
}

export function readRule(message: NetlinkMessage): ListedRule {
  const attributes = attributesOf(message);
  return {
    chain: attributes.string(NFTA_RULE.CHAIN) ?? '',
    handle: attributes.u64be(NFTA_RULE.HANDLE) ?? 0n,
    comment: readComment(attributes.bytes(NFTA_RULE.USERDATA), UDATA_RULE_COMMENT),
    expressions: readExpressions(attributes.bytes(NFTA_RULE.EXPRESSIONS)),
  };
}

/** The list of NFTA_RULE_EXPRESSIONS. */
export function readExpressions(bytes: Buffer | undefined): RawExpression[] {
  return attributeList(bytes).map((value) => {
    const expression = new Attributes(value);
    return {
      name: expression.string(NFTA_EXPR.NAME) ?? '',
      data: expression.nest(NFTA_EXPR.DATA) ?? new Attributes(Buffer.alloc(0)),
    };
  });
}
