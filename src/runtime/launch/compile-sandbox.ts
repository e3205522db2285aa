/** Compiles what makes a pod's namespaces. Pure. */

import type { CgroupStep } from '../../linux/cgroups/index.ts';
import { CLONE, MOUNT_ATTR, MS, O } from '../../linux/constants.ts';
import { cgroupOperations } from './compile-cgroup.ts';
import type { KernelFeatures } from './context.ts';
import type { LaunchPlan } from './encode.ts';
import { FLAGS, type Operation, POD_SLOTS } from './protocol.gen.ts';
import { Slots } from './slots.ts';
import type { OciIdMap } from './spec.ts';

export interface SandboxContext {
  readonly id: string;
  readonly hostname: string;
  /** False where the pod uses the host's. */
  readonly network: boolean;
  readonly ipc: boolean;
  readonly uts: boolean;
  /** One PID namespace for all containers, with a pause process as its PID 1. */
  readonly sharedPid: boolean;
  /** A user namespace; empty for the host's. */
  readonly uidMap: readonly OciIdMap[];
  readonly gidMap: readonly OciIdMap[];
  /** Paths below /proc/sys. */
  readonly sysctls: Readonly<Record<string, string>>;
  /** Bytes of /dev/shm. */
  readonly shmSize: number;
  readonly staging: string;
  /** The pause process' own cgroup, made where there is one. */
  readonly cgroup: {
    readonly steps: readonly CgroupStep[];
    readonly directory: string;
    readonly join: readonly string[];
  };
  readonly oomScoreAdj: number | undefined;
  readonly features: KernelFeatures;
  /** The generic part was done ahead (`compileSpare`): what is left is what makes this pod this pod. */
  readonly prepared: boolean;
}

/** uid_map's text. */
export function idMapText(map: readonly OciIdMap[]): string {
  return map.map((row) => `${row.containerID} ${row.hostID} ${row.size}\n`).join('');
}

/** The host's id for root of the pod. */
export function mappedRoot(map: readonly OciIdMap[]): number {
  return map.find((row) => row.containerID === 0)?.hostID ?? 0;
}

const HOLD_KINDS = [
  ['net', CLONE.NEWNET],
  ['ipc', CLONE.NEWIPC],
  ['uts', CLONE.NEWUTS],
  ['user', CLONE.NEWUSER],
  ['pid', CLONE.NEWPID],
] as const;

/** Whether a sandbox can begin with what `compileSpare` made. */
export function fitsSpare(
  context: Pick<SandboxContext, 'network' | 'ipc' | 'uts' | 'uidMap' | 'features'>,
): boolean {
  return (
    context.network &&
    context.ipc &&
    context.uts &&
    context.uidMap.length === 0 &&
    context.features.cloneDetached
  );
}

/**
 * The part of a sandbox that does not depend on its pod: network, IPC and UTS namespaces, loopback, default sysctls, shared
 * memory. Making a network namespace takes longer than all the rest; a spare one is made while nobody waits.
 */
export function compileSpare(
  id: string,
  sysctls: Readonly<Record<string, string>>,
  shmSize: number,
): LaunchPlan {
  const slots = new Slots(0);
  const kinds = CLONE.NEWNET | CLONE.NEWIPC | CLONE.NEWUTS;
  return {
    kind: 'sandbox',
    name: `${id}-spare`,
    operations: [
      { op: 'unshare', kinds },
      { op: 'loopback-up' },
      ...holdOperations(kinds, slots),
      ...sysctlOperations(sysctls),
      ...shmOperations(shmSize, 0, 0, slots),
      { op: 'finish' },
    ],
  };
}

/**
 * The plans of a sandbox, to be run one after another. The first makes the namespaces and, where PIDs are shared, stays as
 * the pause process; with a user namespace a second one does with the host's rights what the first may not.
 */
export function compileSandbox(context: SandboxContext): LaunchPlan[] {
  const userNamespace = context.uidMap.length > 0;
  const slots = new Slots(0);
  const program = slots.take();
  const staging = slots.take();
  let kinds = 0;
  if (context.uts) kinds |= CLONE.NEWUTS;
  if (context.network) kinds |= CLONE.NEWNET;
  if (context.ipc) kinds |= CLONE.NEWIPC;
  if (context.sharedPid) kinds |= CLONE.NEWPID;
  if (userNamespace) kinds |= CLONE.NEWUSER;
  if (kinds === 0) return [];

  const operations: Operation[] = [];
  let cgroup = -1;
  if (context.sharedPid) {
    cgroup = slots.take();
    operations.push(
      ...cgroupOperations(context.cgroup.steps),
      { op: 'open', path: context.cgroup.directory, open: O.PATH | O.DIRECTORY, out: cgroup },
      { op: 'open', path: '/proc/self/exe', open: O.PATH, out: program },
      { op: 'open', path: context.staging, open: O.PATH | O.DIRECTORY, out: staging },
    );
  }
  const joins = context.sharedPid
    ? context.cgroup.join.map((path): Operation => ({ op: 'write-file', path, data: '0', flags: 0 }))
    : [];
  const asHost = hostOperations(context, slots);
  // What needs the host's rights, or a mount namespace, is done by a child of its own.
  const apart = userNamespace || !context.features.cloneDetached;
  if (userNamespace) {
    // v1 groups are joined before the child is somebody else; its user namespace comes with the clone.
    const flags = joins.length > 0 ? kinds | CLONE.PARENT : kinds;
    if (joins.length > 0)
      operations.push({ op: 'clone', flags: 0, cgroup, uidMap: '', gidMap: '' }, ...joins);
    operations.push({
      op: 'clone',
      flags,
      cgroup: joins.length > 0 ? -1 : cgroup,
      uidMap: idMapText(context.uidMap),
      gidMap: idMapText(context.gidMap),
    });
    operations.push(
      { op: 'identity', uid: 0, gid: 0, groups: [], keep: 0 },
      ...podOperations(context, kinds, slots),
    );
  } else {
    // Without a user namespace the shim makes them itself, and goes back to its own.
    if (context.prepared)
      operations.push(...joinOperations(kinds), { op: 'hostname', name: context.hostname });
    else {
      operations.push(
        { op: 'unshare', kinds: kinds & ~CLONE.NEWPID },
        ...podOperations(context, kinds & ~CLONE.NEWPID, slots),
      );
    }
    if (!apart) operations.push(...asHost);
    if (context.sharedPid) {
      operations.push({ op: 'clone', flags: CLONE.NEWPID, cgroup, uidMap: '', gidMap: '' }, ...joins);
      if (context.oomScoreAdj !== undefined) {
        operations.push({ op: 'oom-score', value: context.oomScoreAdj, flags: FLAGS.TOLERATE_DENIED });
      }
      operations.push(...holdOperations(CLONE.NEWPID, slots));
    }
  }
  operations.push(
    ...(context.sharedPid ? pauseOperations(slots, program, staging) : [{ op: 'finish' } as const]),
  );

  const plans: LaunchPlan[] = [{ kind: 'sandbox', name: context.id, operations }];
  if (apart && asHost.length > 0) {
    plans.push({
      kind: 'sandbox',
      name: `${context.id.slice(0, 64)}-setup`,
      operations: [
        { op: 'clone', flags: 0, cgroup: -1, uidMap: '', gidMap: '' },
        ...joinOperations(kinds),
        ...asHost,
        { op: 'finish' },
      ],
    });
  }
  return plans;
}

/** Name, loopback, and the descriptors that keep the namespaces. */
function podOperations(context: SandboxContext, kinds: number, slots: Slots): Operation[] {
  const operations: Operation[] = [];
  if (context.uts) operations.push({ op: 'hostname', name: context.hostname });
  if (context.network) operations.push({ op: 'loopback-up' });
  return [...operations, ...holdOperations(kinds, slots)];
}

function holdOperations(kinds: number, slots: Slots): Operation[] {
  return HOLD_KINDS.filter(([, kind]) => (kinds & kind) !== 0).flatMap(([name]) => {
    const slot = slots.take();
    return [
      { op: 'open', path: `/proc/self/ns/${name}`, open: O.RDONLY, out: slot } as const,
      { op: 'hold', source: slot, pod: POD_SLOTS[name] } as const,
    ];
  });
}

function joinOperations(kinds: number): Operation[] {
  return HOLD_KINDS.filter(([name, kind]) => (kinds & kind) !== 0 && name !== 'user' && name !== 'pid').map(
    ([name, kind]): Operation => ({ op: 'join-namespace', namespace: POD_SLOTS[name], kind }),
  );
}

function sysctlOperations(sysctls: Readonly<Record<string, string>>): Operation[] {
  return Object.entries(sysctls).map(([key, value]): Operation => ({ op: 'sysctl', key, value }));
}

/** A detached tmpfs that the shim holds. */
function shmOperations(size: number, uid: number, gid: number, slots: Slots): Operation[] {
  const shm = slots.take();
  return [
    {
      op: 'mount',
      type: 'tmpfs',
      options: ['mode=1777', `size=${size}`, `uid=${uid}`, `gid=${gid}`],
      attributes: MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV | MOUNT_ATTR.NOEXEC,
      out: shm,
    },
    { op: 'hold', source: shm, pod: POD_SLOTS.shm },
  ];
}

/** Sysctls and shared memory: with the host's rights, inside the pod's namespaces. */
function hostOperations(context: SandboxContext, slots: Slots): Operation[] {
  const operations = sysctlOperations(context.sysctls);
  if (!context.ipc || context.prepared) return operations;
  const [mount, hold] = shmOperations(
    context.shmSize,
    mappedRoot(context.uidMap),
    mappedRoot(context.gidMap),
    slots,
  );
  if (mount?.op !== 'mount' || hold === undefined) return operations;
  if (context.features.cloneDetached) return [...operations, mount, hold];
  // Before Linux 6.15 a detached tree cannot be cloned: it is attached in a mount namespace that the shim holds.
  const namespace = slots.take();
  return [
    ...operations,
    { op: 'unshare', kinds: CLONE.NEWNS },
    { op: 'propagation', path: '/', flags: MS.REC | MS.PRIVATE },
    mount,
    { op: 'attach', tree: mount.out, path: context.staging },
    { op: 'open', path: '/proc/self/ns/mnt', open: O.RDONLY, out: namespace },
    { op: 'hold', source: namespace, pod: POD_SLOTS.mnt },
  ];
}

/** Leaves the mounts of the host, in a mount namespace of one's own, for an empty read-only root. */
function emptyRootOperations(slots: Slots, staging: string): Operation[] {
  const root = slots.take();
  return [
    { op: 'propagation', path: '/', flags: MS.REC | MS.PRIVATE },
    {
      op: 'mount',
      type: 'tmpfs',
      options: ['mode=0555', 'size=0', 'nr_inodes=1'],
      attributes: MOUNT_ATTR.RDONLY | MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV | MOUNT_ATTR.NOEXEC,
      out: root,
    },
    { op: 'attach', tree: root, path: staging },
    { op: 'pivot', root },
  ];
}

/**
 * A mount namespace with nothing in it, which the shim's child makes and leaves behind as a descriptor. Every container has
 * a copy of its root, which all of them share: an overlay without an upper directory cannot be made writable by anybody, a
 * tmpfs could by who may remount it.
 */
export function compileEmptyMounts(id: string, staging: string): LaunchPlan {
  const slots = new Slots(0);
  const namespace = slots.take();
  const below = slots.take();
  const root = slots.take();
  const layers = [`${staging}/1`, `${staging}/2`];
  const attributes = MOUNT_ATTR.RDONLY | MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV | MOUNT_ATTR.NOEXEC;
  return {
    kind: 'sandbox',
    name: `${id}-mounts`,
    operations: [
      { op: 'clone', flags: 0, cgroup: -1, uidMap: '', gidMap: '' },
      { op: 'unshare', kinds: CLONE.NEWNS },
      { op: 'open', path: '/proc/self/ns/mnt', open: O.RDONLY, out: namespace },
      { op: 'propagation', path: '/', flags: MS.REC | MS.PRIVATE },
      { op: 'mount', type: 'tmpfs', options: ['mode=0755', 'nr_inodes=4'], attributes: 0, out: below },
      { op: 'attach', tree: below, path: staging },
      ...layers.map((path): Operation => ({ op: 'make-directory', path, mode: 0o555 })),
      { op: 'overlay', lower: layers, upper: '', work: '', options: [], staging, out: root },
      { op: 'mount-attributes', tree: root, set: attributes, clear: 0, propagation: 0, flags: 0 },
      { op: 'attach', tree: root, path: staging },
      { op: 'pivot', root },
      { op: 'hold', source: namespace, pod: POD_SLOTS.mnt },
      { op: 'finish' },
    ],
  };
}

/** The id that Kubernetes' own pause image runs as. */
const PAUSE_ID = 65_535;

/**
 * PID 1 of a shared PID namespace is in sight of every container of the pod, and one with CAP_SYS_PTRACE could walk
 * through /proc/1/root: it gets an empty read-only root of its own, no descriptors, no privileges.
 */
function pauseOperations(slots: Slots, program: number, staging: number): Operation[] {
  return [
    { op: 'session' },
    { op: 'enter-directory', directory: staging },
    { op: 'unshare', kinds: CLONE.NEWNS },
    ...emptyRootOperations(slots, '.'),
    { op: 'bounding-set', keep: 0 },
    { op: 'identity', uid: PAUSE_ID, gid: PAUSE_ID, groups: [], keep: 0 },
    { op: 'capabilities', effective: 0, permitted: 0, inheritable: 0, ambient: 0 },
    { op: 'no-new-privileges' },
    { op: 'death-signal', signal: 0 },
    { op: 'close-descriptors', from: 0 },
    { op: 'execute-program', program, argv: ['pause'], env: [] },
  ];
}
