/**
 * The file of a blob that is not complete. Pieces of it may arrive in any order; the reader is told of what is there
 * from the start without a gap. Which pieces there are survives the death of the process:
 *
 * - bytes that arrived in order are the file, up to its length;
 * - as soon as there is a gap, a note of the pieces stands behind the place of the last byte (at `size`), written after
 *   the bytes that it speaks of. It goes before the blob is published.
 *
 * After a power cut the note may speak of bytes that never reached the disk: the digest finds that, and the blob is
 * fetched again.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { codeOf, failpoint, messageOf, NodeletError } from '../../base/index.ts';
import { diskFull, isNoRoom } from '../unpack/disk.ts';
import { addRange, bytesOf, missingRanges, prefixOf, type Range, readRanges } from './ranges.ts';

/** A blob that may still be arriving. */
export interface BlobSource {
  readonly path: string;
  readonly digest: string;
  readonly size: number;
  /** Bytes that are there. */
  readonly available: number;
  /** Calls back whenever there are more; at once with what there is. */
  onGrow(listener: (available: number) => void): void;
}

/** Fills a partial blob; see registry/download.ts. */
export interface BlobTarget {
  /** Bytes from the start on without a gap. */
  readonly offset: number;
  /** All bytes that are there. */
  readonly received: number;
  /** What is not there, in order. */
  missing(): readonly Range[];
  /** Rejects with a `NodeletError` only: anything else is taken for a failure of the network. */
  write(at: number, chunks: readonly Buffer[]): Promise<void>;
}

/** A note of this many bytes holds every piece that parallel transfers can leave; more are forgotten, the last first. */
const noteSize = 4096;

export class Partial implements BlobSource, BlobTarget {
  readonly path: string;
  readonly digest: string;
  readonly size: number;
  readonly #file: FileHandle;
  #ranges: readonly Range[];
  /** True once the file has a note. */
  #noted: boolean;
  #noting: Promise<void> | undefined;
  #noteAgain = false;
  #listener: ((available: number) => void) | undefined;

  private constructor(path: string, digest: string, size: number, file: FileHandle, found: Found) {
    this.path = path;
    this.digest = digest;
    this.size = size;
    this.#file = file;
    this.#ranges = found.ranges;
    this.#noted = found.noted;
  }

  /** Opens the file, which exists (it is locked), and reads what there is of the blob. */
  static async open(path: string, digest: string, size: number): Promise<Partial> {
    const file = await open(path, 'r+');
    try {
      const found = await readState(file, size);
      if (found.ranges.length === 0) await file.truncate(0);
      return new Partial(path, digest, size, file, found);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  get offset(): number {
    return prefixOf(this.#ranges);
  }

  get available(): number {
    return this.offset;
  }

  get received(): number {
    return bytesOf(this.#ranges);
  }

  missing(): readonly Range[] {
    return missingRanges(this.#ranges, this.size);
  }

  onGrow(listener: (available: number) => void): void {
    this.#listener = listener;
    listener(this.offset);
  }

  async write(at: number, chunks: readonly Buffer[]): Promise<void> {
    let rest = [...chunks];
    let position = at;
    try {
      while (rest.length > 0) {
        const { bytesWritten } = await this.#file.writev(rest, position);
        const before = this.offset;
        this.#ranges = addRange(this.#ranges, position, position + bytesWritten);
        position += bytesWritten;
        rest = withoutFirst(rest, bytesWritten);
        if (this.#noted || this.#ranges.length > 1 || (this.#ranges[0]?.[0] ?? 0) > 0) this.#note();
        if (this.offset > before) this.#listener?.(this.offset);
      }
    } catch (error) {
      throw writeError(this.path, error);
    }
    failpoint('blob:after-write');
  }

  /** Writes the note, soon: one at a time, the newest state last. Its failure shows when the file is closed. */
  #note(): void {
    this.#noted = true;
    if (this.#noting !== undefined) {
      this.#noteAgain = true;
      return;
    }
    const write = async (): Promise<void> => {
      do {
        this.#noteAgain = false;
        await this.#file.write(noteOf(this.#ranges, this.size), 0, noteSize, this.size);
      } while (this.#noteAgain);
      this.#noting = undefined;
    };
    this.#noting = write();
    this.#noting.catch(() => {});
  }

  /** Takes the note off and puts everything on the disk: the file is the blob. */
  async finish(): Promise<void> {
    try {
      await this.#noting;
      if (this.#noted) await this.#file.truncate(this.size);
      this.#noted = false;
      await this.#file.sync();
    } catch (error) {
      throw writeError(this.path, error);
    }
  }

  async close(): Promise<void> {
    this.#listener = undefined;
    // On a full disk there is no note: the pieces are fetched again then.
    await this.#noting?.catch(() => {});
    await this.#file.close();
  }
}

interface Found {
  readonly ranges: readonly Range[];
  readonly noted: boolean;
}

async function readState(file: FileHandle, size: number): Promise<Found> {
  const nothing: Found = { ranges: [], noted: false };
  const { size: found } = await file.stat();
  if (found <= size) return found === 0 ? nothing : { ranges: [[0, found]], noted: false };
  if (found !== size + noteSize) return nothing;
  const note = Buffer.alloc(noteSize);
  await file.read(note, 0, noteSize, size);
  return { ranges: parseNote(note, size) ?? [], noted: true };
}

/** JSON and blanks, `noteSize` bytes. */
export function noteOf(ranges: readonly Range[], size: number): Buffer {
  let kept = ranges;
  for (;;) {
    const text = JSON.stringify({ size, ranges: kept });
    if (text.length <= noteSize) return Buffer.from(text.padEnd(noteSize));
    kept = kept.slice(0, Math.floor(kept.length / 2));
  }
}

/** Undefined where it is no note about a blob of this size. */
export function parseNote(note: Buffer, size: number): readonly Range[] | undefined {
  try {
    const parsed: unknown = JSON.parse(note.toString('latin1'));
    if (typeof parsed !== 'object' || parsed === null || !('ranges' in parsed) || !('size' in parsed))
      return undefined;
    return parsed.size === size ? readRanges(parsed.ranges, size) : undefined;
  } catch {
    return undefined;
  }
}

export function writeError(path: string, error: unknown): NodeletError {
  if (error instanceof NodeletError) return error;
  if (isNoRoom(codeOf(error))) return diskFull(path, 'store a blob', messageOf(error), error);
  return new NodeletError('STORE_WRITE_FAILED', `cannot write to "${path}": ${messageOf(error)}`, {
    cause: error,
  });
}

function withoutFirst(chunks: readonly Buffer[], bytes: number): Buffer[] {
  let left = bytes;
  const rest: Buffer[] = [];
  for (const chunk of chunks) {
    const cut = Math.min(left, chunk.length);
    left -= cut;
    if (cut < chunk.length) rest.push(chunk.subarray(cut));
  }
  return rest;
}
