/**
 * Reads a container's log file: the last lines of it, from a time on, and what is added while one looks. Nothing is polled:
 * the file's directory is watched, and a rotation shows as another file under the name.
 */
import { type FSWatcher, fstatSync, read, watch } from 'node:fs';
import { dirname, relative } from 'node:path';
import { promisify } from 'node:util';
import { NodeletError } from '../../base/index.ts';
import { AT_FDCWD, O, RESOLVE } from '../../linux/constants.ts';
import { Fd } from '../../linux/fd.ts';
import { native } from '../../linux/native.ts';
import { SyscallError } from '../../linux/syscall-error.ts';
import { nanosOf, parseLogLine } from './line.ts';
import { tailOffset } from './tail.ts';

export interface LogOptions {
  /** Goes on until `ended` fires (and what was written by then is read) or the reader is given up. */
  readonly follow?: boolean;
  /** The last lines only. */
  readonly tailLines?: number;
  /** RFC 3339; entries before it are left out. */
  readonly sinceTime?: string;
  readonly sinceSeconds?: number;
  /** Each line begins with its time. */
  readonly timestamps?: boolean;
  /** Bytes, after which it stops, in the middle of a line if need be. */
  readonly limitBytes?: number;
  /** Both where it is undefined. */
  readonly stream?: 'stdout' | 'stderr';
}

export interface LogChunk {
  readonly stream: 'stdout' | 'stderr';
  readonly data: Buffer;
}

export interface LogSource {
  /** `<pod logs>`: the path below it is followed without any link, for a container may have written there. */
  readonly root: string;
  readonly path: string;
  /** Fires once the container has ended: no more will be written. */
  readonly ended?: AbortSignal;
}

const readAsync = promisify(read);
const BLOCK = 64 * 1024;
const NEWLINE = 0x0a;

/** Text of the log, the newline of each line included. Throws LOG_NOT_FOUND, LOG_UNSAFE. */
export async function* readLog(
  source: LogSource,
  options: LogOptions = {},
  signal?: AbortSignal,
): AsyncGenerator<LogChunk, void> {
  const filter = new LogFilter(options);
  if (options.limitBytes === 0) return;
  using watcher = options.follow
    ? new DirectoryWatch(dirname(source.path), [signal, source.ended])
    : undefined;
  let file = openLog(source);
  try {
    let position =
      options.tailLines === undefined ? 0 : tailOffset(file.number, sizeOf(file), options.tailLines);
    for (;;) {
      // Taken before reading: what comes after this moment wakes us again.
      const change = watcher?.next();
      const ended = source.ended?.aborted ?? false;
      for await (const entry of entriesFrom(file, position)) {
        position = entry.end;
        const chunk = filter.apply(entry.line);
        if (chunk !== undefined) yield chunk;
        if (filter.full || signal?.aborted) return;
      }
      const successor = change === undefined ? undefined : rotated(source, file);
      if (successor !== undefined) {
        // The old file may have got a last line between our reading and its renaming.
        for await (const entry of entriesFrom(file, position)) {
          const chunk = filter.apply(entry.line);
          if (chunk !== undefined) yield chunk;
          if (filter.full) {
            successor.close();
            return;
          }
        }
        file.close();
        file = successor;
        position = 0;
        continue;
      }
      if (change === undefined || ended || signal?.aborted) return;
      await change;
    }
  } finally {
    file.close();
  }
}

class LogFilter {
  readonly #options: LogOptions;
  readonly #since: bigint | undefined;
  #left: number;
  #atLineStart = { stdout: true, stderr: true };

  constructor(options: LogOptions) {
    this.#options = options;
    this.#left = options.limitBytes ?? Number.POSITIVE_INFINITY;
    this.#since =
      options.sinceSeconds === undefined
        ? options.sinceTime === undefined
          ? undefined
          : sinceNanos(options.sinceTime)
        : BigInt(Date.now() - options.sinceSeconds * 1000) * 1_000_000n;
  }

  get full(): boolean {
    return this.#left <= 0;
  }

  apply(line: Buffer): LogChunk | undefined {
    const entry = parseLogLine(line);
    if (entry === undefined) return undefined;
    const { stream } = entry;
    if (this.#options.stream !== undefined && stream !== this.#options.stream) return undefined;
    const begins = this.#atLineStart[stream];
    this.#atLineStart[stream] = !entry.partial;
    if (this.#since !== undefined && (nanosOf(entry.time) ?? 0n) < this.#since) return undefined;
    const parts = [entry.text];
    if (this.#options.timestamps && begins) parts.unshift(Buffer.from(`${entry.time} `));
    if (!entry.partial) parts.push(Buffer.from('\n'));
    const data = Buffer.concat(parts);
    const kept = data.length > this.#left ? data.subarray(0, this.#left) : data;
    this.#left -= kept.length;
    return { stream, data: kept };
  }
}

function sinceNanos(time: string): bigint {
  const nanos = nanosOf(time);
  if (nanos === undefined) {
    throw new NodeletError('INVALID_ARGUMENT', `cannot read the time ${JSON.stringify(time)}`, {
      hint: 'write it as in RFC 3339: 2006-01-02T15:04:05Z',
    });
  }
  return nanos;
}

/**
 * Complete lines from an offset on. A line without its newline is being written, or was cut by a crash of the machine: it
 * is left for the next time.
 */
async function* entriesFrom(
  file: Fd,
  offset: number,
): AsyncGenerator<{ readonly line: Buffer; readonly end: number }> {
  let rest: Buffer = Buffer.alloc(0);
  let position = offset;
  for (;;) {
    const block = Buffer.allocUnsafe(BLOCK);
    const { bytesRead } = await readAsync(file.number, block, 0, BLOCK, position + rest.length);
    if (bytesRead === 0) return;
    const data =
      rest.length === 0 ? block.subarray(0, bytesRead) : Buffer.concat([rest, block.subarray(0, bytesRead)]);
    let at = 0;
    for (let newline = data.indexOf(NEWLINE); newline >= 0; newline = data.indexOf(NEWLINE, at)) {
      const line = data.subarray(at, newline);
      at = newline + 1;
      yield { line, end: position + at };
    }
    rest = data.subarray(at);
    position += at;
  }
}

function sizeOf(file: Fd): number {
  return fstatSync(file.number).size;
}

function openLog(source: LogSource): Fd {
  const opened = tryOpen(source);
  if (opened instanceof Fd) return opened;
  if (opened === 'ENOENT') throw new NodeletError('LOG_NOT_FOUND', `cannot find the log "${source.path}"`);
  throw new NodeletError('LOG_UNSAFE', `cannot read the log "${source.path}": ${opened}`, {
    hint: 'a link stands where a directory or file of the log should be',
  });
}

function tryOpen(source: LogSource): Fd | string {
  const folder = native().openat2(AT_FDCWD, source.root, O.PATH | O.DIRECTORY | O.CLOEXEC, 0, 0);
  if (folder < 0) return new SyscallError(-folder, 'openat2', 'open', source.root).code;
  using root = new Fd(folder);
  // A file that was put in the place of the log must not lead out of the log directory, nor hang us (a FIFO).
  const flags = O.RDONLY | O.CLOEXEC | O.NONBLOCK;
  const resolve = RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_MAGICLINKS;
  const fd = native().openat2(root.number, relative(source.root, source.path), flags, 0, resolve);
  if (fd < 0) return new SyscallError(-fd, 'openat2', 'open', source.path).code;
  const file = new Fd(fd);
  if (fstatSync(fd).isFile()) return file;
  file.close();
  return 'it is no file';
}

/** The file that now has the log's name, where that is another one. */
function rotated(source: LogSource, file: Fd): Fd | undefined {
  const opened = tryOpen(source);
  if (!(opened instanceof Fd)) return undefined;
  if (fstatSync(opened.number).ino !== fstatSync(file.number).ino) return opened;
  opened.close();
  return undefined;
}

/** Wakes on every change in a directory, and when one of the signals fires. */
class DirectoryWatch implements Disposable {
  readonly #watcher: FSWatcher;
  readonly #signals: readonly (AbortSignal | undefined)[];
  readonly #wake = (): void => {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.();
  };
  #waiting: (() => void) | undefined;

  constructor(path: string, signals: readonly (AbortSignal | undefined)[]) {
    this.#watcher = watch(path, { persistent: false });
    this.#watcher.on('change', this.#wake);
    // A directory that is removed ends the log.
    this.#watcher.on('error', this.#wake);
    this.#signals = signals;
    for (const signal of signals) signal?.addEventListener('abort', this.#wake);
  }

  /** Resolves at the next change after this call. */
  next(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting = resolve;
    });
  }

  [Symbol.dispose](): void {
    for (const signal of this.#signals) signal?.removeEventListener('abort', this.#wake);
    this.#watcher.close();
    this.#wake();
  }
}
