/** Colour, where somebody looks at it: a terminal, and NO_COLOR (no-color.org) unset. */

const CODES = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  blue: [34, 39],
  magenta: [35, 39],
  cyan: [36, 39],
} as const;

export type Paint = (text: string) => string;
export type Style = Readonly<Record<keyof typeof CODES, Paint>>;

function styleOf(colours: boolean): Style {
  const entries = Object.entries(CODES).map(([name, [on, off]]): [string, Paint] => [
    name,
    colours ? (text) => `\u001b[${on}m${text}\u001b[${off}m` : (text) => text,
  ]);
  return Object.fromEntries(entries) as Style;
}

export const plain: Style = styleOf(false);
export const coloured: Style = styleOf(true);

export interface ColourHost {
  readonly isTTY: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Whether a stream is to be coloured. Pure. */
export function wantsColour({ isTTY, env }: ColourHost): boolean {
  if (env.NO_COLOR !== undefined && env.NO_COLOR !== '') return false;
  if (env.FORCE_COLOR !== undefined && env.FORCE_COLOR !== '') return env.FORCE_COLOR !== '0';
  return isTTY && env.TERM !== 'dumb';
}

export function styleFor(stream: { readonly isTTY?: boolean }): Style {
  return wantsColour({ isTTY: stream.isTTY === true, env: process.env }) ? coloured : plain;
}

/** Colours that tell containers apart, in turn. */
export const PALETTE = ['cyan', 'yellow', 'green', 'magenta', 'blue'] as const;
