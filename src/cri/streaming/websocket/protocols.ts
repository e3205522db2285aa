/** WebSocket subprotocols of Kubernetes, and how their messages name a channel. Pure. */
import { NodeletError } from '../../../base/index.ts';

export interface ChannelCodec {
  /** Text messages: a digit and base64; else a byte and the data. */
  readonly base64: boolean;
  /** Version 5: a message of byte 255 and a channel ends that channel. */
  readonly closes: boolean;
}

export const CLOSE_CHANNEL = 255;

export function encodeMessage({ base64 }: ChannelCodec, channel: number, data: Buffer): Buffer | string {
  return base64
    ? `${String.fromCharCode(0x30 + channel)}${data.toString('base64')}`
    : Buffer.concat([Buffer.from([channel]), data]);
}

export type ChannelMessage =
  | { readonly type: 'data'; readonly channel: number; readonly data: Buffer }
  | { readonly type: 'close'; readonly channel: number };

const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

/** Undefined for an empty message. Throws STREAM_PROTOCOL for what the protocol does not have. */
export function decodeMessage({ base64, closes }: ChannelCodec, message: Buffer): ChannelMessage | undefined {
  const [first] = message;
  if (first === undefined) return undefined;
  if (base64) {
    const text = message.toString('latin1', 1);
    if (!BASE64.test(text)) throw new NodeletError('STREAM_PROTOCOL', 'a message is no base64');
    return { type: 'data', channel: first - 0x30, data: Buffer.from(text, 'base64') };
  }
  if (closes && first === CLOSE_CHANNEL) {
    const [, channel] = message;
    if (message.length !== 2 || channel === undefined)
      throw new NodeletError('STREAM_PROTOCOL', `a close signal has ${message.length} bytes, not 2`);
    return { type: 'close', channel };
  }
  return { type: 'data', channel: first, data: message.subarray(1) };
}
