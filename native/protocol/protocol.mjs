// The one source of what agent and shim say to each other: launch-plan operations and socket messages.
// scripts/gen/protocol.mjs writes native/shim/protocol.gen.h and src/runtime/launch/protocol.gen.ts from it.
//
// Field types:  u32 i32 u64   numbers
//               slot          an index into the table of descriptors; -1 is none
//               out           a slot that the operation fills (what it held is closed); -1 drops the result
//               str           text without NUL        bytes   anything        strs   a list of texts
//               u32s          a list of numbers
//
// Where an operation runs is said by `side`: "shim" (before the first clone, in the shim itself: it must not wait),
// "child" (after it) or "any". `tolerant` operations take flags: TOLERATE_MISSING passes over ENOENT,
// TOLERATE_DENIED turns EPERM and EACCES into a warning that the reply carries.

export const VERSION = 1;

/** Slots 0 to 15 belong to the pod and outlive a plan; descriptors sent with a plan start at 16. */
export const POD_SLOTS = { net: 0, ipc: 1, uts: 2, user: 3, pid: 4, mnt: 5, shm: 6 };
export const FIRST_PLAN_SLOT = 16;
export const MAX_SLOTS = 1024;

export const FLAGS = {
  TOLERATE_MISSING: 1,
  TOLERATE_DENIED: 2,
  RECURSIVE: 4,
  NO_SYMLINKS: 8,
  KEEP: 16,
  OVER_PROC: 32,
  ONLY_PROC: 64,
  MAKE_MISSING: 128,
};

export const PLAN_KINDS = { sandbox: 1, container: 2, exec: 3 };

export const operations = [
  // --- files and cgroups
  {
    name: 'make-directory',
    side: 'any',
    fields: { path: 'str', mode: 'u32' },
    doc: 'mkdir of a host path; one that exists is fine',
  },
  {
    name: 'write-file',
    side: 'any',
    fields: { path: 'str', data: 'str', flags: 'u32' },
    doc: 'open, write at once, close: a control file of cgroupfs or procfs',
    tolerant: true,
  },
  {
    name: 'open',
    side: 'any',
    fields: { path: 'str', open: 'u32', out: 'out' },
    doc: 'open of a host path with O_CLOEXEC',
  },
  {
    name: 'write-slot',
    side: 'child',
    fields: { file: 'slot', data: 'str', flags: 'u32' },
    doc: 'write at once to a control file that was opened before the root changed',
    tolerant: true,
  },
  {
    name: 'attach-device-program',
    side: 'shim',
    fields: { cgroup: 'slot', program: 'slot' },
    doc: 'bpf(BPF_PROG_ATTACH, BPF_CGROUP_DEVICE)',
  },
  // --- what the shim keeps for a process
  {
    name: 'streams',
    side: 'shim',
    fields: {
      directory: 'str',
      log: 'str',
      lineLimit: 'u32',
      stdin: 'u32',
      terminal: 'u32',
      inSlot: 'out',
      outSlot: 'out',
      errSlot: 'out',
    },
    doc: "opens the CRI log (below its directory, through no link), makes the pipes; the child's ends go to the slots",
  },
  {
    name: 'exit-record',
    side: 'shim',
    fields: { path: 'str', oomFile: 'str', oomKey: 'str', killFile: 'str' },
    doc: 'where the exit is recorded, which counter tells an OOM kill, which cgroup.kill ends what is left',
  },
  // --- processes and namespaces
  {
    name: 'clone',
    side: 'any',
    fields: { flags: 'u64', cgroup: 'slot', uidMap: 'str', gidMap: 'str' },
    doc: 'clone3; the list goes on in the child, the parent writes the id maps first',
  },
  {
    name: 'join-namespace',
    side: 'any',
    fields: { namespace: 'slot', kind: 'u32' },
    doc: 'setns; the shim goes back to its own',
  },
  {
    name: 'join-process',
    side: 'child',
    fields: { pidfd: 'slot', kinds: 'u32' },
    doc: 'one setns of a pidfd with all namespaces of a process (Linux 5.8)',
  },
  {
    name: 'unshare',
    side: 'any',
    fields: { kinds: 'u32' },
    doc: 'unshare; the shim goes back to its own namespaces when it is done with the list',
  },
  {
    name: 'hold',
    side: 'any',
    fields: { source: 'slot', pod: 'u32' },
    doc: 'gives a descriptor to the shim, which keeps it in a pod slot',
  },
  {
    name: 'linger',
    side: 'child',
    fields: { namespaces: 'slot', name: 'str' },
    doc: 'gives the shim one of the namespaces in a /proc/<pid>/ns, which it closes after the exit was reported: what ends with it does not delay that',
  },
  {
    name: 'session-keyring',
    side: 'child',
    fields: { name: 'str', flags: 'u32' },
    doc: 'keyctl(KEYCTL_JOIN_SESSION_KEYRING)',
    tolerant: true,
  },
  {
    name: 'death-signal',
    side: 'child',
    fields: { signal: 'u32' },
    doc: 'prctl(PR_SET_PDEATHSIG): 0 frees the process from the life of the shim',
  },
  { name: 'session', side: 'child', fields: {}, doc: 'setsid' },
  {
    name: 'rlimit',
    side: 'child',
    fields: { resource: 'u32', soft: 'u64', hard: 'u64', flags: 'u32' },
    doc: 'setrlimit',
    tolerant: true,
  },
  {
    name: 'oom-score',
    side: 'child',
    fields: { value: 'i32', flags: 'u32' },
    doc: '/proc/self/oom_score_adj',
    tolerant: true,
  },
  { name: 'hostname', side: 'any', fields: { name: 'str' }, doc: 'sethostname' },
  { name: 'domainname', side: 'any', fields: { name: 'str' }, doc: 'setdomainname' },
  {
    name: 'sysctl',
    side: 'any',
    fields: { key: 'str', value: 'str' },
    doc: 'writes /proc/sys/<key> after checking that /proc is procfs',
  },
  { name: 'loopback-up', side: 'any', fields: {}, doc: 'brings lo up' },
  // --- mounts
  {
    name: 'propagation',
    side: 'child',
    fields: { path: 'str', flags: 'u32' },
    doc: 'mount(2) that only changes propagation',
  },
  {
    name: 'mount',
    side: 'any',
    fields: { type: 'str', options: 'strs', attributes: 'u32', out: 'out' },
    doc: 'fsopen, fsconfig, fsmount: a file system that is not attached yet',
  },
  {
    name: 'overlay',
    side: 'child',
    fields: { lower: 'strs', upper: 'str', work: 'str', options: 'strs', staging: 'str', out: 'out' },
    doc: "an overlay of layers, read-only where `upper` is empty; by mount(2) on `staging` where the kernel's fsconfig cannot",
  },
  {
    name: 'open-tree',
    side: 'any',
    fields: { base: 'slot', path: 'str', flags: 'u32', out: 'out' },
    doc: 'open_tree(OPEN_TREE_CLONE): a bind mount that is not attached yet; MAKE_MISSING: of a directory that is made where there is none',
  },
  {
    name: 'open-beneath',
    side: 'child',
    fields: { base: 'slot', path: 'str', open: 'u32', out: 'out' },
    doc: 'openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS): a sub-path of a volume',
  },
  {
    name: 'id-map',
    side: 'child',
    fields: { tree: 'slot', namespace: 'slot', flags: 'u32' },
    doc: 'mount_setattr(MOUNT_ATTR_IDMAP) (Linux 5.12)',
  },
  {
    name: 'mount-attributes',
    side: 'child',
    fields: { tree: 'slot', set: 'u64', clear: 'u64', propagation: 'u64', flags: 'u32' },
    doc: 'mount_setattr',
  },
  {
    name: 'enter-directory',
    side: 'child',
    fields: { directory: 'slot' },
    doc: 'fchdir: to a mount point that another identity could not walk to',
  },
  {
    name: 'attach',
    side: 'child',
    fields: { tree: 'slot', path: 'str' },
    doc: 'move_mount to a path of this mount namespace; from then on the tree is the root that paths inside it start from',
  },
  {
    name: 'attach-in',
    side: 'child',
    fields: { tree: 'slot', root: 'slot', path: 'str', flags: 'u32' },
    doc: 'move_mount to a path inside the root; a missing target is made, a directory or a file as the tree is one. Not onto anything of a /proc without OVER_PROC; ONLY_PROC: the tree has to be a procfs',
  },
  {
    name: 'directory-in',
    side: 'child',
    fields: { root: 'slot', path: 'str', mode: 'u32', uid: 'u32', gid: 'u32' },
    doc: 'makes a directory and its missing parents inside the root',
  },
  {
    name: 'device-in',
    side: 'child',
    fields: { root: 'slot', path: 'str', mode: 'u32', major: 'u32', minor: 'u32', uid: 'u32', gid: 'u32' },
    doc: 'mknod inside the root',
  },
  {
    name: 'link-in',
    side: 'child',
    fields: { root: 'slot', target: 'str', path: 'str' },
    doc: 'symlink inside the root; one that exists is fine',
  },
  {
    name: 'mask',
    side: 'child',
    fields: { root: 'slot', path: 'str', empty: 'slot', null: 'slot' },
    doc: 'hides a path: an empty read-only directory, or the null device, is mounted on it; a missing path is passed over',
  },
  {
    name: 'read-only',
    side: 'child',
    fields: { root: 'slot', path: 'str' },
    doc: 'a read-only bind of a path on itself; a missing path is passed over',
  },
  { name: 'pivot', side: 'child', fields: { root: 'slot' }, doc: 'pivot_root(".", "."), old root detached' },
  {
    name: 'enter-root',
    side: 'child',
    fields: { root: 'slot' },
    doc: 'chroot, in a mount namespace that has nothing else to come back to',
  },
  // --- identity and execution
  {
    name: 'standard-streams',
    side: 'child',
    fields: { stdin: 'slot', stdout: 'slot', stderr: 'slot', uid: 'i32' },
    doc: 'dup2 to 0, 1, 2; pipes are given to uid',
  },
  {
    name: 'terminal',
    side: 'child',
    fields: { rows: 'u32', columns: 'u32', uid: 'u32', gid: 'i32', root: 'slot', console: 'u32' },
    doc: "a pty from the container's devpts, its controlling terminal and standard streams; the master goes to the shim",
  },
  { name: 'umask', side: 'child', fields: { mask: 'u32' }, doc: 'umask' },
  {
    name: 'working-directory',
    side: 'child',
    fields: { path: 'str', flags: 'u32' },
    doc: 'chdir, then checks that the directory is inside the root',
    tolerant: true,
  },
  {
    name: 'bounding-set',
    side: 'child',
    fields: { keep: 'u64' },
    doc: 'PR_CAPBSET_DROP for every other capability',
  },
  {
    name: 'identity',
    side: 'child',
    fields: { uid: 'u32', gid: 'u32', groups: 'u32s', keep: 'u32' },
    doc: 'PR_SET_KEEPCAPS, setgroups, setresgid, setresuid',
  },
  {
    name: 'capabilities',
    side: 'child',
    fields: { effective: 'u64', permitted: 'u64', inheritable: 'u64', ambient: 'u64' },
    doc: 'capset and the ambient set',
  },
  { name: 'no-new-privileges', side: 'child', fields: {}, doc: 'PR_SET_NO_NEW_PRIVS' },
  {
    name: 'seccomp',
    side: 'child',
    fields: { flags: 'u32', filter: 'bytes' },
    doc: 'seccomp(SECCOMP_SET_MODE_FILTER)',
  },
  {
    name: 'close-descriptors',
    side: 'child',
    fields: { from: 'u32' },
    doc: 'close_range(…, CLOSE_RANGE_CLOEXEC)',
  },
  {
    name: 'find-program',
    side: 'child',
    fields: { file: 'str', path: 'str' },
    doc: 'searches PATH where the name has no slash; before the last filter, which may not allow it',
  },
  { name: 'execute', side: 'child', fields: { argv: 'strs', env: 'strs' }, doc: 'execve of what was found' },
  {
    name: 'execute-program',
    side: 'child',
    fields: { program: 'slot', argv: 'strs', env: 'strs' },
    doc: 'execveat of a descriptor',
  },
  {
    name: 'finish',
    side: 'any',
    fields: {},
    doc: 'there is nothing to execute: a child leaves, the shim is done',
  },
  {
    name: 'drop-descriptors',
    side: 'child',
    fields: { keep: 'u32s' },
    doc: 'closes every descriptor above 2 but the way back to the shim and those in `keep`: before a child is born that others may look into',
  },
  {
    name: 'exec-profile',
    side: 'child',
    fields: { name: 'str' },
    doc: 'the AppArmor profile of the program that is executed: /proc/self/attr/apparmor/exec, after checking that it is procfs',
  },
  {
    name: 'expect-type',
    side: 'child',
    fields: { tree: 'slot', type: 'u32' },
    doc: 'fails where what was opened is of another type (S_IFMT) than the volume has to be',
  },
  // --- a container that others start, and that outlives its shim (nodelet oci)
  {
    name: 'listen',
    side: 'shim',
    fields: { directory: 'str', name: 'str', out: 'out' },
    doc: 'a SEQPACKET socket that `await-start` waits at',
  },
  {
    name: 'checkpoint',
    side: 'child',
    fields: {},
    doc: 'tells that this point is reached and waits for `proceed`, which brings the state that hooks read',
  },
  {
    name: 'hook',
    side: 'child',
    fields: { path: 'str', argv: 'strs', env: 'strs', timeout: 'u32' },
    doc: 'runs a program to its end, the state on its standard input; at most `timeout` seconds, 0 for ever',
  },
  {
    name: 'copy-up',
    side: 'child',
    fields: { tree: 'slot', root: 'slot', path: 'str' },
    doc: 'fills a file system that is not attached yet with what is at the path inside the root',
  },
  { name: 'personality', side: 'child', fields: { domain: 'u32' }, doc: 'personality' },
  {
    name: 'io-priority',
    side: 'child',
    fields: { value: 'u32' },
    doc: 'ioprio_set of the calling process',
  },
  {
    name: 'scheduler',
    side: 'child',
    fields: {
      policy: 'u32',
      flags: 'u64',
      nice: 'i32',
      priority: 'u32',
      runtime: 'u64',
      deadline: 'u64',
      period: 'u64',
    },
    doc: 'sched_setattr of the calling process',
  },
  {
    name: 'pass-descriptors',
    side: 'child',
    fields: { slots: 'u32s' },
    doc: 'these become 3, 4, … and stay open',
  },
  {
    name: 'await-start',
    side: 'child',
    fields: { socket: 'slot' },
    doc: 'tells the shim that everything is ready, then waits for a connection: its first packet is the state, its end without a word means that the program runs',
  },
];

/** Requests carry an id that the reply repeats; events carry 0. `fds` says what SCM_RIGHTS descriptors come along. */
export const messages = [
  { name: 'hello', fields: { version: 'u32' }, doc: 'first packet of a connection' },
  {
    name: 'welcome',
    fields: { version: 'u32', pid: 'u32', sandbox: 'str' },
    doc: 'answer to hello',
    fds: 'the pod slots that are held, in the order of `slots`',
    extra: { slots: 'u32s' },
  },
  { name: 'run', fields: {}, doc: 'runs a plan', fds: 'the plan (sealed memory file), then slots 16, 17, …' },
  {
    name: 'started',
    fields: { pid: 'u32', startedAt: 'u64', begun: 'u64', times: 'u32s', warnings: 'u32s' },
    doc: 'the plan ran to its end; times: microseconds from `begun` (CLOCK_MONOTONIC ns) to the end of each operation; warnings: pairs of operation and errno',
    fds: 'pod slots held by a sandbox plan; the terminal of an exec plan',
  },
  {
    name: 'failed',
    fields: { operation: 'i32', error: 'u32', signal: 'u32', detail: 'str', begun: 'u64', times: 'u32s' },
    doc: 'the plan failed at an operation (-1: before the first), or the child was killed there',
  },
  { name: 'list', fields: {}, doc: 'asks for all processes' },
  {
    name: 'process',
    fields: {
      name: 'str',
      kind: 'u32',
      state: 'u32',
      pid: 'u32',
      startedAt: 'u64',
      code: 'u32',
      oomKills: 'u32',
      finishedAt: 'u64',
    },
    doc: 'one of them; state 1 starting, 2 running, 3 exited',
  },
  { name: 'done', fields: {}, doc: 'a request without a result has been carried out, or the end of a list' },
  { name: 'refused', fields: { error: 'u32', detail: 'str' }, doc: 'a request could not be carried out' },
  { name: 'signal', fields: { name: 'str', signal: 'u32' }, doc: 'kill(2) of a process by its name' },
  { name: 'resize', fields: { name: 'str', rows: 'u32', columns: 'u32' }, doc: 'TIOCSWINSZ' },
  { name: 'close-stdin', fields: { name: 'str' }, doc: 'ends the standard input of a container' },
  { name: 'reopen-log', fields: { name: 'str' }, doc: 'after a rotation' },
  { name: 'forget', fields: { name: 'str' }, doc: 'drops the record of a process that has exited' },
  { name: 'quit', fields: {}, doc: 'ends the shim; refused with EBUSY while a process runs' },
  {
    name: 'exited',
    fields: { name: 'str', kind: 'u32', pid: 'u32', code: 'u32', oomKills: 'u32', finishedAt: 'u64' },
    doc: 'event: a process has ended and, for a container, its exit is recorded',
  },
  {
    name: 'log-lost',
    fields: { name: 'str', error: 'u32', bytes: 'u64' },
    doc: 'event: log lines could not be written',
  },
  {
    name: 'attach',
    fields: { name: 'str', stdin: 'u32', stdout: 'u32', stderr: 'u32', once: 'u32' },
    doc: 'asks for the streams of a running container; once: its standard input ends with this connection',
  },
  {
    name: 'attached',
    fields: { stdin: 'u32', stdout: 'u32', stderr: 'u32', terminal: 'u32' },
    doc: "which of them came along: the input is the container's own pipe or terminal, an output a pipe that the shim copies to",
    fds: 'those that are 1, in this order',
  },
  { name: 'reached', fields: { pid: 'u32' }, doc: 'event: a child waits at a `checkpoint`' },
  {
    name: 'proceed',
    fields: { name: 'str', state: 'str' },
    doc: 'lets a child go on from its checkpoint',
  },
  {
    name: 'leave',
    fields: { stay: 'u32' },
    doc: 'for a shim without a socket of its own: its processes outlive it; unless told to stay it ends now',
  },
];
