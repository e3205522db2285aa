/** Sizes of a terminal on their way: `{"Width":80,"Height":24}` one after another. */
import type { TerminalSize } from '../services.ts';

/** A size has some 30 bytes; what is longer is none. */
const LIMIT = 1024;

export function encodeSize({ width, height }: TerminalSize): Buffer {
  return Buffer.from(`${JSON.stringify({ Width: width, Height: height })}\n`);
}

/** Sizes from pieces of any length. What cannot be read leaves the terminal as it is. */
export class SizeDecoder {
  #rest = '';

  push(piece: Buffer): TerminalSize[] {
    const parts = (this.#rest + piece.toString('latin1')).split('}');
    const rest = parts.pop() ?? '';
    this.#rest = rest.length > LIMIT ? '' : rest;
    return parts.flatMap((part) => sizeOf(`${part}}`) ?? []);
  }
}

function sizeOf(text: string): TerminalSize | undefined {
  try {
    const { Width, Height } = JSON.parse(text) as { Width?: unknown; Height?: unknown };
    const good = (value: unknown): value is number =>
      typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 0xffff;
    return good(Width) && good(Height) ? { width: Width, height: Height } : undefined;
  } catch {
    return undefined;
  }
}
