/** Decompression by what the first bytes are, not by what the media type claims (containerd does the same). */
import { Readable } from 'node:stream';
import * as zlib from 'node:zlib';
import { codeOf, messageOf, NodeletError } from '../../base/index.ts';
import { fzstdDecompress, maxWindow } from './zstd.ts';

export type Compression = 'none' | 'gzip' | 'zstd';

/** Node's default of 16 KiB halves the speed (181 against 353 MiB/s of output). */
const chunkSize = 128 * 1024;
/** Two chunks inflated ahead by the thread pool while the worker writes files. */
const highWaterMark = 2 * chunkSize;

/** From the first bytes of a stream; four are enough. */
export function detectCompression(head: Uint8Array): Compression {
  if (head[0] === 0x1f && head[1] === 0x8b && head[2] === 0x08) return 'gzip';
  const magic =
    ((head[0] ?? 0) | ((head[1] ?? 0) << 8) | ((head[2] ?? 0) << 16) | ((head[3] ?? 0) << 24)) >>> 0;
  if (magic === 0xfd2f_b528 || (magic & 0xffff_fff0) >>> 0 === 0x184d_2a50) return 'zstd';
  return 'none';
}

/** The plain bytes of `input`, which has to come in chunks of at least four bytes. Throws LAYER_INVALID. */
export async function* decompress(
  input: AsyncIterable<Buffer>,
  onDetect: (compression: Compression) => void = () => {},
): AsyncGenerator<Buffer> {
  const iterator = input[Symbol.asyncIterator]();
  const first = await iterator.next();
  const head = first.done === true ? Buffer.alloc(0) : first.value;
  const compression = detectCompression(head);
  onDetect(compression);
  const whole = async function* (): AsyncGenerator<Buffer> {
    try {
      if (head.length > 0) yield head;
      for (;;) {
        const next = await iterator.next();
        if (next.done === true) return;
        yield next.value;
      }
    } finally {
      await iterator.return?.();
    }
  };
  switch (compression) {
    case 'none':
      yield* whole();
      return;
    case 'gzip':
      yield* inflate(whole(), zlib.createGunzip({ chunkSize, highWaterMark } as zlib.ZlibOptions), 'gzip');
      return;
    case 'zstd': {
      const create = nodeZstd();
      if (create === undefined) yield* fzstdDecompress(whole());
      else yield* inflate(whole(), create(), 'zstd');
    }
  }
}

/** zlib's own zstd, in Node 22.15 and later. */
function nodeZstd(): (() => NodeJS.ReadWriteStream & Readable) | undefined {
  const { createZstdDecompress, constants } = zlib as unknown as {
    createZstdDecompress?: (options: object) => NodeJS.ReadWriteStream & Readable;
    constants: Readonly<Record<string, number>>;
  };
  const windowLog = constants.ZSTD_d_windowLogMax;
  if (createZstdDecompress === undefined || windowLog === undefined) return undefined;
  return () =>
    createZstdDecompress({ chunkSize, highWaterMark, params: { [windowLog]: Math.log2(maxWindow) } });
}

async function* inflate(
  input: AsyncIterable<Buffer>,
  stream: NodeJS.ReadWriteStream & Readable,
  name: string,
): AsyncGenerator<Buffer> {
  // Errors of the input travel through `destroy`, so that they arrive as they are and not as zlib's.
  let inputError: unknown;
  const source = Readable.from(input, { objectMode: true, highWaterMark: 2 });
  source.on('error', (error) => {
    inputError = error;
    stream.destroy(error);
  });
  source.pipe(stream);
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) yield chunk;
  } catch (error) {
    if (inputError !== undefined) throw inputError;
    if (
      codeOf(error)?.startsWith('Z_') ||
      codeOf(error)?.startsWith('ZSTD_') ||
      codeOf(error) === 'ERR_BUFFER_TOO_LARGE'
    ) {
      throw new NodeletError('LAYER_INVALID', `cannot decompress ${name} data: ${messageOf(error)}`, {
        cause: error,
      });
    }
    throw error;
  } finally {
    source.destroy();
    stream.destroy();
  }
}
