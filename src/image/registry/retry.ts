/** Which failure of a registry is worth another try, and when. Pure: the clock and the dice are arguments. */
import { codeOf, decorrelated } from '../../base/index.ts';

export type Failure =
  /** No connection, or it broke. */
  | { readonly kind: 'network'; readonly code: string; readonly established: boolean }
  | { readonly kind: 'tls'; readonly code: string }
  | { readonly kind: 'timeout'; readonly code: string }
  | { readonly kind: 'status'; readonly status: number; readonly retryAfter: number | undefined };

export interface RetryPolicy {
  /** Tries in all, the first included. */
  readonly tries: number;
  /** Shortest and longest pause, milliseconds. */
  readonly base: number;
  readonly max: number;
  /** A server that asks for a longer pause is told to the user instead of waited for; default 60,000. Milliseconds. */
  readonly longestRetryAfter?: number;
}

export const defaultRetry: RetryPolicy = { tries: 5, base: 200, max: 20_000 };

/** Milliseconds; see RetryPolicy. */
const longestRetryAfter = 60_000;

const tlsCodes =
  /^(ERR_TLS_|ERR_SSL_|EPROTO$|CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|HOSTNAME_MISMATCH|ERR_OSSL)/;
const timeoutCodes = new Set([
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
  'ETIMEDOUT',
]);
const neverConnected = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EADDRNOTAVAIL',
]);

/** Sorts an error of the transport; undefined where it is no failure of the network (a bug, an abort). */
export function classify(error: unknown): Failure | undefined {
  const code = transportCode(error);
  if (code === undefined) return undefined;
  if (tlsCodes.test(code)) return { kind: 'tls', code };
  if (timeoutCodes.has(code)) return { kind: 'timeout', code };
  // A proxy that does not let us through; our own aborts were seen before.
  if (/^UND_ERR_(ABORTED|INVALID_ARG|PRX_TLS|NOT_SUPPORTED)$/.test(code))
    return { kind: 'network', code, established: false };
  if (neverConnected.has(code)) return { kind: 'network', code, established: false };
  if (
    /^(E[A-Z]+|UND_ERR_(SOCKET|RES_CONTENT_LENGTH_MISMATCH|RESPONSE.*|HTTP_PARSER|CLOSED)|HPE_[A-Z_]+)$/.test(
      code,
    )
  ) {
    return { kind: 'network', code, established: true };
  }
  return undefined;
}

/** The code of the first error in the chain of causes (and of happy eyeballs' aggregate) that has one. */
function transportCode(error: unknown): string | undefined {
  let at: unknown = error;
  for (let depth = 0; depth < 8 && at !== undefined && at !== null; depth += 1) {
    const code = codeOf(at);
    const inner: unknown =
      at instanceof AggregateError ? at.errors[0] : at instanceof Error ? at.cause : undefined;
    // undici wraps a broken socket; its cause is more exact.
    if (code !== undefined && (code !== 'UND_ERR_SOCKET' || codeOf(inner) === undefined)) return code;
    at = inner;
  }
  return undefined;
}

/**
 * Milliseconds to wait before try number `next` (2 is the first repetition), or undefined to give up.
 * `previous` is the last pause.
 */
export function retryDelay(
  failure: Failure,
  next: number,
  previous: number,
  policy: RetryPolicy = defaultRetry,
  random: () => number = Math.random,
): number | undefined {
  if (next > policy.tries) return undefined;
  const pause = decorrelated(policy.base, policy.max, Math.max(previous, policy.base), random);
  switch (failure.kind) {
    case 'tls':
      return undefined;
    case 'timeout':
      return next <= 3 ? pause : undefined;
    case 'network':
      // The kubelet has its own back-off: a registry that is down is reported soon.
      return failure.established || next <= 3 ? pause : undefined;
    case 'status':
      if (failure.status === 429 || failure.status === 408 || failure.status === 503) {
        if (failure.retryAfter === undefined) return Math.max(pause, failure.status === 429 ? 1000 : 0);
        return failure.retryAfter > (policy.longestRetryAfter ?? longestRetryAfter)
          ? undefined
          : failure.retryAfter;
      }
      return failure.status >= 500 && failure.status !== 501 && next <= 4 ? pause : undefined;
  }
}

/** Retry-After (RFC 9110 §10.2.3), seconds or a date, in milliseconds from `now`. */
export function parseRetryAfter(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined;
  const text = header.trim();
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : Math.max(0, at - now);
}
