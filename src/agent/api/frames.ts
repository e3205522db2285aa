/**
 * Output of several containers in one stream of bytes. A frame: stream (1 stdout, 2 stderr) u8, length of the container's
 * name u8, length of the data u32 little endian, name, data. Pure.
 */
import { NodeletError } from '../../base/index.ts';
import type { OutputChunk } from '../output.ts';

const HEADER = 6;

/** What one frame holds at most: a reader of the stream need not believe more. */
const MAX_DATA = 16 * 1024 * 1024;

export function encodeFrame({ container, stream, data }: OutputChunk): Buffer {
  const name = Buffer.from(container);
  const head = Buffer.alloc(HEADER);
  head.writeUInt8(stream === 'stdout' ? 1 : 2, 0);
  head.writeUInt8(name.length, 1);
  head.writeUInt32LE(data.length, 2);
  return Buffer.concat([head, name, data]);
}

/** Frames from pieces of any size. */
export class FrameDecoder {
  #rest: Buffer = Buffer.alloc(0);

  /** The frames that are complete with `piece`. Throws AGENT_ANSWER for bytes that are none. */
  push(piece: Buffer): OutputChunk[] {
    let bytes = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    const frames: OutputChunk[] = [];
    while (bytes.length >= HEADER) {
      const stream = bytes.readUInt8(0);
      const nameLength = bytes.readUInt8(1);
      const dataLength = bytes.readUInt32LE(2);
      if ((stream !== 1 && stream !== 2) || dataLength > MAX_DATA)
        throw new NodeletError('AGENT_ANSWER', 'the agent sent output that cannot be read');
      const end = HEADER + nameLength + dataLength;
      if (bytes.length < end) break;
      const nameEnd = HEADER + nameLength;
      frames.push({
        stream: stream === 1 ? 'stdout' : 'stderr',
        container: bytes.toString('utf8', HEADER, nameEnd),
        data: bytes.subarray(nameEnd, end),
      });
      bytes = bytes.subarray(end);
    }
    this.#rest = bytes;
    return frames;
  }

  /** True where the stream was cut within a frame. */
  get cut(): boolean {
    return this.#rest.length > 0;
  }
}
