/**
 * Known escapes and attacks, one row each, of low-level runtimes, of node daemons and of kubelets: which test makes the
 * attack here, or why there is nothing to attack. docs/security.md shows this table; test/unit/security holds the two and the
 * tests together. What concerns images and registries has its own
 * tests: images-archive.test.ts here, and those under test/integration/image.
 */
export interface Row {
  /** The advisory's ids, of whom it was first found in. */
  readonly id: string;
  readonly about: string;
  /** What defends. */
  readonly defence: string;
  /** Files whose test titles begin with the (first) id or, for older tests, contain the text after "#". */
  readonly tests?: readonly string[];
  /** Why it cannot be met here, or not yet. */
  readonly reason?: string;
}

export interface Section {
  readonly title: string;
  readonly rows: readonly Row[];
}

const PATHS = 'test/security/paths.test.ts';
const RACES = 'test/security/races.test.ts';
const DESCRIPTORS = 'test/security/descriptors.test.ts';
const IDENTITY = 'test/security/identity.test.ts';
const MASKS = 'test/security/masks.test.ts';
const TERMINALS = 'test/security/terminals.test.ts';
const EXEC = 'test/security/exec.test.ts';
const NODE = 'test/security/node.test.ts';
const API = 'test/security/api.test.ts';

export const SECTIONS: readonly Section[] = [
  {
    title: 'Low-level runtimes',
    rows: [
      {
        id: 'CVE-2016-3697',
        about: 'a user whose name is a number',
        defence: 'what is a number is never looked up as a name',
        tests: [IDENTITY],
      },
      {
        id: 'CVE-2016-9962',
        about: 'a process on its way into a container, traced from inside',
        defence:
          'not dumpable until exec; cloned twice, so that it appears in the PID namespace only when no descriptor and no root of the host is left to it',
        tests: [DESCRIPTORS],
      },
      {
        id: 'CVE-2017-5226',
        about: 'typing into the terminal of whoever started it',
        defence: 'a session of its own for each container and each exec; the shim has no terminal',
        tests: [TERMINALS],
      },
      {
        id: 'CVE-2018-10892',
        about: '/proc/acpi and /proc/scsi',
        defence: 'masked',
        tests: [MASKS],
      },
      {
        id: 'CVE-2019-5736',
        about: 'the runtime’s own program, reached by /proc/self/exe',
        defence:
          'the shim runs from a sealed memory file, whose mode is sealed too; where the kernel cannot, a spoiled copy is replaced',
        tests: [DESCRIPTORS],
      },
      {
        id: 'CVE-2019-16884',
        about: 'something mounted in the place of /proc or onto it',
        defence:
          'a mount’s target is looked at by its descriptor: nothing goes onto a procfs but what lxcfs shows, and only a procfs goes to /proc',
        tests: [PATHS],
      },
      {
        id: 'CVE-2019-18837',
        about: 'mount points that are links of the image',
        defence: 'openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)',
        tests: [PATHS],
      },
      {
        id: 'CVE-2019-19921',
        about: 'a mount in a shared volume, led onto /proc by a swap',
        defence: 'as CVE-2019-16884: the descriptor that is mounted on is the one that was looked at',
        tests: [RACES],
      },
      {
        id: 'CVE-2020-8694',
        about: 'power meters (PLATYPUS)',
        defence: '/sys/devices/virtual/powercap is masked',
        tests: [MASKS],
      },
      {
        id: 'CVE-2021-30465',
        about: 'a mount’s target swapped for a link while it is mounted',
        defence:
          'targets are resolved in the root, once, to a descriptor; sources are opened before anything is mounted',
        tests: [RACES],
      },
      {
        id: 'CVE-2021-43784',
        about: 'a length that wraps',
        defence: 'lengths of a plan have 32 bits, a plan’s size is checked, the kernel judges the words',
        tests: [PATHS],
      },
      {
        id: 'CVE-2022-0847',
        about: 'a layer written through a pipe (Dirty Pipe)',
        defence: 'the kernel’s; the test says whether this one has it',
        tests: [PATHS],
      },
      {
        id: 'CVE-2023-25809',
        about: 'the cgroup tree, writable',
        defence: 'a cgroup namespace and a read-only mount; in a user namespace the tree is somebody else’s',
        tests: [MASKS],
      },
      {
        id: 'CVE-2023-27561, CVE-2023-28642',
        about: '/proc or /sys of the image is a link',
        defence: 'file systems of the kernel are mounted through no link (RESOLVE_NO_SYMLINKS)',
        tests: [PATHS],
      },
      {
        id: 'CVE-2025-31133',
        about: 'what masks a file is not the null device',
        defence: 'the host’s /dev/null, opened before, checked by fstat to be c 1:3',
        tests: [RACES],
      },
      {
        id: 'CVE-2025-52565, CVE-2026-88264',
        about: 'a terminal laid over a file of the attacker’s choice',
        defence: 'TIOCGPTPEER; the master has to be of a devpts; /dev/console is reached through no link',
        tests: [RACES],
      },
      {
        id: 'CVE-2026-41579, CVE-2026-47766',
        about: '/dev of the image is a link to the host’s',
        defence: '/dev is mounted through no link, so nothing is set up in another one',
        tests: [PATHS],
      },
      {
        id: 'CVE-2026-30892',
        about: '`exec --user 1` is root',
        defence: 'one strict parser for users by name, number and pair',
        tests: [IDENTITY],
      },
      {
        id: 'CVE-2025-24965',
        about: 'a helper file written through a link of the image',
        defence: 'nothing is written into a root; mount points are made with O_EXCL | O_NOFOLLOW',
        tests: [PATHS],
      },
      {
        id: 'CVE-2026-31431',
        about: 'sockets of the kernel’s cryptography (Copy Fail) and of the hypervisor',
        defence: 'the default seccomp profile, by the low 32 bits as the kernel reads them',
        tests: [MASKS],
      },
      {
        id: 'CVE-2025-54867, CVE-2025-62161, CVE-2025-62596',
        about: 'youki’s of CVE-2025-31133 and CVE-2025-52881',
        defence: 'the same',
        tests: [`${RACES}#CVE-2025-31133`, `${RACES}#CVE-2019-19921`],
      },
      {
        id: 'GHSA-6fw5',
        about: 'counters of interrupts and of heat',
        defence: '/proc/interrupts and each CPU’s thermal_throttle are masked',
        tests: [MASKS],
      },
      {
        id: 'ids',
        about: 'container and sandbox ids that are paths',
        defence: 'ids are ours, 64 hex digits; a request’s are looked up, never a path',
        tests: [PATHS],
      },
    ],
  },
  {
    title: 'Node daemons',
    rows: [
      {
        id: 'CVE-2018-1000400',
        about: 'ambient capabilities of a user who is not root',
        defence: 'cleared; inheritable ones are empty',
        tests: [IDENTITY],
      },
      {
        id: 'CVE-2021-21284',
        about: 'the remapped root owns the daemon’s directories',
        defence: 'ours are root’s, 0700; a pod’s ids own its writable layer alone',
        tests: [IDENTITY],
      },
      {
        id: 'CVE-2021-43816',
        about: 'files of the host relabelled',
        defence: 'nothing of the host is labelled, owned or moded anew; ids are mapped by the mount',
        tests: [IDENTITY],
      },
      {
        id: 'CVE-2022-0532, CVE-2022-0811',
        about: 'sysctls of the host, set by a pod',
        defence: 'a sysctl has to be of a namespace that the pod has of its own',
        tests: [MASKS],
      },
      {
        id: 'CVE-2022-1227',
        about: 'a program of the container’s, run by who looks at it',
        defence: 'figures come from cgroups and /proc of the host; nothing is run in the container',
        tests: [EXEC],
      },
      {
        id: 'CVE-2022-31030, CVE-2022-1708',
        about: 'output without end fills the daemon',
        defence: '16 MiB of each stream are kept, the rest is read and dropped',
        tests: [EXEC],
      },
      {
        id: 'CVE-2022-23471, CVE-2025-64329',
        about: 'sessions whose clients have gone',
        defence: 'closing a session kills the program and closes its descriptors on both sides',
        tests: [EXEC],
      },
      {
        id: 'CVE-2022-36109, CVE-2023-25173, CVE-2022-2995',
        about: 'a process sheds its primary group',
        defence: 'the primary group is always among the supplementary ones',
        tests: [IDENTITY],
      },
      {
        id: 'CVE-2022-4318, CVE-2026-15809',
        about: 'a line break in a variable becomes a line of /etc/passwd',
        defence: 'no file of users is written; host names have no control characters',
        tests: [IDENTITY],
      },
      {
        id: 'CVE-2023-6476',
        about: 'annotations that are permissions',
        defence: 'no annotation changes a container',
        tests: [IDENTITY],
      },
      {
        id: 'CVE-2024-40635',
        about: 'user ids that come round to root',
        defence: '0 to 2^31 − 1, checked before any conversion',
        tests: [IDENTITY],
      },
      {
        id: 'CVE-2025-0750',
        about: 'paths of logs out of annotations',
        defence: 'log paths stay below the pod’s directory, which is reached through no link',
        tests: [PATHS],
      },
      {
        id: 'CVE-2025-47291',
        about: 'a user namespace outside its pod’s cgroup',
        defence: 'clone3(CLONE_INTO_CGROUP) before any namespace is joined',
        tests: [MASKS],
      },
      {
        id: 'CVE-2023-44487, CVE-2019-9512, CVE-2019-9514',
        about: 'HTTP/2: streams reset as fast as they are opened, pings without end',
        defence: 'the CRI socket is root’s alone; streams are limited; the kubelet’s port speaks HTTP/1.1',
        tests: ['test/security/sockets.test.ts'],
      },
      {
        id: 'CVE-2026-35469',
        about: 'SPDY frames that claim gigabytes',
        defence: 'lengths and counts are checked against the frame before anything is allocated',
        tests: ['test/security/sockets.test.ts'],
      },
    ],
  },
  {
    title: 'Kubelets',
    rows: [
      {
        id: 'CVE-2017-1002101',
        about: 'a sub-path that is a link',
        defence: 'openat2(RESOLVE_BENEATH) from the volume’s descriptor, and the mount is of what was opened',
        tests: [
          'test/integration/runtime/mounts.test.ts#never leaves the volume by',
          'test/integration/kubelet/whole-pods.test.ts#has a part of a volume, and not what a link in it points at',
        ],
      },
      {
        id: 'CVE-2021-25741',
        about: 'a sub-path that is swapped',
        defence: 'as before: there is no second look',
        tests: [RACES],
      },
      {
        id: 'CVE-2018-1002105',
        about: 'a refused upgrade that stays a tunnel',
        defence: 'what is refused is answered and closed; only a 101 hands the socket on',
        tests: [API],
      },
      {
        id: 'CVE-2019-1002101, CVE-2019-11246, CVE-2019-11249, CVE-2019-11251',
        about: '`kubectl cp` unpacks what a container sends',
        defence: 'kubectl’s',
        reason: 'client side: an exec only streams the bytes, and Nodelet has no cp',
      },
      {
        id: 'CVE-2019-11245',
        about: 'runAsNonRoot forgotten at the second start',
        defence: 'decided anew for each start, from the image that is started',
        tests: [NODE],
      },
      {
        id: 'CVE-2019-11248',
        about: 'a profiler without authentication',
        defence: 'no port; one socket, 0600; no debugging paths',
        tests: [API],
      },
      {
        id: 'CVE-2019-11253',
        about: 'manifests that explode or nest',
        defence: 'limits of size, aliases and depth',
        tests: [NODE],
      },
      {
        id: 'CVE-2020-8551',
        about: 'requests without end',
        defence: 'Node’s limit of headers, ours of bodies',
        tests: [API],
      },
      {
        id: 'CVE-2020-8555, CVE-2020-8561, CVE-2022-3294',
        about: 'a probe redirected to somebody else',
        defence: 'redirects are followed on the same host only, as upstream’s; bodies are cut at 10 KiB',
        tests: [
          'test/integration/kubelet/probes.test.ts#follows a redirect on the same host, and takes one to elsewhere for a warning',
        ],
      },
      {
        id: 'CVE-2020-8557',
        about: 'a disk filled through /etc/hosts or the termination log',
        defence: 'eviction by ephemeral storage, which counts the pod’s directory',
        reason: 'not yet: there is no eviction, so nothing that a pod writes is counted',
      },
      {
        id: 'CVE-2020-8559',
        about: 'an upgrade redirected',
        defence: 'no answer of ours is a redirect',
        tests: [API],
      },
      {
        id: 'CVE-2023-2431',
        about: 'a seccomp profile without a name is no profile',
        defence: 'refused by validation, by the kubelet half and by the runtime',
        tests: [NODE, MASKS],
      },
      {
        id: 'CVE-2024-10220, CVE-2025-1767',
        about: 'gitRepo volumes run hooks',
        defence: 'gitRepo is refused; there is no git',
        tests: [NODE],
      },
      {
        id: 'CVE-2024-9042',
        about: 'commands in a query of the node’s logs',
        defence: 'there is no such path',
        tests: [API],
      },
      {
        id: 'CVE-2025-0426',
        about: 'checkpoints without authentication fill the disk',
        defence: 'there is no such path',
        tests: [API],
      },
      {
        id: 'logs',
        about: '/var/log/pods: a log or its directory swapped for a link',
        defence:
          'written and read below the directory through no link (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS), regular files only',
        tests: [RACES, NODE, 'test/integration/kubelet/logs.test.ts#what must not be read'],
      },
      {
        id: 'hostPath',
        about: 'hostPath: its type, “..”, and a swap after the check',
        defence: 'the type is checked again on the descriptor that is mounted',
        tests: [NODE],
      },
      {
        id: 'CVE-2025-4563',
        about: 'a static pod asks for resource claims',
        defence: 'refused; Secrets of static pods come from files beside them, never from an API server',
        tests: [NODE],
      },
      {
        id: 'secrets on disk',
        about: 'Secrets and tokens on a disk',
        defence: 'on a tmpfs of their own (noswap where the kernel has it), gone with the pod',
        tests: ['test/integration/kubelet/volumes.test.ts#secrets never lie on a disk'],
      },
    ],
  },
];
