/**
 * Whether a directory can hold the writable layer of an overlay file system: tried, not guessed from the name of its file
 * system. What cannot (an overlay itself, NFS, FAT, XFS without ftype) fails only when a container starts.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { NodeletError } from '../base/index.ts';
import {
  AT_FDCWD,
  AT_REMOVEDIR,
  FS_MAGIC,
  FSCONFIG,
  MOUNT_ATTR,
  MOVE_MOUNT_F_EMPTY_PATH,
  MS,
  O,
} from './constants.ts';
import { Fd } from './fd.ts';
import { native } from './native.ts';
import { check } from './syscall-error.ts';

/** Names by f_type of statfs(2), linux/magic.h; those that people meet. */
const NAMES: Readonly<Record<number, string>> = {
  [FS_MAGIC.OVERLAY]: 'overlay',
  [FS_MAGIC.TMPFS]: 'tmpfs',
  61267: 'ext4',
  1481003842: 'xfs',
  2435016766: 'btrfs',
  801189825: 'zfs',
  26985: 'nfs',
  19780: 'vfat',
  538032816: 'exfat',
  1702057286: 'fuse',
  4283649346: 'cifs',
  4266872130: 'smb2',
  16914839: '9p',
  2240043254: 'ramfs',
  4076150800: 'f2fs',
  1935894131: 'squashfs',
};

/** Of the directory in which it is tried; the process that tries follows. */
const PREFIX = '.nodelet-probe-';

/** The name of the file system that holds a path, as mount(8) has it where it is a common one. Throws what statfs does. */
export function fileSystemName(path: string): string {
  // f_type is a signed word of the machine: its low 32 bits are the number.
  const type = Number(BigInt.asUintN(32, BigInt(statfsSync(path).type)));
  return NAMES[type] ?? `type 0x${type.toString(16)}`;
}

/**
 * Makes an overlay in a directory of its own below `directory`, attached nowhere, and removes a file and a directory of its
 * lower layer through it (whiteouts). Leaves nothing. Throws a SyscallError (EINVAL: refused as an upper layer), or what
 * the file system says.
 */
export function tryOverlay(directory: string): void {
  sweep(directory);
  const scratch = mkdtempSync(join(directory, `${PREFIX}${process.pid}-`));
  try {
    const path = (name: string): string => join(scratch, name);
    for (const name of ['lower', 'upper', 'work', 'lower/directory']) mkdirSync(path(name));
    writeFileSync(path('lower/file'), 'x');
    using overlay = makeOverlay(path('lower'), path('upper'), path('work'));
    check(native().unlinkat(overlay.number, 'file', 0), 'unlink in an overlay');
    check(native().unlinkat(overlay.number, 'directory', AT_REMOVEDIR), 'rmdir in an overlay');
    check(native().mkdirat(overlay.number, 'directory', 0o755), 'mkdir in an overlay');
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** What one of us left that was killed. */
function sweep(directory: string): void {
  for (const name of readdirSync(directory)) {
    if (!name.startsWith(PREFIX)) continue;
    const [pid = ''] = name.slice(PREFIX.length).split('-');
    if (/^\d+$/.test(pid) && !existsSync(`/proc/${pid}`))
      rmSync(join(directory, name), { recursive: true, force: true });
  }
}

/** As many bytes as mount(2) takes of options. */
const PAGE = 4096;

/**
 * Mounts `layers` (at least two, topmost first) read-only on `target`, without devices and set-id programs. Each is named by
 * a descriptor: paths are as short as can be, and neither commas nor colons in them mean anything.
 */
export function mountLayers(layers: readonly string[], target: string, source: string): void {
  const n = native();
  const open = (path: string): Fd =>
    new Fd(check(n.openat2(AT_FDCWD, path, O.PATH | O.DIRECTORY, 0, 0), 'open layer', path));
  const fds = layers.map(open);
  try {
    const names = fds.map((fd) => `/proc/self/fd/${fd.number}`);
    if (takesSingleLayers()) {
      mountByContext(names, target, source);
      return;
    }
    const options = `lowerdir=${names.join(':')}`;
    if (options.length >= PAGE)
      throw new NodeletError(
        'TOO_MANY_LAYERS',
        `cannot mount ${layers.length} layers on "${target}": this kernel takes ${PAGE} bytes of options`,
        { hint: 'Linux 6.8 and later have no such limit' },
      );
    check(n.mount(source, target, 'overlay', MS.RDONLY | MS.NOSUID | MS.NODEV, options), 'mount', target);
  } finally {
    for (const fd of fds) fd.close();
  }
}

/** fsconfig(2) with `lowerdir+`, one layer a call: Linux 6.8 (6.7 has it under another rule of escaping). */
function takesSingleLayers(): boolean {
  const [major = 0, minor = 0] = release().split('.', 2).map(Number);
  return major > 6 || (major === 6 && minor >= 8);
}

function mountByContext(layers: readonly string[], target: string, source: string): void {
  const n = native();
  using context = new Fd(check(n.fsopen('overlay'), 'fsopen', 'overlay'));
  check(n.fsconfig(context.number, FSCONFIG.SET_STRING, 'source', source, 0), 'set source', source);
  for (const layer of layers)
    check(n.fsconfig(context.number, FSCONFIG.SET_STRING, 'lowerdir+', layer, 0), 'add layer', layer);
  check(n.fsconfig(context.number, FSCONFIG.CREATE, null, null, 0), 'mount overlay on', target);
  const attributes = MOUNT_ATTR.RDONLY | MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV;
  using tree = new Fd(check(n.fsmount(context.number, attributes), 'fsmount'));
  check(n.moveMount(tree.number, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH), 'mount on', target);
}

function makeOverlay(lower: string, upper: string, work: string): Fd {
  const n = native();
  using context = new Fd(check(n.fsopen('overlay'), 'fsopen', 'overlay'));
  for (const [key, value] of Object.entries({ lowerdir: lower, upperdir: upper, workdir: work }))
    check(n.fsconfig(context.number, FSCONFIG.SET_STRING, key, value, 0), `set ${key}`, value);
  check(n.fsconfig(context.number, FSCONFIG.CREATE, null, null, 0), 'mount overlay on', upper);
  return new Fd(check(n.fsmount(context.number, 0), 'fsmount'));
}
