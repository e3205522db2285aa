/**
 * The files of a stack of layers as overlayfs would show them, without mounting anything: to look up a user, to copy
 * a volume's first content, to see what a layer's missing parent directory looks like below. The kernel's overlay
 * would need 6.8 (`lowerdir+`) for more than some twenty layers outside a mount namespace of its own: before that
 * the mount API takes 256 bytes of lowerdir. The rules are four: the topmost wins; a 0:0 device hides; directories
 * merge down to an opaque one; what is no directory ends the merge.
 *
 * Every step opens or reads one name in one directory of one layer without following it; symbolic links are walked
 * here, from the root of the image, so that no link can name anything outside.
 */
import { readlinkSync } from 'node:fs';
import { AT_FDCWD, O, RESOLVE, S_IF } from '../../linux/constants.ts';
import { native, type Statx } from '../../linux/native.ts';
import { check } from '../../linux/syscall-error.ts';
import { isKind, isWhiteout, listNames, openDirectory, rawName, statFd, statName } from './tree.ts';

const maxLinks = 40;

/** A directory of the view: the layers' directories that it merges, the topmost first. */
export class ViewDirectory implements Disposable {
  readonly #fds: readonly number[];

  constructor(fds: readonly number[]) {
    this.#fds = fds;
  }

  /** The layer's directory that gives this one its owner, mode and attributes. */
  get top(): number {
    return this.#fds[0] as number;
  }

  /** What `name` is here; links are not followed. The caller closes a directory that it gets. */
  lookup(name: string): ViewNode | undefined {
    const raw = rawName(name);
    const merged: number[] = [];
    let top: Statx | undefined;
    for (const dirfd of this.#fds) {
      const stat = statName(dirfd, raw);
      if (stat === undefined) continue;
      if (isWhiteout(stat)) break;
      if (!isKind(stat, S_IF.DIR)) {
        if (top === undefined) return { stat, dirfd, name, directory: undefined };
        break;
      }
      top ??= stat;
      const fd = check(openDirectory(dirfd, raw), 'openat2', name);
      merged.push(fd);
      if (isOpaque(fd)) break;
    }
    if (top === undefined) return undefined;
    return { stat: top, dirfd: merged[0] as number, name: '', directory: new ViewDirectory(merged) };
  }

  /** Names of everything that can be looked up here, in no order. */
  names(): string[] {
    const seen = new Set<string>();
    const shown: string[] = [];
    for (const fd of this.#fds) {
      for (const name of listNames(fd)) {
        if (seen.has(name)) continue;
        seen.add(name);
        const stat = statName(fd, rawName(name));
        if (stat !== undefined && !isWhiteout(stat)) shown.push(name);
      }
    }
    return shown;
  }

  close(): void {
    for (const fd of this.#fds) native().close(fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export interface ViewNode {
  readonly stat: Statx;
  /** With `name`, where a system call finds it; for a directory its topmost layer's, with an empty name. */
  readonly dirfd: number;
  readonly name: string;
  readonly directory: ViewDirectory | undefined;
}

/** What a walk found: the node, and its path without any link. */
export interface Found {
  readonly path: string;
  readonly node: ViewNode;
}

export class LayerView implements Disposable {
  readonly #root: ViewDirectory;

  /** `layers` are directories, the topmost first; at least one. */
  constructor(layers: readonly string[]) {
    const fds: number[] = [];
    try {
      for (const layer of layers) fds.push(check(openDirectory(AT_FDCWD, layer), 'open layer', layer));
    } catch (error) {
      for (const fd of fds) native().close(fd);
      throw error;
    }
    this.#root = new ViewDirectory(fds);
  }

  get root(): ViewDirectory {
    return this.#root;
  }

  /**
   * Runs `use` with what `path` names, or with undefined where there is nothing. Links on the way are followed, the
   * last one with `follow`. What the node holds open is closed afterwards.
   */
  at<T>(path: string, follow: boolean, use: (found: Found | undefined) => T): T {
    const trail: { name: string; directory: ViewDirectory }[] = [];
    const here = (): ViewDirectory => trail.at(-1)?.directory ?? this.#root;
    const canonical = (): string => trail.map((step) => step.name).join('/');
    const todo = partsOf(path);
    let links = 0;
    try {
      for (let part = todo.shift(); part !== undefined; part = todo.shift()) {
        if (part === '..') {
          trail.pop()?.directory.close();
          continue;
        }
        const node = here().lookup(part);
        if (node === undefined) return use(undefined);
        if (node.directory !== undefined) {
          trail.push({ name: part, directory: node.directory });
          continue;
        }
        const last = todo.length === 0;
        if (isKind(node.stat, S_IF.LNK) && (!last || follow)) {
          links += 1;
          if (links > maxLinks) return use(undefined);
          const target = readLink(node);
          if (target.startsWith('/')) for (const step of trail.splice(0)) step.directory.close();
          todo.unshift(...partsOf(target));
          continue;
        }
        if (!last) return use(undefined);
        const above = canonical();
        return use({ path: above === '' ? part : `${above}/${part}`, node });
      }
      const directory = here();
      const stat = statFd(directory.top);
      return use({ path: canonical(), node: { stat, dirfd: directory.top, name: '', directory } });
    } finally {
      for (const step of trail) step.directory.close();
    }
  }

  close(): void {
    this.#root.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function partsOf(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}

/** An open directory that shows nothing of the layers below it. */
export function isOpaque(fd: number): boolean {
  const value = native().getxattr(`/proc/self/fd/${fd}`, 'trusted.overlay.opaque', false);
  return typeof value !== 'number' && value.length === 1 && value[0] === 0x79;
}

/** The target of a symbolic link, bytes as latin1 text. */
export function readLink(node: ViewNode): string {
  const path = Buffer.concat([Buffer.from(`/proc/self/fd/${node.dirfd}/`), Buffer.from(node.name, 'latin1')]);
  return readlinkSync(path, 'latin1');
}

/**
 * Opens a regular file of the view for reading; the caller closes it. Never blocks: what is no regular file was seen
 * before and is refused, and a pipe would not be waited for.
 */
export function openRegular(node: ViewNode): number {
  const flags = O.RDONLY | O.NOFOLLOW | O.NONBLOCK | O.NOCTTY;
  return check(
    native().openat2(node.dirfd, rawName(node.name), flags, 0, RESOLVE.NO_SYMLINKS),
    'openat2',
    node.name,
  );
}
