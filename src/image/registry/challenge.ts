/** Parses WWW-Authenticate (RFC 9110 §11.6.1): several challenges in one header, quoted strings. Pure, linear. */

export interface Challenge {
  /** Lower case: `bearer`, `basic`. */
  readonly scheme: string;
  /** Parameter names in lower case; the first of equals counts. */
  readonly params: ReadonlyMap<string, string>;
}

const tokenChar = /[!#$%&'*+\-.^_`|~0-9A-Za-z]/;
/** No registry needs more; a longer header is cut, so that parsing is bounded. */
const maxHeader = 16 * 1024;
const maxParams = 64;

/** Every challenge that can be read; what is malformed ends the list. */
export function parseChallenges(header: string | readonly string[] | undefined): Challenge[] {
  const lines = header === undefined ? [] : typeof header === 'string' ? [header] : header;
  return lines.flatMap((line) => parseLine(line.slice(0, maxHeader)));
}

function parseLine(text: string): Challenge[] {
  const found: Challenge[] = [];
  let at = 0;
  let params: Map<string, string> | undefined;
  const skip = (chars: string): void => {
    while (at < text.length && chars.includes(text[at] ?? '')) at += 1;
  };
  const token = (): string => {
    const start = at;
    while (at < text.length && tokenChar.test(text[at] ?? '')) at += 1;
    return text.slice(start, at);
  };
  for (;;) {
    skip(' \t,');
    if (at >= text.length) return found;
    const word = token();
    if (word === '') return found;
    const afterWord = at;
    skip(' \t');
    if (text[at] === '=' && params !== undefined) {
      // a parameter of the challenge that was begun
      at += 1;
      skip(' \t');
      const value = text[at] === '"' ? quoted() : token();
      if (value === undefined) return found;
      const name = word.toLowerCase();
      if (!params.has(name) && params.size < maxParams) params.set(name, value);
      continue;
    }
    if (text[at] === '=') return found;
    at = afterWord;
    params = new Map();
    found.push({ scheme: word.toLowerCase(), params });
    skipToken68();
  }

  /** A quoted string with its escapes undone; undefined where it never ends. */
  function quoted(): string | undefined {
    let value = '';
    for (at += 1; at < text.length; at += 1) {
      const char = text[at];
      if (char === '"') {
        at += 1;
        return value;
      }
      if (char === '\\') at += 1;
      value += text[at] ?? '';
    }
    return undefined;
  }

  /** `Negotiate YII=`: one opaque value in place of parameters. */
  function skipToken68(): void {
    const match = /^[ \t]+[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)/.exec(text.slice(at));
    if (match && !/^[ \t]+[^=]+=[^=,\s]/.test(match[0])) at += match[0].length;
  }
}
