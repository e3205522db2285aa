import { NodeletError } from '../../base/index.ts';

/** The six bytes of `0a:58:0a:58:00:05`. Throws INVALID_MAC. */
export function macBytes(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) {
    throw new NodeletError('INVALID_MAC', `cannot read ${JSON.stringify(text)} as a hardware address`);
  }
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
}

/** Bytes as colon-separated hex; empty for none. */
export function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}
