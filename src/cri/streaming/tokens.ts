/** Requests that wait for their client, each behind a token for one use. */
import { randomBytes } from 'node:crypto';
import { NodeletError } from '../../base/index.ts';

export const TOKEN_TTL = 60_000;
export const MAX_TOKENS = 1000;
/** 16 characters. Upstream has 6 bytes, which an attacker on the host could search within the minute's life of many. */
const TOKEN_BYTES = 12;

export class TokenCache<T> {
  /** In the order of their age. */
  readonly #waiting = new Map<string, { readonly value: T; readonly expires: number }>();
  readonly #now: () => number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** Throws RESOURCE_EXHAUSTED where a thousand wait already. */
  insert(value: T): string {
    const now = this.#now();
    for (const [token, { expires }] of this.#waiting) {
      if (expires >= now) break;
      this.#waiting.delete(token);
    }
    if (this.#waiting.size >= MAX_TOKENS)
      throw new NodeletError('RESOURCE_EXHAUSTED', 'maximum number of in-flight requests exceeded', {
        hint: 'connect to the URLs that were given out, or wait a minute until they expire',
      });
    const token = randomBytes(TOKEN_BYTES).toString('base64url');
    this.#waiting.set(token, { value, expires: now + TOKEN_TTL });
    return token;
  }

  /** The request behind a token, once; undefined where there is none or its minute is over. */
  consume(token: string): T | undefined {
    const found = this.#waiting.get(token);
    this.#waiting.delete(token);
    return found === undefined || found.expires < this.#now() ? undefined : found.value;
  }
}
