/**
 * The one error base of Nodelet. Every error that reaches a user carries a stable `code`
 * (listed in docs/errors.md), a message that names the action and quotes the values, and,
 * where there is one, what to do about it.
 */

export interface ErrorDetails {
  /** What the user can do about it, a sentence without a full stop. */
  readonly hint?: string;
  readonly cause?: unknown;
  /** Extra machine-readable facts (field path, operation index and so on). */
  readonly details?: Readonly<Record<string, unknown>>;
}

/** An error with a stable code. Nothing matches on its text. */
export class NodeletError extends Error {
  override readonly name: string = 'NodeletError';
  readonly code: string;
  readonly hint: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: string, message: string, options: ErrorDetails = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
    this.details = options.details ?? {};
  }
}

/** True for any error (ours, Node's, the addon's) that carries `code`. */
export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return (
    typeof error === 'object' &&
    error !== null &&
    'code' in error &&
    typeof error.code === 'string' &&
    codes.includes(error.code)
  );
}

/** The code of an error, or undefined where it has none. */
export function codeOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** `message: cause: cause's cause`, each part once. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  for (let e: unknown = error; e !== undefined && e !== null; e = e instanceof Error ? e.cause : undefined) {
    const text = messageOf(e);
    if (!parts.some((part) => part.includes(text))) parts.push(text);
    if (parts.length > 8) break;
  }
  return parts.join(': ');
}

export function toError(value: unknown): Error {
  return value instanceof Error ? value : new Error(String(value));
}

/** For the `default` of an exhaustive switch: the compiler proves that it cannot be reached. */
export function unreachable(value: never): never {
  throw new NodeletError('INTERNAL', `unexpected value ${JSON.stringify(value)}`);
}

/** Raised by every wait that is given up because its signal fired. */
export function abortReason(signal: AbortSignal): Error {
  return signal.reason instanceof Error
    ? signal.reason
    : new NodeletError('ABORTED', 'the operation was cancelled');
}
