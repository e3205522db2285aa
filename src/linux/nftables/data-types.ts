/**
 * The data types of keys and values, with the ids by which nft(8) knows them (its `enum datatypes`): they are what
 * makes a set that we write readable to it.
 */
import { NodeletError } from '../../base/index.ts';
import { formatIpBytes, ipBytes } from '../ip.ts';
import { formatMac, macBytes } from '../netlink/index.ts';

/** One value of a key: text for addresses and names, a number for ports and marks. */
export type Scalar = string | number;

export interface DataType {
  /** nft's id: six bits each in a concatenation. */
  readonly id: number;
  readonly size: number;
  readonly byteOrder: 'network' | 'host' | undefined;
  /** Bytes of exactly `size`, or undefined where the value does not fit the type. */
  encode(value: Scalar): Uint8Array | undefined;
  decode(bytes: Uint8Array): Scalar;
  /** As nft(8) writes it. */
  format(value: Scalar): string;
}

const PROTOCOLS: ReadonlyMap<string, number> = new Map([
  ['icmp', 1],
  ['tcp', 6],
  ['udp', 17],
  ['ipv6-icmp', 58],
  ['sctp', 132],
]);

const ADDRESS_TYPES: ReadonlyMap<string, number> = new Map([
  ['unicast', 1],
  ['local', 2],
  ['broadcast', 3],
  ['anycast', 4],
  ['multicast', 5],
  ['blackhole', 6],
  ['unreachable', 7],
  ['prohibit', 8],
]);

const NFPROTOS: ReadonlyMap<string, number> = new Map([
  ['ipv4', 2],
  ['ipv6', 10],
]);

function address(id: number, size: number): DataType {
  return {
    id,
    size,
    byteOrder: 'network',
    encode(value) {
      const bytes = typeof value === 'string' ? ipBytes(value) : undefined;
      return bytes?.length === size ? bytes : undefined;
    },
    decode: formatIpBytes,
    format: String,
  };
}

/** Little-endian in host order; big-endian in network order. */
function integer(
  id: number,
  size: 1 | 2 | 4,
  byteOrder: 'network' | 'host' | undefined,
  names?: ReadonlyMap<string, number>,
): DataType {
  const limit = 2 ** (size * 8);
  const nameOf = new Map([...(names ?? [])].map(([name, number]) => [number, name]));
  return {
    id,
    size,
    byteOrder,
    encode(value) {
      const number = typeof value === 'number' ? value : names?.get(value);
      if (number === undefined || !Number.isInteger(number) || number < 0 || number >= limit)
        return undefined;
      const bytes = new Uint8Array(size);
      for (let i = 0; i < size; i++) {
        const shift = byteOrder === 'network' ? size - 1 - i : i;
        bytes[i] = (number / 2 ** (shift * 8)) & 0xff;
      }
      return bytes;
    },
    decode(bytes) {
      let number = 0;
      for (let i = 0; i < size; i++) {
        const shift = byteOrder === 'network' ? size - 1 - i : i;
        number += (bytes[i] ?? 0) * 2 ** (shift * 8);
      }
      return nameOf.get(number) ?? number;
    },
    format: String,
  };
}

const mark: DataType = {
  ...integer(19, 4, 'host'),
  format: (value) => `0x${Number(value).toString(16).padStart(8, '0')}`,
};

const ifname: DataType = {
  id: 41,
  size: 16,
  byteOrder: 'host',
  encode(value) {
    if (typeof value !== 'string' || !/^[^\s/"*\0]{1,15}$/.test(value)) return undefined;
    const name = Buffer.from(value);
    if (name.length > 15) return undefined;
    const bytes = new Uint8Array(16);
    bytes.set(name);
    return bytes;
  },
  decode(bytes) {
    const end = bytes.indexOf(0);
    return Buffer.from(bytes.subarray(0, end < 0 ? bytes.length : end)).toString();
  },
  format: (value) => `"${value}"`,
};

const etherAddress: DataType = {
  id: 9,
  size: 6,
  byteOrder: 'network',
  encode(value) {
    try {
      return typeof value === 'string' ? macBytes(value) : undefined;
    } catch {
      return undefined;
    }
  },
  decode: formatMac,
  format: String,
};

const types = {
  ipv4_addr: address(7, 4),
  ipv6_addr: address(8, 16),
  ether_addr: etherAddress,
  inet_proto: integer(12, 1, 'network', PROTOCOLS),
  inet_service: integer(13, 2, 'network'),
  mark,
  ifname,
  nf_proto: integer(2, 1, undefined, NFPROTOS),
  fib_addrtype: integer(38, 4, 'host', ADDRESS_TYPES),
  /** What numgen makes; only in anonymous maps. */
  integer: integer(4, 4, 'host'),
  uid: integer(24, 4, 'host'),
} as const satisfies Record<string, DataType>;

export type DataTypeName = keyof typeof types;

export const DATA_TYPES: Readonly<Record<DataTypeName, DataType>> = types;

const namesById: ReadonlyMap<number, DataTypeName> = new Map(
  (Object.keys(types) as DataTypeName[]).map((name) => [types[name].id, name]),
);

const padded = (size: number): number => (size + 3) & ~3;

/** Bytes that a key of these types takes: each field of a concatenation at a multiple of four. */
export function keySize(fields: readonly DataTypeName[]): number {
  const [only] = fields;
  if (fields.length === 1 && only !== undefined) return DATA_TYPES[only].size;
  return fields.reduce((sum, field) => sum + padded(DATA_TYPES[field].size), 0);
}

/** nft's id of a type or of a concatenation: six bits a field, the first field highest. */
export function keyTypeId(fields: readonly DataTypeName[]): number {
  return fields.reduce((id, field) => id * 64 + DATA_TYPES[field].id, 0);
}

/** The fields of nft's type id; undefined where one is of a type that we do not know. */
export function fieldsOfTypeId(id: number): DataTypeName[] | undefined {
  const fields: DataTypeName[] = [];
  for (let rest = id; rest > 0; rest = Math.floor(rest / 64)) {
    const name = namesById.get(rest % 64);
    if (name === undefined) return undefined;
    fields.unshift(name);
  }
  return fields;
}

/** The byte order that the userdata of a set of this type says; a concatenation has none. */
export function byteOrderOf(fields: readonly DataTypeName[]): 'host' | 'network' | undefined {
  const [only] = fields;
  return fields.length === 1 && only !== undefined ? DATA_TYPES[only].byteOrder : undefined;
}

/** The bytes of a key, one value a field. Throws NFT_INVALID_VALUE. */
export function encodeKey(fields: readonly DataTypeName[], values: readonly Scalar[]): Uint8Array {
  if (values.length !== fields.length) {
    throw new NodeletError(
      'NFT_INVALID_VALUE',
      `cannot write ${JSON.stringify(values)} as "${fields.join(' . ')}": ${fields.length} values are needed`,
    );
  }
  const bytes = new Uint8Array(keySize(fields));
  let at = 0;
  for (const [i, field] of fields.entries()) {
    const value = values[i] ?? '';
    const encoded = DATA_TYPES[field].encode(value);
    if (encoded === undefined) {
      throw new NodeletError(
        'NFT_INVALID_VALUE',
        `cannot write ${JSON.stringify(value)} as "${field}" of nftables`,
      );
    }
    bytes.set(encoded, at);
    at += padded(encoded.length);
  }
  return bytes;
}

export function decodeKey(fields: readonly DataTypeName[], bytes: Uint8Array): Scalar[] {
  let at = 0;
  return fields.map((field) => {
    const type = DATA_TYPES[field];
    const value = type.decode(bytes.subarray(at, at + type.size));
    at += padded(type.size);
    return value;
  });
}

/** `10.88.0.5 . 80` */
export function formatKey(fields: readonly DataTypeName[], values: readonly Scalar[]): string {
  return fields.map((field, i) => DATA_TYPES[field].format(values[i] ?? '')).join(' . ');
}
