/** Bytes into whole lines: where several write to one terminal, a line is what they take turns by. Pure. */

const NEWLINE = 0x0a;

/** A line longer than this is passed on in pieces. */
const MAX_LINE = 64 * 1024;

export class LineSplitter {
  #rest: Buffer = Buffer.alloc(0);

  /** Complete lines, each with its newline. */
  push(piece: Buffer): Buffer[] {
    let bytes = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    const lines: Buffer[] = [];
    for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE)) {
      lines.push(bytes.subarray(0, at + 1));
      bytes = bytes.subarray(at + 1);
    }
    while (bytes.length > MAX_LINE) {
      lines.push(bytes.subarray(0, MAX_LINE));
      bytes = bytes.subarray(MAX_LINE);
    }
    this.#rest = bytes;
    return lines;
  }

  /** What is left, without a newline; empty where nothing is. */
  end(): Buffer {
    const rest = this.#rest;
    this.#rest = Buffer.alloc(0);
    return rest;
  }
}
