import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { decompress, detectCompression } from '../../../src/image/unpack/decompress.ts';
import { fzstdDecompress, ZstdFrameWalker } from '../../../src/image/unpack/zstd.ts';

/** Frames made by zstd 1.5.4. */
const hello = Buffer.from('KLUv/QRYlQAAYGhlbGxvIHpzdGQgCgEA3ooX3nt7vA==', 'base64');
const qs = Buffer.from('KLUv/QBYVAAAEHFxAQD7/znAAgIAEHEDnwRx', 'base64');
const skippable = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);

async function* pieces(data: Buffer, step = data.length): AsyncGenerator<Buffer> {
  for (let at = 0; at < data.length; at += step)
    yield await Promise.resolve(Buffer.from(data.subarray(at, at + step)));
}

async function all(chunks: AsyncIterable<Buffer>): Promise<string> {
  const parts: Buffer[] = [];
  for await (const chunk of chunks) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts).toString('latin1');
}

const text = 'hello zstd hello zstd\n';
const many = 'q'.repeat(300_000);

describe('zstd', () => {
  test.each([1, 2, 7, 100, 100_000])('frames, also skippable ones, in pieces of %i bytes', async (step) => {
    const data = Buffer.concat([skippable, hello, qs, skippable, hello]);
    expect(await all(fzstdDecompress(pieces(data, step)))).toBe(text + many + text);
  });

  test('a stream that is cut off or damaged is an error', async () => {
    await expect(all(fzstdDecompress(pieces(qs.subarray(0, qs.length - 2))))).rejects.toMatchObject({
      code: 'LAYER_INVALID',
    });
    const damaged = Buffer.from(hello);
    damaged[0] = 0;
    await expect(all(fzstdDecompress(pieces(damaged)))).rejects.toMatchObject({ code: 'LAYER_INVALID' });
  });

  test('a frame that wants a window of gigabytes is refused before anything is allocated', async () => {
    // magic, no single segment, window descriptor 2^31
    const frame = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00]);
    await expect(all(fzstdDecompress(pieces(Buffer.concat([hello, frame]))))).rejects.toThrow(
      /a frame wants a window of 2147483648 bytes, more than 134217728/,
    );
    // the same by a single segment of 1 GiB
    const single = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40, 1, 0, 0]);
    expect(() => new ZstdFrameWalker().push(single)).toThrow(/wants a window/);
  });

  test.each([
    ['a dictionary', [0x28, 0xb5, 0x2f, 0xfd, 0x21, 0x07, 0x01], /needs a dictionary/],
    ['a reserved bit', [0x28, 0xb5, 0x2f, 0xfd, 0x28, 0x01], /reserved bit/],
    ['a reserved block', [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x01, 0x07, 0, 0], /reserved type/],
    ['no magic', [1, 2, 3, 4], /no magic number/],
  ])('refuses %s', (_name, bytes, reason) => {
    expect(() => new ZstdFrameWalker().push(Buffer.from(bytes))).toThrow(reason);
  });
});

describe('decompress', () => {
  test('tells by the first bytes', () => {
    expect(detectCompression(gzipSync('x'))).toBe('gzip');
    expect(detectCompression(hello)).toBe('zstd');
    expect(detectCompression(skippable)).toBe('zstd');
    expect(detectCompression(Buffer.from('usr/'))).toBe('none');
    expect(detectCompression(Buffer.alloc(0))).toBe('none');
  });

  test.each<[string, Buffer, string]>([
    ['gzip of several members', Buffer.concat([gzipSync('one '), gzipSync('two')]), 'one two'],
    ['zstd', qs, many],
    ['plain', Buffer.from('plain'), 'plain'],
    ['nothing', Buffer.alloc(0), ''],
  ])('%s', async (_name, data, expected) => {
    expect(await all(decompress(pieces(data, 1000)))).toBe(expected);
  });

  test('gzip that is cut off or damaged is an error of its own', async () => {
    const data = gzipSync('x'.repeat(100_000));
    await expect(all(decompress(pieces(data.subarray(0, data.length - 5))))).rejects.toMatchObject({
      code: 'LAYER_INVALID',
    });
    data[40] = (data[40] ?? 0) ^ 0xff;
    await expect(all(decompress(pieces(data)))).rejects.toMatchObject({ code: 'LAYER_INVALID' });
  });

  test('an error of the input comes through as it is', async () => {
    const failing = async function* (): AsyncGenerator<Buffer> {
      yield await Promise.resolve(gzipSync('x').subarray(0, 8));
      throw new RangeError('the source');
    };
    await expect(all(decompress(failing()))).rejects.toThrow('the source');
  });
});
