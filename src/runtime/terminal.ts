/**
 * The master of a pseudo-terminal as two streams. Node's own TTY streams write synchronously: a program that does not
 * read its terminal would stop the agent.
 */
import { readSync, writeSync } from 'node:fs';
import { Readable, Writable } from 'node:stream';
import { hasCode, toError } from '../base/index.ts';
import type { TerminalSize } from '../cri/index.ts';
import { POLL } from '../linux/constants.ts';
import { type Fd, FdWatcher } from '../linux/fd.ts';
import { native } from '../linux/native.ts';
import { check } from '../linux/syscall-error.ts';

export interface Terminal {
  readonly input: Writable;
  readonly output: Readable;
  resize(size: TerminalSize): void;
}

const CHUNK = 65_536;

class Master {
  readonly #fd: Fd;
  readonly #watcher: FdWatcher;
  readonly #buffer = Buffer.allocUnsafe(CHUNK);
  #reading = false;
  #queue: { data: Buffer; done: (error?: Error | null) => void }[] = [];
  readonly output: Readable;
  readonly input: Writable;

  constructor(fd: Fd) {
    this.#fd = fd;
    check(native().setNonblocking(fd.number), 'fcntl');
    this.#watcher = new FdWatcher(fd.number, POLL.READABLE, (events) => this.#ready(events));
    this.output = new Readable({
      read: () => {
        this.#reading = true;
        this.#watch();
      },
      destroy: (error, done) => {
        this.close();
        done(error);
      },
    });
    this.input = new Writable({
      write: (data: Buffer, _encoding, done) => {
        this.#queue.push({ data, done });
        this.#write();
      },
    });
    this.input.on('error', () => {});
    // Nobody has asked for anything yet.
    this.#watch();
  }

  #watch(): void {
    if (this.#fd.closed) return;
    this.#watcher.update((this.#reading ? POLL.READABLE : 0) | (this.#queue.length > 0 ? POLL.WRITABLE : 0));
  }

  #ready(events: number): void {
    if (events < 0 || (events & POLL.WRITABLE) !== 0) this.#write();
    if (this.#reading && !this.#fd.closed) this.#read();
  }

  #read(): void {
    let size: number;
    try {
      size = readSync(this.#fd.number, this.#buffer, 0, CHUNK, null);
    } catch (error) {
      if (hasCode(error, 'EAGAIN')) return;
      // EIO: the last user of the other end has gone.
      size = 0;
    }
    if (size === 0) {
      this.output.push(null);
      this.close();
      return;
    }
    this.#reading = this.output.push(Buffer.from(this.#buffer.subarray(0, size)));
    this.#watch();
  }

  #write(): void {
    for (let head = this.#queue[0]; head !== undefined; head = this.#queue[0]) {
      if (this.#fd.closed) return;
      try {
        const size = writeSync(this.#fd.number, head.data);
        if (size < head.data.length) head.data = head.data.subarray(size);
        else {
          this.#queue.shift();
          head.done();
        }
      } catch (error) {
        if (hasCode(error, 'EAGAIN')) break;
        this.#queue.shift();
        head.done(toError(error));
      }
    }
    this.#watch();
  }

  resize(size: TerminalSize): void {
    if (!this.#fd.closed) native().setWindowSize(this.#fd.number, size.height, size.width);
  }

  close(): void {
    if (this.#fd.closed) return;
    this.#watcher.close();
    this.#fd.close();
    for (const { done } of this.#queue.splice(0)) done();
    this.input.destroy();
  }
}

/** Takes the descriptor of a terminal whose output somebody else reads. Ending the stream closes the descriptor only. */
export function terminalInput(fd: Fd): Writable {
  const master = new Master(fd);
  master.input.once('close', () => master.close());
  return master.input;
}

/** Takes the descriptor. The output ends when nobody has the terminal open any more; destroying it closes the terminal. */
export function openTerminal(fd: Fd): Terminal {
  const master = new Master(fd);
  return { input: master.input, output: master.output, resize: (size) => master.resize(size) };
}
