/**
 * JSON with integers of 64 bits. JSON.parse would round those above 2^53: they become marked strings, which `exactInteger`
 * reads back.
 */
const MARK = 'integer:';

/** Throws SyntaxError. */
export function parseExactJson(text: string): unknown {
  return JSON.parse(
    text.replaceAll(/"(?:[^"\\]|\\.)*"|-?\d{16,}(?![\d.eE])/g, (token) =>
      token.startsWith('"') ? token : `"${MARK}${token}"`,
    ),
  ) as unknown;
}

/** The text again, with the numbers as they were. */
export function exactJsonText(value: unknown): string {
  return JSON.stringify(value).replaceAll(/"(?:[^"\\]|\\.)*"/g, (token) =>
    /^"integer:-?\d+"$/.test(token) ? token.slice(MARK.length + 1, -1) : token,
  );
}

/** The integer of a value that parseExactJson gave; undefined where it is none. */
export function exactInteger(value: unknown): bigint | undefined {
  if (typeof value === 'number') return Number.isInteger(value) ? BigInt(value) : undefined;
  if (typeof value !== 'string' || !value.startsWith(MARK)) return undefined;
  const text = value.slice(MARK.length);
  return /^-?\d+$/.test(text) ? BigInt(text) : undefined;
}
