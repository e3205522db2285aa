/**
 * Checks a CRI request before anything is done for it: every field of every message in it, by the rules' table. Throws
 * INVALID_ARGUMENT with the field's path, its value and what is wrong with it. Pure.
 */
import { NodeletError } from '../../base/index.ts';
import { MESSAGES } from '../wire/tables.gen.ts';
import { LIST_LIMIT, longerThan, MESSAGE_RULES, REQUIRED, RULES, type Rule, TEXT_LIMIT } from './rules.ts';

type Value = Readonly<Record<string, unknown>>;
type Check = (value: unknown) => string | undefined;

interface Field {
  readonly name: string;
  readonly repeated: boolean;
  readonly isRequired: boolean;
  /** The message's type; undefined for a scalar or a map. */
  readonly message: string | undefined;
  /** Int64Value and UInt64Value are looked into: their rules stand at the field that holds them. */
  readonly unwrap: boolean;
  readonly check: Check;
}

const WRAPPERS: ReadonlySet<string> = new Set(['Int64Value', 'UInt64Value']);
const NUMBERS: ReadonlySet<string> = new Set(['int32', 'int64', 'uint32', 'uint64', 'enum']);
const TEXTS: ReadonlySet<string> = new Set(['string', 'text']);

/** Ids are required wherever they are not a filter's. */
function isRequired(owner: string, name: string): boolean {
  if (REQUIRED.has(`${owner}.${name}`)) return true;
  return owner.endsWith('Request') && (name === 'podSandboxId' || name === 'containerId');
}

function scalarCheck(type: string, rule: Rule | undefined): Check {
  const more = rule as Check | undefined;
  if (TEXTS.has(type))
    return (value) => {
      const text = value as string;
      if (text.includes('\0')) return 'holds a NUL character';
      if (more !== undefined) return more(text);
      return longerThan(text, TEXT_LIMIT) ? `is longer than ${TEXT_LIMIT} bytes` : undefined;
    };
  if (NUMBERS.has(type)) return more ?? ((value) => ((value as number) < 0 ? 'is negative' : undefined));
  if (type === 'map')
    return (value) => {
      for (const [key, text] of Object.entries(value as Record<string, string>))
        if (key.includes('\0') || text.includes('\0'))
          return `has an entry ${JSON.stringify(key.slice(0, 60))} with a NUL character`;
      return more?.(value);
    };
  return more ?? (() => undefined);
}

function fieldOf(owner: string, row: string): Field {
  const [, name = '', typed = ''] = row.split(' ');
  const repeated = typed.endsWith('[]');
  const type = repeated ? typed.slice(0, -2) : typed;
  const unwrap = WRAPPERS.has(type);
  const rule = RULES[`${owner}.${name}`] ?? RULES[`*.${name}`];
  return {
    name,
    repeated,
    isRequired: isRequired(owner, name),
    message: unwrap || MESSAGES[type] === undefined ? undefined : type,
    unwrap,
    check: scalarCheck(unwrap ? 'int64' : type, rule),
  };
}

const fields = new Map<string, readonly Field[]>();

function fieldsOf(type: string): readonly Field[] {
  const known = fields.get(type);
  if (known !== undefined) return known;
  const made = (MESSAGES[type] ?? []).map((row) => fieldOf(type, row));
  fields.set(type, made);
  return made;
}

function shown(value: unknown): string {
  const text =
    typeof value === 'string'
      ? JSON.stringify(value.length > 100 ? `${value.slice(0, 100)}…` : value)
      : typeof value === 'number'
        ? String(value)
        : '';
  return text === '' ? '' : ` ${text}`;
}

function refuse(path: string, value: unknown, problem: string): never {
  throw new NodeletError('INVALID_ARGUMENT', `${path}${shown(value)} ${problem}`, {
    details: { field: path },
  });
}

function checkMessage(root: string, type: string, message: Value, path: string): void {
  for (const field of fieldsOf(type)) {
    const value = message[field.name];
    const at = path === '' ? field.name : `${path}.${field.name}`;
    if (value === undefined) {
      if (field.isRequired || REQUIRED.has(`${root}.${at}`)) refuse(at, undefined, 'is empty');
    } else if (field.repeated) {
      const list = value as readonly unknown[];
      if (list.length > LIST_LIMIT) refuse(at, undefined, `has more than ${LIST_LIMIT} items`);
      for (const [index, item] of list.entries()) checkValue(root, field, item, `${at}[${index}]`);
    } else checkValue(root, field, value, at);
  }
  const problem = MESSAGE_RULES[type]?.(message);
  if (problem !== undefined) refuse(path, undefined, problem);
}

function checkValue(root: string, field: Field, value: unknown, path: string): void {
  if (field.message !== undefined) {
    checkMessage(root, field.message, value as Value, path);
    return;
  }
  const plain = field.unwrap ? ((value as Value).value ?? 0) : value;
  const problem = field.check(plain);
  if (problem !== undefined) refuse(path, plain, problem);
}

/** `type` is the request's name in api.proto. */
export function checkRequest(type: string, message: Value): void {
  checkMessage(type, type, message, '');
}
