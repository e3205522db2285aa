import { deflateSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { HEADER_DICTIONARY } from '../../../../src/cri/streaming/spdy/dictionary.ts';
import {
  encodeDataHeader,
  encodeGoaway,
  encodePing,
  encodeReset,
  encodeSynReply,
  encodeSynStream,
  type Frame,
  FrameParser,
  MAX_CONTROL_FRAME,
} from '../../../../src/cri/streaming/spdy/frames.ts';
import {
  HeaderDecoder,
  HeaderEncoder,
  MAX_HEADER_BLOCK,
  parseHeaders,
} from '../../../../src/cri/streaming/spdy/headers.ts';

/** Frames of bytes that come in pieces of these sizes; pieces of one data frame are joined. */
function parse(bytes: Buffer, sizes: readonly number[] = []): Frame[] {
  const parser = new FrameParser();
  const frames: Frame[] = [];
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const size = sizes[i] ?? bytes.length;
    for (const frame of parser.push(bytes.subarray(at, at + size))) {
      const last = frames.at(-1);
      if (frame.type === 'data' && last?.type === 'data' && last.id === frame.id && !last.fin)
        frames[frames.length - 1] = { ...frame, data: Buffer.concat([last.data, frame.data]) };
      else frames.push(frame);
    }
    at += size;
  }
  return frames;
}

function data(id: number, bytes: Uint8Array, fin: boolean): Buffer {
  return Buffer.concat([encodeDataHeader(id, bytes.length, fin), bytes]);
}

const id = fc.integer({ min: 1, max: 0x7fff_ffff });
const block = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));

/** A frame as bytes and as it is read. */
const anyFrame: fc.Arbitrary<[Buffer, Frame]> = fc.oneof(
  fc
    .tuple(id, block, fc.boolean())
    .map(([id, block, fin]): [Buffer, Frame] => [
      encodeSynStream(id, block, fin),
      { type: 'syn-stream', id, fin, unidirectional: false, block },
    ]),
  fc
    .tuple(id, block)
    .map(([id, block]): [Buffer, Frame] => [
      encodeSynReply(id, block),
      { type: 'syn-reply', id, fin: false, block },
    ]),
  fc
    .tuple(id, fc.integer({ min: 1, max: 11 }))
    .map(([id, status]): [Buffer, Frame] => [encodeReset(id, status), { type: 'rst-stream', id, status }]),
  id.map((id): [Buffer, Frame] => [encodePing(id), { type: 'ping', id }]),
  id.map((lastId): [Buffer, Frame] => [encodeGoaway(lastId, 0), { type: 'goaway', lastId, status: 0 }]),
  // With an end, so that two of one stream are not taken for one.
  fc
    .tuple(id, block)
    .map(([id, bytes]): [Buffer, Frame] => [
      data(id, bytes, true),
      { type: 'data', id, fin: true, data: bytes },
    ]),
);

describe('SPDY frames', () => {
  test('are the same whatever pieces they come in', () => {
    fc.assert(
      fc.property(
        fc.array(anyFrame, { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 100 }),
        (frames, sizes) => {
          const bytes = Buffer.concat(frames.map(([encoded]) => encoded));
          expect(parse(bytes, sizes)).toEqual(frames.map(([, frame]) => frame));
        },
      ),
    );
  });

  test('of any bytes are frames or one protocol error, and little is kept', () => {
    const beginning = fc.constantFrom(
      ...[1, 2, 3, 4, 6, 7, 8, 9, 10].map((type) => Buffer.from([0x80, 3, 0, type, 0, 0, 0])),
      Buffer.alloc(0),
    );
    fc.assert(
      fc.property(
        fc.array(fc.tuple(beginning, fc.uint8Array({ maxLength: 64 })), { maxLength: 10 }),
        (parts) => {
          const parser = new FrameParser();
          try {
            for (const [head, rest] of parts)
              for (const frame of parser.push(Buffer.concat([head, rest])))
                if ('id' in frame) expect(frame.id).toBeGreaterThan(0);
          } catch (error) {
            expect(error).toMatchObject({ code: 'SPDY_PROTOCOL' });
          }
          expect(parser.pending).toBeLessThanOrEqual(MAX_CONTROL_FRAME + 8);
        },
      ),
      { numRuns: 2000 },
    );
  });

  test('of data are passed on before they are complete', () => {
    const parser = new FrameParser();
    const [first] = [...parser.push(data(1, Buffer.alloc(100), true).subarray(0, 58))];
    expect(first).toMatchObject({ type: 'data', fin: false, data: Buffer.alloc(50) });
    expect(parser.pending).toBe(0);
    expect([...parser.push(Buffer.alloc(50))]).toMatchObject([{ fin: true, data: Buffer.alloc(50) }]);
  });

  const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
  test.each([
    ['another version', hex('8002 0001 00 000000')],
    ['an unknown type', hex('8003 0005 00 000000')],
    ['a control frame without end', hex('8003 0001 00 ffffff')],
    ['a SYN_STREAM that is too short', hex('8003 0001 00 000009 000000000000000000')],
    ['a stream 0', hex('8003 0001 00 00000a 00000000 00000000 0000')],
    ['data of stream 0', hex('00000000 00 000000')],
    ['a RST_STREAM without status', hex('8003 0003 00 000008 00000001 00000000')],
    ['a PING 0', hex('8003 0006 00 000004 00000000')],
    ['a PING with more', hex('8003 0006 00 000005 0000000100')],
    ['a GOAWAY that is too short', hex('8003 0007 00 000004 00000001')],
    ['four billion settings', hex('8003 0004 00 000004 ffffffff')],
    ['fewer settings than it says', hex('8003 0004 00 00000c 00000002 0000000100000001')],
    ['a WINDOW_UPDATE that is too long', hex('8003 0009 00 000009 000000010000000100')],
  ])('with %s are refused', (_, bytes) => {
    expect(() => parse(bytes)).toThrow(expect.objectContaining({ code: 'SPDY_PROTOCOL' }));
  });

  test('for flow control are passed over: the peer does not heed it', () => {
    expect(parse(hex('8003 0009 00 000008 00000001 00010000'))).toEqual([{ type: 'ignored' }]);
  });
});

const word = fc.string({ minLength: 1, maxLength: 20 }).map((text) => text.toLowerCase());

describe('SPDY headers', () => {
  test('come back as they were, one block after another', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.uniqueArray(fc.tuple(word, fc.string({ maxLength: 50 })), {
            maxLength: 6,
            selector: ([name]) => name,
          }),
          {
            maxLength: 5,
          },
        ),
        async (blocks) => {
          const encoder = new HeaderEncoder();
          const decoder = new HeaderDecoder();
          try {
            for (const headers of blocks)
              expect([...(await decoder.decode(encoder.encode(new Map(headers))))]).toEqual(headers);
          } finally {
            decoder.close();
          }
        },
      ),
      { numRuns: 50 },
    );
  });

  const pair = (name: string, value: string): Buffer =>
    Buffer.concat(
      [name, value].flatMap((text) => {
        const length = Buffer.alloc(4);
        length.writeUInt32BE(text.length);
        return [length, Buffer.from(text, 'latin1')];
      }),
    );
  const count = (n: number): Buffer => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(n);
    return bytes;
  };

  test('are inflated against the dictionary of the specification', async () => {
    const plain = Buffer.concat([count(1), pair('Streamtype', 'error')]);
    const decoder = new HeaderDecoder();
    const headers = await decoder.decode(
      deflateSync(plain, { dictionary: HEADER_DICTIONARY }).subarray(0, -4),
    );
    expect([...headers]).toEqual([['streamtype', 'error']]);
    decoder.close();
  });

  test('that inflate to gigabytes are refused after 64 KiB', async () => {
    const bomb = deflateSync(Buffer.alloc(50 * 1024 * 1024), { dictionary: HEADER_DICTIONARY });
    const decoder = new HeaderDecoder();
    const before = process.memoryUsage().arrayBuffers;
    await expect(decoder.decode(bomb)).rejects.toMatchObject({
      code: 'SPDY_PROTOCOL',
      message: expect.stringContaining(`more than ${MAX_HEADER_BLOCK} bytes`),
    });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 * MAX_HEADER_BLOCK);
  });

  test('of any bytes are headers or a protocol error', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (bytes) => {
        const decoder = new HeaderDecoder();
        await decoder.decode(Buffer.from(bytes)).catch((error: unknown) => {
          expect(error).toMatchObject({ code: 'SPDY_PROTOCOL' });
        });
        decoder.close();
      }),
      { numRuns: 200 },
    );
  });

  test.each([
    ['nothing', Buffer.alloc(0)],
    ['more headers than any client sends', count(101)],
    ['four billion headers', count(0xffff_ffff)],
    ['a length past the end', Buffer.concat([count(1), count(0xffff_ffff)])],
    ['the same name twice', Buffer.concat([count(2), pair('a', '1'), pair('A', '2')])],
    ['no name', Buffer.concat([count(1), pair('', '1')])],
    ['something behind them', Buffer.concat([count(0), Buffer.from([0])])],
  ])('with %s are refused', (_, bytes) => {
    expect(() => parseHeaders(bytes)).toThrow(expect.objectContaining({ code: 'SPDY_PROTOCOL' }));
  });
});
