/**
 * Puts the entries of one layer's tar into one directory, as overlayfs wants them. Nothing on the way can lead out of
 * it: parents are opened by the kernel inside the directory (parents.ts), and the last part of a name is only ever
 * created, replaced or changed without following it, by descriptor. The directory is private to this unpack (its own
 * parent has mode 0700), so what exists in it came from this layer, and nobody races.
 *
 * Directories are made 0700 and root's, and get their owner, mode, attributes and times at the end: set-group-id of a
 * parent cannot leak into files, a read-only directory can be filled, times are not touched by what comes later.
 */
import { ftruncateSync, writeSync } from 'node:fs';
import { AT_SYMLINK_NOFOLLOW, O, S_IF } from '../../linux/constants.ts';
import { native } from '../../linux/native.ts';
import {
  type Attributes,
  attributesOf,
  attributesOfNode,
  copyBytes,
  plainDirectory,
  setAttributes,
  setNodeAttributes,
} from './attributes.ts';
import { checkAt } from './disk.ts';
import type { Limits } from './limits.ts';
import { classifyName, type EntryPath, showName, splitPath, unsafe } from './names.ts';
import { Parents, type Place } from './parents.ts';
import type { TarEntry, TarSink } from './tar/reader.ts';
import { isKind, isWhiteout, openDirectory, rawName, removeAt, statName } from './tree.ts';
import { type LayerView, openRegular } from './view.ts';

const ENOENT = 2;
const EEXIST = 17;
const ENOTDIR = 20;
const EMLINK = 31;
const ELOOP = 40;

/** Directories replaced by something else, in one layer: each costs a walk over the records. */
const maxReplaced = 1000;
/** Linux keeps 12 bits of a device's major number and 20 of the minor. */
const maxMajor = 0xfff;
const maxMinor = 0xf_ffff;

export interface LayerSummary {
  readonly entries: number;
  /** Bytes of regular files, holes included. */
  readonly bytes: number;
  /** Directories that the tar did not list (latin1 paths, parents first): they look like those of the layer below. */
  readonly implied: readonly string[];
  readonly rootImplied: boolean;
  /** Paths of whiteouts that were made: those that hide nothing have to go again. */
  readonly whiteouts: readonly string[];
  /** `.wh..wh..opq` in the root, which overlayfs does not know: each name of the layers below has to be hidden. */
  readonly rootOpaque: boolean;
}

export interface WriterOptions {
  readonly limits: Limits;
  /** The lowest layer of an image hides nothing: whiteouts in it are dropped. */
  readonly lowest: boolean;
  /**
   * The layers below, where a first try without them has shown that they matter: a directory that the tar does not
   * list is a link there, or a hard link leads there.
   */
  readonly lower?: LayerView;
  /** Where the layer is unpacked to, for messages. */
  readonly path: string;
  /** Called for each entry with the sums so far; throws to stop. */
  readonly check: (entries: number, bytes: number) => void;
}

interface OpenFile {
  readonly fd: number;
  readonly entry: TarEntry;
  readonly attributes: Attributes;
  /** The descriptor's own offset; behind `size` after a hole. */
  position: number;
  /** End of what has been written. */
  size: number;
}

/** This layer can only be unpacked with the layers below at hand. */
export class NeedsLower extends Error {}

export class LayerWriter implements TarSink {
  readonly #options: WriterOptions;
  readonly #root: number;
  readonly #parents: Parents;
  readonly #directories = new Map<string, Attributes>();
  readonly #implied = new Set<string>();
  readonly #whiteouts: string[] = [];
  #rootAttributes: Attributes | undefined;
  #rootOpaque = false;
  #entries = 0;
  #bytes = 0;
  #replaced = 0;
  #file: OpenFile | undefined;

  /** `root` is an open directory, new and empty; the caller keeps it. */
  constructor(root: number, options: WriterOptions) {
    this.#root = root;
    this.#options = options;
    this.#parents = new Parents(root, {
      path: options.path,
      lower: options.lower,
      opaque: (place) => this.#setOpaque(place),
      made: (path, like) => {
        if (like === undefined) this.#implied.add(path);
        else this.#directories.set(path, like);
      },
    });
  }

  entry(entry: TarEntry): void {
    this.#entries += 1;
    this.#bytes += entry.size;
    this.#options.check(this.#entries, this.#bytes);
    const name = classifyName(entry.name, this.#options.limits);
    switch (name.kind) {
      case 'ignored':
        return;
      case 'opaque':
        if (!this.#options.lowest) this.#hideAll(name.parent);
        return;
      case 'whiteout':
        if (!this.#options.lowest) this.#hide(this.#place(name), entry);
        return;
      case 'entry':
        if (name.path === '') this.#setRoot(entry);
        else this.#create(this.#place(name), entry);
    }
  }

  data(chunk: Buffer, offset: number): void {
    const file = this.#file;
    if (file === undefined) return; // of a whiteout
    for (let at = 0; at < chunk.length; ) {
      const position = offset + at;
      const inOrder = position === file.position;
      const written = this.#write(file.fd, chunk, at, inOrder ? null : position, file.entry.name);
      if (inOrder) file.position += written;
      file.size = position + written;
      at += written;
    }
  }

  end(): void {
    const file = this.#file;
    if (file === undefined) return;
    this.#file = undefined;
    try {
      // A hole at the end, or nothing but holes.
      if (file.size !== file.entry.size) ftruncateSync(file.fd, file.entry.size);
      setAttributes(file.fd, file.attributes, this.#options.path, showName(file.entry.name));
    } finally {
      native().close(file.fd);
    }
  }

  /** Gives directories what was held back. The layer is complete after it, but for what the layer below decides. */
  finish(): LayerSummary {
    for (const path of this.#implied) this.#directories.set(path, plainDirectory);
    for (const [path, attributes] of this.#directories) {
      const fd = this.#parents.openToSet(path);
      if (fd === -ENOENT || fd === -ENOTDIR || fd === -ELOOP) continue; // replaced later in the same layer
      this.#check(fd, 'open', path);
      try {
        setAttributes(fd, attributes, this.#options.path, showName(path));
      } finally {
        native().close(fd);
      }
    }
    setAttributes(this.#root, this.#rootAttributes ?? plainDirectory, this.#options.path, '"/"');
    return {
      entries: this.#entries,
      bytes: this.#bytes,
      implied: [...this.#implied],
      rootImplied: this.#rootAttributes === undefined,
      whiteouts: this.#whiteouts,
      rootOpaque: this.#rootOpaque,
    };
  }

  /** Closes what is open; the tree stays as it is. */
  close(): void {
    if (this.#file !== undefined) native().close(this.#file.fd);
    this.#file = undefined;
    this.#parents.forget();
  }

  #check(result: number, syscall: string, path: string): number {
    return checkAt(result, syscall, this.#options.path, showName(path));
  }

  #write(fd: number, chunk: Buffer, at: number, position: number | null, name: string): number {
    try {
      return writeSync(fd, chunk, at, chunk.length - at, position);
    } catch (error) {
      if (error instanceof Error && 'errno' in error) this.#check(Number(error.errno), 'write', name);
      throw error;
    }
  }

  /** Where an entry goes: its open parent, and its path as it is in the end. */
  #place(name: EntryPath): Place {
    const parent = this.#parents.get(name.parent);
    const above = this.#parents.real(name.parent);
    return { parent, base: name.base, path: above === '' ? name.base : `${above}/${name.base}` };
  }

  #setRoot(entry: TarEntry): void {
    if (entry.type !== 'directory') throw unsafe(`the root of the layer is a ${entry.type}`);
    this.#rootAttributes = attributesOf(entry, this.#options.limits);
  }

  #create(place: Place, entry: TarEntry): void {
    const { parent, base, path } = place;
    const attributes = attributesOf(entry, this.#options.limits);
    const name = rawName(base);
    this.#parents.unalias(path);
    switch (entry.type) {
      case 'directory':
        this.#directory(place);
        this.#directories.set(path, attributes);
        this.#implied.delete(path);
        return;
      case 'file': {
        const flags = O.WRONLY | O.CREAT | O.EXCL | O.NOFOLLOW;
        const fd = this.#make(place, 'create', () => native().openat2(parent, name, flags, 0o600, 0));
        this.#file = { fd, entry, attributes, position: 0, size: 0 };
        return;
      }
      case 'hardlink':
        this.#hardlink(place, entry.linkName);
        return;
      case 'symlink': {
        const target = entry.linkName;
        if (target === '' || target.length >= this.#options.limits.pathBytes || target.includes('\0')) {
          throw unsafe(`the symbolic link ${showName(path)} has a target of ${target.length} bytes`);
        }
        this.#make(place, 'symlink', () => native().symlinkat(rawName(target), parent, name));
        break;
      }
      case 'fifo':
        this.#make(place, 'mkfifo', () => native().mknodat(parent, name, S_IF.FIFO | 0o600, 0, 0));
        break;
      case 'char':
      case 'block':
        if (!this.#device(place, entry, entry.type)) return;
    }
    setNodeAttributes(parent, base, entry.type === 'symlink', attributes, this.#options.path, showName(path));
  }

  /** False where the entry turned out to be a whiteout. */
  #device(place: Place, entry: TarEntry, type: 'char' | 'block'): boolean {
    const { devMajor: major, devMinor: minor } = entry;
    if (major < 0 || major > maxMajor || minor < 0 || minor > maxMinor) {
      throw unsafe(
        `the device ${showName(place.path)} has the number ${major}:${minor}, which Linux does not have`,
      );
    }
    if (type === 'char' && major === 0 && minor === 0) {
      // overlayfs takes it for a whiteout
      if (!this.#options.lowest) this.#hide(place, entry);
      return false;
    }
    const mode = (type === 'char' ? S_IF.CHR : S_IF.BLK) | 0o600;
    this.#make(place, 'mknod', () => native().mknodat(place.parent, rawName(place.base), mode, major, minor));
    return true;
  }

  /** Runs `make`; where the name is taken, takes what is there away and runs it again. Returns its result. */
  #make(place: Place, syscall: string, make: () => number): number {
    const result = make();
    if (result !== -EEXIST) return this.#check(result, syscall, place.path);
    this.#remove(place);
    return this.#check(make(), syscall, place.path);
  }

  #remove({ parent, base, path }: Place): void {
    const stat = statName(parent, rawName(base));
    if (stat === undefined) return;
    if (isKind(stat, S_IF.DIR)) {
      this.#replaced += 1;
      if (this.#replaced > maxReplaced)
        throw unsafe(`more than ${maxReplaced} directories are replaced by files`);
      const inside = `${path}/`;
      const gone = (known: string): boolean => known === path || known.startsWith(inside);
      for (const known of this.#directories.keys()) if (gone(known)) this.#directories.delete(known);
      for (const known of this.#implied) if (gone(known)) this.#implied.delete(known);
    }
    // A cached parent may have been reached through what goes now.
    if (isKind(stat, S_IF.DIR) || isKind(stat, S_IF.LNK)) this.#parents.forget(parent);
    removeAt(parent, base);
  }

  /** Makes the directory, merges with one that is there, replaces anything else (and hides what lies below then). */
  #directory(place: Place): void {
    const { parent, base, path } = place;
    const name = rawName(base);
    const result = native().mkdirat(parent, name, 0o700);
    if (result !== -EEXIST) {
      this.#check(result, 'mkdir', path);
      return;
    }
    const stat = statName(parent, name);
    if (stat !== undefined && isKind(stat, S_IF.DIR)) return;
    this.#remove(place);
    this.#check(native().mkdirat(parent, name, 0o700), 'mkdir', path);
    this.#setOpaque(place);
  }

  #hardlink(place: Place, target: string): void {
    const { parent, base, path } = place;
    const source = splitPath(target, this.#options.limits);
    if (this.#parents.real(source.path) === path && statName(parent, rawName(base)) !== undefined) return;
    const missing = (): Error =>
      unsafe(`the hard link ${showName(path)} leads to ${showName(target)}, which the image does not have`);
    let from = this.#parents.open(source.parent);
    if (from === -ENOENT || from === -ENOTDIR) {
      if (!this.#copyUp(source, missing)) throw missing();
      from = this.#parents.open(source.parent);
    }
    if (from === -ELOOP) throw missing();
    this.#check(from, 'open', source.parent);
    try {
      const name = rawName(source.base);
      let stat = source.base === '' ? undefined : statName(from, name);
      if (stat === undefined && this.#copyUp(source, missing)) stat = statName(from, name);
      if (stat === undefined || isKind(stat, S_IF.DIR) || isWhiteout(stat)) throw missing();
      // flags 0: a link to a symbolic link links that, and does not follow it
      const link = (): number => native().linkat(from, name, parent, rawName(base), 0);
      const result = link();
      if (result === -EMLINK) throw unsafe(`the file ${showName(target)} has too many hard links`);
      if (result !== -EEXIST) {
        this.#check(result, 'link', path);
        return;
      }
      this.#remove(place);
      this.#check(link(), 'link', path);
    } finally {
      native().close(from);
    }
  }

  /** Copies a file of the layers below into this one, so that it can be linked to. False where there is none. */
  #copyUp(source: EntryPath, missing: () => Error): boolean {
    const { lower, lowest, path } = this.#options;
    if (source.base === '' || lowest) return false;
    if (lower === undefined) throw new NeedsLower(missing().message);
    return lower.at(source.path, false, (found) => {
      if (found === undefined || !isKind(found.node.stat, S_IF.REG)) return false;
      const place = this.#place(source);
      const flags = O.WRONLY | O.CREAT | O.EXCL | O.NOFOLLOW;
      const to = native().openat2(place.parent, rawName(place.base), flags, 0o600, 0);
      this.#check(to, 'create', place.path);
      try {
        const from = openRegular(found.node);
        try {
          copyBytes(from, to);
        } finally {
          native().close(from);
        }
        setAttributes(to, attributesOfNode(found.node), path, showName(place.path));
      } finally {
        native().close(to);
      }
      return true;
    });
  }

  /** A whiteout of one name: it hides the layers below, wherever it stands in the tar, never this layer's own files. */
  #hide(place: Place, entry: TarEntry): void {
    const { parent, base, path } = place;
    const name = rawName(base);
    const stat = statName(parent, name);
    if (stat === undefined) {
      const { mtime, mtimeNsec } = attributesOf(entry, this.#options.limits);
      this.#check(native().mknodat(parent, name, S_IF.CHR, 0, 0), 'mknod', path);
      this.#whiteouts.push(path);
      this.#check(
        native().utimensat(parent, name, mtime, mtimeNsec, AT_SYMLINK_NOFOLLOW),
        'set the times of',
        path,
      );
    } else if (isKind(stat, S_IF.DIR)) {
      this.#setOpaque(place);
    }
  }

  #hideAll(path: string): void {
    if (path === '') this.#rootOpaque = true;
    else this.#markOpaque(this.#parents.get(path), path);
  }

  #setOpaque({ parent, base, path }: Place): void {
    if (this.#options.lowest) return;
    const fd = this.#check(openDirectory(parent, rawName(base)), 'open', path);
    try {
      this.#markOpaque(fd, path);
    } finally {
      native().close(fd);
    }
  }

  #markOpaque(fd: number, path: string): void {
    const result = native().setxattr(
      `/proc/self/fd/${fd}`,
      'trusted.overlay.opaque',
      Buffer.from('y'),
      false,
    );
    this.#check(result, 'mark as opaque', path);
  }
}
