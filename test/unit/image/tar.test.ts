import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NodeletError } from '../../../src/base/index.ts';
import { padding, type TarItem, tarEnd, tarHeader } from '../../../src/image/transfer/tar-writer.ts';
import { parseHeader, parseNumber } from '../../../src/image/unpack/tar/header.ts';
import { parsePax } from '../../../src/image/unpack/tar/pax.ts';
import { type TarEntry, TarReader } from '../../../src/image/unpack/tar/reader.ts';
import { maxSparseParts } from '../../../src/image/unpack/tar/sparse.ts';

interface Read {
  readonly entry: TarEntry;
  readonly content: string;
  readonly pieces: readonly [offset: number, text: string][];
}

/** Reads an archive given in pieces of `step` bytes. */
function read(archive: Buffer, step = archive.length): Read[] {
  const found: Read[] = [];
  let entry: TarEntry | undefined;
  let pieces: [number, string][] = [];
  const reader = new TarReader({
    entry(next) {
      entry = next;
      pieces = [];
    },
    data(chunk, offset) {
      const last = pieces.at(-1);
      const text = chunk.toString('latin1');
      if (last !== undefined && last[0] + last[1].length === offset) last[1] += text;
      else pieces.push([offset, text]);
    },
    end() {
      if (entry !== undefined)
        found.push({ entry, content: pieces.map(([, text]) => text).join(''), pieces });
    },
  });
  for (let at = 0; at < archive.length; at += step) reader.write(archive.subarray(at, at + step));
  reader.finish();
  return found;
}

function file(name: string, content: string | Buffer, more: Partial<TarItem> = {}): Buffer {
  const data = Buffer.from(content);
  return Buffer.concat([
    tarHeader({ name, type: 'file', mode: 0o644, size: data.length, ...more }),
    data,
    padding(data.length),
  ]);
}

/** A header with fields of our choice and a right checksum. */
function raw(fields: {
  name?: string;
  size?: number;
  type: string;
  link?: string;
  edit?: (block: Buffer) => void;
}): Buffer {
  const block = tarHeader({
    name: fields.name ?? 'x',
    type: 'file',
    mode: 0o644,
    size: fields.size ?? 0,
    linkName: fields.link ?? '',
  });
  block.write(fields.type, 156, 'latin1');
  fields.edit?.(block);
  return checksummed(block);
}

function checksummed(block: Buffer): Buffer {
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

function extended(type: string, body: string | Buffer): Buffer {
  const data = Buffer.from(body);
  return Buffer.concat([raw({ type, size: data.length }), data, padding(data.length)]);
}

const pax = (records: Record<string, string>): Buffer =>
  extended(
    'x',
    Object.entries(records)
      .map(([key, value]) => paxRecord(key, value))
      .join(''),
  );

function paxRecord(key: string, value: string): string {
  const rest = Buffer.byteLength(key) + Buffer.byteLength(value) + 3;
  let length = rest + 1;
  while (String(length).length + rest !== length) length += 1;
  return `${length} ${key}=${value}\n`;
}

const archive = (...parts: Buffer[]): Buffer => Buffer.concat([...parts, tarEnd]);

function code(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof NodeletError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'accepted';
}

describe('reader', () => {
  test('files, directories, links, devices and pipes', () => {
    const tar = archive(
      tarHeader({ name: 'd/', type: 'directory', mode: 0o1755, uid: 5, gid: 6, mtime: 7 }),
      file('d/f', 'hello'),
      tarHeader({ name: 's', type: 'symlink', mode: 0o777, linkName: '/etc' }),
      tarHeader({ name: 'h', type: 'hardlink', mode: 0o644, linkName: 'd/f' }),
      tarHeader({ name: 'c', type: 'char', mode: 0o600, devMajor: 1, devMinor: 3 }),
      tarHeader({ name: 'b', type: 'block', mode: 0o600, devMajor: 8, devMinor: 0 }),
      tarHeader({ name: 'p', type: 'fifo', mode: 0o600 }),
      file('empty', ''),
    );
    const entries = read(tar).map(({ entry, content }) => [entry.type, entry.name, entry.linkName, content]);
    expect(entries).toEqual([
      ['directory', 'd/', '', ''],
      ['file', 'd/f', '', 'hello'],
      ['symlink', 's', '/etc', ''],
      ['hardlink', 'h', 'd/f', ''],
      ['char', 'c', '', ''],
      ['block', 'b', '', ''],
      ['fifo', 'p', '', ''],
      ['file', 'empty', '', ''],
    ]);
    expect(read(tar)[0]?.entry).toMatchObject({ mode: 0o1755, uid: 5, gid: 6, mtime: 7 });
    expect(read(tar)[4]?.entry).toMatchObject({ devMajor: 1, devMinor: 3 });
  });

  const name = fc.string({
    minLength: 1,
    maxLength: 300,
    unit: fc.constantFrom('a', 'é', '/', '.', ' ', '日'),
  });
  const item = fc.record({
    name,
    content: fc.uint8Array({ maxLength: 2000 }).map((bytes) => Buffer.from(bytes)),
    uid: fc.integer({ min: 0, max: 0xffff_fffe }),
    mtime: fc.oneof(
      fc.integer({ min: 0, max: 2 ** 34 }),
      fc.integer({ min: 0, max: 2 ** 31 }).map((n) => n + 0.5),
    ),
    xattr: fc.option(fc.uint8Array({ minLength: 1, maxLength: 40 }), { nil: undefined }),
  });

  test('whatever is written is read back, in pieces of any size', () => {
    fc.assert(
      fc.property(fc.array(item, { maxLength: 6 }), fc.integer({ min: 1, max: 1500 }), (items, step) => {
        const tar = archive(
          ...items.map((one) =>
            file(one.name, one.content, {
              uid: one.uid,
              mtime: one.mtime,
              ...(one.xattr === undefined ? {} : { xattrs: { 'user.x': Buffer.from(one.xattr) } }),
            }),
          ),
        );
        const found = read(tar, step);
        expect(
          found.map(({ entry, content }) => [
            Buffer.from(entry.name, 'latin1').toString(),
            entry.uid,
            content,
          ]),
        ).toEqual(items.map((one) => [one.name, one.uid, one.content.toString('latin1')]));
        for (const [i, one] of items.entries()) {
          expect(found[i]?.entry.mtime).toBe(Math.floor(one.mtime));
          expect(found[i]?.entry.mtimeNsec).toBe(one.mtime % 1 === 0 ? 0 : 500_000_000);
          expect(found[i]?.entry.xattrs?.get('user.x')?.toString('hex')).toBe(
            one.xattr === undefined ? undefined : Buffer.from(one.xattr).toString('hex'),
          );
        }
      }),
      { numRuns: 200 },
    );
  });

  test('GNU long names and links beat the short ones and pax', () => {
    const long = 'n'.repeat(300);
    const tar = archive(
      extended('L', `${long}\0`),
      extended('K', 'target\0'),
      pax({ path: 'other' }),
      raw({ type: '2', name: 'short' }),
    );
    expect(read(tar)[0]?.entry).toMatchObject({ name: long, linkName: 'target', type: 'symlink' });
  });

  test('ustar prefixes are put in front, GNU’s use of that place is not', () => {
    const prefixed = raw({ type: '0', name: 'f', edit: (block) => block.write('some/dir', 345, 'latin1') });
    expect(read(archive(prefixed))[0]?.entry.name).toBe('some/dir/f');
    const gnu = raw({
      type: '0',
      name: 'f',
      edit: (block) => block.write('ustar  \0', 257, 'latin1') && block.write('12345', 345, 'latin1'),
    });
    expect(read(archive(gnu))[0]?.entry.name).toBe('f');
  });

  test('v7 archives: no magic, a directory by its slash', () => {
    const v7 = (at: string): Buffer =>
      raw({ type: '\0', name: at, edit: (block) => block.fill(0, 257, 345) });
    expect(read(archive(v7('d/'), v7('f'))).map(({ entry }) => entry.type)).toEqual(['directory', 'file']);
  });

  test('pax numbers beat the header’s', () => {
    const tar = archive(
      pax({ size: '3', uid: '4294967294', gid: '70000', mtime: '1.25' }),
      raw({ type: '0', size: 0 }),
      Buffer.from('abc'),
      padding(3),
    );
    expect(read(tar)[0]).toMatchObject({
      content: 'abc',
      entry: { size: 3, uid: 4_294_967_294, gid: 70_000, mtime: 1, mtimeNsec: 250_000_000 },
    });
  });

  test('a pax value that is taken back leaves the header’s', () => {
    expect(read(archive(pax({ path: '' }), file('x', 'y')))[0]?.entry.name).toBe('x');
  });

  test('global headers are passed over', () => {
    expect(read(archive(extended('g', paxRecord('path', 'evil')), file('x', 'y')))[0]?.entry.name).toBe('x');
  });

  test('what is no file has no data, whatever its size says (as Go reads it)', () => {
    const tar = archive(raw({ type: '1', size: 512, link: 'y' }), file('after', 'z'));
    expect(read(tar).map(({ entry }) => entry.name)).toEqual(['x', 'after']);
  });

  test('names keep bytes that are not UTF-8', () => {
    const header = raw({ type: '0', edit: (block) => block.write('\xff\xfe', 0, 'latin1') });
    expect(read(archive(header))[0]?.entry.name).toBe('\xff\xfe');
  });

  test('the end: two zero blocks, one, or none; what follows does not count', () => {
    const one = file('a', 'b');
    expect(read(Buffer.concat([one, tarEnd, Buffer.from('garbage'.repeat(100))]))).toHaveLength(1);
    expect(read(Buffer.concat([one, Buffer.alloc(512)]))).toHaveLength(1);
    expect(read(one)).toHaveLength(1);
    expect(read(one.subarray(0, 513))).toHaveLength(1); // the last padding left out
    expect(read(Buffer.alloc(0))).toHaveLength(0);
  });

  test.each<[string, Buffer, RegExp]>([
    ['a wrong checksum', Buffer.concat([file('a', 'b').fill(0x41, 0, 1).fill(0x42, 1, 2)]), /wrong checksum/],
    ['a header after the end mark', Buffer.concat([Buffer.alloc(512), file('a', 'b')]), /after the end mark/],
    [
      'an archive cut off in a file',
      file('a', 'b'.repeat(600)).subarray(0, 700),
      /in the middle of an entry/,
    ],
    ['an archive cut off in a header', file('a', 'b').subarray(0, 100), /in the middle of an entry/],
    ['an archive that ends after an extension', pax({ path: 'x' }), /in the middle of an entry/],
    ['an unknown type', archive(raw({ type: 'Q' })), /unknown type "Q"/],
    ['a multi-volume part', archive(raw({ type: 'M' })), /unknown type "M"/],
    ['a pax header of 2 MiB', raw({ type: 'x', size: 2 << 20 }), /2097152 bytes, more than 1048576/],
    ['a long name of 10 GiB', raw({ type: 'L', size: 0o77777777777 }), /more than 1048576/],
    [
      'a hundred extension headers',
      Buffer.concat(Array(100).fill(pax({ comment: 'x' }))),
      /more than 32 extension headers/,
    ],
    [
      'a negative size',
      raw({ type: '0', edit: (block) => block.fill(0xff, 124, 136) }),
      /a size is negative/,
    ],
    [
      'a size of 2^90',
      raw({ type: '0', edit: (block) => block.fill(0x7f, 125, 136).fill(0x80, 124, 125) }),
      /out of range/,
    ],
    [
      'a size in words',
      raw({ type: '0', edit: (block) => block.write('many', 124, 'latin1') }),
      /a size is no number/,
    ],
  ])('refuses %s', (_name, tar, reason) => {
    expect(code(() => read(tar))).toMatch(/^LAYER_INVALID: cannot read the tar stream: /);
    expect(code(() => read(tar))).toMatch(reason);
  });

  test('anything at all: an answer or an error of its own', () => {
    const bytes = fc.uint8Array({ maxLength: 1600 }).map((data) => Buffer.from(data));
    const almost = fc
      .tuple(fc.integer({ min: 0, max: 511 }), fc.integer({ min: 0, max: 255 }))
      .map(([at, value]) => {
        const tar = archive(pax({ path: 'a', 'GNU.sparse.major': '1' }), file('b', 'c'.repeat(700)));
        tar[at + 1024] = value;
        return Buffer.concat([checksummed(Buffer.from(tar.subarray(1024, 1536))), tar.subarray(1536)]);
      });
    fc.assert(
      fc.property(fc.oneof(bytes, almost), fc.integer({ min: 1, max: 600 }), (data, step) => {
        expect(code(() => read(data, step))).toMatch(/^(accepted|LAYER_INVALID)/);
      }),
      { numRuns: 500 },
    );
  });
});

describe('sparse files', () => {
  const pieces = (tar: Buffer, step?: number): unknown => {
    const [first] = read(tar, step);
    return [first?.entry.name, first?.entry.size, first?.pieces];
  };
  const data = Buffer.from(`${'A'.repeat(10)}${'B'.repeat(5)}`);
  const expected = [
    'big',
    1000,
    [
      [100, 'A'.repeat(10)],
      [500, 'B'.repeat(5)],
    ],
  ];

  test('old GNU', () => {
    const header = raw({
      type: 'S',
      name: 'big',
      size: 15,
      edit(block) {
        block.write('ustar  \0', 257, 'latin1');
        ['100', '10', '500', '5'].forEach((n, i) =>
          block.write(Number(n).toString(8).padStart(11, '0'), 386 + i * 12, 'latin1'),
        );
        block.write((1000).toString(8).padStart(11, '0'), 483, 'latin1');
      },
    });
    expect(pieces(archive(header, data, padding(15)), 7)).toEqual(expected);
  });

  test('old GNU with an extension block', () => {
    const octal = (n: number): string => n.toString(8).padStart(11, '0');
    const header = raw({
      type: 'S',
      name: 'big',
      size: 6,
      edit(block) {
        block.write('ustar  \0', 257, 'latin1');
        for (let i = 0; i < 4; i += 1) block.write(`${octal(i * 10)}\0${octal(1)}`, 386 + i * 24, 'latin1');
        block[482] = 1;
        block.write(octal(100), 483, 'latin1');
      },
    });
    const extension = Buffer.alloc(512);
    for (let i = 0; i < 2; i += 1) extension.write(`${octal(40 + i * 10)}\0${octal(1)}`, i * 24, 'latin1');
    expect(pieces(archive(header, extension, Buffer.from('abcdef'), padding(6)), 100)).toEqual([
      'big',
      100,
      [
        [0, 'a'],
        [10, 'b'],
        [20, 'c'],
        [30, 'd'],
        [40, 'e'],
        [50, 'f'],
      ],
    ]);
  });

  test('pax 0.0', () => {
    const records = [
      ['GNU.sparse.size', '1000'],
      ['GNU.sparse.offset', '100'],
      ['GNU.sparse.numbytes', '10'],
      ['GNU.sparse.offset', '500'],
      ['GNU.sparse.numbytes', '5'],
    ];
    const header = extended('x', records.map(([key, value]) => paxRecord(key!, value!)).join(''));
    expect(pieces(archive(header, raw({ type: '0', name: 'big', size: 15 }), data, padding(15)))).toEqual(
      expected,
    );
  });

  test('pax 0.1', () => {
    const header = pax({
      'GNU.sparse.size': '1000',
      'GNU.sparse.map': '100,10,500,5',
      'GNU.sparse.name': 'big',
    });
    expect(
      pieces(archive(header, raw({ type: '0', name: 'GNUSparse.1/big', size: 15 }), data, padding(15))),
    ).toEqual(expected);
  });

  test('pax 1.0', () => {
    const map = Buffer.alloc(512);
    map.write('2\n100\n10\n500\n5\n');
    const header = pax({
      'GNU.sparse.major': '1',
      'GNU.sparse.minor': '0',
      'GNU.sparse.name': 'big',
      'GNU.sparse.realsize': '1000',
    });
    const tar = archive(header, raw({ type: '0', name: 'x', size: 512 + 15 }), map, data, padding(15));
    expect(pieces(tar)).toEqual(expected);
    expect(pieces(tar, 3)).toEqual(expected);
  });

  test('nothing but a hole', () => {
    const header = pax({ 'GNU.sparse.size': '1000', 'GNU.sparse.map': '1000,0', 'GNU.sparse.name': 'big' });
    expect(pieces(archive(header, raw({ type: '0', size: 0 })))).toEqual(['big', 1000, []]);
  });

  const v1 = (body: string, size = 512): Buffer =>
    archive(
      pax({ 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '1000' }),
      raw({ type: '0', size }),
      Buffer.from(body.padEnd(512, '\0')),
    );
  const v01 = (map: string, size = 15): Buffer =>
    archive(
      pax({ 'GNU.sparse.size': '1000', 'GNU.sparse.map': map }),
      raw({ type: '0', size }),
      Buffer.alloc(512),
    );
  test.each<[string, Buffer, RegExp]>([
    ['parts out of order', v01('500,5,100,10'), /out of order/],
    ['overlapping parts', v01('100,10,105,5'), /out of order/],
    ['a part past the end', v01('990,15'), /past the end/],
    ['a map that does not fit the data', v01('100,10'), /describes 10 bytes but 15 follow/],
    ['an odd map', v01('100'), /malformed/],
    ['a map in words', v01('a,b'), /malformed/],
    ['no size', archive(pax({ 'GNU.sparse.map': '0,1' }), raw({ type: '0', size: 1 })), /has no size/],
    ['a map of more parts than allowed', v1(`${maxSparseParts + 1}\n`), /65537 parts, more than 65536/],
    ['a map longer than the entry', v1('100\n'), /longer than its entry/],
    ['a map without lines', v1('9'.repeat(512)), /malformed/],
  ])('refuses %s', (_name, tar, reason) => {
    expect(code(() => read(tar))).toMatch(/^LAYER_INVALID/);
    expect(code(() => read(tar))).toMatch(reason);
  });

  test('a map of the largest size is read in time', () => {
    const lines = Array.from({ length: maxSparseParts }, (_, i) => `${i * 2}\n1\n`).join('');
    const map = Buffer.from(`${maxSparseParts}\n${lines}`);
    const header = pax({
      'GNU.sparse.major': '1',
      'GNU.sparse.minor': '0',
      'GNU.sparse.realsize': String(maxSparseParts * 2),
    });
    const whole = map.length + padding(map.length).length;
    const tar = archive(
      header,
      raw({ type: '0', size: whole + maxSparseParts }),
      map,
      padding(map.length),
      Buffer.alloc(maxSparseParts, 0x41),
    );
    const start = performance.now();
    expect(read(tar)[0]?.pieces).toHaveLength(maxSparseParts);
    expect(performance.now() - start).toBeLessThan(2000);
  });
});

describe('pax records', () => {
  test.each<[string, object]>([
    [paxRecord('mtime', '-1.25'), { mtime: { seconds: -2, nanoseconds: 750_000_000 } }],
    [paxRecord('mtime', '5'), { mtime: { seconds: 5, nanoseconds: 0 } }],
    [paxRecord('mtime', '5.1234567899'), { mtime: { seconds: 5, nanoseconds: 123_456_789 } }],
    [`${paxRecord('path', 'a')}${paxRecord('path', 'b')}`, { path: 'b' }],
    [paxRecord('path', 'with=equals'), { path: 'with=equals' }],
    [paxRecord('SCHILY.xattr.user.a', '\0\n='), { xattrs: new Map([['user.a', Buffer.from('\0\n=')]]) }],
  ])('%j', (body, expected) => {
    expect(parsePax(Buffer.from(body))).toEqual(expected);
  });

  test.each([
    'x',
    '5 a=b',
    '99 a=b\n',
    '6 a=b\nx',
    '4 =\n',
    '-5 a=b\n',
    '0 a=b\n',
    paxRecord('path', 'a\0b'),
    paxRecord('size', '-1'),
    paxRecord('uid', '1e3'),
    paxRecord('mtime', 'now'),
  ])('refuses %j', (body) => {
    expect(code(() => parsePax(Buffer.from(body)))).toMatch(/^LAYER_INVALID/);
  });
});

describe('numbers', () => {
  const of = (bytes: Buffer): number =>
    parseNumber(Buffer.concat([bytes, Buffer.alloc(12 - bytes.length)]), 0, 12, 'number');
  test.each<[string, Buffer, number]>([
    ['octal', Buffer.from('644 \0'), 0o644],
    ['leading blanks', Buffer.from('  644'), 0o644],
    ['nothing', Buffer.alloc(0), 0],
    ['base 256', Buffer.from([0x80, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0]), 2 ** 33],
    ['negative base 256', Buffer.from(Array(12).fill(0xff)), -1],
  ])('%s', (_name, bytes, value) => {
    expect(of(bytes)).toBe(value);
  });
});

test('signed checksums of old programs are taken', () => {
  const block = raw({ type: '0', edit: (at) => at.write('\xe9', 0, 'latin1') });
  const signed = block.fill(0x20, 148, 156).reduce((sum, byte) => sum + ((byte << 24) >> 24), 0);
  block.write(`${signed.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  expect(parseHeader(block, 0)?.name).toBe('\xe9');
});
