/**
 * CRI messages to and from protobuf's wire format, by the tables that are generated from api.proto. As proto3 wants it:
 * defaults are not sent, unknown fields are skipped, unknown enum values are kept, repeated numbers may come packed or not.
 * What was not sent is undefined, but for enums.
 *
 * 64-bit integers are numbers here. Up to 2^53 they are exact; beyond that a number read is the nearest double, and a
 * double is written as the integer that it is, within the range of the type. A time of today in nanoseconds keeps 256 ns.
 */
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { MESSAGES } from './tables.gen.ts';
import { bytesOf, textOf } from './text.ts';

export type Message = Record<string, unknown>;

export interface Codec {
  encode(message: object): Buffer;
  /** Throws RangeError or Error where the bytes are no such message. */
  decode(bytes: Uint8Array): Message;
}

type Scalar =
  | 'string'
  | 'bool'
  | 'bytes'
  | 'text'
  | 'int32'
  | 'int64'
  | 'uint32'
  | 'uint64'
  | 'double'
  | 'float'
  | 'enum';

interface ScalarCodec {
  readonly wireType: WireType;
  isDefault(value: unknown): boolean;
  write(writer: BinaryWriter, value: never): void;
  read(reader: BinaryReader): unknown;
}

const isZero = (value: unknown): boolean => value === 0;
const INT64 = [-(2n ** 63n), 2n ** 63n - 1n] as const;
const UINT64 = [0n, 2n ** 64n - 1n] as const;

function big(value: number, [low, high]: readonly [bigint, bigint]): bigint | number {
  if (Number.isSafeInteger(value) && value >= low) return value;
  if (Number.isNaN(value)) return 0;
  if (value >= Number(high)) return high;
  if (value <= Number(low)) return low;
  return BigInt(Math.trunc(value));
}

const SCALARS: Readonly<Record<Scalar, ScalarCodec>> = {
  string: {
    wireType: WireType.LengthDelimited,
    isDefault: (value) => value === '',
    write: (writer, value: string) => writer.string(value),
    read: (reader) => reader.string(true),
  },
  text: {
    wireType: WireType.LengthDelimited,
    isDefault: (value) => value === '',
    write: (writer, value: string) => writer.bytes(bytesOf(value)),
    read: (reader) => textOf(reader.bytes()),
  },
  bytes: {
    wireType: WireType.LengthDelimited,
    isDefault: (value) => (value as Uint8Array).length === 0,
    write: (writer, value: Uint8Array) => writer.bytes(value),
    read: (reader) => reader.bytes(),
  },
  bool: {
    wireType: WireType.Varint,
    isDefault: (value) => value === false,
    write: (writer, value: boolean) => writer.bool(value),
    read: (reader) => reader.bool(),
  },
  int32: {
    wireType: WireType.Varint,
    isDefault: isZero,
    write: (writer, value: number) => writer.int32(value),
    read: (reader) => reader.int32(),
  },
  enum: {
    wireType: WireType.Varint,
    isDefault: isZero,
    write: (writer, value: number) => writer.int32(value),
    read: (reader) => reader.int32(),
  },
  uint32: {
    wireType: WireType.Varint,
    isDefault: isZero,
    write: (writer, value: number) => writer.uint32(value),
    read: (reader) => reader.uint32(),
  },
  int64: {
    wireType: WireType.Varint,
    isDefault: isZero,
    write: (writer, value: number) => writer.int64(big(value, INT64)),
    read: (reader) => Number(reader.int64()),
  },
  uint64: {
    wireType: WireType.Varint,
    isDefault: isZero,
    write: (writer, value: number) => writer.uint64(big(value, UINT64)),
    read: (reader) => Number(reader.uint64()),
  },
  double: {
    wireType: WireType.Bit64,
    isDefault: (value) => Object.is(value, 0),
    write: (writer, value: number) => writer.double(value),
    read: (reader) => reader.double(),
  },
  float: {
    wireType: WireType.Bit32,
    isDefault: (value) => Object.is(value, 0),
    write: (writer, value: number) => writer.float(value),
    read: (reader) => reader.float(),
  },
};

interface Field {
  readonly number: number;
  readonly name: string;
  write(writer: BinaryWriter, value: unknown): void;
  read(reader: BinaryReader, wireType: WireType, target: Message): void;
}

function expect(field: string, wireType: WireType, wanted: WireType): void {
  if (wireType !== wanted) throw new RangeError(`field "${field}" has wire type ${wireType}, not ${wanted}`);
}

/** Also "__proto__", which a plain assignment would take for something else. */
function put(target: Record<string, unknown>, key: string, value: unknown): void {
  if (key === '__proto__')
    Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
  else target[key] = value;
}

function scalarField(number: number, name: string, codec: ScalarCodec): Field {
  const tag = (number << 3) | codec.wireType;
  return {
    number,
    name,
    write(writer, value) {
      if (codec.isDefault(value)) return;
      writer.uint32(tag);
      codec.write(writer, value as never);
    },
    read(reader, wireType, target) {
      expect(name, wireType, codec.wireType);
      target[name] = codec.read(reader);
    },
  };
}

/** Numbers are packed; both forms are read. */
function repeatedField(number: number, name: string, codec: ScalarCodec): Field {
  const packed = codec.wireType !== WireType.LengthDelimited;
  const tag = (number << 3) | WireType.LengthDelimited;
  return {
    number,
    name,
    write(writer, value) {
      const list = value as readonly never[];
      if (list.length === 0) return;
      if (packed) {
        writer.uint32(tag).fork();
        for (const item of list) codec.write(writer, item);
        writer.join();
      } else {
        for (const item of list) {
          writer.uint32(tag);
          codec.write(writer, item);
        }
      }
    },
    read(reader, wireType, target) {
      const list = (target[name] ??= []) as unknown[];
      if (packed && wireType === WireType.LengthDelimited) {
        const end = endOf(reader);
        while (reader.pos < end) list.push(codec.read(reader));
        if (reader.pos !== end) throw new RangeError(`field "${name}" is longer than it says`);
      } else {
        expect(name, wireType, codec.wireType);
        list.push(codec.read(reader));
      }
    },
  };
}

function endOf(reader: BinaryReader): number {
  const length = reader.uint32();
  const end = reader.pos + length;
  if (end > reader.len) throw new RangeError('premature end');
  return end;
}

function messageField(number: number, name: string, type: string, repeated: boolean): Field {
  const tag = (number << 3) | WireType.LengthDelimited;
  const one = (writer: BinaryWriter, value: object): void => {
    writer.uint32(tag).fork();
    messageOf(type).write(writer, value as Message);
    writer.join();
  };
  return {
    number,
    name,
    write(writer, value) {
      if (repeated) for (const item of value as readonly object[]) one(writer, item);
      else if (value !== null) one(writer, value as object);
    },
    read(reader, wireType, target) {
      expect(name, wireType, WireType.LengthDelimited);
      const end = endOf(reader);
      const codec = messageOf(type);
      if (repeated) ((target[name] ??= []) as unknown[]).push(codec.read(reader, end, codec.empty()));
      // A message that comes in two parts is merged.
      else target[name] = codec.read(reader, end, (target[name] as Message | undefined) ?? codec.empty());
    },
  };
}

function mapField(number: number, name: string): Field {
  const tag = (number << 3) | WireType.LengthDelimited;
  return {
    number,
    name,
    write(writer, value) {
      for (const [key, text] of Object.entries(value as Record<string, string>)) {
        writer.uint32(tag).fork();
        if (key !== '') writer.uint32(10).string(key);
        if (text !== '') writer.uint32(18).string(text);
        writer.join();
      }
    },
    read(reader, wireType, target) {
      expect(name, wireType, WireType.LengthDelimited);
      const end = endOf(reader);
      let key = '';
      let text = '';
      while (reader.pos < end) {
        const [field, type] = reader.tag();
        if (field === 1 && type === WireType.LengthDelimited) key = reader.string(true);
        else if (field === 2 && type === WireType.LengthDelimited) text = reader.string(true);
        else reader.skip(type, field);
      }
      if (reader.pos !== end) throw new RangeError(`field "${name}" is longer than it says`);
      put((target[name] ??= {}) as Record<string, unknown>, key, text);
    },
  };
}

function fieldOf(row: string): Field {
  const [number, name = '', typed = ''] = row.split(' ');
  const repeated = typed.endsWith('[]');
  const type = repeated ? typed.slice(0, -2) : typed;
  if (type === 'map') return mapField(Number(number), name);
  if (!Object.hasOwn(SCALARS, type)) return messageField(Number(number), name, type, repeated);
  const codec = SCALARS[type as Scalar];
  return repeated ? repeatedField(Number(number), name, codec) : scalarField(Number(number), name, codec);
}

/**
 * What is there although it was not sent: an enum's first value, which is a value like the others (a sandbox that is ready),
 * and the number of Int64Value and UInt64Value, whose presence says that there is one.
 */
function defaultsOf(rows: readonly string[]): Message {
  const defaults: Message = {};
  for (const row of rows) {
    const [, name = '', type] = row.split(' ');
    if (type === 'enum' || (rows.length === 1 && /^1 value u?int64$/.test(row))) defaults[name] = 0;
  }
  return defaults;
}

class MessageCodec implements Codec {
  readonly #fields: readonly Field[];
  readonly #byNumber: readonly (Field | undefined)[];
  readonly #defaults: Readonly<Message>;

  constructor(rows: readonly string[]) {
    this.#fields = rows.map(fieldOf).sort((a, b) => a.number - b.number);
    const byNumber: (Field | undefined)[] = [];
    for (const field of this.#fields) byNumber[field.number] = field;
    this.#byNumber = byNumber;
    this.#defaults = defaultsOf(rows);
  }

  empty(): Message {
    return { ...this.#defaults };
  }

  write(writer: BinaryWriter, message: Message): void {
    for (const field of this.#fields) {
      const value = message[field.name];
      if (value !== undefined) field.write(writer, value);
    }
  }

  read(reader: BinaryReader, end: number, target: Message): Message {
    while (reader.pos < end) {
      const [number, wireType] = reader.tag();
      const field = this.#byNumber[number];
      if (field === undefined) reader.skip(wireType, number);
      else field.read(reader, wireType, target);
    }
    if (reader.pos !== end) throw new RangeError('a message is longer than it says');
    return target;
  }

  encode(message: object): Buffer {
    const writer = new BinaryWriter();
    this.write(writer, message as Message);
    const bytes = writer.finish();
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  decode(bytes: Uint8Array): Message {
    const reader = new BinaryReader(bytes);
    return this.read(reader, reader.len, this.empty());
  }
}

const codecs = new Map<string, MessageCodec>();

/** Made when it is first needed. */
function messageOf(name: string): MessageCodec {
  const known = codecs.get(name);
  if (known !== undefined) return known;
  const rows = MESSAGES[name];
  if (rows === undefined) throw new RangeError(`api.proto has no message "${name}"`);
  const codec = new MessageCodec(rows);
  codecs.set(name, codec);
  return codec;
}

/** The codec of a message, by its name in api.proto. */
export function codecOf(name: string): Codec {
  return messageOf(name);
}
