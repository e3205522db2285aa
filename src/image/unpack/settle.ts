/**
 * What a layer owes to the layers below it, once they are there: layers are unpacked side by side, and few of them
 * need anything of this.
 */
import { AT_EMPTY_PATH, AT_FDCWD, O, RESOLVE, S_IF } from '../../linux/constants.ts';
import { native } from '../../linux/native.ts';
import { check } from '../../linux/syscall-error.ts';
import { type Attributes, attributesOfNode, setAttributes } from './attributes.ts';
import { checkAt } from './disk.ts';
import { showName } from './names.ts';
import { isKind, isWhiteout, listNames, openDirectory, rawName, removeAt, statFd, statName } from './tree.ts';
import { isOpaque, LayerView } from './view.ts';
import type { LayerSummary } from './writer.ts';

/**
 * Gives the directories that a layer's tar did not list the look that they have below (as containerd and docker do),
 * hides the names below an opaque root, and takes whiteouts away that hide nothing: overlayfs would list them.
 *
 * Returns false, having changed nothing, where such a directory is a link below: then the layer has to be unpacked
 * again with the layers below at hand. `files` is the layer's directory, `lower` those below, topmost first.
 */
export function settleLayer(files: string, lower: readonly string[], summary: LayerSummary): boolean {
  const { implied, whiteouts, rootImplied, rootOpaque } = summary;
  if (lower.length === 0) return true;
  if (implied.length + whiteouts.length === 0 && !rootImplied && !rootOpaque) return true;
  using view = new LayerView(lower);
  const root = check(openDirectory(AT_FDCWD, files), 'openat2', files);
  try {
    const layer: Layer = { root, files, view };
    const below = implied.map((path) =>
      isBelowOpaque(layer, path) ? undefined : directoryBelow(view, path),
    );
    if (below.some((found) => found?.moved)) return false;
    for (const [i, path] of implied.entries()) {
      const found = below[i];
      if (found !== undefined) setDirectory(layer, path, found.attributes);
    }
    const own = attributesOfNode({ stat: statFd(root), dirfd: root, name: '', directory: undefined });
    for (const path of whiteouts) dropIdleWhiteout(layer, path);
    // A directory that was only there to hold whiteouts of things that nobody below has is none. Inner ones first.
    for (let i = implied.length - 1; i >= 0; i -= 1) {
      if (below[i] === undefined) dropEmptyDirectory(layer, implied[i] ?? '');
    }
    if (rootOpaque) hideRoot(layer);
    // Names that came and went in the root changed its time.
    const like = rootImplied
      ? view.at('', true, (found) => found && attributesOfNode(found.node))
      : undefined;
    setAttributes(root, like ?? own, files, '"/"');
  } finally {
    native().close(root);
  }
  return true;
}

interface Layer {
  readonly root: number;
  readonly files: string;
  readonly view: LayerView;
}

function directoryBelow(
  view: LayerView,
  path: string,
): { readonly moved: boolean; readonly attributes: Attributes } | undefined {
  return view.at(path, true, (found) =>
    found?.node.directory === undefined
      ? undefined
      : { moved: found.path !== path, attributes: attributesOfNode(found.node) },
  );
}

/** An open directory of the layer; links are not followed, not even inside. A negative errno where there is none. */
function openInLayer(layer: Layer, path: string, flags: number): number {
  const resolve = RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS;
  return native().openat2(layer.root, rawName(path === '' ? '.' : path), flags | O.DIRECTORY, 0, resolve);
}

/**
 * Runs `use`, which removes something, with the open parent of `path` and its last part; the parent's time stays.
 * Nothing happens where the way there leads over a link.
 */
function inParent(layer: Layer, path: string, use: (parent: number, base: string) => void): void {
  const slash = path.lastIndexOf('/');
  const parent = openInLayer(layer, slash < 0 ? '' : path.slice(0, slash), O.PATH);
  if (parent < 0) return;
  try {
    const { mtime, mtimeNsec } = statFd(parent);
    use(parent, path.slice(slash + 1));
    check(native().utimensat(parent, '', mtime, mtimeNsec, AT_EMPTY_PATH), 'utimensat', layer.files);
  } finally {
    native().close(parent);
  }
}

function setDirectory(layer: Layer, path: string, attributes: Attributes): void {
  const fd = checkAt(openInLayer(layer, path, O.RDONLY), 'open', layer.files, showName(path));
  try {
    setAttributes(fd, attributes, layer.files, showName(path));
  } finally {
    native().close(fd);
  }
}

/** Merged directories hide their whiteouts from readdir, pure ones (opaque, or new) do not. */
function dropIdleWhiteout(layer: Layer, path: string): void {
  const hides = !isBelowOpaque(layer, path) && layer.view.at(path, false, (found) => found !== undefined);
  if (hides) return;
  inParent(layer, path, (parent, base) => {
    const stat = statName(parent, rawName(base));
    if (stat !== undefined && isWhiteout(stat)) removeAt(parent, base);
  });
}

function isBelowOpaque(layer: Layer, path: string): boolean {
  for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
    const fd = openInLayer(layer, path.slice(0, slash), O.RDONLY);
    if (fd < 0) return false;
    const opaque = isOpaque(fd);
    native().close(fd);
    if (opaque) return true;
  }
  return false;
}

function dropEmptyDirectory(layer: Layer, path: string): void {
  const fd = openInLayer(layer, path, O.RDONLY);
  if (fd < 0) return;
  const empty = listNames(fd).length === 0;
  native().close(fd);
  if (empty) inParent(layer, path, (parent, base) => removeAt(parent, base));
}

function hideRoot({ root, files, view }: Layer): void {
  for (const name of view.root.names()) {
    const raw = rawName(name);
    const stat = statName(root, raw);
    if (stat === undefined) {
      checkAt(native().mknodat(root, raw, S_IF.CHR, 0, 0), 'mknod', files, showName(name));
    } else if (isKind(stat, S_IF.DIR)) {
      const fd = checkAt(openDirectory(root, raw), 'open', files, showName(name));
      const marked = native().setxattr(
        `/proc/self/fd/${fd}`,
        'trusted.overlay.opaque',
        Buffer.from('y'),
        false,
      );
      native().close(fd);
      checkAt(marked, 'mark as opaque', files, showName(name));
    }
  }
}
