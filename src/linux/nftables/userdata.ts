/** What nft(8) keeps beside an object for itself: comments and byte orders, as (type u8, length u8, value) records. */
import { UDATA_BYTEORDER, UDATA_SET } from './constants.ts';
import { byteOrderOf } from './data-types.ts';
import { isMap, type NftMap, type NftSet } from './objects.ts';

function record(type: number, value: Uint8Array): Buffer {
  return Buffer.concat([Uint8Array.of(type, value.length), value]);
}

/** A comment with its NUL. */
export function commentRecord(type: number, comment: string): Buffer {
  return record(type, Buffer.from(`${comment}\0`));
}

function byteOrderRecord(type: number, order: 'host' | 'network' | undefined): Buffer {
  const value = Buffer.alloc(4);
  value.writeUInt32LE(order === undefined ? 0 : UDATA_BYTEORDER[order]);
  return record(type, value);
}

/** Without the byte orders nft takes a key in host order for one in network order, and prints 1 as 16777216. */
export function setUserdata(set: NftSet | NftMap): Buffer {
  const parts = [byteOrderRecord(UDATA_SET.KEYBYTEORDER, byteOrderOf(set.key))];
  if (isMap(set)) {
    parts.push(
      byteOrderRecord(UDATA_SET.DATABYTEORDER, set.data === 'verdict' ? undefined : byteOrderOf(set.data)),
    );
  }
  if (set.comment !== undefined) parts.push(commentRecord(UDATA_SET.COMMENT, set.comment));
  return Buffer.concat(parts);
}

/** The comment among the records, or undefined; records that are cut short end the search. */
export function readComment(userdata: Buffer | undefined, type: number): string | undefined {
  if (userdata === undefined) return undefined;
  for (let at = 0; at + 2 <= userdata.length; ) {
    const length = userdata[at + 1] ?? 0;
    const value = userdata.subarray(at + 2, at + 2 + length);
    if (value.length < length) return undefined;
    if (userdata[at] === type) {
      const end = value.indexOf(0);
      return value.toString('utf8', 0, end < 0 ? value.length : end);
    }
    at += 2 + length;
  }
  return undefined;
}
