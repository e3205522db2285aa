import { Duplex } from 'node:stream';
import { NodeletError } from '../../../base/index.ts';
import type { Headers } from './headers.ts';

/** What a stream needs of its connection. */
export interface StreamHost {
  /** Calls back when the bytes are with the kernel. */
  sendData(id: number, data: Buffer, fin: boolean, done: (error?: Error | null) => void): void;
  sendReset(id: number): void;
  /** Neither side will use the stream any more. */
  forget(id: number): void;
}

/** What a reader may leave unread before the connection waits for it. */
const READ_AHEAD = 64 * 1024;

/**
 * One stream of a connection. Ending the writable side leaves the readable one open, and the other way round; destroying
 * it tells the other end. A slow reader holds the whole connection (see session.ts).
 */
export class SpdyStream extends Duplex {
  readonly id: number;
  readonly headers: Headers;
  readonly #host: StreamHost;
  #taken: (() => void) | undefined;
  #sentFin = false;
  #gotFin = false;
  #ended = false;

  constructor(host: StreamHost, id: number, headers: Headers) {
    super({ allowHalfOpen: true, readableHighWaterMark: READ_AHEAD, writableHighWaterMark: READ_AHEAD });
    this.#host = host;
    this.id = id;
    this.headers = headers;
    // A stream that breaks ends its session by what its reader or writer sees; alone it is no reason to end the agent.
    this.on('error', () => {});
  }

  /** Nobody will read it: what comes is dropped. */
  ignoreInput(): void {
    this.resume();
  }

  // --- the connection's side

  /** A promise where the reader has to catch up first. */
  receive(data: Buffer, fin: boolean): Promise<void> | undefined {
    if (this.destroyed || this.#gotFin) return undefined;
    const room = data.length === 0 || this.push(data);
    if (fin) {
      this.#gotFin = true;
      this.push(null);
      this.#forgetWhenOver();
      return undefined;
    }
    if (room) return undefined;
    return new Promise((resolve) => {
      this.#taken = resolve;
    });
  }

  /**
   * The other end has ended the stream by force (then `reset` is emitted), or the connection is gone. Nothing is sent any
   * more; what came before can still be read.
   */
  abandon(reset: boolean): void {
    if (this.#ended) return;
    this.#ended = true;
    if (!this.#gotFin) {
      this.#gotFin = true;
      this.push(null);
    }
    if (this.readableEnded) this.destroy();
    else this.once('end', () => this.destroy());
    this.#resume();
    if (reset) this.emit('reset');
  }

  #forgetWhenOver(): void {
    if (!this.#sentFin || !this.#gotFin || this.#ended) return;
    this.#ended = true;
    this.#host.forget(this.id);
  }

  #resume(): void {
    const taken = this.#taken;
    this.#taken = undefined;
    taken?.();
  }

  // --- Duplex

  override _read(): void {
    this.#resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (this.#ended) {
      done(new NodeletError('ABORTED', 'the other end has closed the stream'));
      return;
    }
    this.#host.sendData(this.id, chunk, false, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#sentFin = true;
    if (this.#ended) {
      done();
      return;
    }
    this.#host.sendData(this.id, Buffer.alloc(0), true, (error) => {
      this.#forgetWhenOver();
      done(error);
    });
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#resume();
    if (!this.#ended) {
      this.#ended = true;
      if (!this.#sentFin || !this.#gotFin) this.#host.sendReset(this.id);
      this.#host.forget(this.id);
    }
    done(error);
  }
}
