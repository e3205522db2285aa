/** Digests (image-spec, descriptor.md) and the names that are made of them. Pure but for hashing bytes in memory. */
import { createHash } from 'node:crypto';
import { NodeletError } from '../base/index.ts';

/** Hex digits of the algorithms that a digest may name (image-spec: registered algorithms). */
const hexLength: Readonly<Record<string, number>> = { sha256: 64, sha384: 96, sha512: 128 };

/**
 * Checks `algorithm:hex` and returns it. Only registered algorithms with exactly their number of lower-case hex
 * digits pass, so that a digest can be used in a path. Throws INVALID_DIGEST.
 */
export function parseDigest(text: string): string {
  const at = text.indexOf(':');
  const algorithm = at < 0 ? '' : text.slice(0, at);
  const hex = text.slice(at + 1);
  const length = Object.hasOwn(hexLength, algorithm) ? hexLength[algorithm] : undefined;
  if (at < 0 || length === undefined) {
    throw new NodeletError(
      'INVALID_DIGEST',
      `cannot use digest ${quote(text)}: it does not start with sha256:`,
    );
  }
  if (hex.length !== length || !/^[0-9a-f]+$/.test(hex)) {
    throw new NodeletError(
      'INVALID_DIGEST',
      `cannot use digest ${quote(text)}: it needs exactly ${length} lower-case hex digits after "${algorithm}:"`,
    );
  }
  return text;
}

/** A digest that content can be checked against: sha256 alone, the one that every registry serves. */
export function parseContentDigest(text: string): string {
  parseDigest(text);
  if (!text.startsWith('sha256:')) {
    throw new NodeletError(
      'INVALID_DIGEST',
      `cannot check content against ${quote(text)}: only sha256 is supported`,
    );
  }
  return text;
}

export function isContentDigest(text: string): boolean {
  return /^sha256:[0-9a-f]{64}$/.test(text);
}

/** The 64 hex digits of a checked sha256 digest: the name of its blob file. */
export function hexOf(digest: string): string {
  return parseContentDigest(digest).slice('sha256:'.length);
}

export function sha256(data: Uint8Array | string): string {
  return `sha256:${createHash('sha256').update(data).digest('hex')}`;
}

/**
 * The chainIDs of a stack of layers, bottom first (image-spec, config.md): `C1 = D1`,
 * `Cn = sha256("C(n-1) Dn")`.
 */
export function chainIds(diffIds: readonly string[]): string[] {
  const chain: string[] = [];
  for (const diffId of diffIds) {
    const below = chain.at(-1);
    chain.push(below === undefined ? diffId : sha256(`${below} ${diffId}`));
  }
  return chain;
}

/** JSON quoting, cut to a length that fits an error message. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 160 ? `${text.slice(0, 160)}…` : text);
}
