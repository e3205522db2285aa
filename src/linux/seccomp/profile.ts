/**
 * Reads a profile file (`Localhost` profiles): `LinuxSeccomp` of the OCI runtime specification, and Docker's
 * extension of it (archMap, includes, excludes, comment), which containerd would drop silently. Whatever is not
 * understood is refused with its path: a field that is ignored can make a container less confined than it looks.
 */
import { messageOf, NodeletError } from '../../base/index.ts';
import { exactInteger, exactJsonText, parseExactJson } from '../exact-json.ts';
import { invalid } from './actions.ts';
import {
  type ConditionalRule,
  type ConditionalSeccomp,
  SECCOMP_ACTIONS,
  SECCOMP_ARCHITECTURES,
  SECCOMP_FLAGS,
  SECCOMP_OPERATORS,
  type SeccompArg,
  type SeccompCondition,
} from './types.ts';

/** Throws SECCOMP_PROFILE_INVALID with the path of the field, SECCOMP_NOTIFY_UNSUPPORTED for a listener. */
export function parseSeccompProfile(text: string): ConditionalSeccomp {
  let value: unknown;
  try {
    value = parseExactJson(text);
  } catch (error) {
    throw new NodeletError(
      'SECCOMP_PROFILE_INVALID',
      `cannot read the seccomp profile: ${messageOf(error)}`,
      {
        hint: 'the format is JSON',
        cause: error,
        details: { field: '' },
      },
    );
  }
  return profile(value);
}

type Fields = Readonly<Record<string, unknown>>;

function profile(value: unknown): ConditionalSeccomp {
  const known = ['defaultAction', 'defaultErrnoRet', 'architectures', 'archMap', 'flags', 'syscalls'];
  const fields = object(value, 'profile', [...known, 'listenerPath', 'listenerMetadata']);
  for (const field of ['listenerPath', 'listenerMetadata']) {
    if ((fields[field] ?? '') !== '') {
      throw new NodeletError(
        'SECCOMP_NOTIFY_UNSUPPORTED',
        `cannot use "${field}" of a seccomp profile: no supervisor`,
        {
          hint: 'nodelet runs no seccomp agent',
          details: { field },
        },
      );
    }
  }
  if (fields.architectures != null && fields.archMap != null) {
    throw invalid('archMap', 'give either "architectures" or "archMap", not both');
  }
  return {
    defaultAction: oneOf(fields.defaultAction, SECCOMP_ACTIONS, 'defaultAction'),
    ...optional('defaultErrnoRet', fields, errno),
    ...optional('architectures', fields, (list, at) => array(list, at, architecture)),
    ...optional('archMap', fields, (list, at) => array(list, at, mapping)),
    ...optional('flags', fields, (list, at) =>
      array(list, at, (flag, path) => oneOf(flag, SECCOMP_FLAGS, path)),
    ),
    ...optional('syscalls', fields, (list, at) => array(list, at, rule)),
  };
}

function mapping(value: unknown, at: string) {
  const fields = object(value, at, ['architecture', 'subArchitectures']);
  return {
    architecture: architecture(fields.architecture, `${at}.architecture`),
    ...optional('subArchitectures', fields, (list, path) => array(list, path, architecture), at),
  };
}

function rule(value: unknown, at: string): ConditionalRule {
  const known = ['names', 'name', 'action', 'errnoRet', 'args', 'comment', 'includes', 'excludes'];
  const fields = object(value, at, known);
  const { name } = fields;
  const old = name != null && name !== '';
  if (old && fields.names != null) throw invalid(`${at}.name`, 'give either "name" or "names", not both');
  const names = old ? [string(name, `${at}.name`)] : array(fields.names, `${at}.names`, string);
  if (names.length === 0) throw invalid(`${at}.names`, 'at least one system call is needed');
  if (fields.comment != null) string(fields.comment, `${at}.comment`, true);
  return {
    names,
    action: oneOf(fields.action, SECCOMP_ACTIONS, `${at}.action`),
    ...optional('errnoRet', fields, errno, at),
    ...optional('args', fields, (list, path) => array(list, path, argument), at),
    ...optional('includes', fields, condition, at),
    ...optional('excludes', fields, condition, at),
  };
}

function argument(value: unknown, at: string): SeccompArg {
  const fields = object(value, at, ['index', 'value', 'valueTwo', 'op']);
  const index = unsigned(fields.index, `${at}.index`);
  if (index > 5) throw invalid(`${at}.index`, `a system call has arguments 0 to 5, found ${index}`);
  return {
    index: Number(index),
    value: unsigned(fields.value, `${at}.value`),
    ...optional('valueTwo', fields, unsigned, at),
    op: oneOf(fields.op, SECCOMP_OPERATORS, `${at}.op`),
  };
}

function condition(value: unknown, at: string): SeccompCondition {
  const fields = object(value, at, ['caps', 'arches', 'minKernel']);
  return {
    ...optional('caps', fields, (list, path) => array(list, path, string), at),
    ...optional('arches', fields, (list, path) => array(list, path, string), at),
    ...optional('minKernel', fields, kernel, at),
  };
}

function kernel(value: unknown, at: string): readonly [number, number] {
  const match = /^(\d+)\.(\d+)$/.exec(string(value, at));
  if (!match) throw invalid(at, `expected a kernel version such as "4.8", found ${JSON.stringify(value)}`);
  return [Number(match[1]), Number(match[2])];
}

function architecture(value: unknown, at: string) {
  return oneOf(value, SECCOMP_ARCHITECTURES, at);
}

function errno(value: unknown, at: string): number {
  return Number(unsigned(value, at));
}

function optional<K extends string, T>(
  key: K,
  fields: Fields,
  read: (value: unknown, at: string) => T,
  at = '',
): { readonly [P in K]?: T } {
  const value = fields[key];
  if (value === undefined || value === null) return {};
  return { [key]: read(value, at === '' ? key : `${at}.${key}`) } as { readonly [P in K]?: T };
}

function object(value: unknown, at: string, known: readonly string[]): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(at, `expected an object, found ${describe(value)}`);
  }
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) throw invalid(at === 'profile' ? key : `${at}.${key}`, 'unknown field');
  }
  return value as Fields;
}

function array<T>(value: unknown, at: string, read: (value: unknown, at: string) => T): readonly T[] {
  if (!Array.isArray(value)) throw invalid(at, `expected a list, found ${describe(value)}`);
  return value.map((item: unknown, i) => read(item, `${at}[${i}]`));
}

function string(value: unknown, at: string, empty: unknown = false): string {
  if (typeof value !== 'string' || (value === '' && empty !== true)) {
    throw invalid(at, `expected a text, found ${describe(value)}`);
  }
  return value;
}

function oneOf<T extends string>(value: unknown, allowed: readonly T[], at: string): T {
  if (typeof value !== 'string' || !allowed.includes(value as T)) {
    throw invalid(at, `expected one of ${allowed.join(', ')}, found ${describe(value)}`);
  }
  return value as T;
}

function unsigned(value: unknown, at: string): number | bigint {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  const large = typeof value === 'string' ? exactInteger(value) : undefined;
  if (large !== undefined && large >= 0n && large <= 0xffff_ffff_ffff_ffffn) return large;
  throw invalid(at, `expected an unsigned 64-bit integer, found ${describe(value)}`);
}

function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = exactJsonText(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
