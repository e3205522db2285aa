import { NodeletError } from '../../base/index.ts';
import { capabilityMask, parseCapability } from '../../linux/capabilities.ts';
import type { SeccompProgram } from './context.ts';
import { FLAGS, type Operation } from './protocol.gen.ts';
import type { OciProcess } from './spec.ts';

/** setrlimit(2) resources by their OCI name. */
export const RLIMITS: Readonly<Record<string, number>> = {
  RLIMIT_CPU: 0,
  RLIMIT_FSIZE: 1,
  RLIMIT_DATA: 2,
  RLIMIT_STACK: 3,
  RLIMIT_CORE: 4,
  RLIMIT_RSS: 5,
  RLIMIT_NPROC: 6,
  RLIMIT_NOFILE: 7,
  RLIMIT_MEMLOCK: 8,
  RLIMIT_AS: 9,
  RLIMIT_LOCKS: 10,
  RLIMIT_SIGPENDING: 11,
  RLIMIT_MSGQUEUE: 12,
  RLIMIT_NICE: 13,
  RLIMIT_RTPRIO: 14,
  RLIMIT_RTTIME: 15,
};

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Limits and scores: before any namespace, where the right to raise them would be gone. */
export function limitOperations(process: OciProcess): Operation[] {
  const operations: Operation[] = [];
  for (const limit of process.rlimits ?? []) {
    const resource = RLIMITS[limit.type];
    if (resource === undefined) {
      throw new NodeletError('INVALID_RLIMIT', `process.rlimits: unknown limit "${limit.type}"`, {
        hint: `use one of ${Object.keys(RLIMITS).join(', ')}`,
      });
    }
    // Hosts without CAP_SYS_RESOURCE cannot raise a hard limit: a warning, not a failed pod.
    operations.push({
      op: 'rlimit',
      resource,
      soft: infinity(limit.soft),
      hard: infinity(limit.hard),
      flags: FLAGS.TOLERATE_DENIED,
    });
  }
  if (process.oomScoreAdj !== undefined) {
    operations.push({ op: 'oom-score', value: process.oomScoreAdj, flags: FLAGS.TOLERATE_DENIED });
  }
  if (process.scheduler !== undefined) operations.push({ op: 'scheduler', ...process.scheduler });
  if (process.ioPriority !== undefined) operations.push({ op: 'io-priority', value: process.ioPriority });
  if (process.personality !== undefined) operations.push({ op: 'personality', domain: process.personality });
  return operations;
}

function mask(names: readonly string[] | undefined): bigint {
  return capabilityMask((names ?? []).map(parseCapability));
}

/** RLIM_INFINITY is the largest 64-bit number; JSON writers give it as that or as -1. */
function infinity(value: number): bigint {
  return value < 0 || value >= 2 ** 63 ? 0xffff_ffff_ffff_ffffn : BigInt(value);
}

/**
 * From the working directory to exec (reference order: runtime.md §1.6). A filter that needs CAP_SYS_ADMIN goes in
 * first, one under no_new_privs last: then only execve itself has to be allowed by it. `last` comes before descriptors are
 * closed, from its `close` on.
 */
export function identityOperations(
  process: OciProcess,
  seccomp: SeccompProgram | undefined,
  last: { readonly operations: readonly Operation[]; readonly close: number | undefined } = {
    operations: [],
    close: 3,
  },
): Operation[] {
  const { user } = process;
  const path = [...process.env].reverse().find((entry) => entry.startsWith('PATH='));
  const operations: Operation[] = [
    // As root first; what only the user may enter (a root-squashed share) is tried again as the user.
    { op: 'working-directory', path: process.cwd, flags: FLAGS.TOLERATE_DENIED },
    { op: 'umask', mask: user.umask ?? 0o022 },
  ];
  const filter: Operation[] =
    seccomp === undefined ? [] : [{ op: 'seccomp', flags: seccomp.flags, filter: seccomp.filter }];
  // Before the filter, which may not let it be written.
  if (process.apparmorProfile !== undefined)
    operations.push({ op: 'exec-profile', name: process.apparmorProfile });
  const early = process.noNewPrivileges !== true;
  if (early) operations.push(...filter);
  const caps = process.capabilities;
  operations.push({ op: 'bounding-set', keep: mask(caps?.bounding) });
  operations.push({
    op: 'identity',
    uid: user.uid,
    gid: user.gid,
    groups: [...(user.additionalGids ?? [])],
    keep: 1,
  });
  operations.push({ op: 'working-directory', path: process.cwd, flags: FLAGS.KEEP });
  operations.push({
    op: 'capabilities',
    effective: mask(caps?.effective),
    permitted: mask(caps?.permitted),
    inheritable: mask(caps?.inheritable),
    ambient: mask(caps?.ambient),
  });
  if (process.noNewPrivileges === true) operations.push({ op: 'no-new-privileges' });
  operations.push({
    op: 'find-program',
    file: process.args[0] ?? '',
    path: path === undefined ? DEFAULT_PATH : path.slice(5),
  });
  operations.push({ op: 'death-signal', signal: 0 });
  operations.push(...last.operations);
  if (last.close !== undefined) operations.push({ op: 'close-descriptors', from: last.close });
  if (!early) operations.push(...filter);
  operations.push({ op: 'execute', argv: [...process.args], env: [...process.env] });
  return operations;
}
