/**
 * Lines that stay and, below them, lines that change (progress bars). What containers write passes through here too, so
 * that neither tears the other. Without a terminal the lines that change are left out.
 */
import { truncate } from '../format/text.ts';

export interface ScreenStream {
  write(data: Buffer | string): boolean;
  readonly columns?: number;
}

const UP_AND_CLEAR = '\u001b[1A\u001b[2K';

export class Screen {
  readonly #stream: ScreenStream;
  readonly #live: boolean;
  #drawn = 0;
  #lines: readonly string[] = [];
  /** False while the last thing written ended within a line: nothing may be drawn there. */
  #atLineStart = true;

  /** `live`: the stream is a terminal. */
  constructor(stream: ScreenStream, live: boolean) {
    this.#stream = stream;
    this.#live = live;
  }

  get live(): boolean {
    return this.#live;
  }

  get width(): number {
    return Math.max(20, this.#stream.columns ?? 80);
  }

  /** A line that stays. */
  line(text: string): void {
    this.#clear();
    if (!this.#atLineStart) this.#stream.write('\n');
    this.#stream.write(`${text}\n`);
    this.#atLineStart = true;
    this.#draw();
  }

  /** Writes to `out`, which may be the same terminal; returns what the stream's write says. */
  through(out: ScreenStream, data: Buffer): boolean {
    this.#clear();
    const result = out.write(data);
    this.#atLineStart = data.at(-1) === 0x0a;
    this.#draw();
    return result;
  }

  /** The lines that change, in place of those before; none takes them away. */
  show(lines: readonly string[]): void {
    if (!this.#live) return;
    this.#clear();
    this.#lines = lines;
    this.#draw();
  }

  #clear(): void {
    if (this.#drawn === 0) return;
    this.#stream.write(UP_AND_CLEAR.repeat(this.#drawn));
    this.#drawn = 0;
  }

  #draw(): void {
    if (!this.#live || !this.#atLineStart || this.#lines.length === 0) return;
    this.#stream.write(this.#lines.map((line) => `${truncate(line, this.width - 1)}\n`).join(''));
    this.#drawn = this.#lines.length;
  }
}
