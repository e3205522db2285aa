/** Compiles a program that joins a running container. Pure. */
import { CLONE, O } from '../../linux/constants.ts';
import { terminalOperation } from './compile-container.ts';
import { identityOperations, limitOperations } from './compile-identity.ts';
import type { SeccompProgram } from './context.ts';
import type { LaunchPlan } from './encode.ts';
import type { Operation } from './protocol.gen.ts';
import { passedSlot, Slots } from './slots.ts';
import type { OciProcess } from './spec.ts';

export interface ExecContext {
  readonly id: string;
  /** Where the container's first process is now: it may have moved below its own group. */
  readonly cgroup: { readonly directory: string; readonly join: readonly string[] };
  /** CLONE_NEW* of the namespaces in which the container differs from the shim. */
  readonly kinds: number;
  readonly seccomp: SeccompProgram | undefined;
}

/** Descriptors that travel with the plan: the container's pidfd, then stdin, stdout and stderr unless it has a terminal. */
export const EXEC_FDS = { pidfd: 0, stdin: 1, stdout: 2, stderr: 3 } as const;

export function compileExec(process: OciProcess, context: ExecContext): LaunchPlan {
  const terminal = process.terminal === true;
  const slots = new Slots(terminal ? 1 : 4);
  const pidfd = passedSlot(EXEC_FDS.pidfd);
  const cgroup = slots.take();
  const root = slots.take();
  const operations: Operation[] = [
    { op: 'open', path: context.cgroup.directory, open: O.PATH | O.DIRECTORY, out: cgroup },
  ];
  if ((context.kinds & CLONE.NEWPID) !== 0) operations.push({ op: 'children-namespace', namespace: pidfd });
  operations.push(
    { op: 'clone', flags: 0, cgroup, uidMap: '', gidMap: '' },
    ...context.cgroup.join.map((path): Operation => ({ op: 'write-file', path, data: '0', flags: 0 })),
    ...limitOperations(process),
    { op: 'join-process', pidfd, kinds: context.kinds & ~CLONE.NEWPID },
    { op: 'session' },
  );
  if (terminal) {
    operations.push({ op: 'open', path: '/', open: O.PATH | O.DIRECTORY, out: root });
    operations.push(terminalOperation(process.consoleSize, process.user.uid, root, false));
  } else {
    operations.push({
      op: 'standard-streams',
      stdin: passedSlot(EXEC_FDS.stdin),
      stdout: passedSlot(EXEC_FDS.stdout),
      stderr: passedSlot(EXEC_FDS.stderr),
      uid: process.user.uid,
    });
  }
  operations.push(...identityOperations(process, context.seccomp));
  return { kind: 'exec', name: context.id, operations };
}
