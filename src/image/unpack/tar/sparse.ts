/** Sparse files of GNU tar: where the pieces of an entry's data belong. Pure. */
import { BLOCK, invalidTar, parseNumber } from './header.ts';

export interface SparsePart {
  readonly offset: number;
  readonly length: number;
}

/** Most parts of one file: a bound on what a header can make us keep (CVE-2025-58183). */
export const maxSparseParts = 65_536;

/** `offset, length, offset, length, …` as decimal text (pax versions 0.0, 0.1 and 1.0). */
export function parseSparseText(numbers: readonly string[]): SparsePart[] {
  if (numbers.length % 2 !== 0 || numbers.length > maxSparseParts * 2)
    throw invalidTar('a sparse map is malformed');
  const parts: SparsePart[] = [];
  for (let i = 0; i < numbers.length; i += 2) {
    parts.push({ offset: decimal(numbers[i] ?? ''), length: decimal(numbers[i + 1] ?? '') });
  }
  return parts;
}

export function decimal(text: string): number {
  if (!/^\d{1,16}$/.test(text) || !Number.isSafeInteger(Number(text)))
    throw invalidTar('a sparse map is malformed');
  return Number(text);
}

/** Old GNU format: `count` pairs of 12-byte numbers at `at`; an empty pair ends them. */
export function parseSparseBlock(block: Buffer, at: number, count: number): SparsePart[] {
  const parts: SparsePart[] = [];
  for (let i = 0; i < count; i += 1) {
    const start = at + i * 24;
    if (block[start] === 0) break;
    parts.push({
      offset: parseNumber(block, start, 12, 'sparse offset'),
      length: parseNumber(block, start + 12, 12, 'sparse length'),
    });
  }
  return parts;
}

/** Checks a map: in order, without overlap, inside the file, and exactly as long as the data that is there. */
export function checkSparse(parts: readonly SparsePart[], realSize: number, dataSize: number): void {
  let at = 0;
  let total = 0;
  for (const { offset, length } of parts) {
    if (offset < at || length < 0 || offset + length > realSize || !Number.isSafeInteger(offset + length)) {
      throw invalidTar('a sparse map is out of order or reaches past the end of the file');
    }
    at = offset + length;
    total += length;
  }
  if (total !== dataSize) throw invalidTar(`a sparse map describes ${total} bytes but ${dataSize} follow`);
}

/**
 * Collects the map that stands before the data in pax version 1.0: lines of decimal numbers, the first their number
 * of pairs, filled up to whole blocks.
 */
export class SparseMapReader {
  readonly #blocks: string[] = [];
  #lines = 0;
  #count: number | undefined;

  /** Takes one block; the parts once they are complete. */
  push(block: Buffer, at: number): SparsePart[] | undefined {
    // Two numbers of at most 17 bytes for each part.
    if (this.size > maxSparseParts * 34) throw invalidTar('a sparse map is too long');
    for (let i = at; i < at + BLOCK; i += 1) if (block[i] === 0x0a) this.#lines += 1;
    this.#blocks.push(block.toString('latin1', at, at + BLOCK));
    if (this.#count === undefined) {
      const [first = ''] = (this.#blocks[0] ?? '').split('\n', 1);
      this.#count = decimal(first);
      if (this.#count > maxSparseParts) {
        throw invalidTar(`a sparse file has ${this.#count} parts, more than ${maxSparseParts}`);
      }
    }
    if (this.#lines < this.#count * 2 + 1) return undefined;
    return parseSparseText(
      this.#blocks
        .join('')
        .split('\n', this.#count * 2 + 1)
        .slice(1),
    );
  }

  /** Bytes that the map took of the entry's data. */
  get size(): number {
    return this.#blocks.length * BLOCK;
  }
}
