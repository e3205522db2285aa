/**
 * A tar stream pushed in pieces of any size, entries and their data pulled out without copying. tar-stream was
 * weighed and left: it knows neither sparse files nor names that are not UTF-8, and its stream for each entry costs
 * more than the file's system calls (570 against 1,460 MiB/s of headers and data walked).
 *
 * Memory is bounded: a header's extra data to `maxMeta`, a sparse map to `maxSparseParts`, file data is never kept.
 */
import { BLOCK, cString, invalidTar, parseHeader, parseNumber, type RawHeader } from './header.ts';
import { type PaxRecords, parsePax } from './pax.ts';
import { checkSparse, maxSparseParts, parseSparseBlock, SparseMapReader, type SparsePart } from './sparse.ts';

export type TarType = 'file' | 'directory' | 'symlink' | 'hardlink' | 'char' | 'block' | 'fifo';

export interface TarEntry {
  readonly type: TarType;
  /** Bytes as latin1 text, as the archive has them. */
  readonly name: string;
  readonly linkName: string;
  /** Permission bits, set-id bits and sticky bit. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes of the file, holes included; 0 for what is no regular file. */
  readonly size: number;
  readonly mtime: number;
  readonly mtimeNsec: number;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly xattrs: ReadonlyMap<string, Buffer> | undefined;
}

export interface TarSink {
  entry(entry: TarEntry): void;
  /** A piece of the current file, which goes to byte `offset`; the memory is only lent. */
  data(chunk: Buffer, offset: number): void;
  /** The current entry is complete. */
  end(): void;
}

/** Most bytes of one pax header or long name (Go: maxSpecialFileSize). */
const maxMeta = 1024 * 1024;
/** Most extension headers before one entry. */
const maxMetaRun = 32;

const headerOnly: Readonly<Record<string, TarType>> = {
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'char',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
};

type State = 'header' | 'meta' | 'old-sparse' | 'sparse-map' | 'data' | 'padding' | 'end';

export class TarReader {
  readonly #sink: TarSink;
  #state: State = 'header';
  readonly #block = Buffer.alloc(BLOCK);
  #have = 0;
  #zeroBlock = false;
  /** Bytes of data (or of an extension header) that follow. */
  #left = 0;
  #padding = 0;

  #metaType = '';
  #meta: Buffer[] = [];
  #metaRun = 0;
  #pax: PaxRecords = {};
  #longName: string | undefined;
  #longLink: string | undefined;

  #entry: TarEntry | undefined;
  #parts: SparsePart[] = [];
  #mapReader: SparseMapReader | undefined;
  #part = 0;
  /** Logical position of the next data byte. */
  #position = 0;

  constructor(sink: TarSink) {
    this.#sink = sink;
  }

  write(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      switch (this.#state) {
        case 'header':
        case 'old-sparse':
        case 'sparse-map':
          at = this.#collect(chunk, at);
          break;
        case 'meta': {
          const size = Math.min(this.#left, chunk.length - at);
          this.#meta.push(Buffer.from(chunk.subarray(at, at + size)));
          at += size;
          this.#left -= size;
          if (this.#left === 0) this.#endMeta();
          break;
        }
        case 'data':
          at = this.#data(chunk, at);
          break;
        case 'padding': {
          const size = Math.min(this.#padding, chunk.length - at);
          at += size;
          this.#padding -= size;
          if (this.#padding === 0) this.#state = 'header';
          break;
        }
        case 'end':
          return; // what follows the end mark is not looked at
      }
    }
  }

  /** Says that nothing follows. Throws LAYER_INVALID where the archive is cut off. */
  finish(): void {
    if (this.#state === 'end') return;
    // Padding after the last file is often left out, and so are the two zero blocks.
    if (this.#state !== 'padding' && (this.#state !== 'header' || this.#have > 0 || this.#metaRun > 0)) {
      throw invalidTar('it ends in the middle of an entry');
    }
    this.#state = 'end';
  }

  /** Gathers one block, without copying where the chunk holds all of it. */
  #collect(chunk: Buffer, at: number): number {
    if (this.#have === 0 && chunk.length - at >= BLOCK) {
      this.#take(chunk, at);
      return at + BLOCK;
    }
    const size = Math.min(BLOCK - this.#have, chunk.length - at);
    chunk.copy(this.#block, this.#have, at, at + size);
    this.#have += size;
    if (this.#have === BLOCK) {
      this.#have = 0;
      this.#take(this.#block, 0);
    }
    return at + size;
  }

  #take(block: Buffer, at: number): void {
    if (this.#state === 'old-sparse') {
      this.#parts.push(...parseSparseBlock(block, at, 21));
      if (this.#parts.length > maxSparseParts)
        throw invalidTar(`a sparse file has more than ${maxSparseParts} parts`);
      if (block[at + 504] === 0) this.#beginSparse();
    } else if (this.#state === 'sparse-map') {
      this.#left -= BLOCK;
      if (this.#left < 0) throw invalidTar('a sparse map is longer than its entry');
      const parts = this.#mapReader?.push(block, at);
      if (parts === undefined) return;
      this.#parts = parts;
      this.#beginSparse();
    } else {
      this.#header(block, at);
    }
  }

  #header(block: Buffer, at: number): void {
    const raw = parseHeader(block, at);
    if (raw === undefined) {
      if (this.#metaRun > 0) throw invalidTar('it ends after an extension header');
      if (this.#zeroBlock) this.#state = 'end';
      this.#zeroBlock = true;
      return;
    }
    if (this.#zeroBlock) throw invalidTar('there is a header after the end mark');
    switch (raw.type) {
      case 'x':
      case 'X':
      case 'g':
      case 'L':
      case 'K':
        this.#beginMeta(raw);
        return;
      case 'V': // a volume label: no file
        this.#left = raw.size;
        this.#setPadding(raw.size);
        this.#entry = undefined;
        this.#enterData();
        return;
      default:
        this.#begin(raw, block, at);
    }
  }

  #beginMeta(raw: RawHeader): void {
    this.#metaRun += 1;
    if (raw.size > maxMeta)
      throw invalidTar(`an extension header has ${raw.size} bytes, more than ${maxMeta}`);
    if (this.#metaRun > maxMetaRun)
      throw invalidTar(`there are more than ${maxMetaRun} extension headers in a row`);
    this.#metaType = raw.type;
    this.#meta = [];
    this.#left = raw.size;
    this.#setPadding(raw.size);
    this.#state = 'meta';
    if (raw.size === 0) this.#endMeta();
  }

  #endMeta(): void {
    const body = Buffer.concat(this.#meta);
    this.#meta = [];
    switch (this.#metaType) {
      case 'L':
        this.#longName = cString(body, 0, body.length);
        break;
      case 'K':
        this.#longLink = cString(body, 0, body.length);
        break;
      case 'g':
        // Defaults for all that follows; git writes its commit there. No tool that makes layers uses them, and none
        // that unpacks layers obeys them.
        this.#metaRun -= 1;
        break;
      default:
        this.#pax = parsePax(body);
    }
    this.#state = this.#padding > 0 ? 'padding' : 'header';
  }

  #begin(raw: RawHeader, block: Buffer, at: number): void {
    const pax = this.#pax;
    const sparse = pax.sparse;
    const name = this.#longName ?? sparse?.name ?? pax.path ?? raw.name;
    const linkName = this.#longLink ?? pax.linkPath ?? raw.linkName;
    const dataSize = pax.size ?? raw.size;
    this.#pax = {};
    this.#longName = undefined;
    this.#longLink = undefined;
    this.#metaRun = 0;
    const type = typeOf(raw.type, name);
    if (type === undefined) throw invalidTar(`an entry is of the unknown type ${JSON.stringify(raw.type)}`);
    const isFile = type === 'file';
    const oldSparse = raw.type === 'S';
    const entry: TarEntry = {
      type,
      name,
      linkName,
      mode: raw.mode,
      uid: pax.uid ?? raw.uid,
      gid: pax.gid ?? raw.gid,
      size: oldSparse
        ? parseNumber(block, at + 483, 12, 'size')
        : isFile
          ? (sparse?.realSize ?? dataSize)
          : 0,
      mtime: pax.mtime?.seconds ?? raw.mtime,
      mtimeNsec: pax.mtime?.nanoseconds ?? 0,
      devMajor: raw.devMajor,
      devMinor: raw.devMinor,
      xattrs: pax.xattrs,
    };
    this.#entry = entry;
    this.#parts = [];
    this.#part = 0;
    this.#position = 0;
    // What is no file has no data, whatever its size field says.
    this.#left = isFile ? dataSize : 0;
    this.#setPadding(this.#left);
    if (oldSparse) {
      this.#parts = parseSparseBlock(block, at + 386, 4);
      if (block[at + 482] !== 0) {
        this.#state = 'old-sparse';
        return;
      }
      this.#beginSparse();
    } else if (isFile && sparse !== undefined) {
      if (sparse.map === undefined) {
        this.#mapReader = new SparseMapReader();
        this.#state = 'sparse-map';
        return;
      }
      this.#parts = [...sparse.map];
      this.#beginSparse();
    } else {
      if (this.#left > 0) this.#parts = [{ offset: 0, length: this.#left }];
      this.#announce(entry);
    }
  }

  /** The map is known: check it, and begin with the data. */
  #beginSparse(): void {
    const entry = this.#entry;
    if (entry === undefined) throw invalidTar('a sparse map belongs to no entry');
    this.#mapReader = undefined;
    checkSparse(this.#parts, entry.size, this.#left);
    this.#parts = this.#parts.filter((part) => part.length > 0);
    this.#announce(entry);
  }

  #announce(entry: TarEntry): void {
    this.#sink.entry(entry);
    this.#position = this.#parts[0]?.offset ?? 0;
    this.#enterData();
  }

  #enterData(): void {
    this.#state = 'data';
    if (this.#left === 0) this.#endEntry();
  }

  #data(chunk: Buffer, at: number): number {
    if (this.#entry === undefined) {
      const skipped = Math.min(this.#left, chunk.length - at);
      this.#left -= skipped;
      if (this.#left === 0) this.#endEntry();
      return at + skipped;
    }
    const part = this.#parts[this.#part];
    if (part === undefined) throw invalidTar('an entry has more data than its map');
    const size = Math.min(part.offset + part.length - this.#position, chunk.length - at);
    this.#sink.data(chunk.subarray(at, at + size), this.#position);
    this.#position += size;
    this.#left -= size;
    if (this.#position === part.offset + part.length) {
      this.#part += 1;
      this.#position = this.#parts[this.#part]?.offset ?? this.#position;
    }
    if (this.#left === 0) this.#endEntry();
    return at + size;
  }

  #endEntry(): void {
    if (this.#entry !== undefined) this.#sink.end();
    this.#entry = undefined;
    this.#state = this.#padding > 0 ? 'padding' : 'header';
  }

  #setPadding(size: number): void {
    this.#padding = (BLOCK - (size % BLOCK)) % BLOCK;
  }
}

function typeOf(type: string, name: string): TarType | undefined {
  switch (type) {
    case '\0':
      // v7 had no directories: a name that ends in a slash is one
      return name.endsWith('/') ? 'directory' : 'file';
    case '0':
    case '7':
    case 'S':
      return 'file';
    default:
      return Object.hasOwn(headerOnly, type) ? headerOnly[type] : undefined;
  }
}
