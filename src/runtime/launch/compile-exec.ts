/** Compiles a program that joins a running container. Pure. */
import { CLONE, O } from '../../linux/constants.ts';
import { terminalOperation } from './compile-container.ts';
import { passOperations } from './compile-front.ts';
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
  /** The process' user as the host sees it: the owner of its streams. */
  readonly hostUid: number;
  /** Descriptors that travel last and become 3, 4, … */
  readonly preserve?: number;
}

/** Descriptors that travel with the plan: the container's pidfd, then stdin, stdout and stderr unless it has a terminal. */
export const EXEC_FDS = { pidfd: 0, stdin: 1, stdout: 2, stderr: 3 } as const;

export function compileExec(process: OciProcess, context: ExecContext): LaunchPlan {
  const terminal = process.terminal === true;
  const passed = terminal ? 1 : 4;
  const preserve = context.preserve ?? 0;
  const slots = new Slots(passed + preserve);
  const kept = Array.from({ length: preserve }, (_, i) => passedSlot(passed + i));
  const pidfd = passedSlot(EXEC_FDS.pidfd);
  const cgroup = slots.take();
  const root = slots.take();
  const operations: Operation[] = [
    { op: 'open', path: context.cgroup.directory, open: O.PATH | O.DIRECTORY, out: cgroup },
  ];
  operations.push(
    { op: 'clone', flags: 0, cgroup, uidMap: '', gidMap: '' },
    ...context.cgroup.join.map((path): Operation => ({ op: 'write-file', path, data: '0', flags: 0 })),
    ...limitOperations(process),
  );
  if (!terminal) {
    // As the host's root: inside a user namespace nobody may give the pipes away.
    operations.push({
      op: 'standard-streams',
      stdin: passedSlot(EXEC_FDS.stdin),
      stdout: passedSlot(EXEC_FDS.stdout),
      stderr: passedSlot(EXEC_FDS.stderr),
      uid: context.hostUid,
    });
  }
  operations.push({ op: 'join-process', pidfd, kinds: context.kinds });
  if ((context.kinds & CLONE.NEWPID) !== 0) {
    // In sight of the container from its birth, and with CAP_SYS_PTRACE in there to be walked through by /proc/PID/root and
    // /proc/PID/fd (CVE-2016-9962): it is born when nothing of the host is left to be found.
    operations.push(
      { op: 'drop-descriptors', keep: kept },
      { op: 'clone', flags: CLONE.PARENT, cgroup: -1, uidMap: '', gidMap: '' },
    );
  }
  operations.push({ op: 'session' });
  if (terminal) {
    operations.push({ op: 'open', path: '/', open: O.PATH | O.DIRECTORY, out: root });
    operations.push(terminalOperation(process.consoleSize, process.user.uid, root, false));
  }
  operations.push(
    ...identityOperations(process, context.seccomp, {
      operations: passOperations(kept),
      close: 3 + preserve,
    }),
  );
  return { kind: 'exec', name: context.id, operations };
}
