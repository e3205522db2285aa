/**
 * Compiles a container to its launch plan. Pure. The order is that of runtime.md §1.6 and of docs/ARCHITECTURE.md:
 * cgroup, clone, limits, host paths, namespaces, root, mounts, pivot, identity, exec.
 */
import { NodeletError } from '../../base/index.ts';
import { CLONE, MOUNT_ATTR, MS, O } from '../../linux/constants.ts';
import { sysctlPath } from '../sysctls.ts';
import { cgroupOperations } from './compile-cgroup.ts';
import {
  deviceOperations,
  maskOperations,
  openNull,
  prepareDevices,
  prepareMasks,
} from './compile-devices.ts';
import {
  beforePivot,
  dropForGood,
  frontSlots,
  listenOperations,
  rootPropagation,
  startOperations,
} from './compile-front.ts';
import { identityOperations, limitOperations } from './compile-identity.ts';
import { imageOperations } from './compile-image-mounts.ts';
import { insideRoot, mountOperations, prepareMounts } from './compile-mounts.ts';
import { type ContainerContext, LOG_LINE_LIMIT } from './context.ts';
import type { LaunchPlan } from './encode.ts';
import { FIRST_PLAN_SLOT, FLAGS, OPERATIONS, type Operation, POD_SLOTS } from './protocol.gen.ts';
import { passedSlot, Slots } from './slots.ts';
import { hostId, type OciNamespaceType, type OciSpec, POD_NAMESPACE, TARGET_NAMESPACE } from './spec.ts';

const KINDS: Readonly<Record<OciNamespaceType, number>> = {
  pid: CLONE.NEWPID,
  network: CLONE.NEWNET,
  ipc: CLONE.NEWIPC,
  uts: CLONE.NEWUTS,
  mount: CLONE.NEWNS,
  user: CLONE.NEWUSER,
  cgroup: CLONE.NEWCGROUP,
  time: CLONE.NEWTIME,
};

const POD_SLOT: Readonly<Partial<Record<OciNamespaceType, number>>> = {
  network: POD_SLOTS.net,
  ipc: POD_SLOTS.ipc,
  uts: POD_SLOTS.uts,
  pid: POD_SLOTS.pid,
  user: POD_SLOTS.user,
};

/** How each namespace of a container comes about. */
interface Namespaces {
  /** CLONE_NEW* of the new ones. */
  readonly fresh: number;
  /** Those to join: where their descriptor comes from. */
  readonly joined: readonly {
    readonly type: OciNamespaceType;
    readonly kind: number;
    readonly slot: number;
    readonly open: Operation | undefined;
  }[];
}

function sortNamespaces(
  spec: OciSpec,
  slots: Slots,
  targets: ReadonlyMap<OciNamespaceType, number>,
): Namespaces {
  let fresh = 0;
  const joined: Namespaces['joined'][number][] = [];
  for (const { type, path } of spec.linux.namespaces) {
    const kind = KINDS[type];
    if (path === undefined) {
      fresh |= kind;
      continue;
    }
    if (path === TARGET_NAMESPACE) {
      const slot = targets.get(type);
      if (slot === undefined)
        throw new NodeletError(
          'INVALID_NAMESPACE',
          `linux.namespaces: no ${type} namespace of a target came along`,
        );
      joined.push({ type, kind, slot, open: undefined });
      continue;
    }
    const pod = path === POD_NAMESPACE ? POD_SLOT[type] : undefined;
    if (path === POD_NAMESPACE && pod === undefined) {
      throw new NodeletError(
        'INVALID_NAMESPACE',
        `linux.namespaces: a pod has no ${type} namespace of its own`,
      );
    }
    const slot = pod ?? slots.take();
    joined.push({
      type,
      kind,
      slot,
      open: pod === undefined ? { op: 'open', path, open: O.RDONLY, out: slot } : undefined,
    });
  }
  if ((fresh & CLONE.NEWNS) === 0)
    throw new NodeletError(
      'INVALID_NAMESPACE',
      'linux.namespaces: a container needs a mount namespace of its own',
    );
  return { fresh, joined };
}

export function compileContainer(spec: OciSpec, context: ContainerContext): LaunchPlan {
  const passed = passedDescriptors(context);
  const slots = new Slots(passed.count);
  const namespaces = sortNamespaces(spec, slots, passed.targets);
  const userNamespace = namespaces.joined.some((one) => one.type === 'user');
  if ((namespaces.fresh & CLONE.NEWUSER) !== 0) {
    throw new NodeletError(
      'INVALID_NAMESPACE',
      'linux.namespaces: the user namespace is the pod\'s (path "pod:")',
    );
  }
  const { front } = context;
  const io = passed.front ?? { in: slots.take(), out: slots.take(), err: slots.take() };
  const socket = front === undefined ? -1 : slots.take();
  const root = slots.take();
  const late = context.cgroup.late.map((write) => ({ ...write, slot: slots.take() }));

  const shim = shimOperations(context, slots, io, socket, passed.deviceProgram);
  const binds = prepareMounts(spec, context, slots, userNamespace);
  const devices = prepareDevices(spec, slots, userNamespace);
  const masks = prepareMasks(spec, slots);
  const pid = namespaces.joined.find((one) => one.type === 'pid');

  /** Inside the user namespace nobody may give the pipes away; a terminal is only there once /dev is. */
  const earlyStreams = userNamespace && spec.process.terminal !== true;
  /** In the host's mount namespace and with the host's identity. */
  const onHost: Operation[] = [
    ...context.cgroup.join.map((path): Operation => ({ op: 'write-file', path, data: '0', flags: 0 })),
    ...late.map((write): Operation => ({ op: 'open', path: write.path, open: O.WRONLY, out: write.slot })),
    ...(front?.keyring === false
      ? []
      : [
          {
            op: 'session-keyring',
            name: `_ses.${context.id.slice(0, 12)}`,
            flags: FLAGS.TOLERATE_DENIED,
          } as const,
        ]),
    ...limitOperations(spec.process),
    ...binds.operations,
    ...devices.operations,
    ...masks.operations,
    ...(earlyStreams
      ? streamOperations(spec, root, io, hostId(spec.linux.uidMappings ?? [], spec.process.user.uid))
      : []),
  ];
  const join = namespaces.joined
    .filter((one) => one.type !== 'user' && one.type !== 'pid')
    .map((one): Operation => ({ op: 'join-namespace', namespace: one.slot, kind: one.kind }));
  const opened = namespaces.joined.flatMap((one) => (one.open === undefined ? [] : [one.open]));
  const sysctls = Object.entries(spec.linux.sysctl ?? {}).map(
    ([key, value]): Operation => ({ op: 'sysctl', key: sysctlPath(key), value }),
  );
  /** What a pod's namespaces were given when they were made. */
  const own = ownNamespaces(spec, namespaces.fresh, front !== undefined);
  /** Of the process itself: opened while there is a /proc. */
  const ns = slots.take();
  const openOwn: Operation = {
    op: 'open',
    path: '/proc/self/ns',
    open: O.PATH | O.DIRECTORY,
    out: ns,
  };
  // Taking the mounts down waits for the kernel's readers: it happens after everybody knows that the container has ended.
  const linger: Operation = { op: 'linger', namespaces: ns, name: 'mnt' };
  const mounts: Operation[] = [
    ...mountOperations(binds.mounts, context, slots, root),
    ...deviceOperations(spec, devices.trees, root),
    ...maskOperations(spec, slots, root, masks.none),
    ...workingDirectory(spec, root),
  ];
  const inside: Operation[] = [
    ...(spec.root.readonly === true
      ? [
          {
            op: 'mount-attributes',
            tree: root,
            set: MOUNT_ATTR.RDONLY,
            clear: 0,
            propagation: 0,
            flags: 0,
          } as const,
        ]
      : []),
    ...rootPropagation(spec, root),
    { op: 'session' },
    ...(earlyStreams ? [] : streamOperations(spec, root, io, spec.process.user.uid)),
    ...late.map((write): Operation => ({ op: 'write-slot', file: write.slot, data: write.value, flags: 0 })),
    ...(front === undefined ? [] : dropForGood(socket, passed.preserve)),
    ...identityOperations(
      spec.process,
      context.seccomp,
      front === undefined ? undefined : startOperations(spec, socket, passed.preserve),
    ),
  ];

  const operations: Operation[] = [...shim.operations, ...opened];
  // unshare() makes no process PID 1: a new PID namespace is made by the clone.
  const early = userNamespace ? 0 : namespaces.fresh & OWN;
  const unshared = namespaces.fresh & ~CLONE.NEWPID & ~early;
  if (!userNamespace) {
    operations.push(
      {
        op: 'clone',
        flags: pid === undefined ? namespaces.fresh & CLONE.NEWPID : 0,
        cgroup: shim.cgroup,
        uidMap: '',
        gidMap: '',
      },
      ...onHost,
      openOwn,
      ...join,
      ...(early === 0 ? [] : [{ op: 'unshare', kinds: early } as const]),
      ...own,
      ...sysctls,
    );
    if (passed.emptyMounts !== undefined) {
      // Never in the container's mount namespace, the host's mounts need not be left either: pivot_root would wait for the
      // kernel's readers, longer than all the rest takes.
      operations.push(
        ...imageOperations(binds.images, context, slots, undefined),
        ...rootOperations(spec, context, root),
        { op: 'join-namespace', namespace: passed.emptyMounts, kind: CLONE.NEWNS },
        { op: 'unshare', kinds: unshared },
        linger,
        { op: 'attach', tree: root, path: '/' },
        { op: 'enter-root', root },
      );
    } else {
      operations.push(
        { op: 'unshare', kinds: unshared },
        { op: 'propagation', path: '/', flags: MS.REC | MS.PRIVATE },
        linger,
        ...imageOperations(binds.images, context, slots, undefined),
        ...rootOperations(spec, context, root),
        { op: 'attach', tree: root, path: context.staging },
      );
      // Hooks find the root at its path and may mount into it; a /proc is one of the PID namespace that it is made in.
      if (front !== undefined && pid === undefined) operations.push(...mounts);
      if (front !== undefined) operations.push(...beforePivot(spec));
      operations.push({ op: 'pivot', root });
    }
    if (pid !== undefined) operations.push(...appearIn(pid.slot, [...mounts, ...inside]));
    if (front === undefined || pid !== undefined) operations.push(...mounts);
  } else {
    const user = namespaces.joined.find((one) => one.type === 'user');
    if (user === undefined) throw new NodeletError('INTERNAL', 'no user namespace');
    operations.push(
      { op: 'clone', flags: 0, cgroup: shim.cgroup, uidMap: '', gidMap: '' },
      ...onHost,
      // A first mount namespace with the host's rights: an overlay that is mounted inside the user namespace would not
      // obey the trusted.overlay attributes of its layers.
      { op: 'unshare', kinds: CLONE.NEWNS },
      { op: 'propagation', path: '/', flags: MS.REC | MS.PRIVATE },
      ...(front === undefined
        ? mappedRootOperations(spec, context, slots, root, user.slot)
        : ownedRootOperations(spec, context, slots, root)),
      ...imageOperations(binds.images, context, slots, user.slot),
      { op: 'join-namespace', namespace: user.slot, kind: CLONE.NEWUSER },
      { op: 'identity', uid: 0, gid: 0, groups: [], keep: 0 },
      ...join,
      ...(pid === undefined
        ? []
        : [{ op: 'join-namespace', namespace: pid.slot, kind: CLONE.NEWPID } as const]),
      // The second one belongs to the user namespace, and so do the PID and cgroup namespaces.
      { op: 'unshare', kinds: unshared | (namespaces.fresh & CLONE.NEWPID) },
    );
    const rest: Operation[] = [
      openOwn,
      linger,
      { op: 'attach', tree: root, path: '.' },
      ...own,
      ...sysctls,
      // The container's /proc and /sys may only be mounted while others are in sight: the host's are left last.
      ...mounts,
      ...(front === undefined ? [] : beforePivot(spec)),
      { op: 'pivot', root },
    ];
    operations.push(
      ...(pid === undefined
        ? []
        : [{ op: 'drop-descriptors', keep: slotsOf([...rest, ...inside]) } as const]),
      { op: 'clone', flags: CLONE.PARENT, cgroup: -1, uidMap: '', gidMap: '' },
      ...rest,
    );
  }
  operations.push(...inside);
  // Nobody keeps a log or a record for a container of somebody else's: its terminal goes to whoever asked, as an exec's does.
  return { kind: front === undefined ? 'container' : 'exec', name: context.id, operations };
}

/** Namespaces that are unshared before the mounts, so that they can be set up while the host's /proc is in sight. */
const OWN = CLONE.NEWNET | CLONE.NEWIPC | CLONE.NEWUTS;

/** Names and loopback of namespaces that are the container's own. */
function ownNamespaces(spec: OciSpec, fresh: number, joinedToo: boolean): Operation[] {
  const operations: Operation[] = [];
  // An OCI runtime also names a UTS namespace that it was told to join.
  const joined =
    joinedToo && spec.linux.namespaces.some(({ type, path }) => type === 'uts' && path !== undefined);
  if ((fresh & CLONE.NEWUTS) !== 0 || joined) {
    if (spec.hostname !== undefined) operations.push({ op: 'hostname', name: spec.hostname });
    if (spec.domainname !== undefined) operations.push({ op: 'domainname', name: spec.domainname });
  }
  if ((fresh & CLONE.NEWNET) !== 0) operations.push({ op: 'loopback-up' });
  return operations;
}

/**
 * Goes on in a process of another PID namespace. Whoever is in there sees it from its birth, and one with CAP_SYS_PTRACE may
 * walk through its root and its descriptors (CVE-2016-9962): it is born when nothing of the host is left to be found.
 */
function appearIn(pid: number, rest: readonly Operation[]): Operation[] {
  return [
    { op: 'join-namespace', namespace: pid, kind: CLONE.NEWPID },
    { op: 'drop-descriptors', keep: slotsOf(rest) },
    { op: 'clone', flags: CLONE.PARENT, cgroup: -1, uidMap: '', gidMap: '' },
  ];
}

/** The plan's own descriptors that these operations use. */
function slotsOf(operations: readonly Operation[]): number[] {
  const filled = new Set<number>();
  const used = new Set<number>();
  for (const operation of operations) {
    const values = operation as unknown as Readonly<Record<string, number>>;
    const { fields } = OPERATIONS[operation.op];
    for (const [name, type] of fields) {
      const slot = values[name] ?? -1;
      if (type === 'slot' && slot >= FIRST_PLAN_SLOT && !filled.has(slot)) used.add(slot);
    }
    for (const [name, type] of fields) if (type === 'out') filled.add(values[name] ?? -1);
  }
  return [...used].sort((a, b) => a - b);
}

/** The descriptors that travel with a container's plan, in this order. */
function passedDescriptors(context: ContainerContext): {
  readonly count: number;
  readonly deviceProgram: number | undefined;
  readonly emptyMounts: number | undefined;
  readonly targets: ReadonlyMap<OciNamespaceType, number>;
  readonly front: { readonly in: number; readonly out: number; readonly err: number } | undefined;
  readonly preserve: readonly number[];
} {
  let count = 0;
  const deviceProgram = context.deviceProgram ? passedSlot(count++) : undefined;
  const emptyMounts = context.emptyMounts ? passedSlot(count++) : undefined;
  const targets = new Map(context.targets.map((type) => [type, passedSlot(count++)] as const));
  const front = frontSlots(context.front, count);
  return {
    count: count + front.count,
    deviceProgram,
    emptyMounts,
    targets,
    front: front.io,
    preserve: front.preserve,
  };
}

/** What the shim does before there is a child. */
function shimOperations(
  context: ContainerContext,
  slots: Slots,
  io: { in: number; out: number; err: number },
  socket: number,
  program: number | undefined,
): { operations: Operation[]; cgroup: number } {
  const cgroup = slots.take();
  return {
    cgroup,
    operations: [
      ...cgroupOperations(context.cgroup.steps),
      { op: 'open', path: context.cgroup.directory, open: O.PATH | O.DIRECTORY, out: cgroup },
      ...(program === undefined
        ? []
        : [openForProgram(context, cgroup), { op: 'attach-device-program', cgroup, program } as const]),
      ...(context.front === undefined
        ? keepOperations(context, io)
        : listenOperations(context.front, socket)),
    ],
  };
}

/** What the shim keeps for a container of the runtime's own: its exit and its log. */
function keepOperations(
  context: ContainerContext,
  io: { in: number; out: number; err: number },
): Operation[] {
  const { streams } = context;
  return [
    {
      op: 'exit-record',
      path: context.exitRecord,
      oomFile: context.cgroup.oom.file,
      oomKey: context.cgroup.oom.key,
      killFile: context.cgroup.killFile,
    },
    openNull(io.in),
    {
      op: 'streams',
      directory: streams.directory,
      log: streams.log,
      lineLimit: LOG_LINE_LIMIT,
      stdin: streams.stdin ? 1 : 0,
      terminal: context.terminal ? 1 : 0,
      inSlot: io.in,
      outSlot: io.out,
      errSlot: io.err,
    },
  ];
}

/** bpf(2) wants a descriptor that was opened for reading, not O_PATH. */
function openForProgram(context: ContainerContext, out: number): Operation {
  return { op: 'open', path: context.cgroup.directory, open: O.RDONLY | O.DIRECTORY, out };
}

function rootOperations(spec: OciSpec, context: ContainerContext, root: number): Operation[] {
  if (context.overlay === undefined) {
    return [
      { op: 'open-tree', base: -1, path: spec.root.path, flags: FLAGS.RECURSIVE, out: root },
      {
        op: 'mount-attributes',
        tree: root,
        set: 0,
        clear: 0,
        propagation: spec.linux.rootfsPropagation === 'slave' ? MS.SLAVE : MS.PRIVATE,
        flags: FLAGS.RECURSIVE,
      },
    ];
  }
  const { lower, upper, work } = context.overlay;
  return [
    {
      op: 'overlay',
      lower: [...lower],
      upper,
      work,
      options: OVERLAY_OPTIONS,
      staging: context.staging,
      out: root,
    },
  ];
}

/**
 * volatile (Linux 5.10): the files of a container go with it, so nothing has to wait for the disk when it is unmounted.
 */
const OVERLAY_OPTIONS: readonly string[] = ['volatile'];

/** A root whose files belong to the container's ids already, or were mapped by whoever made it. */
function ownedRootOperations(
  spec: OciSpec,
  context: ContainerContext,
  slots: Slots,
  root: number,
): Operation[] {
  const staging = slots.take();
  return [
    ...rootOperations(spec, context, root),
    { op: 'open', path: context.staging, open: O.PATH | O.DIRECTORY, out: staging },
    { op: 'enter-directory', directory: staging },
  ];
}

/** Layers seen through the pod's id map (overlayfs on id-mapped layers: Linux 5.19), which must be attached before 6.15. */
function mappedRootOperations(
  spec: OciSpec,
  context: ContainerContext,
  slots: Slots,
  root: number,
  user: number,
): Operation[] {
  const staging = slots.take();
  const open: Operation = { op: 'open', path: context.staging, open: O.PATH | O.DIRECTORY, out: staging };
  const enter: Operation = { op: 'enter-directory', directory: staging };
  if (context.overlay === undefined) {
    return [
      { op: 'open-tree', base: -1, path: spec.root.path, flags: FLAGS.RECURSIVE, out: root },
      { op: 'id-map', tree: root, namespace: user, flags: FLAGS.RECURSIVE },
      {
        op: 'mount-attributes',
        tree: root,
        set: 0,
        clear: 0,
        propagation: MS.PRIVATE,
        flags: FLAGS.RECURSIVE,
      },
      open,
      enter,
    ];
  }
  const operations: Operation[] = [];
  const scratch = slots.take();
  operations.push(
    {
      op: 'mount',
      type: 'tmpfs',
      options: ['mode=755', 'size=64k'],
      attributes: MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV,
      out: scratch,
    },
    { op: 'attach', tree: scratch, path: context.staging },
    { op: 'make-directory', path: `${context.staging}/root`, mode: 0o755 },
  );
  const lower = context.overlay.lower.map((layer, i) => {
    const tree = slots.take();
    const path = `${context.staging}/${i}`;
    operations.push(
      { op: 'make-directory', path, mode: 0o755 },
      { op: 'open-tree', base: -1, path: layer, flags: 0, out: tree },
      { op: 'id-map', tree, namespace: user, flags: 0 },
      { op: 'attach', tree, path },
    );
    return path;
  });
  const { upper, work } = context.overlay;
  operations.push({
    op: 'overlay',
    lower,
    upper,
    work,
    options: OVERLAY_OPTIONS,
    staging: `${context.staging}/root`,
    out: root,
  });
  operations.push(
    { op: 'open', path: `${context.staging}/root`, open: O.PATH | O.DIRECTORY, out: staging },
    enter,
  );
  return operations;
}

/** Made where it is missing, as runc does, while the root can still be written. */
function workingDirectory(spec: OciSpec, root: number): Operation[] {
  if (spec.process.cwd === '/') return [];
  return [{ op: 'directory-in', root, path: insideRoot(spec.process.cwd), mode: 0o755, uid: 0, gid: 0 }];
}

function streamOperations(
  spec: OciSpec,
  root: number,
  io: { in: number; out: number; err: number },
  owner: number,
): Operation[] {
  const { process } = spec;
  if (process.terminal !== true) {
    return [{ op: 'standard-streams', stdin: io.in, stdout: io.out, stderr: io.err, uid: owner }];
  }
  return [terminalOperation(process.consoleSize, process.user.uid, root, true)];
}

/** gid 5 is the tty group of every distribution and of the devpts mount. */
export function terminalOperation(
  size: { readonly height: number; readonly width: number } | undefined,
  uid: number,
  root: number,
  console: boolean,
): Operation {
  return {
    op: 'terminal',
    rows: size?.height ?? 0,
    columns: size?.width ?? 0,
    uid,
    gid: 5,
    root,
    console: console ? 1 : 0,
  };
}
