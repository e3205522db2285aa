/**
 * One 512-byte tar header: POSIX ustar and pax (pax(1), XBSD §4), GNU (tar(5)), star and the v7 that came before.
 * Where implementations differ this one follows Go's archive/tar, on which docker, containerd, umoci and buildah
 * stand: a layer must mean the same thing here as to whoever made and scanned it. Pure.
 *
 * Names are bytes, kept as latin1 text (one character a byte), because a layer may hold names that are not UTF-8.
 */
import { NodeletError } from '../../../base/index.ts';

export const BLOCK = 512;

export interface RawHeader {
  readonly name: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: number;
  /** One character; '\0' for v7's regular files. */
  readonly type: string;
  readonly linkName: string;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly format: 'v7' | 'ustar' | 'star' | 'gnu';
}

export function invalidTar(reason: string): NodeletError {
  return new NodeletError('LAYER_INVALID', `cannot read the tar stream: ${reason}`);
}

/** The header at `at`, or undefined for a block of zeros. Throws LAYER_INVALID. */
export function parseHeader(block: Buffer, at: number): RawHeader | undefined {
  if (!checkSum(block, at)) {
    if (isZero(block, at)) return undefined;
    throw invalidTar('a header has a wrong checksum');
  }
  const magic = block.toString('latin1', at + 257, at + 265);
  const format = magic.startsWith('ustar\0')
    ? block.toString('latin1', at + 508, at + 512) === 'tar\0'
      ? 'star'
      : 'ustar'
    : magic === 'ustar  \0'
      ? 'gnu'
      : 'v7';
  let name = cString(block, at, 100);
  if (format === 'ustar' || format === 'star') {
    const prefix = cString(block, at + 345, format === 'star' ? 131 : 155);
    if (prefix !== '') name = `${prefix}/${name}`;
  }
  const size = parseNumber(block, at + 124, 12, 'size');
  if (size < 0) throw invalidTar('a size is negative');
  return {
    name,
    mode: parseNumber(block, at + 100, 8, 'mode') & 0o7777,
    uid: parseNumber(block, at + 108, 8, 'uid'),
    gid: parseNumber(block, at + 116, 8, 'gid'),
    size,
    mtime: parseNumber(block, at + 136, 12, 'mtime'),
    type: String.fromCharCode(block[at + 156] ?? 0),
    linkName: cString(block, at + 157, 100),
    devMajor: format === 'v7' ? 0 : parseNumber(block, at + 329, 8, 'device number'),
    devMinor: format === 'v7' ? 0 : parseNumber(block, at + 337, 8, 'device number'),
    format,
  };
}

/** Latin1 text up to the first NUL. */
export function cString(block: Buffer, at: number, length: number): string {
  let end = at;
  const limit = at + length;
  while (end < limit && block[end] !== 0) end += 1;
  return block.toString('latin1', at, end);
}

/** Octal text, or GNU's base-256 for numbers that do not fit. Throws LAYER_INVALID. */
export function parseNumber(block: Buffer, at: number, length: number, what: string): number {
  const first = block[at] ?? 0;
  if (first & 0x80) return parseBase256(block, at, length, what);
  let start = at;
  const limit = at + length;
  while (start < limit && (block[start] === 0x20 || block[start] === 0)) start += 1;
  let value = 0;
  let i = start;
  for (; i < limit; i += 1) {
    const digit = (block[i] ?? 0) - 0x30;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  for (; i < limit; i += 1) {
    if (block[i] === 0) break; // what follows a NUL is not looked at
    if (block[i] !== 0x20) throw invalidTar(`a ${what} is no number`);
  }
  return value;
}

/** Two's complement, big endian, the top bit only a mark. */
function parseBase256(block: Buffer, at: number, length: number, what: string): number {
  const first = block[at] ?? 0;
  const negative = (first & 0x40) !== 0;
  let value = BigInt(negative ? (first | 0x80) - 256 : first & 0x7f);
  for (let i = 1; i < length; i += 1) value = value * 256n + BigInt(block[at + i] ?? 0);
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw invalidTar(`a ${what} is out of range`);
  return number;
}

/** Unsigned sums, and the signed ones that some old programs wrote. */
function checkSum(block: Buffer, at: number): boolean {
  let sum = 8 * 0x20;
  let signed = sum;
  for (let i = 0; i < 148; i += 1) {
    const byte = block[at + i] as number;
    sum += byte;
    signed += (byte << 24) >> 24;
  }
  for (let i = 156; i < BLOCK; i += 1) {
    const byte = block[at + i] as number;
    sum += byte;
    signed += (byte << 24) >> 24;
  }
  const said = parseNumber(block, at + 148, 8, 'checksum');
  return said === sum || said === signed;
}

function isZero(block: Buffer, at: number): boolean {
  for (let i = 0; i < BLOCK; i += 1) if (block[at + i] !== 0) return false;
  return true;
}
