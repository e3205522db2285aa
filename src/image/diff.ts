/**
 * What a container changed: its writable directory, held against the layers below it, as docker and podman say it. A
 * directory that was only opened to change something in it is a change; what a new directory holds is all new.
 */
import { AT_FDCWD, S_IF } from '../linux/constants.ts';
import { native } from '../linux/native.ts';
import { check } from '../linux/syscall-error.ts';
import { isKind, isWhiteout, listNames, openDirectory, rawName, statName } from './unpack/tree.ts';
import { isOpaque, LayerView } from './unpack/view.ts';

export interface Change {
  readonly kind: 'added' | 'changed' | 'deleted';
  /** Bytes as latin1 text, from "/". */
  readonly path: string;
}

/** Directories within each other that are looked into. */
const maxDepth = 1000;

/** `lower` topmost first. Changes in the order of their paths. */
export function diffLayers(upper: string, lower: readonly string[]): Change[] {
  using view = new LayerView(lower);
  const changes: Change[] = [];
  const root = check(openDirectory(AT_FDCWD, upper), 'openat2', upper);
  try {
    walk({ view, changes }, root, '', true, 0);
  } finally {
    native().close(root);
  }
  return changes.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

interface Walk {
  readonly view: LayerView;
  readonly changes: Change[];
}

/** `below`: the layers below have a directory of this path that shows through. */
function walk({ view, changes }: Walk, dirfd: number, path: string, below: boolean, depth: number): void {
  const own = new Set<string>();
  for (const name of listNames(dirfd)) {
    own.add(name);
    const stat = statName(dirfd, rawName(name));
    if (stat === undefined) continue; // gone since it was listed
    const at = `${path}/${name}`;
    if (isWhiteout(stat)) {
      changes.push({ kind: 'deleted', path: at });
      continue;
    }
    const kind = below ? kindBelow(view, at) : undefined;
    changes.push({ kind: kind === undefined ? 'added' : 'changed', path: at });
    if (!isKind(stat, S_IF.DIR) || depth >= maxDepth) continue;
    const fd = openDirectory(dirfd, rawName(name));
    if (fd < 0) continue;
    try {
      walk({ view, changes }, fd, at, kind === 'directory', depth + 1);
    } finally {
      native().close(fd);
    }
  }
  // An opaque directory replaced the one below: what it does not have itself is gone.
  if (!below || path === '' || !isOpaque(dirfd)) return;
  for (const name of namesBelow(view, path))
    if (!own.has(name)) changes.push({ kind: 'deleted', path: `${path}/${name}` });
}

function kindBelow(view: LayerView, path: string): 'directory' | 'other' | undefined {
  return view.at(path, false, (found) =>
    found === undefined ? undefined : found.node.directory === undefined ? 'other' : 'directory',
  );
}

function namesBelow(view: LayerView, path: string): string[] {
  return view.at(path, false, (found) => found?.node.directory?.names() ?? []);
}
