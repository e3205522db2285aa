/** Whether two trees are the same, entry by entry: type, mode, owner, time, size, device, attributes, target, content. */
import { readSync } from 'node:fs';
import { AT_FDCWD, S_IF } from '../../linux/constants.ts';
import { native, type Statx } from '../../linux/native.ts';
import { check } from '../../linux/syscall-error.ts';
import { showName } from './names.ts';
import { isKind, listNames, openDirectory, rawName, statFd, statName } from './tree.ts';
import { openRegular, readLink } from './view.ts';

/** Differences that are listed; more are counted no further. */
const maxShown = 20;
const maxDepth = 2048;

export interface CompareOptions {
  /** Attributes and device numbers that only the first tree needs, such as overlayfs' own, are left out. */
  readonly plain?: boolean;
}

/** What differs, a line each; empty where nothing does. Hard links have to join the same names. */
export function compareTrees(one: string, other: string, options: CompareOptions = {}): string[] {
  const a = check(openDirectory(AT_FDCWD, one), 'openat2', one);
  try {
    const b = check(openDirectory(AT_FDCWD, other), 'openat2', other);
    try {
      const compare = new Comparison(options);
      compare.directory(a, b, '', 0);
      return compare.differences;
    } finally {
      native().close(b);
    }
  } finally {
    native().close(a);
  }
}

class Comparison {
  readonly differences: string[] = [];
  readonly #options: CompareOptions;
  /** First names of inodes with several, in each tree. */
  readonly #links: readonly [Map<string, string>, Map<string, string>] = [new Map(), new Map()];
  readonly #buffers = [Buffer.allocUnsafe(256 * 1024), Buffer.allocUnsafe(256 * 1024)] as const;

  constructor(options: CompareOptions) {
    this.#options = options;
  }

  get #full(): boolean {
    return this.differences.length >= maxShown;
  }

  #differ(path: string, what: string): void {
    if (!this.#full) this.differences.push(`${showName(path === '' ? '/' : path)}: ${what}`);
  }

  directory(a: number, b: number, path: string, depth: number): void {
    this.#attributes(statFd(a), statFd(b), path);
    this.#xattrs(`/proc/self/fd/${a}`, `/proc/self/fd/${b}`, false, path);
    const here = new Set(listNames(a));
    const there = new Set(listNames(b));
    for (const name of there) if (!here.has(name)) this.#differ(`${path}/${name}`, 'only in the second');
    for (const name of here) {
      if (this.#full) return;
      const at = `${path}/${name}`;
      if (there.has(name)) this.#entry(a, b, name, at, depth);
      else this.#differ(at, 'only in the first');
    }
  }

  #entry(a: number, b: number, name: string, path: string, depth: number): void {
    const raw = rawName(name);
    const one = statName(a, raw);
    const other = statName(b, raw);
    if (one === undefined || other === undefined) {
      this.#differ(path, 'gone meanwhile');
      return;
    }
    if (isKind(one, S_IF.DIR) && isKind(other, S_IF.DIR)) {
      this.#descend(a, b, name, path, depth);
      return;
    }
    if (!this.#attributes(one, other, path)) return;
    const inDir = (fd: number): Buffer =>
      Buffer.concat([Buffer.from(`/proc/self/fd/${fd}/`), Buffer.from(name, 'latin1')]);
    this.#xattrs(inDir(a), inDir(b), true, path);
    const node = (stat: Statx, dirfd: number) => ({ stat, dirfd, name, directory: undefined });
    if (isKind(one, S_IF.LNK)) {
      if (readLink(node(one, a)) !== readLink(node(other, b))) this.#differ(path, 'another target');
    } else if (isKind(one, S_IF.REG)) {
      const first = this.#firstName(0, one, path);
      if (first !== this.#firstName(1, other, path)) this.#differ(path, 'linked to another name');
      // The content of an inode is read once.
      else if (first === path) this.#content(openRegular(node(one, a)), openRegular(node(other, b)), path);
    }
  }

  #descend(a: number, b: number, name: string, path: string, depth: number): void {
    if (depth >= maxDepth) {
      this.#differ(path, 'too deep to be compared');
      return;
    }
    const one = check(openDirectory(a, rawName(name)), 'openat2', name);
    try {
      const other = check(openDirectory(b, rawName(name)), 'openat2', name);
      try {
        this.directory(one, other, path, depth + 1);
      } finally {
        native().close(other);
      }
    } finally {
      native().close(one);
    }
  }

  #firstName(tree: 0 | 1, stat: Statx, path: string): string {
    if (stat.nlink < 2) return path;
    const first = this.#links[tree].get(String(stat.ino));
    if (first === undefined) this.#links[tree].set(String(stat.ino), path);
    return first ?? path;
  }

  #attributes(one: Statx, other: Statx, path: string): boolean {
    const of = (stat: Statx): readonly (readonly [string, string])[] => [
      ['mode', stat.mode.toString(8)],
      ['owner', `${stat.uid}:${stat.gid}`],
      ['time', `${stat.mtime}.${stat.mtimeNsec}`],
      ['size', isKind(stat, S_IF.DIR) ? '' : String(stat.size)],
      ['device', `${stat.rdevMajor}:${stat.rdevMinor}`],
    ];
    const theirs = of(other);
    const found = of(one).flatMap(([what, value], i) =>
      value === theirs[i]?.[1] ? [] : [`${what} ${value}, not ${theirs[i]?.[1]}`],
    );
    if (found.length > 0) this.#differ(path, found.join('; '));
    return found.length === 0;
  }

  #xattrs(a: string | Buffer, b: string | Buffer, nofollow: boolean, path: string): void {
    const of = (at: string | Buffer): string => {
      const names = native().listxattr(at, nofollow);
      if (typeof names === 'number') return '';
      return names
        .filter((name) => this.#options.plain !== true || !name.startsWith('trusted.overlay.'))
        .sort()
        .map((name) => {
          const value = native().getxattr(at, name, nofollow);
          return `${name}=${typeof value === 'number' ? value : value.toString('hex')}`;
        })
        .join(' ');
    };
    const one = of(a);
    const other = of(b);
    if (one !== other) this.#differ(path, `attributes ${one || 'none'}, not ${other || 'none'}`);
  }

  /** Closes both. */
  #content(a: number, b: number, path: string): void {
    const [mine, theirs] = this.#buffers;
    try {
      for (;;) {
        const n = readSync(a, mine);
        let m = 0;
        while (m < n) {
          const more = readSync(b, theirs, m, n - m, null);
          if (more === 0) break;
          m += more;
        }
        if (n !== m || mine.compare(theirs, 0, m, 0, n) !== 0) {
          this.#differ(path, 'another content');
          return;
        }
        if (n === 0) return;
      }
    } finally {
      native().close(a);
      native().close(b);
    }
  }
}
