/**
 * zstd where Node has none (before 22.15): fzstd, behind a walk over the frames. fzstd allocates whatever window a
 * frame asks for, up to 2 GiB; the walk reads each frame's header first and refuses more than the 128 MiB that zstd
 * itself takes without being told (RFC 8878 §3.1.1). Skippable frames, as zstd:chunked has them, pass.
 */
import { Decompress } from 'fzstd';
import { NodeletError } from '../../base/index.ts';

/** ZSTD_WINDOWLOG_LIMIT_DEFAULT. */
export const maxWindow = 128 * 1024 * 1024;

const invalid = (reason: string): NodeletError =>
  new NodeletError('LAYER_INVALID', `cannot decompress zstd data: ${reason}`);

/** Follows frame and block headers of a stream that comes in pieces; throws at the first that is too big or wrong. */
export class ZstdFrameWalker {
  #state: 'magic' | 'header' | 'block' | 'skip' = 'magic';
  /** Header bytes gathered so far. */
  #head: number[] = [];
  #need = 4;
  #skip = 0;
  #afterSkip: 'magic' | 'block' = 'magic';
  #checksum = 0;

  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#state === 'skip') {
        const size = Math.min(this.#skip, chunk.length - at);
        at += size;
        this.#skip -= size;
        if (this.#skip === 0) this.#expect(this.#afterSkip, this.#afterSkip === 'magic' ? 4 : 3);
        continue;
      }
      this.#head.push(chunk[at] as number);
      at += 1;
      if (this.#head.length === this.#need) this.#step();
    }
  }

  /** Throws where the stream ended inside a frame. */
  finish(): void {
    if (this.#state !== 'magic' || this.#head.length > 0) throw invalid('it is cut off');
  }

  #expect(state: 'magic' | 'header' | 'block', need: number): void {
    this.#state = state;
    this.#need = need;
    this.#head = [];
  }

  #jump(size: number, then: 'magic' | 'block'): void {
    if (size === 0) {
      this.#expect(then, then === 'magic' ? 4 : 3);
      return;
    }
    this.#state = 'skip';
    this.#head = [];
    this.#skip = size;
    this.#afterSkip = then;
  }

  #step(): void {
    const head = this.#head;
    const u32 = (at: number): number =>
      ((head[at] ?? 0) |
        ((head[at + 1] ?? 0) << 8) |
        ((head[at + 2] ?? 0) << 16) |
        ((head[at + 3] ?? 0) << 24)) >>>
      0;
    switch (this.#state) {
      case 'magic': {
        if (head.length === 8) {
          this.#jump(u32(4), 'magic');
        } else if ((u32(0) & 0xffff_fff0) >>> 0 === 0x184d_2a50) {
          this.#need = 8; // a skippable frame: its size follows
        } else if (u32(0) === 0xfd2f_b528) {
          this.#expect('header', 1);
        } else {
          throw invalid('a frame has no magic number');
        }
        return;
      }
      case 'header': {
        const flags = head[0] ?? 0;
        const single = (flags & 0x20) !== 0;
        const dictionary = [0, 1, 2, 4][flags & 3] ?? 0;
        const sizeFlag = flags >> 6;
        const sizeBytes = sizeFlag === 0 ? (single ? 1 : 0) : 1 << sizeFlag;
        const length = 1 + (single ? 0 : 1) + dictionary + sizeBytes;
        if (head.length < length) {
          this.#need = length;
          return;
        }
        if (flags & 0x08) throw invalid('a frame sets a reserved bit');
        if (dictionary > 0 && head.slice(single ? 1 : 2, length - sizeBytes).some((byte) => byte !== 0)) {
          throw invalid('a frame needs a dictionary');
        }
        const window = single ? contentSize(head.slice(length - sizeBytes)) : windowSize(head[1] ?? 0);
        if (window > maxWindow)
          throw invalid(`a frame wants a window of ${window} bytes, more than ${maxWindow}`);
        this.#checksum = flags & 0x04 ? 4 : 0;
        this.#expect('block', 3);
        return;
      }
      default: {
        const header = u32(0) & 0xff_ffff;
        const type = (header >> 1) & 3;
        if (type === 3) throw invalid('a block is of the reserved type');
        const size = type === 1 ? 1 : header >> 3;
        if (header & 1) this.#jump(size + this.#checksum, 'magic');
        else this.#jump(size, 'block');
      }
    }
  }
}

function windowSize(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 7);
}

function contentSize(bytes: readonly number[]): number {
  const value = bytes.reduceRight((sum, byte) => sum * 256 + byte, 0);
  return bytes.length === 2 ? value + 256 : value;
}

/** Output is cut to this size, so that no consumer sees a chunk of a whole window. */
const outputSize = 1024 * 1024;

/** Decompresses with fzstd what `input` yields. Throws LAYER_INVALID. */
export async function* fzstdDecompress(input: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const walker = new ZstdFrameWalker();
  let ready: Uint8Array[] = [];
  const stream = new Decompress((chunk) => ready.push(chunk));
  const push = (chunk: Uint8Array, last: boolean): Uint8Array[] => {
    try {
      stream.push(chunk, last);
    } catch (error) {
      throw invalid(error instanceof Error ? error.message : 'it is corrupt');
    }
    const out = ready;
    ready = [];
    return out;
  };
  for await (const chunk of input) {
    walker.push(chunk);
    // A short input can expand a thousandfold: small steps keep what lies ready small.
    for (let at = 0; at < chunk.length; at += 16 * 1024) {
      for (const part of push(chunk.subarray(at, at + 16 * 1024), false)) yield* slices(part);
    }
  }
  walker.finish();
  for (const part of push(new Uint8Array(0), true)) yield* slices(part);
}

function* slices(part: Uint8Array): Generator<Buffer> {
  const whole = Buffer.from(part.buffer, part.byteOffset, part.byteLength);
  for (let at = 0; at < whole.length; at += outputSize) yield whole.subarray(at, at + outputSize);
}
