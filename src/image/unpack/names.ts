/**
 * What the name of a tar entry means (image-spec layer.md): a path inside the layer, a whiteout, or nothing that can
 * be accepted. Names are bytes as latin1 text. Pure.
 */
import { NodeletError } from '../../base/index.ts';
import type { Limits } from './limits.ts';

export interface EntryPath {
  /** Parts joined by "/", none empty, "." or ".."; "" is the root of the layer. */
  readonly path: string;
  /** All but the last part. */
  readonly parent: string;
  /** The last part; "" for the root. */
  readonly base: string;
}

export type EntryName =
  | (EntryPath & { readonly kind: 'entry' })
  /** Hides `base` of the layers below. */
  | (EntryPath & { readonly kind: 'whiteout' })
  /** Hides everything in `parent` of the layers below. */
  | { readonly kind: 'opaque'; readonly parent: string }
  /** AUFS' own files, which old versions of docker put into layers. */
  | { readonly kind: 'ignored' };

const whiteout = '.wh.';
const opaque = '.wh..wh..opq';
const reserved = '.wh..wh.';

/** Bytes as they are shown: UTF-8 where they are, JSON-quoted, cut to a line. */
export function showName(name: string): string {
  const text = Buffer.from(name, 'latin1').toString('utf8');
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}

export function unsafe(reason: string): NodeletError {
  return new NodeletError('LAYER_UNSAFE', `cannot unpack the layer: ${reason}`);
}

/**
 * Splits a path. A leading "/" means the root of the layer; ".." is refused even where it would stay inside, since
 * nothing that makes layers writes it. Throws LAYER_UNSAFE.
 */
export function splitPath(name: string, limits: Pick<Limits, 'pathBytes' | 'nameBytes'>): EntryPath {
  if (name.includes('\0')) throw unsafe(`the name ${showName(name)} has a NUL byte`);
  if (name.length > limits.pathBytes) {
    throw unsafe(`the name ${showName(name)} has ${name.length} bytes, more than ${limits.pathBytes}`);
  }
  const parts: string[] = [];
  for (const part of name.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') throw unsafe(`the name ${showName(name)} has a ".." part`);
    if (part.length > limits.nameBytes) {
      throw unsafe(
        `a part of the name ${showName(name)} has ${part.length} bytes, more than ${limits.nameBytes}`,
      );
    }
    parts.push(part);
  }
  const base = parts.pop() ?? '';
  const parent = parts.join('/');
  return { path: parent === '' ? base : `${parent}/${base}`, parent, base };
}

/** Sorts an entry's name. Throws LAYER_UNSAFE. */
export function classifyName(name: string, limits: Pick<Limits, 'pathBytes' | 'nameBytes'>): EntryName {
  const split = splitPath(name, limits);
  const { parent, base } = split;
  if (!split.path.includes(whiteout)) return { kind: 'entry', ...split };
  const above = parent.split('/').find((part) => part.startsWith(whiteout));
  if (above !== undefined) {
    if (above.startsWith(reserved)) return { kind: 'ignored' };
    throw unsafe(`the name ${showName(name)} lies below a whiteout`);
  }
  if (!base.startsWith(whiteout)) return { kind: 'entry', ...split };
  if (base === opaque) return { kind: 'opaque', parent };
  if (base.startsWith(reserved)) return { kind: 'ignored' };
  const hidden = base.slice(whiteout.length);
  // ".wh.." would hide the directory itself, ".wh..." the one above it (GHSA of containers/storage).
  if (hidden === '' || hidden === '.' || hidden === '..')
    throw unsafe(`${showName(name)} is no whiteout of a file`);
  return { kind: 'whiteout', path: parent === '' ? hidden : `${parent}/${hidden}`, parent, base: hidden };
}

/** Which extended attributes of a layer are kept: capabilities of programs and what users set. */
export function keepXattr(name: string): boolean {
  if (name.startsWith('user.')) return !name.startsWith('user.overlay.');
  return name === 'security.capability';
}
