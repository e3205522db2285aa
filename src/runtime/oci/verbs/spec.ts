import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hasCode, NodeletError } from '../../../base/index.ts';
import { DEFAULT_MOUNTS, DEFAULT_PATH_ENV } from '../../defaults.ts';
import type { ParsedArguments } from '../arguments.ts';
import type { OciContext } from '../context.ts';
import { unsupported } from '../errors.ts';
import { OCI_VERSION } from '../main.ts';

/** moby's lists. */
const MASKED_PATHS = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
];
const READONLY_PATHS = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

const CAPABILITIES = ['CAP_AUDIT_WRITE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE'];

/** As runc's: a shell on a terminal in a read-only root, with next to no privileges. */
const SPEC = {
  ociVersion: OCI_VERSION,
  process: {
    terminal: true,
    user: { uid: 0, gid: 0 },
    args: ['sh'],
    env: [DEFAULT_PATH_ENV, 'TERM=xterm'],
    cwd: '/',
    capabilities: { bounding: CAPABILITIES, effective: CAPABILITIES, permitted: CAPABILITIES },
    rlimits: [{ type: 'RLIMIT_NOFILE', hard: 1024, soft: 1024 }],
    noNewPrivileges: true,
  },
  root: { path: 'rootfs', readonly: true },
  hostname: 'nodelet',
  mounts: [
    ...DEFAULT_MOUNTS,
    {
      destination: '/dev/shm',
      type: 'tmpfs',
      source: 'shm',
      options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'],
    },
  ],
  linux: {
    resources: { devices: [{ allow: false, access: 'rwm' }] },
    namespaces: ['pid', 'network', 'ipc', 'uts', 'mount', 'cgroup'].map((type) => ({ type })),
    maskedPaths: MASKED_PATHS,
    readonlyPaths: READONLY_PATHS,
  },
};

export function run(_context: OciContext, args: ParsedArguments): number {
  if (args.has('rootless')) throw unsupported('spec --rootless', 'root is needed');
  const path = join(args.text('bundle') ?? '.', 'config.json');
  try {
    writeFileSync(path, `${JSON.stringify(SPEC, null, 2)}\n`, { flag: 'wx', mode: 0o644 });
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
    throw new NodeletError('OCI_EXISTS', `${JSON.stringify(path)} exists`, { hint: 'remove it first' });
  }
  return 0;
}
