/** Numbered channels over one WebSocket, each a stream. A slow reader of one of them holds the socket. */
import { Readable, Writable } from 'node:stream';
import { WebSocket } from 'ws';
import { deferred, NodeletError, withDeadline } from '../../../base/index.ts';
import { type ChannelCodec, CLOSE_CHANNEL, decodeMessage, encodeMessage } from './protocols.ts';

const READ_AHEAD = 64 * 1024;

/** While a slow reader holds the socket its end would not be seen, and the other end would miss its answers to pings. */
const HELD_PONG = 5_000;

const LINGER = 5_000;

export class Channels {
  readonly #ws: WebSocket;
  readonly #codec: ChannelCodec;
  readonly #readers = new Map<number, Readable>();
  readonly #full = new Set<number>();
  readonly #closed = deferred<void>();
  readonly #idle: NodeJS.Timeout | undefined;
  #pongs: NodeJS.Timeout | undefined;

  constructor(ws: WebSocket, codec: ChannelCodec, idleTimeout?: number) {
    this.#ws = ws;
    this.#codec = codec;
    if (idleTimeout !== undefined) this.#idle = setTimeout(() => ws.terminate(), idleTimeout).unref();
    ws.on('message', (data: Buffer) => this.#message(data));
    // Its close follows.
    ws.on('error', () => {});
    ws.once('close', () => this.#over());
  }

  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** What the other end sends on a channel; each channel once, and before its first message comes. */
  readable(channel: number): Readable {
    const reader = new Readable({
      highWaterMark: READ_AHEAD,
      read: () => this.#taken(channel),
      destroy: (error, done) => {
        this.#taken(channel);
        done(error);
      },
    });
    reader.on('error', () => {});
    this.#readers.set(channel, reader);
    return reader;
  }

  /** `signalled`: ending it says so to the other end, which Kubernetes' protocol does for what a client sends. */
  writable(channel: number, signalled = false): Writable {
    const writer = new Writable({
      highWaterMark: READ_AHEAD,
      write: (data: Buffer, _encoding, done) => this.send(encodeMessage(this.#codec, channel, data), done),
      final: (done) => {
        if (signalled && this.#codec.closes) this.send(Buffer.from([CLOSE_CHANNEL, channel]), () => done());
        else done();
      },
    });
    writer.on('error', () => {});
    return writer;
  }

  /** Calls back when the message is with the kernel. */
  send(message: Buffer | string, done: (error?: Error | null) => void): void {
    this.#idle?.refresh();
    if (this.#ws.readyState === WebSocket.OPEN) this.#ws.send(message, (error) => done(error ?? null));
    else done(new NodeletError('ABORTED', 'the other end has closed the connection'));
  }

  /** Closes in order, and by force where the other end does not answer. */
  async end(): Promise<void> {
    for (const reader of this.#readers.values()) reader.destroy();
    if (this.#ws.readyState === WebSocket.OPEN) this.#ws.close(1000);
    await withDeadline('the other end', LINGER, this.closed).catch(() => this.destroy());
  }

  destroy(): void {
    this.#ws.terminate();
  }

  #message(message: Buffer): void {
    this.#idle?.refresh();
    try {
      const decoded = decodeMessage(this.#codec, message);
      if (decoded === undefined) return;
      const reader = this.#readers.get(decoded.channel);
      if (reader === undefined || reader.destroyed) return;
      if (decoded.type === 'close') {
        this.#readers.delete(decoded.channel);
        reader.push(null);
      } else if (decoded.data.length > 0 && !reader.push(decoded.data)) this.#hold(decoded.channel);
    } catch {
      this.#ws.close(1002);
    }
  }

  #hold(channel: number): void {
    this.#full.add(channel);
    this.#ws.pause();
    // One that nobody has asked for pushes the other end's deadline on, and fails where that end is gone.
    this.#pongs ??= setInterval(() => {
      if (this.#ws.readyState === WebSocket.OPEN) this.#ws.pong();
    }, HELD_PONG);
  }

  #taken(channel: number): void {
    if (!this.#full.delete(channel) || this.#full.size > 0) return;
    clearInterval(this.#pongs);
    this.#pongs = undefined;
    this.#ws.resume();
  }

  #over(): void {
    clearTimeout(this.#idle);
    clearInterval(this.#pongs);
    for (const reader of this.#readers.values()) if (!reader.destroyed) reader.push(null);
    this.#closed.resolve();
  }
}
