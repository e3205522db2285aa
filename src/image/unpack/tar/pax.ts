/** pax extended headers: `"%d %s=%s\n"` records (pax(1)). Values stay bytes, as latin1 text. Pure. */
import { invalidTar } from './header.ts';
import { parseSparseText, type SparsePart } from './sparse.ts';

export interface PaxRecords {
  readonly path?: string;
  readonly linkPath?: string;
  readonly size?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: { readonly seconds: number; readonly nanoseconds: number };
  /** SCHILY.xattr.*: attribute name (latin1) to value. */
  readonly xattrs?: ReadonlyMap<string, Buffer>;
  readonly sparse?: PaxSparse;
}

/** GNU's three ways to say in pax where a file's data goes. */
export interface PaxSparse {
  /** The file's name, where the header carries a made-up one. */
  readonly name?: string;
  readonly realSize: number;
  /** Undefined in version 1.0: the map is at the start of the data. */
  readonly map: readonly SparsePart[] | undefined;
}

const xattrPrefix = 'SCHILY.xattr.';

/** Parses the body of an `x` header. A key that occurs twice has its last value. Throws LAYER_INVALID. */
export function parsePax(body: Buffer): PaxRecords {
  const records = new Map<string, string>();
  const xattrs = new Map<string, Buffer>();
  const oldSparse: string[] = [];
  for (let at = 0; at < body.length; ) {
    const { key, value, end } = parseRecord(body, at);
    at = end;
    if (key.startsWith(xattrPrefix)) {
      xattrs.set(key.slice(xattrPrefix.length), Buffer.from(value, 'latin1'));
    } else if (key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes') {
      // version 0.0: the two keys alternate, one pair for each part
      if ((oldSparse.length % 2 === 0) !== (key === 'GNU.sparse.offset'))
        throw invalidTar('a sparse map is malformed');
      oldSparse.push(value);
    } else {
      records.set(key, value);
    }
  }
  const path = text(records, 'path');
  const linkPath = text(records, 'linkpath');
  const size = integer(records, 'size');
  const uid = integer(records, 'uid');
  const gid = integer(records, 'gid');
  const mtime = time(records.get('mtime'));
  const sparse = readSparse(records, oldSparse);
  return {
    ...(path === undefined ? {} : { path }),
    ...(linkPath === undefined ? {} : { linkPath }),
    ...(size === undefined ? {} : { size }),
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
    ...(mtime === undefined ? {} : { mtime }),
    ...(xattrs.size === 0 ? {} : { xattrs }),
    ...(sparse === undefined ? {} : { sparse }),
  };
}

function parseRecord(body: Buffer, at: number): { key: string; value: string; end: number } {
  const bad = invalidTar('a pax header is malformed');
  let length = 0;
  let i = at;
  for (; i < body.length && i < at + 10; i += 1) {
    const digit = (body[i] ?? 0) - 0x30;
    if (digit < 0 || digit > 9) break;
    length = length * 10 + digit;
  }
  const end = at + length;
  if (i === at || body[i] !== 0x20 || end > body.length || end <= i + 2 || body[end - 1] !== 0x0a) throw bad;
  const record = body.toString('latin1', i + 1, end - 1);
  const equals = record.indexOf('=');
  if (equals < 1) throw bad;
  const key = record.slice(0, equals);
  if (key.includes('\0')) throw bad;
  return { key, value: record.slice(equals + 1), end };
}

/** An empty value takes the record back (pax(1)). */
function text(records: ReadonlyMap<string, string>, key: string): string | undefined {
  const value = records.get(key);
  if (value === undefined || value === '') return undefined;
  if (value.includes('\0')) throw invalidTar(`the pax record "${key}" has a NUL character`);
  return value;
}

function integer(records: ReadonlyMap<string, string>, key: string): number | undefined {
  const value = text(records, key);
  if (value === undefined) return undefined;
  const number = Number(value);
  if (!/^\d{1,16}$/.test(value) || !Number.isSafeInteger(number)) {
    throw invalidTar(`the pax record "${key}" is no number in range`);
  }
  return number;
}

function time(value: string | undefined): PaxRecords['mtime'] {
  if (value === undefined || value === '') return undefined;
  const match = /^(-?)(\d{1,15})(?:\.(\d*))?$/.exec(value);
  if (match === null) throw invalidTar('the pax record "mtime" is no time');
  const seconds = Number(match[2]);
  const nanoseconds = Number((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  if (match[1] === '') return { seconds, nanoseconds };
  // -1.25 is 750 ms after -2
  return nanoseconds === 0
    ? { seconds: -seconds, nanoseconds }
    : { seconds: -seconds - 1, nanoseconds: 1e9 - nanoseconds };
}

function readSparse(records: ReadonlyMap<string, string>, old: readonly string[]): PaxSparse | undefined {
  const major = text(records, 'GNU.sparse.major');
  const minor = text(records, 'GNU.sparse.minor');
  const name = text(records, 'GNU.sparse.name');
  const named = name === undefined ? {} : { name };
  if (major === '1' && minor === '0') {
    const realSize = integer(records, 'GNU.sparse.realsize');
    if (realSize === undefined) throw invalidTar('a sparse file has no size');
    return { ...named, realSize, map: undefined };
  }
  const mapText = text(records, 'GNU.sparse.map');
  if (mapText === undefined && old.length === 0) return undefined;
  const realSize = integer(records, 'GNU.sparse.size');
  if (realSize === undefined) throw invalidTar('a sparse file has no size');
  return { ...named, realSize, map: parseSparseText(mapText === undefined ? old : mapText.split(',')) };
}
