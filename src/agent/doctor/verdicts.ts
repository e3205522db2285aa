/** What is made of the facts: one finding for each thing that Nodelet uses, with its mend where it lacks. Pure. */
import { defaultCapabilities } from '../../linux/capabilities.ts';
import { STORAGE_MEND } from '../storage.ts';
import type { Facts, Outcome } from './facts.ts';
import type { Finding } from './types.ts';
import { atLeast, bytes, finding, type Rule, tried } from './verdict.ts';
import { judgeNetwork } from './verdicts-network.ts';

/** In the order in which they are printed: a thing comes after those that it needs. */
const RULES: readonly Rule[] = [
  node,
  native,
  agent,
  root,
  capabilities,
  kernelCalls,
  namespaces,
  userNamespaces,
  proc,
  userProc,
  seccomp,
  cgroupHierarchy,
  cgroupControllers,
  cgroupUse,
  cgroupKill,
  deviceProgram,
  overlay,
  idMap,
  disk,
  inodes,
  ...judgeNetwork,
  memory,
  openFiles,
  inotify,
  processes,
  clock,
];

export function judge(facts: Facts): Finding[] {
  return RULES.flatMap((rule) => rule(facts) ?? []);
}

// --- program

function node({ program }: Facts): Finding {
  const about = finding('node', 'Program', 'Node.js');
  if (atLeast(program.node, [20, 18])) return about.ok(program.node);
  return about.lacking(program.node, 'install Node.js 20.18 or newer');
}

function native({ program }: Facts): Finding {
  const about = finding('native', 'Program', 'native parts');
  const mend =
    'npm run build:native (needs gcc, g++, make, python3 and musl-gcc: npm run setup installs them)';
  if (!program.addon.ok) return about.lacking(program.addon.message, mend);
  if (!program.shim.ok) return about.lacking(program.shim.message, mend);
  return about.ok('addon and shim are built');
}

/** sun_path of unix(7), without the byte that ends it. */
const LONGEST_SOCKET = 107;

function agent({ program }: Facts): Finding {
  const about = finding('agent', 'Program', 'agent');
  if (Buffer.byteLength(program.socket) > LONGEST_SOCKET)
    return about.lacking(
      `its socket "${program.socket}" would be longer than the ${LONGEST_SOCKET} bytes that a socket's path may have`,
      'choose a shorter --state',
    );
  return about.ok(program.agent === undefined ? 'none runs with this --state' : `runs, pid ${program.agent}`);
}

// --- rights

function root({ rights }: Facts): Finding {
  const about = finding('root', 'Rights', 'root');
  if (rights.uid === 0) return about.ok('uid 0');
  return about.lacking(
    `uid ${rights.uid}`,
    'run it with sudo; what could not be tried without root is marked with ?',
  );
}

/** What making a container takes. */
const NEEDED = [
  'CAP_SYS_ADMIN',
  'CAP_NET_ADMIN',
  'CAP_SETUID',
  'CAP_SETGID',
  'CAP_SETPCAP',
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_MKNOD',
  'CAP_KILL',
] as const;

function capabilities({ rights }: Facts): Finding[] {
  const has = new Set(rights.capabilities);
  const mend = 'give them to this container or service: --cap-add, CapabilityBoundingSet=; or --privileged';
  const lacking = NEEDED.filter((name) => !has.has(name));
  const needed = finding('capabilities', 'Rights', 'capabilities');
  const first =
    lacking.length === 0
      ? needed.ok(
          `${rights.capabilities.length}, among them all ${NEEDED.length} that making a container takes`,
        )
      : rights.uid === 0
        ? needed.lacking(`without ${lacking.join(', ')}`, mend)
        : needed.unknown('root has others', 'run it with sudo');
  const toGive = finding('container-capabilities', 'Rights', 'capabilities to hand on').recommended();
  const cannotGive = defaultCapabilities.filter((name) => !has.has(name));
  const resource = finding('sys-resource', 'Rights', 'CAP_SYS_RESOURCE').recommended();
  if (rights.uid !== 0) return [first];
  return [
    first,
    cannotGive.length === 0
      ? toGive.ok(`the ${defaultCapabilities.length} that containers get by default`)
      : toGive.lacking(`containers will be without ${cannotGive.join(', ')}`, mend),
    has.has('CAP_SYS_RESOURCE')
      ? resource.ok('limits may be raised, oom_score_adj lowered')
      : resource.lacking(
          'rlimits stay below ours, and oom_score_adj is not lowered for Guaranteed pods',
          mend,
        ),
  ];
}

// --- kernel

function kernelCalls({ kernel, rights }: Facts): Finding {
  const about = finding('kernel', 'Kernel', 'kernel');
  const failed = Object.entries(kernel.calls).filter(([, outcome]) => !outcome.ok);
  if (failed.length === 0)
    return about.ok(`Linux ${kernel.release} has ${Object.keys(kernel.calls).join(', ')}`);
  const found = failed.map(([name, outcome]) => `${name}: ${outcome.ok ? '' : outcome.message}`).join('; ');
  if (rights.uid !== 0) return about.unknown(`Linux ${kernel.release}; ${found}`, 'run it with sudo');
  return about.lacking(
    `Linux ${kernel.release} refuses ${found}`,
    'use Linux 5.14 or newer (Debian 12 has 6.1); in a container, a seccomp profile that lets these calls through',
  );
}

function outcomeMend(outcome: Outcome, sysctl: string | undefined): string {
  if (!outcome.ok && outcome.code === 'ENOSPC' && sysctl !== undefined) return `sysctl -w ${sysctl}=15000`;
  if (!outcome.ok && outcome.code === 'NO_UNSHARE') return 'install util-linux, for unshare(1)';
  return 'in a container: give it CAP_SYS_ADMIN and a seccomp profile that lets unshare(2) through; else a kernel with all of CONFIG_NAMESPACES';
}

function namespaces({ kernel, rights }: Facts): Finding {
  const about = finding('namespaces', 'Kernel', 'namespaces');
  const kinds = (['mnt', 'pid', 'net', 'ipc', 'uts', 'cgroup'] as const).map(
    (kind) => [kind, kernel.namespaces[kind]] as const,
  );
  const bad = kinds.find(([, outcome]) => !outcome.ok);
  if (bad === undefined) return about.ok(`${kinds.map(([kind]) => kind).join(', ')} can be made`);
  const [kind, outcome] = bad;
  const sysctl = kernel.limits[kind] === undefined ? undefined : `user.max_${kind}_namespaces`;
  return tried(about, outcome, { rights, good: '', bad: `${kind}: `, mend: outcomeMend(outcome, sysctl) });
}

function userNamespaces({ kernel, rights }: Facts): Finding {
  const about = finding('user-namespaces', 'Kernel', 'user namespaces').recommended();
  const limit = kernel.limits.user;
  return tried(about, kernel.namespaces.user, {
    rights,
    good: `can be made${limit === undefined ? '' : `, ${limit} at most (user.max_user_namespaces)`}: for pods with hostUsers: false`,
    bad: 'pods with hostUsers: false cannot run: ',
    mend:
      limit === 0
        ? 'sysctl -w user.max_user_namespaces=15000'
        : outcomeMend(kernel.namespaces.user, 'user.max_user_namespaces'),
  });
}

function proc({ kernel, rights }: Facts): Finding {
  return tried(finding('proc', 'Kernel', '/proc of its own'), kernel.proc, {
    rights,
    good: 'can be mounted in a new PID namespace',
    bad: '',
    mend: 'in a container: give it CAP_SYS_ADMIN, and an AppArmor or SELinux profile that lets it mount',
  });
}

function userProc({ kernel, rights }: Facts): Finding | undefined {
  if (!kernel.namespaces.user.ok) return undefined;
  return tried(finding('user-proc', 'Kernel', '/proc of a user namespace').recommended(), kernel.userProc, {
    rights,
    good: 'can be mounted',
    bad: 'pods with hostUsers: false cannot run: parts of this /proc are hidden, so the kernel gives nobody a whole one: ',
    mend: 'this is a container itself: give it an unmasked /proc (--security-opt unmask=ALL, procMount: Unmasked)',
  });
}

function seccomp({ kernel }: Facts): Finding {
  const about = finding('seccomp', 'Kernel', 'seccomp');
  const actions = kernel.seccompActions;
  if (actions?.includes('errno') === true && actions.includes('allow'))
    return about.ok(`filters, with ${actions.join(', ')}`);
  return about.lacking('this kernel filters no system calls', 'use a kernel with CONFIG_SECCOMP_FILTER');
}

// --- control groups

function cgroupHierarchy({ cgroups }: Facts): Finding {
  const about = finding('cgroup-v2', 'Control groups', 'cgroup v2');
  const { host } = cgroups;
  if (!host.ok) return about.lacking(host.message, host.hint ?? 'mount cgroup2 at /sys/fs/cgroup');
  if (host.value.mode === 'unified') return about.ok(`at ${host.value.unified}, for everything`);
  const old = Object.entries(host.value.controllers)
    .filter(([, binding]) => binding.version === 1)
    .map(([name]) => name);
  return about.ok(`at ${host.value.unified}; limits of ${old.join(', ')} go to cgroup v1 (a hybrid host)`);
}

function cgroupControllers({ cgroups }: Facts): Finding[] {
  const { host } = cgroups;
  if (!host.ok) return [];
  const { controllers, missing } = host.value;
  const about = finding('controllers', 'Control groups', 'controllers');
  const needed = missing.filter(({ required }) => required);
  const names = Object.entries(controllers).map(([name, { version }]) => `${name} (v${version})`);
  const first =
    needed.length === 0
      ? about.ok(names.join(', '))
      : about.lacking(
          `without ${needed.map(({ controller }) => controller).join(', ')}`,
          needed.map(({ mend }) => mend).join('; '),
        );
  const others = missing.filter(({ required }) => !required);
  return [
    first,
    ...others.map(({ controller, mend }) =>
      finding(`controller-${controller}`, 'Control groups', `controller ${controller}`)
        .recommended()
        .lacking('not here: its limits cannot be set', mend),
    ),
  ];
}

function cgroupUse({ cgroups, rights }: Facts): Finding | undefined {
  if (!cgroups.host.ok) return undefined;
  return tried(finding('cgroup-use', 'Control groups', 'use'), cgroups.scratch, {
    rights,
    good: 'a group was made in each hierarchy, a process born in it, and removed',
    bad: '',
    mend: 'in a container: mount /sys/fs/cgroup for writing (--cgroupns=private and -v /sys/fs/cgroup:/sys/fs/cgroup, or --privileged)',
  });
}

function cgroupKill({ cgroups }: Facts): Finding | undefined {
  if (!cgroups.scratch.ok) return undefined;
  const about = finding('cgroup-kill', 'Control groups', 'cgroup.kill').recommended();
  const { kill, freeze } = cgroups.scratch.value;
  if (kill) return about.ok('a container is killed at once, whatever it forks');
  return about.lacking(
    freeze
      ? 'not here: containers are frozen, then killed one process after the other'
      : 'not here, nor cgroup.freeze',
    'use Linux 5.14 or newer',
  );
}

function deviceProgram({ cgroups, rights }: Facts): Finding | undefined {
  if (!cgroups.host.ok || !cgroups.scratch.ok) return undefined;
  return tried(finding('devices', 'Control groups', 'device rules'), cgroups.deviceProgram, {
    rights,
    good: 'an eBPF program was loaded and attached',
    bad: '',
    mend: 'use a kernel with CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF; in a container, let bpf(2) through and give CAP_BPF or CAP_SYS_ADMIN',
  });
}

// --- storage

function overlay({ storage, rights }: Facts): Finding {
  const about = finding('overlay', 'Storage', `overlayfs on --root`);
  const { root: path, directory, type, overlay: outcome } = storage;
  const where = directory === path ? `"${path}"` : `"${path}" (to be made in "${directory}")`;
  const noKernel = !outcome.ok && outcome.code === 'ENODEV';
  return tried(about, outcome, {
    rights,
    good: `${where} is on ${type}: a layer was made there, and files removed through it`,
    bad: `${where} is on ${type}: `,
    mend: noKernel ? 'modprobe overlay, or use a kernel with CONFIG_OVERLAY_FS' : STORAGE_MEND,
  });
}

function idMap({ storage, rights }: Facts): Finding {
  return tried(finding('id-map', 'Storage', 'id-mapped mounts').recommended(), storage.idMap, {
    rights,
    good: `${storage.type} here can show its files as those of other users`,
    bad: 'pods with hostUsers: false cannot run: ',
    mend: `choose a --root on ext4, XFS or Btrfs (tmpfs since Linux 6.3), with Linux 5.19 or newer`,
  });
}

const MIB = 1024 ** 2;

function disk({ storage }: Facts): Finding {
  const { free, size, directory } = storage;
  const found = `${bytes(free)} of ${bytes(size)} are free at "${directory}"`;
  const mend = 'remove what is not needed (nodelet image prune), or choose another --root';
  const about = finding('disk', 'Storage', 'space');
  if (free < 64 * MIB) return about.lacking(found, mend);
  return free < 1024 * MIB ? about.recommended().lacking(found, mend) : about.ok(found);
}

function inodes({ storage }: Facts): Finding | undefined {
  const { freeInodes, inodes: all } = storage;
  if (all === 0) return undefined;
  const about = finding('inodes', 'Storage', 'inodes').recommended();
  const found = `${freeInodes} of ${all} are free`;
  return freeInodes >= 50_000
    ? about.ok(found)
    : about.lacking(found, 'images have many files: choose a --root on a file system with more inodes');
}

// --- machine

function memory({ machine }: Facts): Finding {
  const { available, total } = machine.memory;
  const about = finding('memory', 'Machine', 'memory').recommended();
  const found = `${bytes(available)} of ${bytes(total)} are available`;
  return available >= 256 * MIB
    ? about.ok(found)
    : about.lacking(found, 'end what is not needed, or add memory');
}

function openFiles({ machine }: Facts): Finding {
  const about = finding('open-files', 'Machine', 'open files').recommended();
  const limit = machine.openFiles;
  const found = limit === Number.MAX_SAFE_INTEGER ? 'no limit' : `${limit} at most`;
  return limit >= 8192
    ? about.ok(found)
    : about.lacking(found, 'raise it: LimitNOFILE=1048576 in the service, ulimit -Hn 1048576 in a shell');
}

function inotify({ machine }: Facts): Finding | undefined {
  const { instances, watches } = machine.inotify;
  if (instances === undefined || watches === undefined) return undefined;
  const about = finding('inotify', 'Machine', 'inotify').recommended();
  const found = `${instances} instances, ${watches} watches for each user`;
  // Containers of all pods that run as one user share them with the host's processes of that user.
  return instances >= 128 && watches >= 8192
    ? about.ok(found)
    : about.lacking(found, 'sysctl -w fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=524288');
}

function processes({ machine }: Facts): Finding | undefined {
  if (machine.maxPid === undefined) return undefined;
  const about = finding('processes', 'Machine', 'process ids').recommended();
  const found = `${machine.maxPid} at most`;
  return machine.maxPid >= 32_768
    ? about.ok(found)
    : about.lacking(found, 'sysctl -w kernel.pid_max=4194304');
}

function clock({ machine }: Facts): Finding {
  const about = finding('clock', 'Machine', 'clock').recommended();
  const { now, built } = machine.clock;
  const found = new Date(now).toISOString();
  return now >= built
    ? about.ok(found)
    : about.lacking(
        `${found} is before this program was installed: registries' certificates will not be valid yet`,
        'set it: timedatectl set-ntp true, or date -s',
      );
}
