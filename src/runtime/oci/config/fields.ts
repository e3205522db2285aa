/** Reading config.json: every value is checked, every error names its field, and no field is passed over in silence. */
import { exactInteger } from '../../../linux/exact-json.ts';
import { invalidConfig, unsupported } from '../errors.ts';

/** Fields of an object: true for those that are read, a reason for those that are refused. */
export type Known = Readonly<Record<string, true | string>>;

export class Fields {
  readonly at: string;
  readonly #values: Readonly<Record<string, unknown>>;

  /** Throws OCI_CONFIG_INVALID for what is no object or has an unknown field, OCI_UNSUPPORTED for one that is refused. */
  constructor(value: unknown, at: string, known: Known) {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw invalidConfig(at, `expected an object, found ${show(value)}`);
    this.at = at;
    this.#values = value as Readonly<Record<string, unknown>>;
    for (const [key, given] of Object.entries(this.#values)) {
      const use = Object.hasOwn(known, key) ? known[key] : undefined;
      if (use === undefined) throw invalidConfig(this.path(key), 'unknown field');
      if (typeof use === 'string' && !isEmpty(given))
        throw unsupported(`config.json: ${this.path(key)}`, use);
    }
  }

  path(key: string): string {
    return this.at === '' ? key : `${this.at}.${key}`;
  }

  raw(key: string): unknown {
    return this.#values[key] ?? undefined;
  }

  has(key: string): boolean {
    return this.raw(key) !== undefined;
  }

  text(key: string): string | undefined {
    const value = this.raw(key);
    return value === undefined ? undefined : text(value, this.path(key));
  }

  required(key: string): string {
    const value = this.text(key);
    if (value === undefined || value === '') throw invalidConfig(this.path(key), 'is needed');
    return value;
  }

  flag(key: string): boolean | undefined {
    const value = this.raw(key);
    if (value === undefined || typeof value === 'boolean') return value;
    throw invalidConfig(this.path(key), `expected true or false, found ${show(value)}`);
  }

  integer(key: string, least: number, most = Number.MAX_SAFE_INTEGER): number | undefined {
    const value = this.raw(key);
    return value === undefined ? undefined : integer(value, this.path(key), least, most);
  }

  oneOf<T extends string>(key: string, allowed: readonly T[]): T | undefined {
    const value = this.text(key);
    if (value === undefined || value === '') return undefined;
    if (allowed.includes(value as T)) return value as T;
    throw invalidConfig(this.path(key), `expected one of ${allowed.join(', ')}, found ${show(value)}`);
  }

  list<T>(key: string, read: (value: unknown, at: string) => T): T[] {
    const value = this.raw(key);
    if (value === undefined) return [];
    if (!Array.isArray(value)) throw invalidConfig(this.path(key), `expected a list, found ${show(value)}`);
    return value.map((item: unknown, i) => read(item, `${this.path(key)}[${i}]`));
  }

  texts(key: string): string[] {
    return this.list(key, text);
  }

  integers(key: string, least: number, most: number): number[] {
    return this.list(key, (value, at) => integer(value, at, least, most));
  }

  map<T>(key: string, read: (value: unknown, at: string) => T): Record<string, T> {
    const value = this.raw(key);
    if (value === undefined) return {};
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw invalidConfig(this.path(key), `expected an object, found ${show(value)}`);
    return Object.fromEntries(
      Object.entries(value).map(([name, item]) => [name, read(item, `${this.path(key)}[${show(name)}]`)]),
    );
  }

  object(key: string, known: Known): Fields | undefined {
    const value = this.raw(key);
    return value === undefined ? undefined : new Fields(value, this.path(key), known);
  }
}

/** What says nothing: writers of JSON leave such fields in. */
function isEmpty(value: unknown): boolean {
  if (value === null || value === undefined || value === false || value === '') return true;
  if (Array.isArray(value)) return value.length === 0;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

export function text(value: unknown, at: string): string {
  if (typeof value !== 'string') throw invalidConfig(at, `expected a text, found ${show(value)}`);
  if (value.includes('\0')) throw invalidConfig(at, 'a text must not contain a NUL character');
  return value;
}

function integer(value: unknown, at: string, least: number, most: number): number {
  const exact = exactInteger(value);
  if (exact === undefined || exact < BigInt(least) || exact > BigInt(most))
    throw invalidConfig(at, `expected a whole number from ${least} to ${most}, found ${show(value)}`);
  return Number(exact);
}

export function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  const shown = JSON.stringify(value);
  return shown.length > 60 ? `${shown.slice(0, 60)}…` : shown;
}
