/** Operations in words, for `nodelet plan` and `nodelet trace`: what a person would type or look up. Pure. */
import { capabilityNames } from '../../linux/capabilities.ts';
import { CLONE, MOUNT_ATTR, MS, signalName } from '../../linux/constants.ts';
import { RLIMITS } from './compile-identity.ts';
import type { LaunchPlan } from './encode.ts';
import { FIRST_PLAN_SLOT, FLAGS, type Operation } from './protocol.gen.ts';
import { POD_SLOT_NAMES } from './slots.ts';

const NAMESPACES: readonly (readonly [number, string])[] = [
  [CLONE.NEWUSER, 'user'],
  [CLONE.NEWPID, 'pid'],
  [CLONE.NEWNS, 'mnt'],
  [CLONE.NEWNET, 'net'],
  [CLONE.NEWIPC, 'ipc'],
  [CLONE.NEWUTS, 'uts'],
  [CLONE.NEWCGROUP, 'cgroup'],
];

const ATTRIBUTES: readonly (readonly [number, string])[] = [
  [MOUNT_ATTR.RDONLY, 'ro'],
  [MOUNT_ATTR.NOSUID, 'nosuid'],
  [MOUNT_ATTR.NODEV, 'nodev'],
  [MOUNT_ATTR.NOEXEC, 'noexec'],
  [MOUNT_ATTR.NOATIME, 'noatime'],
  [MOUNT_ATTR.STRICTATIME, 'strictatime'],
  [MOUNT_ATTR.NODIRATIME, 'nodiratime'],
];

function bits(value: number | bigint, table: readonly (readonly [number, string])[]): string {
  const number = Number(value);
  return table
    .filter(([bit]) => (number & bit) === bit)
    .map(([, name]) => name)
    .join(',');
}

function propagationName(flags: number): string {
  const recursive = (flags & MS.REC) !== 0 ? 'r' : '';
  if ((flags & MS.PRIVATE) !== 0) return `${recursive}private`;
  if ((flags & MS.SLAVE) !== 0) return `${recursive}slave`;
  if ((flags & MS.SHARED) !== 0) return `${recursive}shared`;
  return `${recursive}unbindable`;
}

/** Slots carry what was put into them, so that a reader follows a descriptor by its name. */
class Names {
  readonly #names = new Map<number, string>();

  of(slot: number): string {
    if (slot < 0) return 'none';
    if (slot < FIRST_PLAN_SLOT) return `the pod's ${POD_SLOT_NAMES.get(slot) ?? slot}`;
    return this.#names.get(slot) ?? `#${slot}`;
  }

  set(slot: number, name: string): void {
    if (slot >= 0) this.#names.set(slot, name);
  }
}

function capabilities(mask: bigint | number): string {
  const names = capabilityNames(BigInt(mask)).map((name) => name.replace('CAP_', '').toLowerCase());
  if (names.length === 0) return 'none';
  return names.length > 20 ? `${names.length} of them` : names.join(',');
}

function quote(words: readonly string[]): string {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : JSON.stringify(word))).join(' ');
}

function describe(operation: Operation, names: Names): string {
  switch (operation.op) {
    case 'make-directory':
      return `mkdir ${operation.path}`;
    case 'write-file':
      return `echo ${operation.data} > ${operation.path}`;
    case 'write-slot':
      return `echo ${operation.data} > ${names.of(operation.file)}`;
    case 'open':
      names.set(operation.out, operation.path);
      return `open ${operation.path}`;
    case 'attach-device-program':
      return `bpf attach the device program to ${names.of(operation.cgroup)}`;
    case 'streams': {
      names.set(operation.outSlot, 'stdout');
      names.set(operation.errSlot, 'stderr');
      if (operation.stdin === 1) names.set(operation.inSlot, 'stdin');
      const log = operation.log === '' ? 'nowhere' : `${operation.directory}/${operation.log}`;
      return operation.terminal === 1 ? `log the terminal to ${log}` : `pipe stdout and stderr to ${log}`;
    }
    case 'exit-record':
      return `take space for the exit record ${operation.path}`;
    case 'clone': {
      const kinds = bits(operation.flags, NAMESPACES);
      const into = operation.cgroup >= 0 ? ` into ${names.of(operation.cgroup)}` : '';
      const maps = operation.uidMap === '' ? '' : `, uid map ${JSON.stringify(operation.uidMap.trim())}`;
      return `clone${kinds === '' ? '' : ` with new ${kinds}`}${into}${maps}`;
    }
    case 'join-namespace':
      // The one mount namespace that travels with a plan.
      return operation.kind === CLONE.NEWNS && operation.namespace >= FIRST_PLAN_SLOT
        ? 'setns a mount namespace with an empty root and nothing of the host'
        : `setns ${names.of(operation.namespace)}`;
    case 'join-process':
      return `setns ${bits(operation.kinds, NAMESPACES)} of the container's first process`;
    case 'unshare':
      return `unshare ${bits(operation.kinds, NAMESPACES)}`;
    case 'hold':
      return `hand ${names.of(operation.source)} to the shim`;
    case 'linger':
      return `keep the ${operation.name} namespace until the exit was reported`;
    case 'session-keyring':
      return `new session keyring ${operation.name}`;
    case 'death-signal':
      return operation.signal === 0
        ? 'live on without the shim'
        : `die with the shim (${signalName(operation.signal)})`;
    case 'session':
      return 'setsid';
    case 'rlimit': {
      const name =
        Object.entries(RLIMITS).find(([, number]) => number === operation.resource)?.[0] ??
        String(operation.resource);
      return `${name} ${operation.soft}:${operation.hard}`;
    }
    case 'oom-score':
      return `oom_score_adj ${operation.value}`;
    case 'hostname':
      return `sethostname ${operation.name}`;
    case 'domainname':
      return `setdomainname ${operation.name}`;
    case 'sysctl':
      return `sysctl ${operation.key.replaceAll('/', '.')}=${operation.value}`;
    case 'loopback-up':
      return 'ip link set lo up';
    case 'propagation':
      return `mount --make-${propagationName(operation.flags)} ${operation.path}`;
    case 'mount': {
      names.set(operation.out, operation.type);
      const options = [...operation.options, bits(operation.attributes, ATTRIBUTES)]
        .filter((text) => text !== '')
        .join(',');
      return `make ${operation.type}${options === '' ? '' : ` (${options})`}`;
    }
    case 'overlay':
      names.set(operation.out, 'the root');
      return `make overlay of ${operation.lower.length} layer${operation.lower.length === 1 ? '' : 's'}, upper ${operation.upper}${operation.options.length > 0 ? ` (${operation.options.join(',')})` : ''}`;
    case 'open-tree': {
      const source = operation.path === '' ? names.of(operation.base) : operation.path;
      names.set(operation.out, source);
      return `open ${source} as a bind mount`;
    }
    case 'open-beneath': {
      const path = `${names.of(operation.base)}/${operation.path}`;
      names.set(operation.out, path);
      return `open ${path} without leaving ${names.of(operation.base)}`;
    }
    case 'expect-type':
      return `expect ${names.of(operation.tree)} to be of type ${operation.type.toString(8)}`;
    case 'id-map':
      return `id-map ${names.of(operation.tree)} by ${names.of(operation.namespace)}`;
    case 'mount-attributes': {
      const set = bits(operation.set, ATTRIBUTES);
      const clear = bits(operation.clear, ATTRIBUTES);
      const parts = [
        set === '' ? '' : set,
        clear === '' ? '' : `not ${clear}`,
        Number(operation.propagation) === 0
          ? ''
          : propagationName(
              Number(operation.propagation) | ((operation.flags & FLAGS.RECURSIVE) !== 0 ? MS.REC : 0),
            ),
      ].filter((text) => text !== '');
      return `make ${names.of(operation.tree)} ${parts.length === 0 ? 'as it is' : parts.join(', ')}`;
    }
    case 'enter-directory':
      return `cd ${names.of(operation.directory)}`;
    case 'attach':
      return `mount ${names.of(operation.tree)} on ${operation.path}`;
    case 'attach-in':
      return `mount ${names.of(operation.tree)} on /${operation.path}`;
    case 'directory-in':
      return `mkdir -p /${operation.path}`;
    case 'device-in':
      return `mknod /${operation.path} ${operation.major}:${operation.minor}`;
    case 'link-in':
      return `ln -s ${operation.target} /${operation.path}`;
    case 'mask':
      return `hide /${operation.path}`;
    case 'read-only':
      return `make /${operation.path} read-only`;
    case 'pivot':
      return 'pivot_root, old root detached';
    case 'enter-root':
      return 'chroot to it; there is nothing else in this mount namespace';
    case 'standard-streams':
      return `stdin ${names.of(operation.stdin)}, stdout and stderr to the log`;
    case 'terminal':
      return 'open a terminal, make it the standard streams';
    case 'umask':
      return `umask ${operation.mask.toString(8).padStart(4, '0')}`;
    case 'working-directory':
      return (operation.flags & FLAGS.KEEP) !== 0
        ? `cd ${operation.path}, where root could not`
        : `cd ${operation.path}`;
    case 'bounding-set':
      return `bounding set: ${capabilities(operation.keep)}`;
    case 'identity':
      return `uid ${operation.uid}, gid ${operation.gid}, groups ${operation.groups.length === 0 ? 'none' : operation.groups.join(',')}`;
    case 'capabilities':
      return `capabilities: ${capabilities(operation.effective)}${BigInt(operation.ambient) === 0n ? '' : `; ambient ${capabilities(operation.ambient)}`}`;
    case 'exec-profile':
      return `the program begins under the AppArmor profile ${operation.name}`;
    case 'no-new-privileges':
      return 'no_new_privs';
    case 'seccomp':
      return `seccomp filter of ${operation.filter.length / 8} instructions`;
    case 'drop-descriptors':
      return 'close what is the host’s for good';
    case 'close-descriptors':
      return `close every descriptor from ${operation.from} at exec`;
    case 'find-program':
      return operation.file.includes('/')
        ? `program ${operation.file}`
        : `find ${operation.file} in ${operation.path}`;
    case 'execute':
      return `exec ${quote(operation.argv)}`;
    case 'execute-program':
      return `exec ${quote(operation.argv)} (${names.of(operation.program)})`;
    case 'listen':
      names.set(operation.out, 'the start socket');
      return `listen at ${operation.directory}/${operation.name}`;
    case 'checkpoint':
      return 'wait for the hooks of the runtime';
    case 'hook':
      return `run hook ${quote(operation.argv)}`;
    case 'copy-up':
      return `copy what is at /${operation.path} into ${names.of(operation.tree)}`;
    case 'personality':
      return `personality 0x${operation.domain.toString(16)}`;
    case 'io-priority':
      return `ioprio_set class ${operation.value >> 13}, level ${operation.value & 0x1fff}`;
    case 'scheduler':
      return `sched_setattr policy ${operation.policy}, nice ${operation.nice}, priority ${operation.priority}`;
    case 'pass-descriptors':
      return `keep ${operation.slots.length} descriptors of the caller from 3`;
    case 'await-start':
      return `wait for start at ${names.of(operation.socket)}`;
    case 'finish':
      return 'done; the namespaces stay with the shim';
  }
}

export interface DescribedOperation {
  readonly index: number;
  readonly op: Operation['op'];
  /** 'shim' until the first clone, 'child' after it. */
  readonly where: 'shim' | 'child';
  readonly text: string;
}

export function describePlan(plan: LaunchPlan): DescribedOperation[] {
  const names = new Names();
  let where: 'shim' | 'child' = 'shim';
  return plan.operations.map((operation, index) => {
    const described = { index, op: operation.op, where, text: describe(operation, names) };
    if (operation.op === 'clone') where = 'child';
    return described;
  });
}
