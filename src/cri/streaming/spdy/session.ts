/**
 * One SPDY/3.1 connection, either end. Kubernetes' peer (spdystream) has no flow control: it neither opens windows nor
 * heeds them. So nothing is counted here, and back-pressure is TCP's: while one stream's reader is behind, nothing is read
 * from the connection, as in the peer itself. Writes call back when the kernel has taken them.
 */
import type { Duplex } from 'node:stream';
import { type Deferred, deferred, NodeletError, toError, withDeadline } from '../../../base/index.ts';
import {
  encodeDataHeader,
  encodeGoaway,
  encodePing,
  encodeReset,
  encodeSynReply,
  encodeSynStream,
  type Frame,
  FrameParser,
  GOAWAY,
  RESET,
} from './frames.ts';
import { HeaderDecoder, HeaderEncoder, type Headers } from './headers.ts';
import { SpdyStream, type StreamHost } from './stream.ts';

/** Streams open at once: a thousand forwarded connections, two each. */
const MAX_STREAMS = 2048;

/** Replies that the other end does not take: then nothing more of it is read. */
const MAX_UNSENT_REPLIES = 64 * 1024;

/** While a slow reader holds the connection its end would not be seen: so something is sent. */
const HELD_PING = 5_000;

/** How long the other end may take to close after we did. */
const LINGER = 5_000;

/** As the peer waits for an answer to a new stream. */
const CREATE_TIMEOUT = 30_000;

export interface SessionOptions {
  readonly side: 'server' | 'client';
  /** A stream that the other end has opened; an error refuses it. */
  readonly onStream?: (stream: SpdyStream) => void;
  /** Milliseconds without a frame in either direction after which the connection is closed. */
  readonly idleTimeout?: number;
}

export class SpdySession {
  readonly #transport: Duplex;
  readonly #options: SessionOptions;
  readonly #streams = new Map<number, SpdyStream>();
  readonly #opening = new Map<number, Deferred<void>>();
  readonly #parser = new FrameParser();
  readonly #encoder = new HeaderEncoder();
  readonly #decoder = new HeaderDecoder();
  readonly #closed = deferred<void>();
  readonly #idle: NodeJS.Timeout | undefined;
  readonly #host: StreamHost;
  #nextId: number;
  #nextPing: number;
  #lastReceived = 0;
  #unsent = 0;
  #replied: (() => void) | undefined;
  #ending = false;

  constructor(transport: Duplex, options: SessionOptions) {
    this.#transport = transport;
    this.#options = options;
    this.#nextId = options.side === 'client' ? 1 : 2;
    this.#nextPing = this.#nextId;
    this.#host = {
      sendData: (id, data, fin, done) => this.#sendData(id, data, fin, done),
      sendReset: (id) => this.#send(encodeReset(id, RESET.cancel)),
      forget: (id) => void this.#streams.delete(id),
    };
    if (options.idleTimeout !== undefined)
      this.#idle = setTimeout(() => this.destroy(), options.idleTimeout).unref();
    // Its reading ends by the same error.
    transport.on('error', () => {});
    transport.once('close', () => this.#over());
    void this.#read();
  }

  /** Fulfilled when the connection has ended, for whatever reason. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  get ended(): boolean {
    return this.#ending || this.#transport.destroyed;
  }

  /** Streams that are open. */
  get size(): number {
    return this.#streams.size;
  }

  /** Opens a stream and waits for the other end's answer. Throws STREAM_REFUSED, DEADLINE_EXCEEDED, ABORTED. */
  async open(headers: Headers): Promise<SpdyStream> {
    if (this.ended) throw new NodeletError('ABORTED', 'the connection has ended');
    const id = this.#nextId;
    this.#nextId += 2;
    const stream = new SpdyStream(this.#host, id, headers);
    const answered = deferred<void>();
    this.#streams.set(id, stream);
    this.#opening.set(id, answered);
    this.#send(encodeSynStream(id, this.#encoder.encode(headers)));
    try {
      await withDeadline('the answer to a new stream', CREATE_TIMEOUT, answered.promise);
      return stream;
    } catch (error) {
      stream.destroy();
      throw error;
    } finally {
      this.#opening.delete(id);
    }
  }

  /** Says goodbye, lets the other end read what was sent, and closes. Twice is safe. */
  async end(): Promise<void> {
    if (!this.#ending) {
      this.#ending = true;
      for (const stream of this.#streams.values()) stream.ignoreInput();
      if (!this.#transport.destroyed) {
        this.#send(encodeGoaway(this.#lastReceived, GOAWAY.ok));
        this.#transport.end();
      }
    }
    await withDeadline('the other end', LINGER, this.closed).catch(() => this.destroy());
  }

  destroy(error?: Error): void {
    this.#ending = true;
    this.#transport.destroy(error);
  }

  // --- reading

  async #read(): Promise<void> {
    let failure: Error | undefined;
    try {
      for await (const piece of this.#transport as AsyncIterable<Buffer>) {
        this.#idle?.refresh();
        for (const frame of this.#parser.push(piece)) {
          const wait = this.#receive(frame);
          if (wait !== undefined) await wait;
          if (this.#unsent > MAX_UNSENT_REPLIES) await this.#repliesSent();
          if (this.#transport.destroyed) break;
        }
      }
    } catch (error) {
      failure = toError(error);
      if (failure instanceof NodeletError && !this.#transport.destroyed)
        this.#transport.end(encodeGoaway(this.#lastReceived, GOAWAY.protocolError));
    }
    // The other end has closed its side: nobody is there any more.
    this.destroy(failure);
  }

  #over(): void {
    clearTimeout(this.#idle);
    this.#decoder.close();
    const gone = new NodeletError('ABORTED', 'the connection has ended');
    for (const answered of this.#opening.values()) answered.reject(gone);
    for (const stream of this.#streams.values()) stream.abandon(false);
    this.#streams.clear();
    this.#replied?.();
    this.#ending = true;
    this.#closed.resolve();
  }

  #receive(frame: Frame): Promise<void> | undefined {
    switch (frame.type) {
      case 'data': {
        const wait = this.#streams.get(frame.id)?.receive(frame.data, frame.fin);
        return wait === undefined ? undefined : this.#held(wait);
      }
      case 'syn-stream':
        return this.#accept(frame);
      case 'syn-reply':
        return this.#answered(frame);
      case 'headers':
        return this.#headers(frame);
      case 'rst-stream': {
        this.#opening
          .get(frame.id)
          ?.reject(new NodeletError('STREAM_REFUSED', `the other end refused a stream (${frame.status})`));
        this.#streams.get(frame.id)?.abandon(true);
        this.#streams.delete(frame.id);
        return undefined;
      }
      case 'ping':
        // Ours come back with ids of our parity.
        if (frame.id % 2 !== this.#nextPing % 2) this.#send(encodePing(frame.id));
        return undefined;
      case 'goaway':
        this.#ending = true;
        if (this.#streams.size === 0) this.#transport.end();
        return undefined;
      case 'ignored':
        return undefined;
    }
  }

  async #accept(frame: Extract<Frame, { type: 'syn-stream' }>): Promise<void> {
    // Decoded in any case: the blocks of a connection are one compressed stream.
    const headers = await this.#decoder.decode(frame.block);
    const { onStream } = this.#options;
    const theirs = this.#options.side === 'server' ? 1 : 0;
    if (frame.id % 2 !== theirs || frame.id <= this.#lastReceived) {
      this.#send(encodeReset(frame.id, RESET.protocolError));
      return;
    }
    this.#lastReceived = frame.id;
    if (this.#ending) return;
    if (onStream === undefined || this.#streams.size >= MAX_STREAMS) {
      this.#send(encodeReset(frame.id, RESET.refused));
      return;
    }
    const stream = new SpdyStream(this.#host, frame.id, headers);
    this.#streams.set(frame.id, stream);
    try {
      onStream(stream);
    } catch {
      stream.destroy();
      return;
    }
    this.#send(encodeSynReply(frame.id, this.#encoder.encode(new Map())));
    if (frame.fin) void stream.receive(Buffer.alloc(0), true);
  }

  async #answered(frame: Extract<Frame, { type: 'syn-reply' | 'headers' }>): Promise<void> {
    await this.#decoder.decode(frame.block);
    this.#opening.get(frame.id)?.resolve();
    if (frame.fin) void this.#streams.get(frame.id)?.receive(Buffer.alloc(0), true);
  }

  async #headers(frame: Extract<Frame, { type: 'syn-reply' | 'headers' }>): Promise<void> {
    await this.#decoder.decode(frame.block);
    if (frame.fin) void this.#streams.get(frame.id)?.receive(Buffer.alloc(0), true);
  }

  async #held(wait: Promise<void>): Promise<void> {
    const timer = setInterval(() => {
      this.#send(encodePing(this.#nextPing));
      this.#nextPing = (this.#nextPing + 2) % 0x7fff_fffe;
    }, HELD_PING);
    try {
      await wait;
    } finally {
      clearInterval(timer);
    }
  }

  // --- writing

  #sendData(id: number, data: Buffer, fin: boolean, done: (error?: Error | null) => void): void {
    this.#idle?.refresh();
    if (this.#transport.destroyed || this.#transport.writableEnded) {
      done(new NodeletError('ABORTED', 'the connection has ended'));
      return;
    }
    const head = encodeDataHeader(id, data.length, fin);
    if (data.length === 0) {
      this.#transport.write(head, done);
      return;
    }
    this.#transport.cork();
    this.#transport.write(head);
    this.#transport.write(data, done);
    this.#transport.uncork();
  }

  /** A control frame. What gathers because the other end does not read is bounded by not reading either. */
  #send(frame: Buffer): void {
    if (this.#transport.destroyed || this.#transport.writableEnded) return;
    this.#unsent += frame.length;
    this.#transport.write(frame, () => {
      this.#unsent -= frame.length;
      if (this.#unsent <= MAX_UNSENT_REPLIES) this.#replied?.();
    });
  }

  async #repliesSent(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#replied = resolve;
      if (this.#transport.destroyed) resolve();
    });
    this.#replied = undefined;
  }
}
