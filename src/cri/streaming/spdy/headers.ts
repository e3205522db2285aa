/**
 * Header blocks: zlib with one state a connection and direction. What we send is stored, not compressed: it is some forty
 * bytes a stream, and a compressor's state would be 256 KiB a connection. What comes is inflated within limits.
 */
import { constants, createInflate, type Inflate } from 'node:zlib';
import { HEADER_DICTIONARY } from './dictionary.ts';
import { protocolError } from './errors.ts';

/** Names in lower case. Several values of one name are separated by NUL. */
export type Headers = ReadonlyMap<string, string>;

export const MAX_HEADERS = 100;
/** Bytes of one inflated block. */
export const MAX_HEADER_BLOCK = 64 * 1024;

/** zlib's two bytes of head: deflate, 32 KiB window, no dictionary. */
const ZLIB_HEAD = Buffer.from([0x78, 0x01]);
/** An empty stored block: without it a peer's inflater may keep what came before it. */
const FLUSH = Buffer.from([0x00, 0x00, 0x00, 0xff, 0xff]);

export class HeaderEncoder {
  #begun = false;

  encode(headers: Headers): Buffer {
    const parts: Buffer[] = [lengthOf(headers.size)];
    for (const [name, value] of headers)
      for (const text of [name.toLowerCase(), value]) {
        const bytes = Buffer.from(text, 'utf8');
        parts.push(lengthOf(bytes.length), bytes);
      }
    const block = Buffer.concat(parts);
    if (block.length > 0xffff) throw protocolError(`our headers have ${block.length} bytes`);
    const head = Buffer.alloc(5);
    head.writeUInt16LE(block.length, 1);
    head.writeUInt16LE(block.length ^ 0xffff, 3);
    const out = Buffer.concat([...(this.#begun ? [] : [ZLIB_HEAD]), head, block, FLUSH]);
    this.#begun = true;
    return out;
  }
}

function lengthOf(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** Decodes one block after another: the next may only be given when the one before it is done. */
export class HeaderDecoder {
  #inflate: Inflate | undefined;
  #chunks: Buffer[] = [];
  #size = 0;
  #fail: (error: Error) => void = () => {};

  /** Throws SPDY_PROTOCOL for what cannot be inflated or read, or is more than a header block may be. */
  async decode(block: Buffer): Promise<Headers> {
    return parseHeaders(await this.#expand(block));
  }

  #open(): Inflate {
    const inflate = createInflate({
      dictionary: HEADER_DICTIONARY,
      flush: constants.Z_SYNC_FLUSH,
      chunkSize: 4096,
    });
    inflate.on('data', (chunk: Buffer) => {
      this.#size += chunk.length;
      if (this.#size <= MAX_HEADER_BLOCK) this.#chunks.push(chunk);
      else {
        this.#fail(protocolError(`headers of more than ${MAX_HEADER_BLOCK} bytes`));
        inflate.destroy();
      }
    });
    inflate.on('error', (error) =>
      this.#fail(protocolError(`headers that cannot be inflated (${error.message})`)),
    );
    // The other end has finished the compression, or we have let go of it.
    for (const event of ['end', 'close'])
      inflate.on(event, () => this.#fail(protocolError('headers whose compression has ended')));
    return inflate;
  }

  #expand(block: Buffer): Promise<Buffer> {
    this.#inflate ??= this.#open();
    const inflate = this.#inflate;
    this.#chunks = [];
    this.#size = 0;
    return new Promise((resolve, reject) => {
      this.#fail = reject;
      // An error comes by its event, with its text.
      inflate.write(block, (error) => {
        if (error == null && !inflate.destroyed) resolve(Buffer.concat(this.#chunks));
      });
    });
  }

  /** Frees the window; a decode that is under way fails. Twice is safe. */
  close(): void {
    this.#inflate?.destroy();
  }
}

/** The inflated block. Throws SPDY_PROTOCOL. */
export function parseHeaders(block: Buffer): Headers {
  let at = 0;
  const number = (): number => {
    if (at + 4 > block.length) throw protocolError('headers that end early');
    at += 4;
    return block.readUInt32BE(at - 4);
  };
  const text = (): string => {
    const length = number();
    if (length > block.length - at) throw protocolError('headers that end early');
    at += length;
    return block.toString('utf8', at - length, at);
  };
  const count = number();
  if (count > MAX_HEADERS) throw protocolError(`${count} headers`);
  const headers = new Map<string, string>();
  for (let i = 0; i < count; i++) {
    const name = text().toLowerCase();
    const value = text();
    if (name === '') throw protocolError('a header without a name');
    if (headers.has(name)) throw protocolError(`header ${JSON.stringify(name.slice(0, 80))} twice`);
    headers.set(name, value);
  }
  if (at !== block.length) throw protocolError('headers with something behind them');
  return headers;
}
