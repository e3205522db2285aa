/**
 * Which files of this machine a program needs to run elsewhere: itself, its interpreter, its libraries, theirs, and
 * every directory and link on the way to them, so that a merged /usr looks the same inside. Decides only; what it
 * asks of the machine goes through `Disk`.
 */
import { posix } from 'node:path';
import { NodeletError } from '../../base/index.ts';
import { quote } from '../digest.ts';
import { type ElfFile, isElf, parseElf, type ReadAt } from './elf.ts';
import {
  configuredDirectories,
  defaultDirectories,
  type Host,
  type Loader,
  searchPath,
} from './library-path.ts';
import { scriptInterpreter } from './script.ts';

export interface DiskStat {
  readonly kind: 'file' | 'directory' | 'symlink' | 'other';
  readonly mode: number;
}

export interface Disk extends Host {
  lstat(path: string): DiskStat | undefined;
  readlink(path: string): string;
  readAt(path: string): ReadAt;
}

/** One thing to pack: a path of this machine, and where it goes where that is not the same. Both absolute. */
export interface PackSource {
  readonly source: string;
  readonly target: string | undefined;
}

export type PackItem =
  | { readonly kind: 'file'; readonly source: string; readonly mode: number }
  | { readonly kind: 'directory'; readonly mode: number }
  | { readonly kind: 'symlink'; readonly target: string };

export interface Closure {
  /** By absolute path in the image. */
  readonly items: ReadonlyMap<string, PackItem>;
  /** Directories of libraries that the dynamic linker inside the image would not find by itself. */
  readonly libraryDirectories: readonly string[];
  /** The first source is a file that can be executed. */
  readonly startsWithProgram: boolean;
  /** e_machine of the first program, where there is one. */
  readonly machine: number | undefined;
  readonly warnings: readonly string[];
}

const maxLinks = 40;
const maxItems = 500_000;
const maxScripts = 5;

export function collect(sources: readonly PackSource[], disk: Disk, path: readonly string[]): Closure {
  return new Collector(disk, path).run(sources);
}

class Collector {
  readonly #disk: Disk;
  /** $PATH, for `#!/usr/bin/env`. */
  readonly #path: readonly string[];
  readonly #configured: readonly string[];
  readonly #items = new Map<string, PackItem>();
  readonly #programs = new Set<string>();
  readonly #libraryDirectories = new Set<string>();
  readonly #warnings: string[] = [];
  #machine: number | undefined;

  constructor(disk: Disk, path: readonly string[]) {
    this.#disk = disk;
    this.#path = path;
    this.#configured = configuredDirectories(disk);
  }

  run(sources: readonly PackSource[]): Closure {
    for (const { source, target } of sources) {
      const found = this.#resolve(source);
      if (found === undefined) throw notFound(source, 'there is no such file');
      if (target === undefined) this.#trail(source);
      else this.#parentsOf(target);
      this.#add(found, target ?? found, target !== undefined && target !== found);
    }
    const first = sources[0] === undefined ? undefined : this.#resolve(sources[0].source);
    const stat = first === undefined ? undefined : this.#disk.lstat(first);
    return {
      items: this.#items,
      startsWithProgram: stat?.kind === 'file' && (stat.mode & 0o111) !== 0,
      libraryDirectories: [...this.#libraryDirectories].sort(),
      machine: this.#machine,
      warnings: this.#warnings,
    };
  }

  /** The file or directory `source` (no link) at `target`, with everything in it and everything it needs. */
  #add(source: string, target: string, moved: boolean): void {
    const stat = this.#disk.lstat(source);
    if (stat?.kind === 'file') {
      this.#put(target, { kind: 'file', source, mode: stat.mode });
      this.#program(source, moved, 0);
    } else if (stat?.kind === 'directory') {
      this.#directory(source, target, stat.mode, moved);
    } else {
      throw notFound(source, 'it is neither a file nor a directory');
    }
  }

  #directory(source: string, target: string, mode: number, moved: boolean): void {
    if (target !== '/') this.#put(target, { kind: 'directory', mode });
    for (const name of [...this.#disk.list(source)].sort()) {
      const inner = posix.join(source, name);
      const at = posix.join(target, name);
      const stat = this.#disk.lstat(inner);
      if (stat?.kind === 'symlink') this.#link(inner, at);
      else if (stat?.kind === 'file' || stat?.kind === 'directory') this.#add(inner, at, moved);
      else this.#warnings.push(`${quote(inner)} is no file, directory or link and was left out`);
    }
  }

  /** A link inside a packed directory stays a link; a file that it leads to is packed as well. */
  #link(source: string, target: string): void {
    this.#put(target, { kind: 'symlink', target: this.#disk.readlink(source) });
    const end = this.#resolve(source);
    if (end === undefined) {
      this.#warnings.push(`the link ${quote(source)} leads nowhere`);
    } else if (this.#disk.lstat(end)?.kind === 'file') {
      this.#trail(end);
      this.#program(end, false, 0);
    } else if (!this.#items.has(end)) {
      this.#warnings.push(
        `the link ${quote(source)} leads to the directory ${quote(end)}, which is only packed if named`,
      );
    }
  }

  #put(path: string, item: PackItem): void {
    // A directory that is only on the way does not replace what was asked for.
    if (item.kind === 'directory' && this.#items.get(path)?.kind === 'directory') return;
    this.#items.set(path, item);
    if (this.#items.size > maxItems) {
      throw new NodeletError('PACK_TOO_LARGE', `cannot pack more than ${maxItems} files into one image`);
    }
  }

  #parentsOf(target: string): void {
    for (let at = posix.dirname(target); at !== '/'; at = posix.dirname(at)) {
      if (!this.#items.has(at)) this.#items.set(at, { kind: 'directory', mode: 0o755 });
    }
  }

  /** The path without links, or undefined where it leads nowhere. */
  #resolve(path: string): string | undefined {
    return this.#walk(path, () => {});
  }

  /** Packs `path` with every directory and link on the way to it; the file itself too. Returns its real path. */
  #trail(path: string): string {
    const real = this.#walk(path, (at, item) => this.#put(at, item));
    if (real === undefined) throw notFound(path, 'there is no such file');
    return real;
  }

  #walk(path: string, visit: (at: string, item: PackItem) => void): string | undefined {
    let at = '/';
    const todo = path.split('/').filter((part) => part !== '');
    let links = 0;
    for (let part = todo.shift(); part !== undefined; part = todo.shift()) {
      if (part === '.') continue;
      if (part === '..') {
        at = posix.dirname(at);
        continue;
      }
      const next = posix.join(at, part);
      const stat = this.#disk.lstat(next);
      if (stat === undefined || stat.kind === 'other') return undefined;
      if (stat.kind === 'symlink') {
        links += 1;
        if (links > maxLinks) return undefined;
        const target = this.#disk.readlink(next);
        visit(next, { kind: 'symlink', target });
        if (target.startsWith('/')) at = '/';
        todo.unshift(...target.split('/').filter((item) => item !== ''));
        continue;
      }
      if (stat.kind === 'directory') visit(next, { kind: 'directory', mode: stat.mode });
      else visit(next, { kind: 'file', source: next, mode: stat.mode });
      at = next;
    }
    return at;
  }

  /** What the file at a real path needs to be run or loaded. Files that are neither program nor script need nothing. */
  #program(path: string, moved: boolean, scripts: number): void {
    if (this.#programs.has(path)) return;
    this.#programs.add(path);
    const read = this.#disk.readAt(path);
    const head = read(0, 256);
    if (isElf(head)) {
      // Object files and core dumps have no program headers, foreign files may be damaged: they are packed as data.
      const elf = this.#parse(read, path);
      if (elf !== undefined) this.#load({ path, elf }, [], moved);
      return;
    }
    const interpreter = scriptInterpreter(head);
    if (interpreter === undefined) return;
    if (scripts >= maxScripts)
      throw notFound(path, 'its interpreter is a script, as is that one’s, and so on');
    this.#interpreter(path, interpreter.program, scripts);
    if (interpreter.viaEnv !== undefined) {
      const name = interpreter.viaEnv;
      const found = name.startsWith('/')
        ? name
        : this.#path
            .map((folder) => posix.join(folder, name))
            .find((file) => this.#resolve(file) !== undefined);
      if (found === undefined) throw notFound(path, `its interpreter ${quote(name)} is not in PATH`);
      this.#interpreter(path, found, scripts);
    }
  }

  #interpreter(script: string, interpreter: string, scripts: number): void {
    if (this.#resolve(interpreter) === undefined)
      throw notFound(script, `its interpreter ${quote(interpreter)} is missing`);
    this.#program(this.#trail(interpreter), false, scripts + 1);
  }

  #parse(read: ReadAt, path: string): ElfFile | undefined {
    try {
      return parseElf(read, path);
    } catch (error) {
      this.#warnings.push(
        `${quote(path)} was packed as data: ${error instanceof Error ? error.message : ''}`,
      );
      return undefined;
    }
  }

  #load(object: Loader, chain: readonly Loader[], moved: boolean): void {
    const { elf, path } = object;
    this.#machine ??= elf.machine;
    if (elf.interpreter !== undefined) {
      if (this.#resolve(elf.interpreter) === undefined) {
        throw notFound(path, `its dynamic linker ${quote(elf.interpreter)} is missing`);
      }
      this.#programs.add(this.#trail(elf.interpreter));
    }
    for (const name of elf.needed) {
      const found = this.#find(name, object, chain);
      if (found === undefined) {
        throw new NodeletError(
          'PACK_LIBRARY_MISSING',
          `cannot pack ${quote(path)}: its library ${quote(name)} is missing`,
          {
            hint: 'install the package that brings the library',
            details: { path, library: name },
          },
        );
      }
      const real = this.#trail(found.path);
      if (found.directory !== undefined && (moved || this.#configured.includes(found.directory))) {
        if (!defaultDirectories(elf).includes(found.directory))
          this.#libraryDirectories.add(posix.normalize(found.directory));
      }
      if (this.#programs.has(real)) continue;
      this.#programs.add(real);
      this.#load({ path: real, elf: found.elf }, [object, ...chain], false);
    }
  }

  #find(
    name: string,
    object: Loader,
    chain: readonly Loader[],
  ): { readonly path: string; readonly directory: string | undefined; readonly elf: ElfFile } | undefined {
    const places = name.includes('/')
      ? [{ path: posix.resolve(posix.dirname(object.path), name), directory: undefined }]
      : searchPath(object, chain, this.#configured).map((directory) => ({
          path: posix.join(directory, name),
          directory,
        }));
    for (const place of places) {
      const real = this.#resolve(place.path);
      if (real === undefined || this.#disk.lstat(real)?.kind !== 'file') continue;
      const read = this.#disk.readAt(real);
      if (!isElf(read(0, 4))) continue;
      const elf = this.#parse(read, real);
      // The linker passes over libraries for another machine.
      if (elf?.bits === object.elf.bits && elf.machine === object.elf.machine) return { ...place, elf };
    }
    return undefined;
  }
}

function notFound(path: string, reason: string): NodeletError {
  return new NodeletError('PACK_NOT_FOUND', `cannot pack ${quote(path)}: ${reason}`, { details: { path } });
}
