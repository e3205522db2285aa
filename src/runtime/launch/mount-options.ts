import { NodeletError } from '../../base/index.ts';
import { MOUNT_ATTR, MS } from '../../linux/constants.ts';

/** Mount options as mount(8) and the OCI runtime specification name them, sorted by what carries them out. */
export interface MountOptions {
  readonly bind: boolean;
  readonly recursive: boolean;
  /** mount_setattr: bits to set and to clear, on the mount itself. */
  readonly set: number;
  readonly clear: number;
  /** The same on everything below it (rro, rnosuid and so on; Linux 5.12). */
  readonly recursiveSet: number;
  readonly recursiveClear: number;
  /** MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE or 0. */
  readonly propagation: number;
  readonly propagationRecursive: boolean;
  /** For the file system itself. */
  readonly data: readonly string[];
  /** The mount shows its files with the ids of the container's user namespace. */
  readonly idmap: boolean;
  /** `ridmap`: so do those below it. */
  readonly idmapRecursive: boolean;
  /** A tmpfs begins with what lies under it. */
  readonly copyUp: boolean;
}

type Row = { readonly set?: number; readonly clear?: number };

const A = MOUNT_ATTR;

/** Attributes of a mount. Each also exists with an "r" in front for the whole tree. */
const ATTRIBUTES: Readonly<Record<string, Row>> = {
  ro: { set: A.RDONLY },
  rw: { clear: A.RDONLY },
  nosuid: { set: A.NOSUID },
  suid: { clear: A.NOSUID },
  nodev: { set: A.NODEV },
  dev: { clear: A.NODEV },
  noexec: { set: A.NOEXEC },
  exec: { clear: A.NOEXEC },
  nodiratime: { set: A.NODIRATIME },
  diratime: { clear: A.NODIRATIME },
  // The access-time modes are one field: all its bits are cleared, then one value is set.
  relatime: { clear: A.ATIME, set: A.RELATIME },
  norelatime: { clear: A.ATIME, set: A.STRICTATIME },
  noatime: { clear: A.ATIME, set: A.NOATIME },
  atime: { clear: A.ATIME, set: A.RELATIME },
  strictatime: { clear: A.ATIME, set: A.STRICTATIME },
  nostrictatime: { clear: A.ATIME, set: A.RELATIME },
  nosymfollow: { set: A.NOSYMFOLLOW },
  symfollow: { clear: A.NOSYMFOLLOW },
};

const PROPAGATION: Readonly<Record<string, number>> = {
  private: MS.PRIVATE,
  slave: MS.SLAVE,
  shared: MS.SHARED,
  unbindable: MS.UNBINDABLE,
};

/** Words that change nothing. */
const IGNORED = new Set(['defaults', 'async', 'silent', 'loud', 'noauto', 'auto', 'nouser', 'user', '']);

/** Every word that means something here, for those who ask what a runtime can do. */
export const MOUNT_OPTION_NAMES: readonly string[] = [
  ...new Set([
    ...Object.keys(ATTRIBUTES).flatMap((name) => [name, `r${name}`]),
    ...Object.keys(PROPAGATION).flatMap((name) => [name, `r${name}`]),
    'bind',
    'rbind',
    'idmap',
    'ridmap',
    'tmpcopyup',
    ...[...IGNORED].filter((name) => name !== ''),
  ]),
].sort();

/** Sorts options. Throws INVALID_MOUNT_OPTION for one that only another runtime understands. */
export function parseMountOptions(options: readonly string[] = []): MountOptions {
  let bind = false;
  let recursive = false;
  let set = 0;
  let clear = 0;
  let recursiveSet = 0;
  let recursiveClear = 0;
  let propagation = 0;
  let propagationRecursive = false;
  let idmap = false;
  let idmapRecursive = false;
  let copyUp = false;
  const data: string[] = [];
  for (const option of options) {
    const own = ATTRIBUTES[option];
    const tree = option.startsWith('r') ? ATTRIBUTES[option.slice(1)] : undefined;
    const spread = PROPAGATION[option] ?? (option.startsWith('r') ? PROPAGATION[option.slice(1)] : undefined);
    if (own !== undefined) {
      set = (set & ~(own.clear ?? 0)) | (own.set ?? 0);
      clear = (clear & ~(own.set ?? 0)) | (own.clear ?? 0);
    } else if (tree !== undefined) {
      recursiveSet = (recursiveSet & ~(tree.clear ?? 0)) | (tree.set ?? 0);
      recursiveClear = (recursiveClear & ~(tree.set ?? 0)) | (tree.clear ?? 0);
    } else if (spread !== undefined) {
      propagation = spread;
      propagationRecursive = option.startsWith('r');
    } else if (option === 'bind') bind = true;
    else if (option === 'rbind') {
      bind = true;
      recursive = true;
    } else if (option === 'idmap' || option === 'ridmap') {
      idmap = true;
      idmapRecursive = option === 'ridmap';
    } else if (option === 'tmpcopyup') copyUp = true;
    else if (option === 'copy-symlink' || option === 'src-nofollow') {
      throw new NodeletError('INVALID_MOUNT_OPTION', `mount option "${option}" is not supported`);
    } else if (!IGNORED.has(option)) data.push(option);
  }
  return {
    bind,
    recursive,
    set,
    clear,
    recursiveSet,
    recursiveClear,
    propagation,
    propagationRecursive,
    data,
    idmap,
    idmapRecursive,
    copyUp,
  };
}
