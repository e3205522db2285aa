import { NodeletError } from '../../base/index.ts';
import { NLA_TYPE_MASK } from './constants.ts';

export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** What follows the header: a family's own header, then attributes. */
  readonly payload: Buffer;
}

function malformed(what: string): never {
  throw new NodeletError('NETLINK_MALFORMED', `cannot read a netlink message: ${what}`);
}

/** Splits one datagram. The payloads share its memory. Throws NETLINK_MALFORMED. */
export function parseMessages(datagram: Buffer): NetlinkMessage[] {
  const messages: NetlinkMessage[] = [];
  for (let at = 0; at < datagram.length; ) {
    if (datagram.length - at < 16) malformed(`${datagram.length - at} bytes where a header takes 16`);
    const length = datagram.readUInt32LE(at);
    if (length < 16 || length > datagram.length - at)
      malformed(`length ${length} of ${datagram.length - at} bytes`);
    messages.push({
      type: datagram.readUInt16LE(at + 4),
      flags: datagram.readUInt16LE(at + 6),
      sequence: datagram.readUInt32LE(at + 8),
      payload: datagram.subarray(at + 16, at + length),
    });
    at += (length + 3) & ~3;
  }
  return messages;
}

/** Calls `visit` for each attribute in order; flag bits of the type are taken off. Throws NETLINK_MALFORMED. */
export function forEachAttribute(bytes: Buffer, visit: (type: number, value: Buffer) => void): void {
  for (let at = 0; at < bytes.length; ) {
    if (bytes.length - at < 4) malformed(`${bytes.length - at} bytes where an attribute takes 4`);
    const length = bytes.readUInt16LE(at);
    if (length < 4 || length > bytes.length - at) {
      malformed(`attribute length ${length} of ${bytes.length - at} bytes`);
    }
    visit(bytes.readUInt16LE(at + 2) & NLA_TYPE_MASK, bytes.subarray(at + 4, at + length));
    at += (length + 3) & ~3;
  }
}

/** The values of a list: an attribute whose children all have the same meaning, whatever their type. */
export function attributeList(bytes: Buffer | undefined): Buffer[] {
  const values: Buffer[] = [];
  if (bytes !== undefined) forEachAttribute(bytes, (_type, value) => values.push(value));
  return values;
}

/** The attributes of one message or nest by their type; of a type that comes twice the last counts. */
export class Attributes {
  readonly #values = new Map<number, Buffer>();

  /** Throws NETLINK_MALFORMED. */
  constructor(bytes: Buffer) {
    forEachAttribute(bytes, (type, value) => this.#values.set(type, value));
  }

  /** `undefined` where the nest is absent. */
  static of(bytes: Buffer | undefined): Attributes | undefined {
    return bytes === undefined ? undefined : new Attributes(bytes);
  }

  types(): number[] {
    return [...this.#values.keys()];
  }

  bytes(type: number): Buffer | undefined {
    return this.#values.get(type);
  }

  nest(type: number): Attributes | undefined {
    return Attributes.of(this.#values.get(type));
  }

  u8(type: number): number | undefined {
    return this.#sized(type, 1)?.[0];
  }

  u16(type: number): number | undefined {
    return this.#sized(type, 2)?.readUInt16LE(0);
  }

  u32(type: number): number | undefined {
    return this.#sized(type, 4)?.readUInt32LE(0);
  }

  i32(type: number): number | undefined {
    return this.#sized(type, 4)?.readInt32LE(0);
  }

  u32be(type: number): number | undefined {
    return this.#sized(type, 4)?.readUInt32BE(0);
  }

  i32be(type: number): number | undefined {
    return this.#sized(type, 4)?.readInt32BE(0);
  }

  u64be(type: number): bigint | undefined {
    return this.#sized(type, 8)?.readBigUInt64BE(0);
  }

  /** A string up to its first NUL. */
  string(type: number): string | undefined {
    const value = this.#values.get(type);
    if (value === undefined) return undefined;
    const end = value.indexOf(0);
    return value.toString('utf8', 0, end < 0 ? value.length : end);
  }

  #sized(type: number, size: number): Buffer | undefined {
    const value = this.#values.get(type);
    if (value !== undefined && value.length < size) malformed(`attribute ${type} of ${value.length} bytes`);
    return value;
  }
}
