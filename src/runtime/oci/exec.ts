/** A program that joins a running container. */
import { randomBytes } from 'node:crypto';
import { Fd } from '../../linux/fd.ts';
import { native } from '../../linux/native.ts';
import { check } from '../../linux/syscall-error.ts';
import { differingKinds } from '../join-kinds.ts';
import { compileExec } from '../launch/compile-exec.ts';
import { hostId, type OciProcess } from '../launch/spec.ts';
import { currentCgroup } from './cgroup.ts';
import type { OciConfig } from './config/index.ts';
import { checkConsole, connectConsole, sendConsole } from './console.ts';
import type { OciContext } from './context.ts';
import { Foreground } from './foreground.ts';
import {
  CallShim,
  launchError,
  preservedDescriptors,
  reportWarnings,
  socketActivation,
  takeTerminal,
  writePidFile,
} from './launch.ts';
import { availableCapabilities, seccompProgram } from './prepare.ts';
import { isRunning, statusOf } from './state.ts';
import { checkStatus } from './transitions.ts';
import { withHome } from './users.ts';

export interface ExecRequest {
  readonly id: string;
  readonly config: OciConfig;
  readonly process: OciProcess;
  readonly detached: boolean;
  readonly pidFile: string | undefined;
  readonly consoleSocket: string | undefined;
  readonly preserve: number;
  readonly ignorePaused: boolean;
}

/** The program's exit status; 0 for one that was left running. */
export async function execProcess(context: OciContext, request: ExecRequest): Promise<number> {
  const { id, config, detached } = request;
  const record = context.store.get(id);
  const status = statusOf(context.store, context.host, record);
  if (!(status === 'paused' && request.ignorePaused)) checkStatus('exec', id, status);
  checkConsole(request.process.terminal === true, detached, request.consoleSocket);
  const activation = socketActivation();
  const preserved = preservedDescriptors(request.preserve + activation.count);
  using pidfd = new Fd(check(native().pidfdOpen(record.pid), 'pidfd_open'));
  const kinds = differingKinds(record.pid);
  const cgroup = currentCgroup(context.host, record.cgroup, record.pid);
  const process = withHome(
    availableCapabilities(
      { ...request.process, env: [...request.process.env, ...activation.env] },
      context.log,
    ),
    `/proc/${record.pid}/root`,
  );
  // All that was found by its pid was of this process, and not of one that has the number now.
  if (!isRunning(record)) checkStatus('exec', id, 'stopped');
  const name = `exec-${randomBytes(8).toString('hex')}`;
  const plan = compileExec(process, {
    id: name,
    cgroup,
    kinds,
    seccomp: seccompProgram(config.linux.seccomp, process.capabilities?.bounding ?? [], context.log),
    hostUid: hostId(config.linux.uidMappings ?? [], process.user.uid),
    preserve: preserved.length,
  });
  using console = request.consoleSocket === undefined ? undefined : connectConsole(request.consoleSocket);
  const shim = new CallShim(id);
  const foreground = detached ? undefined : new Foreground(shim.client, name);
  try {
    const streams = process.terminal === true ? [] : [0, 1, 2];
    const started = await shim.client.run(plan, [pidfd.number, ...streams, ...preserved]);
    reportWarnings(started, context.log);
    const terminal = takeTerminal(started);
    writePidFile(request.pidFile, started.pid);
    if (terminal !== undefined && console !== undefined) {
      sendConsole(console, terminal);
      terminal.close();
    } else if (terminal !== undefined) foreground?.attach(terminal);
    if (foreground === undefined) {
      await shim.leave();
      return 0;
    }
    await shim.client.leave(true);
    return await foreground.wait();
  } catch (error) {
    throw launchError(error);
  } finally {
    foreground?.close();
    await shim.end();
  }
}
