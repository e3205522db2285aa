/**
 * What the dynamic linker would need of an ELF file (elf(5)): its interpreter and libraries. Reads 32 and 64 bit,
 * both byte orders; nothing is executed, so a program for another machine can be packed too. Pure over `read`.
 */
import { NodeletError } from '../../base/index.ts';

export interface ElfFile {
  readonly bits: 32 | 64;
  /** e_machine: 62 x86-64, 183 AArch64. */
  readonly machine: number;
  readonly littleEndian: boolean;
  /** PT_INTERP: the dynamic linker of a program. */
  readonly interpreter: string | undefined;
  /** DT_NEEDED, in order. */
  readonly needed: readonly string[];
  readonly rpath: readonly string[];
  readonly runpath: readonly string[];
}

/** Reads up to `length` bytes at `offset`; fewer at the end of the file. */
export type ReadAt = (offset: number, length: number) => Buffer;

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const DT_NULL = 0;
const DT_NEEDED = 1;
const DT_STRTAB = 5;
const DT_STRSZ = 10;
const DT_RPATH = 15;
const DT_RUNPATH = 29;

/** Bounds on what a header can make us read. */
const maxSegments = 1024;
const maxDynamic = 1024 * 1024;
const maxStrings = 16 * 1024 * 1024;

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly fileSize: number;
}

export function isElf(head: Uint8Array): boolean {
  return head[0] === 0x7f && head[1] === 0x45 && head[2] === 0x4c && head[3] === 0x46;
}

/** Throws ELF_INVALID. */
export function parseElf(read: ReadAt, name: string): ElfFile {
  const fail = (reason: string): NodeletError =>
    new NodeletError('ELF_INVALID', `cannot read "${name}": ${reason}`);
  const head = read(0, 64);
  if (head.length < 52 || !isElf(head)) throw fail('it is no ELF file');
  const bits = head[4] === 2 ? 64 : 32;
  const littleEndian = head[5] === 1;
  if ((head[4] !== 1 && head[4] !== 2) || (head[5] !== 1 && head[5] !== 2))
    throw fail('its ELF header is damaged');
  const wide = bits === 64;
  if (wide && head.length < 64) throw fail('its ELF header is cut off');
  const u16 = (b: Buffer, at: number): number => (littleEndian ? b.readUInt16LE(at) : b.readUInt16BE(at));
  const u32 = (b: Buffer, at: number): number => (littleEndian ? b.readUInt32LE(at) : b.readUInt32BE(at));
  const word = (b: Buffer, at: number): number => {
    if (!wide) return u32(b, at);
    const value = littleEndian ? b.readBigUInt64LE(at) : b.readBigUInt64BE(at);
    return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.POSITIVE_INFINITY : Number(value);
  };
  const exactly = (offset: number, length: number, what: string): Buffer => {
    if (!Number.isSafeInteger(offset + length)) throw fail(`its ${what} is out of range`);
    const bytes = read(offset, length);
    if (bytes.length < length) throw fail(`its ${what} is cut off`);
    return bytes;
  };

  const entrySize = u16(head, wide ? 54 : 42);
  const count = u16(head, wide ? 56 : 44);
  if (count > maxSegments || (count > 0 && entrySize < (wide ? 56 : 32)))
    throw fail('its program headers are damaged');
  const table = exactly(word(head, wide ? 32 : 28), count * entrySize, 'program header table');
  const segments: Segment[] = [];
  for (let i = 0; i < count; i += 1) {
    const at = i * entrySize;
    segments.push({
      type: u32(table, at),
      offset: word(table, at + (wide ? 8 : 4)),
      address: word(table, at + (wide ? 16 : 8)),
      fileSize: word(table, at + (wide ? 32 : 16)),
    });
  }

  const interp = segments.find((segment) => segment.type === PT_INTERP);
  let interpreter: string | undefined;
  if (interp !== undefined) {
    if (interp.fileSize > 4096) throw fail('the name of its interpreter is too long');
    interpreter = cString(exactly(interp.offset, interp.fileSize, 'interpreter'), 0);
  }
  const base = { bits, machine: u16(head, 18), littleEndian, interpreter } as const;
  const dynamic = segments.find((segment) => segment.type === PT_DYNAMIC);
  if (dynamic === undefined) return { ...base, needed: [], rpath: [], runpath: [] };
  if (dynamic.fileSize > maxDynamic) throw fail('its dynamic section is too large');

  const entries = exactly(dynamic.offset, dynamic.fileSize, 'dynamic section');
  const step = wide ? 16 : 8;
  const tags: { tag: number; value: number }[] = [];
  for (let at = 0; at + step <= entries.length; at += step) {
    const tag = word(entries, at);
    if (tag === DT_NULL) break;
    tags.push({ tag, value: word(entries, at + step / 2) });
  }
  const valueOf = (tag: number): number | undefined => tags.find((entry) => entry.tag === tag)?.value;
  const address = valueOf(DT_STRTAB);
  if (address === undefined) return { ...base, needed: [], rpath: [], runpath: [] };
  const size = valueOf(DT_STRSZ) ?? 0;
  if (size > maxStrings) throw fail('its string table is too large');
  // An address in memory: the segment that is loaded there says where in the file it is.
  const load = segments.find(
    (segment) =>
      segment.type === PT_LOAD && segment.address <= address && address < segment.address + segment.fileSize,
  );
  if (load === undefined) throw fail('its string table is in no segment');
  const strings = exactly(load.offset + (address - load.address), size, 'string table');
  const text = (offset: number): string => {
    if (offset >= strings.length) throw fail('a string is outside its string table');
    return cString(strings, offset);
  };
  const all = (tag: number): string[] =>
    tags.filter((entry) => entry.tag === tag).map((entry) => text(entry.value));
  const paths = (tag: number): string[] =>
    all(tag).flatMap((value) => value.split(':').filter((path) => path !== ''));
  return { ...base, needed: all(DT_NEEDED), rpath: paths(DT_RPATH), runpath: paths(DT_RUNPATH) };
}

function cString(bytes: Buffer, at: number): string {
  const end = bytes.indexOf(0, at);
  return bytes.toString('utf8', at, end < 0 ? bytes.length : end);
}
