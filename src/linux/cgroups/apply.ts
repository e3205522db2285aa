import { closeSync, constants, mkdirSync, openSync, writeSync } from 'node:fs';
import { codeOf, hasCode, NodeletError } from '../../base/index.ts';
import type { CgroupStep } from './step.ts';

/** Carries steps out, in order. Throws CGROUP_STEP_FAILED with the step; what was done before stays. */
export function applySteps(steps: readonly CgroupStep[]): void {
  for (const step of steps) applyStep(step);
}

function applyStep(step: CgroupStep): void {
  switch (step.op) {
    case 'mkdir':
      try {
        mkdirSync(step.path, 0o755);
      } catch (error) {
        if (!hasCode(error, 'EEXIST')) throw failed(step, error);
      }
      return;
    case 'write':
      try {
        writeControl(step.path, step.value);
      } catch (error) {
        if (step.optional === true && hasCode(error, 'ENOENT', 'EOPNOTSUPP', 'ENOTSUP')) return;
        throw failed(step, error);
      }
  }
}

/** One write(2) to a file of cgroupfs: no O_CREAT, no O_TRUNC, the value whole. */
export function writeControl(path: string, value: string): void {
  const fd = openSync(path, constants.O_WRONLY);
  try {
    writeSync(fd, value);
  } finally {
    closeSync(fd);
  }
}

function failed(step: CgroupStep, cause: unknown): NodeletError {
  const code = codeOf(cause) ?? 'unknown error';
  const what = step.op === 'mkdir' ? `make cgroup "${step.path}"` : `write "${step.value}" to "${step.path}"`;
  return new NodeletError('CGROUP_STEP_FAILED', `cannot ${what}: ${code}`, {
    hint: hint(step, code),
    cause,
    details: { step, errno: code },
  });
}

function hint(step: CgroupStep, code: string): string | undefined {
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
    return 'run as root with the cgroup file systems mounted read-write';
  }
  if (step.op === 'mkdir') {
    if (code === 'EAGAIN')
      return 'a limit on cgroup.max.depth or cgroup.max.descendants above it was reached';
    if (code === 'ENOENT') return 'its parent does not exist';
    return undefined;
  }
  const file = step.path.slice(step.path.lastIndexOf('/') + 1);
  if (file === 'cgroup.subtree_control') {
    if (code === 'EBUSY') return 'processes are in this cgroup itself: v2 wants them in its children';
    if (code === 'ENOENT') return 'the cgroup above does not hand these controllers down';
    return undefined;
  }
  if (code === 'ENOENT')
    return 'the controller is not handed down to this cgroup, or the kernel has no such file';
  if (code === 'EBUSY' && file.startsWith('memory.')) return 'the cgroup uses more than that now';
  if (code === 'EINVAL' && file.startsWith('cpu.cfs_'))
    return "a v1 cgroup cannot have more CPU time than its parent's quota";
  if (code === 'EACCES' && file.startsWith('cpuset.')) return 'a cpuset cannot hold what its parent does not';
  return undefined;
}
