/** Programs that do not pass, why, and what of them may fail; anything else that fails is a defect. docs/conformance.md has the table. */
export interface KnownFailure {
  readonly reason: string;
  /** Parts of what the program counts as failed. */
  readonly failures: readonly string[];
}

export const KNOWN_FAILURES: Readonly<Record<string, KnownFailure>> = {
  delete: {
    reason:
      'a container that was only created is deleted, and ended, without --force: so does runc, and callers count on it',
    failures: ['attempting to `delete` a container that is not `stopped`'],
  },
  hooks: {
    reason: 'the program cannot pass: its hooks write "post-start1 called" and it looks for "post-start1"',
    failures: ['Hooks MUST be called in the listed order'],
  },
  hooks_stdin: {
    reason:
      'it wants the status "created" in prestart, which is "creating" (runc the same), and the pid of a program that has ended by the time it asks',
    failures: ['to "prestart" hook over stdin', 'to "poststart" hook over stdin'],
  },
  linux_cgroups_blkio: {
    reason: 'it sets leafWeight, gone with CFQ in Linux 5.0: refused (runc the same)',
    failures: ['leafWeight is not supported'],
  },
  linux_cgroups_relative_blkio: {
    reason: 'the same',
    failures: ['exit status 1'],
  },
  linux_cgroups_devices: {
    reason: 'it reads devices.list of cgroup v1; here a program on the v2 cgroup decides',
    failures: ['get devices data'],
  },
  linux_cgroups_relative_devices: {
    reason: 'the same',
    failures: ['get devices data'],
  },
  linux_cgroups_hugetlb: {
    reason: 'it looks for hugetlb in cgroup v1, which has none here; the limit is on the v2 cgroup',
    failures: ['relative to the cgroups mount point'],
  },
  linux_cgroups_relative_hugetlb: {
    reason: 'the same',
    failures: ['get hugetlb cgroup data'],
  },
  linux_cgroups_memory: {
    reason:
      'it sets limits of kernel memory, gone from Linux 5.16: refused (runc passes them over and fails too)',
    failures: ['exit status 1'],
  },
  linux_cgroups_relative_memory: {
    reason: 'the same',
    failures: ['exit status 1'],
  },
  linux_cgroups_network: {
    reason: 'it ends in a panic where one interface is there; net_cls and net_prio are refused anyway',
    failures: ['linux_cgroups_network.go', 'is not supported: the net_cls'],
  },
  linux_cgroups_relative_network: {
    reason: 'net_cls and net_prio are not used: refused',
    failures: ['exit status 1'],
  },
  linux_mount_label: {
    reason: 'no SELinux labels are set: refused',
    failures: ['linux.mountLabel is not supported'],
  },
  linux_ns_itype: {
    reason:
      "Nodelet's limit: a container without a mount namespace of its own is refused, for want of a root to pivot to",
    failures: ['cannot run validation tests'],
  },
  linux_ns_path: {
    reason:
      "Nodelet's limit: a mount namespace is always made anew, one by path is refused; the other namespaces pass",
    failures: ['set mnt namespace by path'],
  },
  linux_process_apparmor_profile: {
    reason: 'the profile that it names is loaded nowhere: refused (runc the same)',
    failures: ['acme_secure_profile'],
  },
  linux_rootfs_propagation: {
    reason:
      'it wants all capabilities: where root itself has no CAP_SYS_RESOURCE that one is left out with a warning (runc refuses)',
    failures: ['capability CAP_SYS_RESOURCE set'],
  },
  process_capabilities: {
    reason: 'the same',
    failures: ['capability CAP_SYS_RESOURCE set'],
  },
  misc_props: {
    reason: 'one of its containers names a program that it has not put into the bundle (runc the same)',
    failures: ['unknown annotation key'],
  },
  mounts: {
    reason:
      "it takes the order of mountinfo for the order of mounting; since Linux 6.8 that is the order in which mounts were made, and binds are made before the container's root is entered",
    failures: ['(/mnt/etc-'],
  },
  pidfile: {
    reason: 'it kills `true` and wants it still to run (runc the same)',
    failures: ["create with '--pid-file' option works"],
  },
  prestart: {
    reason: 'it wants prestart at `start`; runtime-spec 1.1 says `create`, as runc does it',
    failures: ['Pre-start hooks MUST be called after'],
  },
  process_rlimits: {
    reason: 'Go raises the soft RLIMIT_NOFILE of the program that looks (runc the same)',
    failures: ['has expected soft RLIMIT_NOFILE'],
  },
  start: {
    reason:
      'it creates a container without a process, which is refused at create, not only at start (runc the same)',
    failures: ['exit status 1'],
  },
};
