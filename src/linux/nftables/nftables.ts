import { hasCode, NodeletError } from '../../base/index.ts';
import {
  Attributes,
  NetlinkError,
  type NetlinkFailure,
  type NetlinkMessage,
  NetlinkSocket,
  NetlinkWriter,
  netlinkConstants,
  readAcknowledgement,
} from '../netlink/index.ts';
import {
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NFNL_SUBSYS_NFTABLES,
  NFPROTO,
  NFT_MSG,
  NFTA_GEN_ID,
  NFTA_RULE,
  NFTA_SET,
  NFTA_SET_ELEM_LIST,
  NFTA_TABLE,
} from './constants.ts';
import { type ListedRule, readChain, readElements, readRule, readSet, readTable } from './listing.ts';
import { BatchWriter } from './messages.ts';
import {
  type Chain,
  type Element,
  formatTable,
  type NftMap,
  type NftSet,
  type Table,
  type TableRef,
} from './objects.ts';
import type { NftTransaction } from './transaction.ts';

const { NETLINK, NLM_F, NLMSG } = netlinkConstants;

const DUMP_ATTEMPTS = 20;

/**
 * The rule set of one network namespace. Everything is synchronous: a commit has taken effect, or has thrown
 * `NetlinkError` and changed nothing, when it returns.
 */
export class Nftables implements Disposable {
  readonly #socket: NetlinkSocket;

  /** `netnsFd` undefined: the process's own namespace. The descriptor is not kept. */
  constructor(netnsFd?: number) {
    this.#socket = new NetlinkSocket({ protocol: NETLINK.NETFILTER, netnsFd });
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Makes all changes in one batch, or none. An empty transaction does nothing. */
  commit(transaction: NftTransaction): void {
    this.#run(transaction, true);
  }

  /** Lets the kernel check everything and throw it away, as `nft --check` does. */
  check(transaction: NftTransaction): void {
    this.#run(transaction, false);
  }

  #run(transaction: NftTransaction, commit: boolean): void {
    if (transaction.error !== undefined) throw transaction.error;
    const { operations } = transaction;
    if (operations.length === 0) return;
    const writer = new NetlinkWriter(64 * 1024);
    // Sequence numbers may be taken beyond what is used: they only have to be fresh.
    const first = this.#socket.takeSequences(0x10_0000);
    const batch = new BatchWriter(writer, first);
    batch.message(NFNL_MSG_BATCH_BEGIN, 0, undefined, () => {}, NFNL_SUBSYS_NFTABLES);
    const starts: number[] = [];
    let lastMessage = 0;
    for (const operation of operations) {
      starts.push(batch.sequence);
      lastMessage = writer.length;
      operation.write(batch);
    }
    lastMessage = lastMessageOffset(writer.bytes(), lastMessage);
    const lastSequence = batch.sequence - 1;
    // One acknowledgement, the last, says that all were handled; failures are always told. Without the end of the
    // batch the kernel checks everything and undoes it.
    const bytes = writer.bytes();
    bytes.writeUInt16LE(bytes.readUInt16LE(lastMessage + 6) | NLM_F.ACK, lastMessage + 6);
    if (commit) batch.message(NFNL_MSG_BATCH_END, 0, undefined, () => {}, NFNL_SUBSYS_NFTABLES);
    this.#conclude(this.#socket.exchange(writer.bytes()), transaction, starts, first, lastSequence);
  }

  #conclude(
    answers: readonly NetlinkMessage[],
    transaction: NftTransaction,
    starts: readonly number[],
    first: number,
    last: number,
  ): void {
    const failures: NetlinkFailure[] = [];
    let acknowledged = false;
    for (const answer of answers) {
      if (answer.type !== NLMSG.ERROR || answer.sequence < first || answer.sequence > last + 1) continue;
      if (answer.sequence === last) acknowledged = true;
      const ack = readAcknowledgement(answer);
      if (ack.errno === 0) continue;
      // The batch as a whole fails under the number of its beginning.
      const index = Math.max(0, operationOf(starts, answer.sequence));
      const request =
        answer.sequence === first
          ? 'nft -f (the whole transaction)'
          : transaction.operations[index]?.describe();
      failures.push({ index, request: request ?? '', ...ack });
    }
    if (failures[0] !== undefined) throw new NetlinkError(failures[0], failures);
    if (!acknowledged)
      throw new NodeletError('NETLINK_NO_ANSWER', 'the kernel did not answer an nftables transaction');
  }

  /** Counts up with every change that anybody makes to the rule set of the namespace. */
  generation(): number {
    const [answer] = this.#get(NFT_MSG.GETGEN, 0, 'nft get generation', () => {});
    return answer === undefined ? 0 : (new Attributes(answer.payload.subarray(4)).u32be(NFTA_GEN_ID) ?? 0);
  }

  /** The tables of the families ip, ip6 and inet. */
  tables(): Table[] {
    return this.#dump(NFT_MSG.GETTABLE, 0, 'nft list tables', () => {}).flatMap(
      (message) => readTable(message) ?? [],
    );
  }

  table(table: TableRef): Table | undefined {
    try {
      const answers = this.#get(
        NFT_MSG.GETTABLE,
        NFPROTO[table.family],
        `nft list table ${formatTable(table)}`,
        (w) => w.attrString(NFTA_TABLE.NAME, table.name),
      );
      return answers[0] === undefined ? undefined : readTable(answers[0]);
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  /** The chains of one table, or of all tables of the three families. */
  chains(table?: TableRef): Chain[] {
    const family = table === undefined ? 0 : NFPROTO[table.family];
    return this.#dump(NFT_MSG.GETCHAIN, family, 'nft list chains', () => {})
      .flatMap((message) => readChain(message) ?? [])
      .filter((chain) => table === undefined || isTable(chain.table, table));
  }

  /** The named sets and maps of a table whose types we know, and with `anonymous` those that rules brought along. */
  sets(table: TableRef, anonymous = false): (NftSet | NftMap)[] {
    return this.#dump(NFT_MSG.GETSET, NFPROTO[table.family], `nft list sets ${formatTable(table)}`, (w) =>
      w.attrString(NFTA_SET.TABLE, table.name),
    )
      .flatMap((message) => readSet(message) ?? [])
      .filter(({ name }) => anonymous || !isAnonymousName(name));
  }

  /** The rules of a table, or of one of its chains, in order. */
  rules(table: TableRef, chain?: string): ListedRule[] {
    return this.#dump(NFT_MSG.GETRULE, NFPROTO[table.family], `nft list table ${formatTable(table)}`, (w) => {
      w.attrString(NFTA_RULE.TABLE, table.name);
      if (chain !== undefined) w.attrString(NFTA_RULE.CHAIN, chain);
    }).map(readRule);
  }

  /**
   * ENOENT where there is no such set. The kernel walks a hash table that it may be enlarging at the same time: such
   * a dump tells some elements twice and misses others, without saying so. It is made again.
   */
  elements(set: NftSet | NftMap): Element[] {
    const what = `nft list set ${formatTable(set.table)} ${set.name}`;
    for (let attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
      const elements = this.#dump(NFT_MSG.GETSETELEM, NFPROTO[set.table.family], what, (w) => {
        w.attrString(NFTA_SET_ELEM_LIST.TABLE, set.table.name);
        w.attrString(NFTA_SET_ELEM_LIST.SET, set.name);
      }).flatMap((message) => readElements(message, set));
      const keys = new Set(elements.map(({ key }) => key.join(' ')));
      if (keys.size === elements.length) return elements;
    }
    throw new NodeletError(
      'NETLINK_DUMP_INTERRUPTED',
      `cannot read "${what}": it changed during each of ${DUMP_ATTEMPTS} attempts`,
    );
  }

  #get(message: number, family: number, what: string, write: (w: NetlinkWriter) => void): NetlinkMessage[] {
    return this.#socket.execute([request(message, family, what, write)]);
  }

  #dump(message: number, family: number, what: string, write: (w: NetlinkWriter) => void): NetlinkMessage[] {
    return this.#socket.dump(request(message, family, what, write));
  }
}

function request(message: number, family: number, what: string, write: (w: NetlinkWriter) => void) {
  return {
    type: (NFNL_SUBSYS_NFTABLES << 8) | message,
    flags: 0,
    describe: () => what,
    write(w: NetlinkWriter) {
      w.u8(family);
      w.u8(0);
      w.u16be(0);
      write(w);
    },
  };
}

export function isTable(a: TableRef, b: TableRef): boolean {
  return a.family === b.family && a.name === b.name;
}

export function isAnonymousName(name: string): boolean {
  return /^__(set|map)\d+$/.test(name);
}

/** The offset of the last message that starts at or after `from`. */
function lastMessageOffset(bytes: Buffer, from: number): number {
  let at = from;
  for (;;) {
    const next = at + ((bytes.readUInt32LE(at) + 3) & ~3);
    if (next >= bytes.length) return at;
    at = next;
  }
}

/** The index of the last operation that starts at or before the sequence number; starts ascend. */
function operationOf(starts: readonly number[], sequence: number): number {
  let low = 0;
  let high = starts.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((starts[middle] ?? 0) <= sequence) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
