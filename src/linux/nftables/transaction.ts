import { toError } from '../../base/index.ts';
import {
  type AddOptions,
  type BatchWriter,
  writeChain,
  writeDeleteChain,
  writeDeleteElements,
  writeDeleteRules,
  writeDeleteSet,
  writeDeleteTable,
  writeElements,
  writeFlushSet,
  writeRule,
  writeSet,
  writeTable,
} from './messages.ts';
import {
  type Chain,
  checkComment,
  checkName,
  type Element,
  formatTable,
  isMap,
  isVerdict,
  type NftMap,
  type NftSet,
  type Rule,
  type Table,
  type TableRef,
} from './objects.ts';
import { formatChainSpec, formatElements, formatRule, formatSetSpec, formatTableSpec } from './text.ts';

interface Operation {
  describe(): string;
  write(batch: BatchWriter): void;
}

/**
 * Changes that the kernel makes all together or not at all. Verbs mean what they mean in nft(8): `add` is no error
 * where the object is there, `create` is. The first invalid name or comment sticks: later calls do nothing, and the
 * commit throws it. `toString()` is the same change for `nft -f`.
 */
export class NftTransaction {
  readonly #operations: Operation[] = [];
  #error: Error | undefined;

  get size(): number {
    return this.#operations.length;
  }

  /** The first error; the transaction cannot be committed. */
  get error(): Error | undefined {
    return this.#error;
  }

  get operations(): readonly Operation[] {
    return this.#operations;
  }

  addTable(table: Table, options: AddOptions = {}): this {
    return this.#take(
      () => checkNamed('table', table),
      () => `${verb(options)} ${formatTableSpec(table)}`,
      (b) => writeTable(b, table, options),
    );
  }

  deleteTable(table: TableRef): this {
    return this.#take(
      () => {},
      () => `delete table ${formatTable(table)}`,
      (b) => writeDeleteTable(b, table),
    );
  }

  addChain(chain: Chain, options: AddOptions = {}): this {
    return this.#take(
      () => checkNamed('chain', chain),
      () => `${verb(options)} ${formatChainSpec(chain)}`,
      (b) => writeChain(b, chain, options),
    );
  }

  /** EBUSY where rules or elements still lead there. */
  deleteChain(table: TableRef, name: string): this {
    return this.#take(
      () => {},
      () => `delete chain ${formatTable(table)} ${name}`,
      (b) => writeDeleteChain(b, table, name),
    );
  }

  /** Removes all rules of a chain. */
  flushChain(table: TableRef, name: string): this {
    return this.#take(
      () => {},
      () => `flush chain ${formatTable(table)} ${name}`,
      (b) => writeDeleteRules(b, table, name),
    );
  }

  addSet(set: NftSet | NftMap, options: AddOptions = {}): this {
    return this.#take(
      () => checkNamed('set', set),
      () => `${verb(options)} ${formatSetSpec(set)}`,
      (b) => writeSet(b, set, options),
    );
  }

  deleteSet(set: NftSet | NftMap): this {
    const kind = isMap(set) ? 'map' : 'set';
    return this.#take(
      () => {},
      () => `delete ${kind} ${formatTable(set.table)} ${set.name}`,
      (b) => writeDeleteSet(b, set.table, set.name),
    );
  }

  /** Removes all elements of a set or map. */
  flushSet(set: NftSet | NftMap): this {
    const kind = isMap(set) ? 'map' : 'set';
    return this.#take(
      () => {},
      () => `flush ${kind} ${formatTable(set.table)} ${set.name}`,
      (b) => writeFlushSet(b, set.table, set.name),
    );
  }

  /** Elements of one set; with `create`, EEXIST where a key is there. A key that is there with another value is EEXIST too. */
  addElements(set: NftSet | NftMap, elements: readonly Element[], options: AddOptions = {}): this {
    if (elements.length === 0) return this;
    return this.#take(
      () => elements.forEach(checkElement),
      () => `${verb(options)} ${formatElements(set, elements)}`,
      (b) => writeElements(b, set, elements, options),
    );
  }

  /** ENOENT where a key is not there. */
  deleteElements(set: NftSet | NftMap, elements: readonly Element[]): this {
    if (elements.length === 0) return this;
    return this.#take(
      () => {},
      () => `delete ${formatElements(set, elements, true)}`,
      (b) => writeDeleteElements(b, set, elements),
    );
  }

  /** At the end of its chain. */
  addRule(rule: Rule): this {
    return this.#rule(rule, 'add');
  }

  /** At the start of its chain. */
  insertRule(rule: Rule): this {
    return this.#rule(rule, 'insert');
  }

  deleteRule(table: TableRef, chain: string, handle: bigint): this {
    return this.#take(
      () => {},
      () => `delete rule ${formatTable(table)} ${chain} handle ${handle}`,
      (b) => writeDeleteRules(b, table, chain, handle),
    );
  }

  toString(): string {
    return this.#operations.map((operation) => operation.describe()).join('\n');
  }

  #rule(rule: Rule, how: 'add' | 'insert'): this {
    return this.#take(
      () => {
        if (rule.comment !== undefined) checkComment(rule.comment);
      },
      () => `${how} ${formatRule(rule)}`,
      (b) => writeRule(b, rule, how === 'insert'),
    );
  }

  #take(check: () => void, describe: () => string, write: (batch: BatchWriter) => void): this {
    if (this.#error !== undefined) return this;
    try {
      check();
      this.#operations.push({ describe, write });
    } catch (error) {
      this.#error = toError(error);
    }
    return this;
  }
}

function verb(options: AddOptions): string {
  return options.create === true ? 'create' : 'add';
}

function checkNamed(what: string, object: { readonly name: string; readonly comment?: string }): void {
  checkName(what, object.name);
  if (object.comment !== undefined) checkComment(object.comment);
}

function checkElement(element: Element): void {
  if (element.comment !== undefined) checkComment(element.comment);
  if (element.value !== undefined && isVerdict(element.value) && 'chain' in element.value) {
    checkName('chain', element.value.chain);
  }
}
