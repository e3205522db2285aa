import { NodeletError } from '../../base/index.ts';
import { NLA_F_NESTED } from './constants.ts';

const HEADER = 16;
const ATTRIBUTE_MAX = 0xffff;

/**
 * Writes netlink messages one after another into one growing buffer (netlink(7), `struct nlmsghdr`). Integers of
 * the host are little-endian, as on both machines that Nodelet runs on; `be` marks those in network order.
 * An attribute longer than its 16-bit length field can say is NETLINK_ATTRIBUTE_TOO_LONG, never a wrapped length.
 */
export class NetlinkWriter {
  #buffer: Buffer;
  #length = 0;
  #message = -1;

  constructor(size = 4096) {
    this.#buffer = Buffer.alloc(size);
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#length;
  }

  /** What was written; valid until the next write. */
  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  beginMessage(type: number, flags: number, sequence: number): void {
    if (this.#message >= 0) throw new NodeletError('INTERNAL', 'a netlink message was begun inside another');
    const at = this.#reserve(HEADER);
    this.#message = at;
    this.#buffer.writeUInt16LE(type, at + 4);
    this.#buffer.writeUInt16LE(flags, at + 6);
    this.#buffer.writeUInt32LE(sequence >>> 0, at + 8);
  }

  endMessage(): void {
    this.#buffer.writeUInt32LE(this.#length - this.#message, this.#message);
    this.#align();
    this.#message = -1;
  }

  // The fixed header that follows nlmsghdr: plain fields, in order.
  u8(value: number): void {
    const at = this.#reserve(1);
    this.#buffer[at] = value;
  }

  u16(value: number): void {
    const at = this.#reserve(2);
    this.#buffer.writeUInt16LE(value, at);
  }

  u16be(value: number): void {
    const at = this.#reserve(2);
    this.#buffer.writeUInt16BE(value, at);
  }

  u32(value: number): void {
    const at = this.#reserve(4);
    this.#buffer.writeUInt32LE(value >>> 0, at);
  }

  raw(bytes: Uint8Array): void {
    const at = this.#reserve(bytes.length);
    this.#buffer.set(bytes, at);
  }

  attrFlag(type: number): void {
    this.#attribute(type, 0);
  }

  attrU8(type: number, value: number): void {
    const at = this.#attribute(type, 1);
    this.#buffer[at] = value;
  }

  attrU16(type: number, value: number): void {
    const at = this.#attribute(type, 2);
    this.#buffer.writeUInt16LE(value, at);
  }

  attrU16be(type: number, value: number): void {
    const at = this.#attribute(type, 2);
    this.#buffer.writeUInt16BE(value, at);
  }

  attrU32(type: number, value: number): void {
    const at = this.#attribute(type, 4);
    this.#buffer.writeUInt32LE(value >>> 0, at);
  }

  attrU32be(type: number, value: number): void {
    const at = this.#attribute(type, 4);
    this.#buffer.writeUInt32BE(value >>> 0, at);
  }

  attrU64be(type: number, value: bigint): void {
    const at = this.#attribute(type, 8);
    this.#buffer.writeBigUInt64BE(value, at);
  }

  /** A string with its terminating NUL. */
  attrString(type: number, value: string): void {
    const size = Buffer.byteLength(value);
    const at = this.#attribute(type, size + 1);
    this.#buffer.write(value, at);
  }

  attrBytes(type: number, value: Uint8Array): void {
    const at = this.#attribute(type, value.length);
    this.#buffer.set(value, at);
  }

  /** Opens a nested attribute; the number returned closes it. */
  beginNest(type: number): number {
    const at = this.#reserve(4);
    this.#buffer.writeUInt16LE(type | NLA_F_NESTED, at + 2);
    return at;
  }

  endNest(at: number): void {
    const size = this.#length - at;
    if (size > ATTRIBUTE_MAX) tooLong(this.#buffer.readUInt16LE(at + 2) & ~NLA_F_NESTED, size);
    this.#buffer.writeUInt16LE(size, at);
    this.#align();
  }

  nest(type: number, write: () => void): void {
    const at = this.beginNest(type);
    write();
    this.endNest(at);
  }

  #attribute(type: number, size: number): number {
    if (size + 4 > ATTRIBUTE_MAX) tooLong(type, size + 4);
    const at = this.#reserve((size + 7) & ~3);
    this.#buffer.writeUInt16LE(size + 4, at);
    this.#buffer.writeUInt16LE(type, at + 2);
    return at + 4;
  }

  #align(): void {
    this.#reserve((4 - (this.#length & 3)) & 3);
  }

  /** Room for `size` bytes, zeroed: the buffer is never written twice, so padding stays zero. */
  #reserve(size: number): number {
    const at = this.#length;
    if (at + size > this.#buffer.length) {
      const larger = Buffer.alloc(Math.max(this.#buffer.length * 2, at + size));
      this.#buffer.copy(larger, 0, 0, at);
      this.#buffer = larger;
    }
    this.#length = at + size;
    return at;
  }
}

function tooLong(type: number, size: number): never {
  throw new NodeletError(
    'NETLINK_ATTRIBUTE_TOO_LONG',
    `cannot encode netlink attribute ${type}: its ${size} bytes exceed the 65535 that a length field can say`,
  );
}
