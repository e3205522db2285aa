/** The end of a log file, found by reading it backwards. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { parseLogLine } from './line.ts';

const BLOCK = 64 * 1024;
const NEWLINE = 0x0a;

interface BackwardEntry {
  readonly start: number;
  /** With its newline, where it has one. */
  readonly line: Buffer;
}

/** The entries of a file from the last to the first. */
function* entriesBackward(fd: number, size: number): Generator<BackwardEntry> {
  let from = size;
  let buffer = Buffer.alloc(0);
  let end = size;
  // The newline before the entry that ends at `end`, whose own newline is its last byte; -1 where none is in the buffer.
  const newlineBefore = () => (end - from < 2 ? -1 : buffer.lastIndexOf(NEWLINE, end - from - 2));
  while (end > 0) {
    let newline = newlineBefore();
    while (newline < 0 && from > 0) {
      const block = Buffer.alloc(Math.min(BLOCK, from));
      readFully(fd, block, from - block.length);
      buffer = Buffer.concat([block, buffer.subarray(0, end - from)]);
      from -= block.length;
      newline = newlineBefore();
    }
    const start = from + newline + 1;
    yield { start, line: buffer.subarray(start - from, end - from) };
    end = start;
  }
}

/**
 * The offset at which the last `lines` lines begin. Entries that are parts of one line count once; an entry at the end of
 * the file that is still being written counts as a line.
 */
export function tailOffset(fd: number, size: number, lines: number): number {
  let offset = size;
  let count = 0;
  for (const { start, line } of entriesBackward(fd, size)) {
    const text = line.at(-1) === NEWLINE ? line.subarray(0, -1) : line;
    const endsLine = offset === size || parseLogLine(text)?.partial !== true;
    if (endsLine) count += 1;
    if (count > lines) return offset;
    offset = start;
  }
  return 0;
}

function readFully(fd: number, buffer: Buffer, position: number): void {
  let done = 0;
  while (done < buffer.length) {
    const length = readSync(fd, buffer, done, buffer.length - done, position + done);
    if (length === 0) return;
    done += length;
  }
}

/** The text of the last lines of a container's log, at most `maxBytes` from its end; empty where there is no log. */
export function lastLogText(path: string, lines: number, maxBytes: number): string {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch {
    return '';
  }
  try {
    const { size } = fstatSync(fd);
    const from = Math.max(tailOffset(fd, size, lines), size - 32 * maxBytes);
    const buffer = Buffer.alloc(size - from);
    readFully(fd, buffer, from);
    const parts: Buffer[] = [];
    for (let at = 0; at < buffer.length; ) {
      const newline = buffer.indexOf(NEWLINE, at);
      const end = newline < 0 ? buffer.length : newline;
      const entry = parseLogLine(buffer.subarray(at, end));
      if (entry !== undefined) parts.push(entry.text, entry.partial ? Buffer.alloc(0) : Buffer.from('\n'));
      at = end + 1;
    }
    return Buffer.concat(parts).subarray(-maxBytes).toString();
  } finally {
    closeSync(fd);
  }
}
