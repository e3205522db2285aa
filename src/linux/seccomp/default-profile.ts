/**
 * The RuntimeDefault profile: what moby's default.json (moby/profiles, June 2026) and containerd's Go copy allow and
 * refuse, as conditional rules. Everything that is not named answers EPERM, or ENOSYS where it is newer than the
 * newest call named here (see compile.ts).
 *
 * One thing is stricter than there, in the compiler and not in this list: an argument is compared as wide as the
 * kernel reads it, so that socket(2)'s families 38 and 40 cannot be reached with rubbish in the register's upper half.
 */
import { ENOSYS, EPERM } from './actions.ts';
import { resolveSeccomp } from './resolve.ts';
import type {
  ConditionalRule,
  ConditionalSeccomp,
  LinuxSeccomp,
  SeccompArg,
  SeccompContext,
} from './types.ts';

/** Calls that need no privilege of the host, or check it themselves, by subject. */
const ALWAYS: Readonly<Record<string, readonly string[]>> = {
  files: words(`
    access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat
    faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
    fcntl fcntl64 fdatasync flock fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64
    futimesat getcwd getdents getdents64 lchown lchown32 link linkat listmount _llseek lseek lstat lstat64
    mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 pread64 preadv preadv2
    pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv rename renameat renameat2 rmdir
    sendfile sendfile64 splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync
    sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64
    utimes vmsplice write writev
  `),
  'extended attributes': words(`
    fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat
    llistxattr lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat
  `),
  'events and descriptors to wait on': words(`
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
    eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch _newselect
    pipe pipe2 poll ppoll ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4 timerfd_create
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
  `),
  'asynchronous I/O (not io_uring)': words(`
    io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get
    ioprio_set
  `),
  memory: words(`
    brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall
    mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect
    process_mrelease remap_file_pages
  `),
  'processes and threads': words(`
    capget capset execve execveat exit exit_group fork getpgid getpgrp getpid getppid getpriority
    get_robust_list getrlimit getrusage getsid get_thread_area gettid pidfd_open prctl prlimit64 rseq setpgid
    setpriority setrlimit set_robust_list setsid set_thread_area set_tid_address times ugetrlimit vfork wait4
    waitid waitpid
  `),
  'sandboxes that a process puts around itself': words(`
    landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp
  `),
  'probes of the instruction set; the return of a user-space probe': words(`
    riscv_hwprobe uretprobe
  `),
  'users and groups': words(`
    getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32 getresuid
    getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
    setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32
  `),
  scheduling: words(`
    getcpu sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield
  `),
  'locks between threads': words(`
    futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake
  `),
  signals: words(`
    alarm kill pause pidfd_send_signal restart_syscall rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    sigaltstack sigprocmask sigreturn tgkill tkill
  `),
  // Setting a clock by adjtimex needs CAP_SYS_TIME, which the kernel checks; reading by it does not.
  time: words(`
    adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create
    timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
  `),
  // i386's multiplexer. It reaches every family; refusing it breaks 32-bit programs, so moby allows it.
  'sockets, once open': words(`
    accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg
    recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketpair socketcall
  `),
  'System V and POSIX messages, semaphores, shared memory': words(`
    ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
    mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop
    semtimedop_time64 shmat shmctl shmdt shmget
  `),
  'the system': words(`
    getrandom sysinfo uname
  `),
};

const AF_ALG = 38;
const AF_VSOCK = 40;

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET: making a namespace. */
const NAMESPACE_FLAGS = 0x7e02_0000;

/**
 * Execution domains that may be chosen: Linux, UNAME26 (0x20000), PER_LINUX32 (8), both, and "which one is it?".
 * Others switch off address space randomisation and the like.
 */
const PERSONALITIES = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

function words(text: string): readonly string[] {
  return text.trim().split(/\s+/);
}

function allow(
  names: readonly string[],
  rest: Omit<Partial<ConditionalRule>, 'names' | 'action'> = {},
): ConditionalRule {
  return { names, action: 'SCMP_ACT_ALLOW', ...rest };
}

function firstArgument(
  op: SeccompArg['op'],
  value: number,
  valueTwo?: number,
): Pick<ConditionalRule, 'args'> {
  return { args: [{ index: 0, op, value, ...(valueTwo === undefined ? {} : { valueTwo }) }] };
}

/** What one capability of the container adds. */
const BY_CAPABILITY: readonly (readonly [capability: string, names: readonly string[]])[] = [
  ['CAP_DAC_READ_SEARCH', ['open_by_handle_at']],
  [
    'CAP_SYS_ADMIN',
    words(`
      bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr
      lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl
      quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare
    `),
  ],
  ['CAP_SYS_BOOT', ['reboot']],
  ['CAP_SYS_CHROOT', ['chroot']],
  ['CAP_SYS_MODULE', ['delete_module', 'init_module', 'finit_module']],
  ['CAP_SYS_PACCT', ['acct']],
  [
    'CAP_SYS_PTRACE',
    ['kcmp', 'pidfd_getfd', 'process_madvise', 'process_vm_readv', 'process_vm_writev', 'ptrace'],
  ],
  ['CAP_SYS_RAWIO', ['iopl', 'ioperm']],
  ['CAP_SYS_TIME', ['settimeofday', 'stime', 'clock_settime', 'clock_settime64']],
  ['CAP_SYS_TTY_CONFIG', ['vhangup']],
  ['CAP_SYS_NICE', ['get_mempolicy', 'mbind', 'set_mempolicy', 'set_mempolicy_home_node']],
  ['CAP_SYSLOG', ['syslog']],
  ['CAP_BPF', ['bpf']],
  ['CAP_PERFMON', ['perf_event_open']],
];

/** The profile as data, before capabilities, machine and kernel are known. */
export const RUNTIME_DEFAULT: ConditionalSeccomp = {
  defaultAction: 'SCMP_ACT_ERRNO',
  defaultErrnoRet: EPERM,
  archMap: [
    { architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'] },
    { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: ['SCMP_ARCH_ARM'] },
  ],
  syscalls: [
    allow(Object.values(ALWAYS).flat()),

    // Before 4.8 a tracer could change the call after the filter had seen it.
    allow(['process_vm_readv', 'process_vm_writev', 'ptrace'], { includes: { minKernel: [4, 8] } }),

    // Every family but the kernel's cryptography (38, CVE-2026-31431) and the hypervisor's sockets (40).
    allow(['socket'], firstArgument('SCMP_CMP_LT', AF_ALG)),
    allow(['socket'], firstArgument('SCMP_CMP_EQ', AF_ALG + 1)),
    allow(['socket'], firstArgument('SCMP_CMP_GT', AF_VSOCK)),

    ...PERSONALITIES.map((value) => allow(['personality'], firstArgument('SCMP_CMP_EQ', value))),

    allow(words('arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls'), {
      includes: { arches: ['arm', 'arm64'] },
    }),
    allow(['arch_prctl', 'modify_ldt'], { includes: { arches: ['amd64'] } }),

    ...BY_CAPABILITY.map(([capability, names]) => allow(names, { includes: { caps: [capability] } })),

    allow(['clone'], {
      ...firstArgument('SCMP_CMP_MASKED_EQ', NAMESPACE_FLAGS, 0),
      excludes: { caps: ['CAP_SYS_ADMIN'] },
    }),
    // clone3's flags are in memory, which no filter can read: glibc falls back to clone on ENOSYS.
    {
      names: ['clone3'],
      action: 'SCMP_ACT_ERRNO',
      errnoRet: ENOSYS,
      excludes: { caps: ['CAP_SYS_ADMIN'] },
    },
  ],
};

/** The RuntimeDefault profile of one container, in the OCI vocabulary. */
export function runtimeDefault(context: SeccompContext): LinuxSeccomp {
  return resolveSeccomp(RUNTIME_DEFAULT, context);
}
