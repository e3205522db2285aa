import { posix } from 'node:path';
import { NodeletError } from '../../base/index.ts';
import { MOUNT_ATTR, MS, O, S_IF } from '../../linux/constants.ts';
import type { CgroupView, ContainerContext } from './context.ts';
import { type MountOptions, parseMountOptions } from './mount-options.ts';
import { FLAGS, type Operation, POD_SLOTS } from './protocol.gen.ts';
import type { Slots } from './slots.ts';
import type { OciMount, OciSpec } from './spec.ts';

/** Stands as a bind's source for the pod's /dev/shm, which the shim holds. */
export const POD_SHM = 'pod:shm';

/** A bind whose source was opened while the host's mounts were in sight, waiting to be attached. */
export interface PreparedMount {
  readonly mount: OciMount;
  readonly options: MountOptions;
  /** The slot of the detached tree; undefined for a file system that is made inside. */
  readonly tree: number | undefined;
  /** For a view of the container's own cgroups without a namespace: what is bound below the mount. */
  readonly below?: readonly { readonly name: string; readonly tree: number }[];
}

/** True where the mount is a bind of something that exists. */
export function isBind(mount: OciMount, options: MountOptions): boolean {
  return mount.type === 'bind' || options.bind;
}

function isCgroup(mount: OciMount): boolean {
  return mount.type === 'cgroup' || mount.type === 'cgroup2';
}

/**
 * Opens the sources of all binds, in the host's mount namespace and with the host's identity. A clone that is taken here
 * keeps the host's peer group, so its propagation is always set: private unless the specification says otherwise.
 */
export function prepareMounts(
  spec: OciSpec,
  context: ContainerContext,
  slots: Slots,
  userNamespace: boolean,
): { operations: Operation[]; mounts: PreparedMount[]; images: PreparedMount[] } {
  const operations: Operation[] = [];
  const mounts: PreparedMount[] = [];
  const images: PreparedMount[] = [];
  for (const mount of spec.mounts) {
    const options = parseMountOptions(mount.options);
    if (isCgroup(mount) && context.cgroupView.kind === 'bound') {
      const below = context.cgroupView.directories.map(({ name, source }) => {
        const tree = slots.take();
        operations.push(
          { op: 'open-tree', base: -1, path: source, flags: 0, out: tree },
          ...attributeOperations(tree, options),
        );
        return { name, tree };
      });
      mounts.push({ mount, options, tree: undefined, below });
      continue;
    }
    if (!isBind(mount, options)) {
      mounts.push({ mount, options, tree: undefined });
      continue;
    }
    const tree = slots.take();
    if (mount.layers !== undefined) {
      const image = { mount, options, tree };
      images.push(image);
      mounts.push(image);
      continue;
    }
    operations.push(...openSource(mount, options, context, slots, tree));
    if ((mount.uidMappings?.length ?? 0) > 0 || options.idmap) {
      if (!userNamespace && mount.idMapSlot === undefined)
        throw new NodeletError(
          'INVALID_MOUNT',
          `mount ${JSON.stringify(mount.destination)}: id mappings need a user namespace`,
        );
      operations.push({
        op: 'id-map',
        tree,
        namespace: mount.idMapSlot ?? POD_SLOTS.user,
        flags: options.recursive || options.idmapRecursive ? FLAGS.RECURSIVE : 0,
      });
    }
    operations.push(...attributeOperations(tree, options));
    mounts.push({ mount, options, tree });
  }
  return { operations, mounts, images };
}

function openSource(
  mount: OciMount,
  options: MountOptions,
  context: ContainerContext,
  slots: Slots,
  tree: number,
): Operation[] {
  const flags = options.recursive ? FLAGS.RECURSIVE : 0;
  const source = mount.source ?? '';
  if (source === POD_SHM) return podShm(context, slots, tree);
  if (source === '')
    throw new NodeletError(
      'INVALID_MOUNT',
      `mount ${JSON.stringify(mount.destination)}: a bind needs a source`,
    );
  if (mount.subPath === undefined) {
    const make = mount.makeSource === true ? FLAGS.MAKE_MISSING : 0;
    const open: Operation = { op: 'open-tree', base: -1, path: source, flags: flags | make, out: tree };
    return [open, ...expectType(mount, tree)];
  }
  // The volume's directory first, then the path beneath it, so that no link in the volume leads out (CVE-2017-1002101).
  const volume = slots.take();
  const inner = slots.take();
  return [
    { op: 'open', path: source, open: O.PATH | O.DIRECTORY, out: volume },
    ...expectType(mount, volume),
    { op: 'open-beneath', base: volume, path: mount.subPath, open: O.PATH, out: inner },
    { op: 'open-tree', base: inner, path: '', flags, out: tree },
  ];
}

const TYPE_BITS = {
  directory: S_IF.DIR,
  file: S_IF.REG,
  socket: S_IF.SOCK,
  'character-device': S_IF.CHR,
  'block-device': S_IF.BLK,
} as const;

function expectType({ sourceType }: OciMount, tree: number): Operation[] {
  return sourceType === undefined ? [] : [{ op: 'expect-type', tree, type: TYPE_BITS[sourceType] }];
}

/** The pod's shared memory: held detached, or, before Linux 6.15, attached in a mount namespace of its own. */
function podShm(context: ContainerContext, slots: Slots, tree: number): Operation[] {
  if (context.features.cloneDetached)
    return [{ op: 'open-tree', base: POD_SLOTS.shm, path: '', flags: 0, out: tree }];
  const home = slots.take();
  return [
    { op: 'open', path: '/proc/self/ns/mnt', open: O.RDONLY, out: home },
    { op: 'join-namespace', namespace: POD_SLOTS.mnt, kind: 0x0002_0000 },
    { op: 'open-tree', base: -1, path: context.staging, flags: 0, out: tree },
    { op: 'join-namespace', namespace: home, kind: 0x0002_0000 },
  ];
}

export function attributeOperations(tree: number, options: MountOptions): Operation[] {
  const operations: Operation[] = [
    {
      op: 'mount-attributes',
      tree,
      set: 0,
      clear: 0,
      propagation: options.propagation === 0 ? MS.PRIVATE : options.propagation,
      flags: options.propagation === 0 || options.propagationRecursive ? FLAGS.RECURSIVE : 0,
    },
  ];
  if (options.propagation === MS.SHARED) operations.pop(); // the clone is in the host's peer group already
  if (options.set !== 0 || options.clear !== 0) {
    operations.push({
      op: 'mount-attributes',
      tree,
      set: options.set,
      clear: options.clear,
      propagation: 0,
      flags: 0,
    });
  }
  if (options.recursiveSet !== 0 || options.recursiveClear !== 0) {
    operations.push({
      op: 'mount-attributes',
      tree,
      set: options.recursiveSet,
      clear: options.recursiveClear,
      propagation: 0,
      flags: FLAGS.RECURSIVE,
    });
  }
  return operations;
}

/** Attaches everything below the root, in the specification's order. */
export function mountOperations(
  mounts: readonly PreparedMount[],
  context: ContainerContext,
  slots: Slots,
  root: number,
): Operation[] {
  const operations: Operation[] = [];
  for (const { mount, options, tree, below } of mounts) {
    const path = insideRoot(mount.destination);
    if (below !== undefined) {
      operations.push(...boundCgroups(below, options, slots, root, path));
      continue;
    }
    if (tree !== undefined) {
      operations.push({ op: 'attach-in', tree, root, path, flags: bindFlags(path) });
      continue;
    }
    if (isCgroup(mount)) {
      operations.push(...cgroupMounts(context.cgroupView, options, slots, root, path));
      continue;
    }
    const made = slots.take();
    operations.push({
      op: 'mount',
      type: mount.type ?? 'none',
      options: [...sourceOption(mount), ...options.data],
      attributes: options.copyUp ? options.set & ~MOUNT_ATTR.RDONLY : options.set,
      out: made,
    });
    if (options.copyUp) operations.push(...copyUp(options, made, root, path));
    // A link in the image must not lead /proc, /sys or /dev elsewhere (CVE-2019-19921, CVE-2026-41579), nor one in a /dev
    // that others share what lies in there (CVE-2025-52565).
    const plain = path === 'dev' || KERNEL_TYPES.has(mount.type ?? '');
    operations.push({ op: 'attach-in', tree: made, root, path, flags: plain ? FLAGS.NO_SYMLINKS : 0 });
  }
  return operations;
}

/** A device, or what /proc/mounts shows in its first column; without it the shim writes the type there. */
function sourceOption({ source, type }: OciMount): string[] {
  return source === undefined || source === '' || source === type ? [] : [`source=${source}`];
}

const KERNEL_TYPES = new Set(['proc', 'sysfs', 'devpts', 'mqueue']);

/** What may be mounted over a file of /proc: what lxcfs shows, as runc has it. */
const PROC_FILES = new Set(
  [
    'cpuinfo',
    'diskstats',
    'loadavg',
    'meminfo',
    'slabinfo',
    'stat',
    'swaps',
    'uptime',
    'sys/crypto/fips_enabled',
    'sys/kernel/ns_last_pid',
  ].map((name) => `proc/${name}`),
);

function bindFlags(path: string): number {
  if (path === 'proc') return FLAGS.ONLY_PROC;
  return PROC_FILES.has(path) ? FLAGS.OVER_PROC | FLAGS.NO_SYMLINKS : 0;
}

/** What lies under the mount goes into it; only then may it be read-only. */
function copyUp(options: MountOptions, tree: number, root: number, path: string): Operation[] {
  const operations: Operation[] = [{ op: 'copy-up', tree, root, path }];
  if ((options.set & MOUNT_ATTR.RDONLY) !== 0) {
    operations.push({
      op: 'mount-attributes',
      tree,
      set: MOUNT_ATTR.RDONLY,
      clear: 0,
      propagation: 0,
      flags: 0,
    });
  }
  return operations;
}

/** v2: one mount that the cgroup namespace roots at the container's own group. Hybrid: a directory of hierarchies. */
function cgroupMounts(
  view: CgroupView,
  options: MountOptions,
  slots: Slots,
  root: number,
  path: string,
): Operation[] {
  const attributes = options.set;
  if (view.kind === 'bound') return [];
  if (view.kind === 'unified') {
    const tree = slots.take();
    return [
      { op: 'mount', type: 'cgroup2', options: [], attributes, out: tree },
      { op: 'attach-in', tree, root, path, flags: 0 },
    ];
  }
  const all = [
    ...view.hierarchies.map((one) => ({ ...one, type: 'cgroup' })),
    { name: view.unifiedName, options: [] as readonly string[], type: 'cgroup2' },
  ];
  return cgroupDirectory(
    attributes,
    slots,
    root,
    path,
    all.flatMap(({ name, options: data, type }): Operation[] => {
      const tree = slots.take();
      return [
        { op: 'mount', type, options: [...data], attributes, out: tree },
        { op: 'attach-in', tree, root, path: posix.join(path, name), flags: 0 },
      ];
    }),
  );
}

/** The container's own directories, which were opened on the host. */
function boundCgroups(
  below: readonly { readonly name: string; readonly tree: number }[],
  options: MountOptions,
  slots: Slots,
  root: number,
  path: string,
): Operation[] {
  const binds = below.map(
    ({ name, tree }): Operation => ({
      op: 'attach-in',
      tree,
      root,
      path: posix.join(path, name),
      flags: 0,
    }),
  );
  return below.some(({ name }) => name === '')
    ? binds
    : cgroupDirectory(options.set, slots, root, path, binds);
}

/** A directory that can be written only until the hierarchies are in it. */
function cgroupDirectory(
  attributes: number,
  slots: Slots,
  root: number,
  path: string,
  inside: readonly Operation[],
): Operation[] {
  const base = slots.take();
  const operations: Operation[] = [
    {
      op: 'mount',
      type: 'tmpfs',
      options: ['mode=755', 'size=0'],
      attributes: attributes & ~MOUNT_ATTR.RDONLY,
      out: base,
    },
    { op: 'attach-in', tree: base, root, path, flags: FLAGS.KEEP },
    ...inside,
  ];
  if ((attributes & MOUNT_ATTR.RDONLY) !== 0) {
    operations.push({
      op: 'mount-attributes',
      tree: base,
      set: MOUNT_ATTR.RDONLY,
      clear: 0,
      propagation: 0,
      flags: 0,
    });
  }
  return operations;
}

/** A destination as a clean path that starts below the root. */
export function insideRoot(path: string): string {
  const clean = posix.normalize(`/${path}`).slice(1).replace(/\/$/, '');
  if (clean === '')
    throw new NodeletError(
      'INVALID_MOUNT',
      `mount destination ${JSON.stringify(path)}: the root itself cannot be mounted over`,
    );
  return clean;
}
