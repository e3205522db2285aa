/** What this machine is like: asked once at start, said in one log line, passed around as plain data. */
import { AT_EMPTY_PATH, FSCONFIG, OPEN_TREE_CLONE } from '../linux/constants.ts';
import { native } from '../linux/native.ts';
import { bootId, kernelVersion, readLimits, readStatus } from '../linux/procfs.ts';
import type { MachineArch } from '../linux/seccomp/index.ts';
import type { KernelFeatures } from './launch/context.ts';
import { probeSecurityModules, type SecurityModules } from './security-modules.ts';

export interface HostFacts {
  readonly bootId: string;
  readonly kernel: readonly [number, number];
  readonly release: string;
  readonly arch: MachineArch;
  readonly features: KernelFeatures;
  /** Capabilities that this process can hand on, as a mask. */
  readonly capabilities: bigint;
  /** Hard limit of open files of this process. */
  readonly maxFiles: number;
  readonly securityModules: SecurityModules;
}

const CAP_SYS_RESOURCE = 1n << 24n;

/** Linux 6.15: a tree that is attached nowhere may be cloned. Tried on an empty tmpfs. */
function canCloneDetached(): boolean {
  const n = native();
  const context = n.fsopen('tmpfs');
  if (context < 0) return false;
  let tree = -1;
  let copy = -1;
  try {
    if (n.fsconfig(context, FSCONFIG.CREATE, null, null, 0) < 0) return false;
    tree = n.fsmount(context, 0);
    if (tree < 0) return false;
    copy = n.openTree(tree, '', OPEN_TREE_CLONE | AT_EMPTY_PATH);
    return copy >= 0;
  } finally {
    for (const fd of [copy, tree, context]) if (fd >= 0) n.close(fd);
  }
}

export function probeHost(): HostFacts {
  const version = kernelVersion();
  const status = readStatus('self');
  const bounding = status?.capabilities.bounding ?? 0n;
  const files = readLimits('self')?.get('Max open files')?.hard ?? 1024;
  return {
    bootId: bootId(),
    kernel: [version.major, version.minor],
    release: version.release,
    arch: process.arch === 'arm64' ? 'arm64' : 'x64',
    features: {
      cloneDetached: canCloneDetached(),
      sysResource: ((status?.capabilities.effective ?? 0n) & CAP_SYS_RESOURCE) !== 0n,
    },
    capabilities: bounding,
    maxFiles: files === 'unlimited' ? Number.MAX_SAFE_INTEGER : files,
    securityModules: probeSecurityModules(),
  };
}
