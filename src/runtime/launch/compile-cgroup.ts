import type { CgroupStep } from '../../linux/cgroups/index.ts';
import { FLAGS, type Operation } from './protocol.gen.ts';

/** A cgroup's directories and values, in their order. */
export function cgroupOperations(steps: readonly CgroupStep[]): Operation[] {
  return steps.map((step) =>
    step.op === 'mkdir'
      ? { op: 'make-directory', path: step.path, mode: 0o755 }
      : {
          op: 'write-file',
          path: step.path,
          data: step.value,
          flags: step.optional === true ? FLAGS.TOLERATE_MISSING : 0,
        },
  );
}
