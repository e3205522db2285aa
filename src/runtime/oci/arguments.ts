/**
 * The command line as runc has it: options end at the first operand, because what follows a container's id may be a program
 * with options of its own. Go's flag package takes one dash or two before any name.
 */
import { usage } from './errors.ts';

export interface OptionSpec {
  readonly name: string;
  readonly short?: string;
  /** What the value is called in the help; absent for a flag. */
  readonly value?: string;
  readonly many?: true;
  readonly help: string;
}

export class ParsedArguments {
  readonly #values: ReadonlyMap<string, readonly string[]>;
  readonly operands: readonly string[];

  constructor(values: ReadonlyMap<string, readonly string[]>, operands: readonly string[]) {
    this.#values = values;
    this.operands = operands;
  }

  /** The last value given; undefined where there is none, or an empty one. */
  text(name: string): string | undefined {
    const value = this.#values.get(name)?.at(-1);
    return value === '' ? undefined : value;
  }

  list(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }

  has(name: string): boolean {
    return this.#values.get(name)?.at(-1) === 'true';
  }

  /** A whole number of at least `least`. Throws OCI_USAGE. */
  integer(name: string, least: number): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const number = Number(text);
    if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(number) || number < least)
      throw usage(`--${name}: expected a whole number of at least ${least}, found ${JSON.stringify(text)}`);
    return number;
  }
}

/** Options up to the first operand. Throws OCI_USAGE. */
export function parseArguments(table: readonly OptionSpec[], argv: readonly string[]): ParsedArguments {
  const values = new Map<string, string[]>();
  let at = 0;
  for (; at < argv.length; at++) {
    const word = argv[at] ?? '';
    if (word === '--') {
      at += 1;
      break;
    }
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(word);
    if (match === null) break;
    const [, name = '', inline] = match;
    const option = table.find((one) => one.name === name || one.short === name);
    if (option === undefined) throw usage(`unknown option ${JSON.stringify(word.replace(/=.*$/s, ''))}`);
    let value = inline;
    if (option.value === undefined) value = flag(option, inline);
    else if (value === undefined) {
      at += 1;
      value = argv[at];
      if (value === undefined) throw usage(`--${option.name} needs a value: ${option.value}`);
    }
    const known = values.get(option.name);
    if (known === undefined) values.set(option.name, [value]);
    else known.push(value);
  }
  return new ParsedArguments(values, argv.slice(at));
}

const TRUE = new Set(['1', 't', 'T', 'true', 'TRUE', 'True']);
const FALSE = new Set(['0', 'f', 'F', 'false', 'FALSE', 'False']);

function flag(option: OptionSpec, inline: string | undefined): string {
  if (inline === undefined || TRUE.has(inline)) return 'true';
  if (FALSE.has(inline)) return 'false';
  throw usage(`--${option.name}: expected true or false, found ${JSON.stringify(inline)}`);
}
