/**
 * The directories of a layer that is being unpacked, by descriptor. Opened from the layer's root by
 * openat2(RESOLVE_IN_ROOT): links of the layer are followed by the kernel and cannot lead out. A few stay open,
 * because tars are written directory by directory.
 */
import { readlinkSync } from 'node:fs';
import { O, RESOLVE, S_IF } from '../../linux/constants.ts';
import { native } from '../../linux/native.ts';
import { type Attributes, attributesOfNode, plainDirectory } from './attributes.ts';
import { checkAt } from './disk.ts';
import { showName, unsafe } from './names.ts';
import { invalidTar } from './tar/header.ts';
import { isKind, isWhiteout, rawName, statName } from './tree.ts';
import { type LayerView, readLink } from './view.ts';

const ENOENT = 2;
const ENOTDIR = 20;
const ELOOP = 40;

const maxOpen = 64;
/** Symbolic links followed to make the directory that one names. */
const maxLinks = 40;

const inRoot = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS | RESOLVE.NO_XDEV;

/** One name in one open directory; `path` for records and messages. */
export interface Place {
  readonly parent: number;
  readonly base: string;
  readonly path: string;
}

export interface ParentOptions {
  /** Where the layer lies, for messages. */
  readonly path: string;
  readonly lower: LayerView | undefined;
  /** A directory was made that the tar has not listed; `like` where it is known how it has to look. */
  readonly made: (path: string, like: Attributes | undefined) => void;
  /** A directory took the place of a whiteout: nothing below shows through it. */
  readonly opaque: (place: Place) => void;
}

export class Parents {
  readonly #root: number;
  readonly #options: ParentOptions;
  readonly #open = new Map<string, number>();
  /** Paths that are links to directories in the layers below, and where those are. */
  readonly #aliases = new Map<string, string>();

  constructor(root: number, options: ParentOptions) {
    this.#root = root;
    this.#options = options;
  }

  /** The open directory `path`, made (with its parents) where the tar did not list it. It stays ours. */
  get(path: string, links = 0): number {
    if (path === '') return this.#root;
    const known = this.#open.get(path);
    if (known !== undefined) return known;
    let fd = this.open(path);
    if (fd === -ENOENT || fd === -ENOTDIR) {
      this.#make(path, links);
      fd = this.open(path);
    }
    if (fd === -ELOOP) throw unsafe(`${showName(path)} leads through a loop of symbolic links`);
    this.#check(fd, 'open', path);
    if (this.#open.size >= maxOpen) this.forget();
    this.#open.set(path, fd);
    return fd;
  }

  /** A new descriptor of the directory `path`, the caller's; a negative errno where it is none. */
  open(path: string): number {
    const real = this.real(path);
    return native().openat2(this.#root, rawName(real === '' ? '.' : real), O.PATH | O.DIRECTORY, 0, inRoot);
  }

  /** The same for reading, the last part not followed. */
  openToSet(path: string): number {
    return native().openat2(this.#root, rawName(path), O.RDONLY | O.DIRECTORY | O.NOFOLLOW, 0, inRoot);
  }

  /** Replaces each beginning of `path` that is a link in the layers below (only with `lower`). */
  real(path: string): string {
    if (this.#aliases.size === 0) return path;
    let at = '';
    for (const part of path.split('/')) {
      at = at === '' ? part : `${at}/${part}`;
      at = this.#aliases.get(at) ?? at;
    }
    return at;
  }

  /** `path` gets an entry of its own: it is no link of below any more. */
  unalias(path: string): void {
    this.#aliases.delete(path);
  }

  /** Closes every cached directory but `keep`, which the caller is using: it stays open under no name. */
  forget(keep?: number): void {
    let kept = false;
    for (const fd of new Set(this.#open.values())) {
      if (fd === keep) kept = true;
      else native().close(fd);
    }
    this.#open.clear();
    if (keep !== undefined && kept) this.#open.set('\0', keep);
  }

  #check(result: number, syscall: string, path: string): number {
    return checkAt(result, syscall, this.#options.path, showName(path));
  }

  #make(path: string, links: number): void {
    if (links > maxLinks)
      throw unsafe(`${showName(path)} leads through more than ${maxLinks} symbolic links`);
    let above = '';
    for (const base of path.split('/')) {
      const prefix = above === '' ? base : `${above}/${base}`;
      const probe = this.open(prefix);
      if (probe >= 0) {
        native().close(probe);
      } else {
        if (probe !== -ENOENT && probe !== -ENOTDIR) this.#check(probe, 'open', prefix);
        const parent = this.#check(this.open(above), 'open', above);
        try {
          this.#makeOne({ path: prefix, parent, base }, above, links);
        } finally {
          native().close(parent);
        }
      }
      above = this.real(prefix);
    }
  }

  #makeOne(place: Place, above: string, links: number): void {
    const { parent, base, path } = place;
    const name = rawName(base);
    const stat = statName(parent, name);
    if (stat === undefined) {
      if (this.#makeLikeBelow(place, links)) return;
      this.#check(native().mkdirat(parent, name, 0o700), 'mkdir', path);
      this.#options.made(this.#pathOf(parent, base), undefined);
      return;
    }
    if (isWhiteout(stat)) {
      this.#check(native().unlinkat(parent, name, 0), 'unlink', path);
      this.#check(native().mkdirat(parent, name, 0o700), 'mkdir', path);
      this.#options.opaque(place);
      this.#options.made(path, plainDirectory);
      return;
    }
    if (!isKind(stat, S_IF.LNK)) throw invalidTar(`${showName(path)} is a file and has an entry below it`);
    // A link to a directory that this layer does not have (yet): made where the link leads, seen from the layer's root.
    const target = readLink({ stat, dirfd: parent, name: base, directory: undefined });
    const from = target.startsWith('/') || above === '' ? [] : above.split('/');
    for (const part of target.split('/')) {
      if (part === '..') from.pop();
      else if (part !== '' && part !== '.') from.push(part);
    }
    const real = from.join('/');
    if (real !== '' && real !== path) this.get(real, links + 1);
  }

  /** With the layers below at hand: the directory as it is there, or the directory that a link there leads to. */
  #makeLikeBelow({ parent, base, path }: Place, links: number): boolean {
    const below = this.#options.lower?.at(path, true, (found) =>
      found?.node.directory === undefined
        ? undefined
        : { path: found.path, like: attributesOfNode(found.node) },
    );
    if (below === undefined) return false;
    if (below.path !== path) {
      this.#aliases.set(path, below.path);
      this.get(below.path, links + 1);
      return true;
    }
    this.#check(native().mkdirat(parent, rawName(base), 0o700), 'mkdir', path);
    this.#options.made(path, below.like);
    return true;
  }

  /** The path without links: the way to `parent` may lead over links of this layer. */
  #pathOf(parent: number, base: string): string {
    const root = readlinkSync(`/proc/self/fd/${this.#root}`, 'latin1');
    const above = readlinkSync(`/proc/self/fd/${parent}`, 'latin1').slice(root.length + 1);
    return above === '' ? base : `${above}/${base}`;
  }
}
