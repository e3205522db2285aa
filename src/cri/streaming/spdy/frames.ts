/**
 * SPDY/3.1 frames to and from bytes. Pure. Data frames are passed on in the pieces in which they come, so their size (up
 * to 16 MiB) costs no memory; control frames are gathered, and bounded.
 */
import { protocolError } from './errors.ts';

const VERSION = 3;
const HEADER = 8;
const MAX_LENGTH = 0xff_ffff;

/** Kubernetes' largest control frame, a SYN_STREAM with four headers, has some 120 bytes. */
export const MAX_CONTROL_FRAME = 32 * 1024;

const TYPE = {
  synStream: 1,
  synReply: 2,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  headers: 8,
  windowUpdate: 9,
} as const;

const FIN = 1;
const UNIDIRECTIONAL = 2;

/** Why a stream is ended by force. */
export const RESET = { protocolError: 1, invalidStream: 2, refused: 3, cancel: 5, internalError: 6 } as const;
export const GOAWAY = { ok: 0, protocolError: 1 } as const;

export type Frame =
  | {
      readonly type: 'syn-stream';
      readonly id: number;
      readonly fin: boolean;
      readonly unidirectional: boolean;
      readonly block: Buffer;
    }
  | {
      readonly type: 'syn-reply' | 'headers';
      readonly id: number;
      readonly fin: boolean;
      readonly block: Buffer;
    }
  | { readonly type: 'rst-stream'; readonly id: number; readonly status: number }
  | { readonly type: 'ping'; readonly id: number }
  | { readonly type: 'goaway'; readonly lastId: number; readonly status: number }
  /** `fin` stands on the last piece only. */
  | { readonly type: 'data'; readonly id: number; readonly fin: boolean; readonly data: Buffer }
  /** Flow control and settings, which Kubernetes' peers neither send nor heed. */
  | { readonly type: 'ignored' };

function control(type: number, flags: number, body: Buffer): Buffer {
  const frame = Buffer.allocUnsafe(HEADER + body.length);
  frame.writeUInt16BE(0x8000 | VERSION, 0);
  frame.writeUInt16BE(type, 2);
  frame.writeUInt32BE(((flags << 24) | body.length) >>> 0, 4);
  body.copy(frame, HEADER);
  return frame;
}

function words(...values: readonly number[]): Buffer {
  const body = Buffer.allocUnsafe(values.length * 4);
  values.forEach((value, i) => body.writeUInt32BE(value, i * 4));
  return body;
}

export function encodeSynStream(id: number, block: Buffer, fin = false): Buffer {
  return control(TYPE.synStream, fin ? FIN : 0, Buffer.concat([words(id, 0), Buffer.from([0, 0]), block]));
}

export function encodeSynReply(id: number, block: Buffer): Buffer {
  return control(TYPE.synReply, 0, Buffer.concat([words(id), block]));
}

export function encodeReset(id: number, status: number): Buffer {
  return control(TYPE.rstStream, 0, words(id, status));
}

export function encodePing(id: number): Buffer {
  return control(TYPE.ping, 0, words(id));
}

export function encodeGoaway(lastId: number, status: number): Buffer {
  return control(TYPE.goaway, 0, words(lastId, status));
}

/** The head of a data frame, which `length` bytes follow. */
export function encodeDataHeader(id: number, length: number, fin: boolean): Buffer {
  if (length > MAX_LENGTH) throw new RangeError(`a data frame of ${length} bytes`);
  return words(id, ((fin ? FIN << 24 : 0) | length) >>> 0);
}

/** Frames from pieces of any size. After an error it is of no use any more. */
export class FrameParser {
  /** The beginning of a head or of a control frame. */
  #rest: Buffer = Buffer.alloc(0);
  /** What is missing of a data frame. */
  #data: { readonly id: number; readonly fin: boolean; left: number } | undefined;

  /** Bytes that wait for the rest of their frame: never more than MAX_CONTROL_FRAME and a head. */
  get pending(): number {
    return this.#rest.length;
  }

  /** The frames that `piece` completes. Throws SPDY_PROTOCOL. */
  *push(piece: Buffer): Generator<Frame, void> {
    let bytes = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    this.#rest = Buffer.alloc(0);
    for (;;) {
      if (this.#data !== undefined) {
        const { id, fin, left } = this.#data;
        if (bytes.length === 0 && left > 0) return;
        const data = bytes.subarray(0, left);
        bytes = bytes.subarray(data.length);
        this.#data.left -= data.length;
        const complete = data.length === left;
        if (complete) this.#data = undefined;
        yield { type: 'data', id, fin: fin && complete, data };
        continue;
      }
      if (bytes.length < HEADER) break;
      const first = bytes.readUInt32BE(0);
      const length = bytes.readUIntBE(5, 3);
      const flags = bytes.readUInt8(4);
      if (first < 0x8000_0000) {
        if (first === 0) throw protocolError('a data frame of stream 0');
        this.#data = { id: first, fin: (flags & FIN) !== 0, left: length };
        bytes = bytes.subarray(HEADER);
        continue;
      }
      const version = (first >>> 16) & 0x7fff;
      if (version !== VERSION) throw protocolError(`a control frame of version ${version}`);
      if (length > MAX_CONTROL_FRAME) throw protocolError(`a control frame of ${length} bytes`);
      if (bytes.length < HEADER + length) break;
      yield decodeControl(first & 0xffff, flags, bytes.subarray(HEADER, HEADER + length));
      bytes = bytes.subarray(HEADER + length);
    }
    // A copy: a few bytes must not keep the whole piece alive.
    this.#rest = Buffer.from(bytes);
  }
}

function streamId(body: Buffer, what: string): number {
  const id = body.readUInt32BE(0) & 0x7fff_ffff;
  if (id === 0) throw protocolError(`${what} of stream 0`);
  return id;
}

/** Throws SPDY_PROTOCOL unless the body has a size that the frame can have. */
function sized(body: Buffer, what: string, least: number, most = least): void {
  if (body.length < least || body.length > most) throw protocolError(`${what} of ${body.length} bytes`);
}

function decodeControl(type: number, flags: number, body: Buffer): Frame {
  const fin = (flags & FIN) !== 0;
  switch (type) {
    case TYPE.synStream:
      sized(body, 'a SYN_STREAM', 10, MAX_CONTROL_FRAME);
      return {
        type: 'syn-stream',
        id: streamId(body, 'a SYN_STREAM'),
        fin,
        unidirectional: (flags & UNIDIRECTIONAL) !== 0,
        block: Buffer.from(body.subarray(10)),
      };
    case TYPE.synReply:
    case TYPE.headers: {
      const what = type === TYPE.headers ? 'a HEADERS' : 'a SYN_REPLY';
      sized(body, what, 4, MAX_CONTROL_FRAME);
      return {
        type: type === TYPE.headers ? 'headers' : 'syn-reply',
        id: streamId(body, what),
        fin,
        block: Buffer.from(body.subarray(4)),
      };
    }
    case TYPE.rstStream: {
      sized(body, 'a RST_STREAM', 8);
      const status = body.readUInt32BE(4);
      if (status === 0) throw protocolError('a RST_STREAM without a status');
      return { type: 'rst-stream', id: streamId(body, 'a RST_STREAM'), status };
    }
    case TYPE.settings: {
      sized(body, 'a SETTINGS', 4, MAX_CONTROL_FRAME);
      const count = body.readUInt32BE(0);
      if (count * 8 !== body.length - 4)
        throw protocolError(`a SETTINGS of ${body.length} bytes with ${count} settings`);
      return { type: 'ignored' };
    }
    case TYPE.ping: {
      sized(body, 'a PING', 4);
      const id = body.readUInt32BE(0);
      if (id === 0) throw protocolError('a PING with id 0');
      return { type: 'ping', id };
    }
    case TYPE.goaway:
      sized(body, 'a GOAWAY', 8);
      return { type: 'goaway', lastId: body.readUInt32BE(0) & 0x7fff_ffff, status: body.readUInt32BE(4) };
    case TYPE.windowUpdate:
      sized(body, 'a WINDOW_UPDATE', 8);
      return { type: 'ignored' };
    default:
      throw protocolError(`a control frame of type ${type}`);
  }
}
