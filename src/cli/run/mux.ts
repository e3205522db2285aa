/** What containers write, on our own standard streams: as it comes from one container, line by line from several. */
import type { OutputChunk } from '../../agent/index.ts';
import type { Screen, ScreenStream } from '../terminal/screen.ts';
import { PALETTE, type Style } from '../terminal/style.ts';
import { LineSplitter } from './lines.ts';

/** A Writable, as far as it is used here. */
export interface MuxStream extends ScreenStream {
  /** False once its reader has gone. */
  readonly writable: boolean;
  on(event: 'drain' | 'close' | 'error', listener: () => void): unknown;
  off(event: 'drain' | 'close' | 'error', listener: () => void): unknown;
}

export interface MuxStreams {
  readonly stdout: MuxStream;
  readonly stderr: MuxStream;
}

export class OutputMux {
  readonly #screen: Screen;
  readonly #streams: MuxStreams;
  readonly #style: Style;
  readonly #prefixed: boolean;
  readonly #prefixes = new Map<string, Buffer>();
  readonly #splitters = new Map<string, LineSplitter>();

  /** `prefixed`: lines of several containers are told apart by `[name]`. */
  constructor(
    screen: Screen,
    streams: MuxStreams,
    options: { readonly prefixed: boolean; readonly style: Style },
  ) {
    this.#screen = screen;
    this.#streams = streams;
    this.#style = options.style;
    this.#prefixed = options.prefixed;
  }

  /** Resolves when more may be written. `label` names the container among all of them. */
  async write(label: string, { stream, data }: OutputChunk): Promise<void> {
    if (!this.#prefixed) return await this.#pass(stream, data);
    const lines = this.#splitter(label, stream).push(data);
    if (lines.length === 0) return undefined;
    const prefix = this.#prefix(label);
    return await this.#pass(stream, Buffer.concat(lines.flatMap((line) => [prefix, line])));
  }

  /** Writes what was left without its newline. */
  async end(): Promise<void> {
    for (const [key, splitter] of this.#splitters) {
      const rest = splitter.end();
      if (rest.length === 0) continue;
      const [stream, label] = key.split(' ') as ['stdout' | 'stderr', string];
      await this.#pass(stream, Buffer.concat([this.#prefix(label), rest, Buffer.from('\n')]));
    }
  }

  async #pass(name: 'stdout' | 'stderr', data: Buffer): Promise<void> {
    const stream = this.#streams[name];
    if (this.#screen.through(stream, data)) return;
    // One whose reader has gone never drains; that it has is told by the error that it emits.
    if (!stream.writable) return;
    await new Promise<void>((resolve) => {
      const events = ['drain', 'close', 'error'] as const;
      const done = (): void => {
        for (const event of events) stream.off(event, done);
        resolve();
      };
      for (const event of events) stream.on(event, done);
    });
  }

  #splitter(label: string, stream: string): LineSplitter {
    const key = `${stream} ${label}`;
    const known = this.#splitters.get(key);
    if (known !== undefined) return known;
    const splitter = new LineSplitter();
    this.#splitters.set(key, splitter);
    return splitter;
  }

  #prefix(label: string): Buffer {
    const known = this.#prefixes.get(label);
    if (known !== undefined) return known;
    const colour = PALETTE[this.#prefixes.size % PALETTE.length] ?? 'cyan';
    const prefix = Buffer.from(`${this.#style[colour](`[${label}]`)} `);
    this.#prefixes.set(label, prefix);
    return prefix;
  }
}
