/**
 * Copies a directory of an image into a directory of the host: the first content of a VOLUME. The path is walked
 * inside the image (CVE-2022-23648: a volume `/../../../etc` must not read the host's), every target is made in a
 * directory held open, and nothing that is made is followed.
 */
import { NodeletError } from '../../base/index.ts';
import { AT_FDCWD, O, S_IF } from '../../linux/constants.ts';
import { native } from '../../linux/native.ts';
import { check } from '../../linux/syscall-error.ts';
import { attributesOfNode, copyBytes, setAttributes, setNodeAttributes } from './attributes.ts';
import { checkAt } from './disk.ts';
import { showName } from './names.ts';
import { isKind, openDirectory, rawName } from './tree.ts';
import { LayerView, openRegular, readLink, type ViewDirectory, type ViewNode } from './view.ts';

const EEXIST = 17;
/** Directories within each other; each keeps its descriptors open while it is copied. */
const maxDepth = 200;

interface Target {
  readonly path: string;
  readonly root: number;
  /** Hard links: where the first name of an inode was put, from the root of the target. */
  readonly links: Map<string, string>;
}

/** `layers` topmost first. Returns false where the image has no such directory; then nothing was done. */
export function copyOut(layers: readonly string[], path: string, target: string): boolean {
  using view = new LayerView(layers);
  const source = Buffer.from(path).toString('latin1');
  return view.at(source, true, (found) => {
    const directory = found?.node.directory;
    if (found === undefined || directory === undefined) return false;
    const root = check(openDirectory(AT_FDCWD, target), 'openat2', target);
    try {
      copyDirectory(directory, root, '', { path: target, root, links: new Map() }, 0);
      setAttributes(root, attributesOfNode(found.node), target, JSON.stringify(target));
    } finally {
      native().close(root);
    }
    return true;
  });
}

function copyDirectory(from: ViewDirectory, to: number, path: string, target: Target, depth: number): void {
  if (depth > maxDepth) {
    throw new NodeletError(
      'IMAGE_FILE_INVALID',
      `cannot copy ${showName(path)}: it is more than ${maxDepth} directories deep`,
    );
  }
  for (const name of from.names()) {
    const node = from.lookup(name);
    if (node === undefined) continue;
    const inner = path === '' ? name : `${path}/${name}`;
    if (node.directory === undefined) {
      copyNode(node, name, to, inner, target);
      continue;
    }
    using directory = node.directory;
    const made = native().mkdirat(to, rawName(name), 0o700);
    if (made !== -EEXIST) checkAt(made, 'mkdir', target.path, showName(inner));
    const fd = checkAt(openDirectory(to, rawName(name)), 'open', target.path, showName(inner));
    try {
      copyDirectory(directory, fd, inner, target, depth + 1);
      setAttributes(fd, attributesOfNode(node), target.path, showName(inner));
    } finally {
      native().close(fd);
    }
  }
}

function copyNode(node: ViewNode, name: string, to: number, path: string, target: Target): void {
  const { stat } = node;
  const raw = rawName(name);
  const shown = showName(path);
  const inode = `${stat.devMajor}:${stat.devMinor}:${stat.ino}`;
  const first = stat.nlink > 1 ? target.links.get(inode) : undefined;
  if (first !== undefined) {
    // The target is ours alone: the way to the first name has no links in it.
    checkAt(native().linkat(target.root, rawName(first), to, raw, 0), 'link', target.path, shown);
    return;
  }
  if (isKind(stat, S_IF.REG)) {
    copyFile(node, to, path, name, target);
  } else {
    const isLink = isKind(stat, S_IF.LNK);
    const made = isLink
      ? native().symlinkat(rawName(readLink(node)), to, raw)
      : native().mknodat(to, raw, (stat.mode & S_IF.MT) | 0o600, stat.rdevMajor, stat.rdevMinor);
    checkAt(made, isLink ? 'symlink' : 'mknod', target.path, shown);
    setNodeAttributes(to, name, isLink, attributesOfNode(node), target.path, shown);
  }
  if (stat.nlink > 1) target.links.set(inode, path);
}

function copyFile(node: ViewNode, to: number, path: string, name: string, target: Target): void {
  const flags = O.WRONLY | O.CREAT | O.EXCL | O.NOFOLLOW;
  const fd = checkAt(
    native().openat2(to, rawName(name), flags, 0o600, 0),
    'create',
    target.path,
    showName(path),
  );
  try {
    const source = openRegular(node);
    try {
      copyBytes(source, fd);
    } finally {
      native().close(source);
    }
    setAttributes(fd, attributesOfNode(node), target.path, showName(path));
  } finally {
    native().close(fd);
  }
}
