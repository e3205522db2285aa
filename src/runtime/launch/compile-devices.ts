import { NodeletError } from '../../base/index.ts';
import { MOUNT_ATTR, MS, O, S_IF } from '../../linux/constants.ts';
import { insideRoot, isBind } from './compile-mounts.ts';
import { parseMountOptions } from './mount-options.ts';
import { type Operation } from './protocol.gen.ts';
import type { Slots } from './slots.ts';
import type { OciDevice, OciMount, OciSpec } from './spec.ts';

const TYPE_BITS = { c: S_IF.CHR, u: S_IF.CHR, b: S_IF.BLK, p: S_IF.FIFO } as const;

/** Links that every /dev has (runtime-spec, "Dev symbolic links"). */
const LINKS: readonly (readonly [string, string])[] = [
  ['dev/fd', '/proc/self/fd'],
  ['dev/stdin', '/proc/self/fd/0'],
  ['dev/stdout', '/proc/self/fd/1'],
  ['dev/stderr', '/proc/self/fd/2'],
  ['dev/core', '/proc/kcore'],
  ['dev/ptmx', 'pts/ptmx'],
];

/** A user namespace may not make device nodes: the host's are opened before it is entered, to be bound. */
export function prepareDevices(
  spec: OciSpec,
  slots: Slots,
  userNamespace: boolean,
): { operations: Operation[]; trees: ReadonlyMap<OciDevice, number> } {
  const operations: Operation[] = [];
  const trees = new Map<OciDevice, number>();
  if (!userNamespace) return { operations, trees };
  for (const device of spec.linux.devices ?? []) {
    const tree = slots.take();
    operations.push({ op: 'open-tree', base: -1, path: device.hostPath ?? device.path, flags: 0, out: tree });
    trees.set(device, tree);
  }
  return { operations, trees };
}

export function deviceOperations(
  spec: OciSpec,
  trees: ReadonlyMap<OciDevice, number>,
  root: number,
): Operation[] {
  const operations: Operation[] = [];
  // A /dev that is bound from the host is the host's: no node is made in it, none has to be (as runc).
  const bound = (mount: OciMount) => isBind(mount, parseMountOptions(mount.options));
  if (spec.mounts.some((mount) => insideRoot(mount.destination) === 'dev' && bound(mount))) return operations;
  for (const device of spec.linux.devices ?? []) {
    const path = insideRoot(device.path);
    const tree = trees.get(device);
    if (tree !== undefined) {
      operations.push({ op: 'attach-in', tree, root, path, flags: 0 });
      continue;
    }
    if (device.type !== 'p' && (device.major === undefined || device.minor === undefined)) {
      throw new NodeletError(
        'INVALID_DEVICE',
        `linux.devices: ${JSON.stringify(device.path)} needs a major and a minor number`,
      );
    }
    operations.push({
      op: 'device-in',
      root,
      path,
      mode: TYPE_BITS[device.type] | (device.fileMode ?? 0o666),
      major: device.major ?? 0,
      minor: device.minor ?? 0,
      uid: device.uid ?? 0,
      gid: device.gid ?? 0,
    });
  }
  for (const [path, target] of LINKS) operations.push({ op: 'link-in', root, target, path });
  return operations;
}

/** Hidden and read-only paths. The null device and the empty directory are the host's and ours, opened beforehand. */
export function prepareMasks(spec: OciSpec, slots: Slots): { operations: Operation[]; none: number } {
  const none = slots.take();
  if ((spec.linux.maskedPaths ?? []).length === 0) return { operations: [], none };
  const set = MOUNT_ATTR.RDONLY | MOUNT_ATTR.NOSUID | MOUNT_ATTR.NOEXEC;
  return {
    operations: [
      { op: 'open-tree', base: -1, path: '/dev/null', flags: 0, out: none },
      { op: 'mount-attributes', tree: none, set, clear: 0, propagation: MS.PRIVATE, flags: 0 },
    ],
    none,
  };
}

export function maskOperations(spec: OciSpec, slots: Slots, root: number, none: number): Operation[] {
  const operations: Operation[] = [];
  const masked = spec.linux.maskedPaths ?? [];
  if (masked.length > 0) {
    const empty = slots.take();
    operations.push({
      op: 'mount',
      type: 'tmpfs',
      options: ['size=0', 'nr_inodes=1', 'mode=0555'],
      attributes: MOUNT_ATTR.RDONLY | MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV | MOUNT_ATTR.NOEXEC,
      out: empty,
    });
    for (const path of masked)
      operations.push({ op: 'mask', root, path: insideRoot(path), empty, null: none });
  }
  for (const path of spec.linux.readonlyPaths ?? [])
    operations.push({ op: 'read-only', root, path: insideRoot(path) });
  return operations;
}

/** The shim's null device for standard input. */
export function openNull(out: number): Operation {
  return { op: 'open', path: '/dev/null', open: O.RDWR, out };
}
