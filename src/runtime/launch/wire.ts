/** The byte form of plans and messages: little endian, text with a trailing NUL that its length leaves out. */
import { NodeletError } from '../../base/index.ts';
import { bytesOf } from '../../cri/index.ts';
import type { FieldType } from './protocol.gen.ts';

const MAX_FIELD = 0x7fff_ffff;

/** What a byte that is no UTF-8 became, among others. */
const SURROGATE = /[\uDC80-\uDCFF]/;

export class ByteWriter {
  #buffer = Buffer.allocUnsafe(8192);
  #length = 0;

  /** Makes room first: the buffer may be another one afterwards. */
  #room(size: number): number {
    const at = this.#length;
    if (at + size > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, at + size));
      this.#buffer.copy(larger, 0, 0, at);
      this.#buffer = larger;
    }
    this.#length = at + size;
    return at;
  }

  get length(): number {
    return this.#length;
  }

  u16(value: number): void {
    const at = this.#room(2);
    this.#buffer.writeUInt16LE(value, at);
  }

  u32(value: number): void {
    const at = this.#room(4);
    this.#buffer.writeUInt32LE(value, at);
  }

  i32(value: number): void {
    const at = this.#room(4);
    this.#buffer.writeInt32LE(value, at);
  }

  u64(value: bigint | number): void {
    const at = this.#room(8);
    this.#buffer.writeBigUInt64LE(BigInt(value), at);
  }

  bytes(value: Uint8Array): void {
    if (value.length > MAX_FIELD)
      throw new NodeletError('PLAN_TOO_LARGE', `a field of ${value.length} bytes does not fit`);
    this.u32(value.length);
    const at = this.#room(value.length);
    this.#buffer.set(value, at);
  }

  str(value: string): void {
    if (value.includes('\0')) {
      throw new NodeletError(
        'INVALID_TEXT',
        `text must not contain a NUL character: ${JSON.stringify(value.slice(0, 80))}`,
      );
    }
    // A variable's value may hold bytes that are no text.
    const bytes = SURROGATE.test(value) ? bytesOf(value) : undefined;
    const size = bytes?.length ?? Buffer.byteLength(value);
    this.u32(size);
    const at = this.#room(size + 1);
    if (bytes === undefined) this.#buffer.write(value, at);
    else this.#buffer.set(bytes, at);
    this.#buffer[at + size] = 0;
  }

  /** Writes the length of what `body` writes, then that. */
  sized(body: () => void): void {
    const at = this.#room(4);
    body();
    this.#buffer.writeUInt32LE(this.#length - at - 4, at);
  }

  finish(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }
}

export class ByteReader {
  readonly #buffer: Buffer;
  #at: number;

  constructor(buffer: Buffer, at = 0) {
    this.#buffer = buffer;
    this.#at = at;
  }

  #take(size: number): number {
    const at = this.#at;
    if (at + size > this.#buffer.length)
      throw new NodeletError('SHIM_PROTOCOL', 'a message of the shim is too short');
    this.#at = at + size;
    return at;
  }

  u16(): number {
    return this.#buffer.readUInt16LE(this.#take(2));
  }

  u32(): number {
    return this.#buffer.readUInt32LE(this.#take(4));
  }

  i32(): number {
    return this.#buffer.readInt32LE(this.#take(4));
  }

  u64(): bigint {
    return this.#buffer.readBigUInt64LE(this.#take(8));
  }

  bytes(): Buffer {
    const size = this.u32();
    const at = this.#take(size);
    return this.#buffer.subarray(at, at + size);
  }

  str(): string {
    const text = this.bytes().toString('utf8');
    this.#take(1);
    return text;
  }
}

/** Writes one field of a generated description. */
export function writeField(w: ByteWriter, type: FieldType, value: unknown): void {
  switch (type) {
    case 'u32':
      return w.u32(value as number);
    case 'i32':
    case 'slot':
    case 'out':
      return w.i32(value as number);
    case 'u64':
      return w.u64(value as number | bigint);
    case 'str':
      return w.str(value as string);
    case 'bytes':
      return w.bytes(value as Uint8Array);
    case 'strs': {
      const list = value as readonly string[];
      w.u32(list.length);
      for (const item of list) w.str(item);
      return undefined;
    }
    case 'u32s': {
      const list = value as readonly number[];
      w.u32(list.length);
      for (const item of list) w.u32(item);
      return undefined;
    }
  }
}

export function readField(r: ByteReader, type: FieldType): unknown {
  switch (type) {
    case 'u32':
      return r.u32();
    case 'i32':
    case 'slot':
    case 'out':
      return r.i32();
    case 'u64':
      return r.u64();
    case 'str':
      return r.str();
    case 'bytes':
      return r.bytes();
    case 'strs':
      return Array.from({ length: r.u32() }, () => r.str());
    case 'u32s':
      return Array.from({ length: r.u32() }, () => r.u32());
  }
}
