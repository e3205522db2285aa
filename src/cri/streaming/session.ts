/** Joins what a client has opened to what the runtime has opened. */
import type { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { describeError, messageOf } from '../../base/index.ts';
import type {
  AttachOptions,
  AttachSession,
  ExecOptions,
  ExecSession,
  StreamingRuntime,
} from '../services.ts';
import { acceptCommand, type CommandStreams } from './command-streams.ts';
import { exitStatus, internalStatus, type Status, SUCCESS } from './status.ts';
import { TIMEOUTS, type Timeouts, type UpgradeRequest } from './upgrade.ts';

/** The client's input to the program's, as fast as the program reads; what it does not want any more is dropped. */
function feed(from: Readable | undefined, to: Writable | undefined): void {
  if (from === undefined) return;
  if (to === undefined) {
    from.resume();
    return;
  }
  // A program that closes its input early, a client that goes: told by the output's end, and by `gone`.
  void pipeline(from, to).catch(() => {});
}

/** The program's output to the client, as fast as the client takes it. Rejects where the client takes no more. */
async function deliver(from: Readable | undefined, to: Writable | undefined): Promise<void> {
  if (from === undefined) return;
  if (to === undefined) from.resume();
  else await pipeline(from, to);
}

interface ProgramStreams {
  readonly stdin: Writable | undefined;
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  resize: ExecSession['resize'];
  close(): void;
}

/** Until the program's outputs have ended and `end` has settled, or the client has gone: then the session is closed. */
async function join<T>(streams: CommandStreams, program: ProgramStreams, end: Promise<T>): Promise<T> {
  const close = (): void => program.close();
  streams.gone.addEventListener('abort', close, { once: true });
  if (streams.gone.aborted) close();
  streams.onResize((size) => program.resize(size));
  feed(streams.stdin, program.stdin);
  const outputs = Promise.all([
    deliver(program.stdout, streams.stdout),
    deliver(program.stderr, streams.stderr),
  ]);
  try {
    // A client that takes no more output has gone, or will.
    const [result] = await Promise.all([end, outputs.catch(() => close())]);
    return result;
  } finally {
    streams.gone.removeEventListener('abort', close);
    program.close();
  }
}

/** Serves a program that runs already. */
export async function serveExecSession(streams: CommandStreams, session: ExecSession): Promise<void> {
  let status: Status;
  try {
    status = exitStatus(await join(streams, session, session.exit));
  } catch (error) {
    status = internalStatus(`error executing command in container: ${messageOf(error)}`);
  }
  await streams.finish(status);
}

export async function serveAttachSession(streams: CommandStreams, session: AttachSession): Promise<void> {
  let status = SUCCESS;
  try {
    await join(streams, session, session.ended);
  } catch (error) {
    status = internalStatus(`error attaching to container: ${messageOf(error)}`);
  }
  await streams.finish(status);
}

export interface ExecTarget extends ExecOptions {
  readonly stdout: boolean;
  readonly stderr: boolean;
}

/**
 * Serves one upgrade request with a new program. A client that goes ends the program: nobody could ever read it again.
 * Throws UPGRADE_REFUSED where the request cannot be upgraded (see `refuse`); everything later the client is told.
 */
export async function serveExec(
  runtime: StreamingRuntime,
  target: ExecTarget,
  upgrade: UpgradeRequest,
  timeouts: Timeouts = TIMEOUTS,
): Promise<void> {
  const streams = await acceptCommand(upgrade, target, timeouts);
  let session: ExecSession;
  try {
    session = await runtime.openExec(target, streams.gone);
  } catch (error) {
    await streams.finish(internalStatus(`error executing command in container: ${describeError(error)}`));
    return;
  }
  await serveExecSession(streams, session);
}

/** Serves one upgrade request with a container's own streams; see `serveExec`. */
export async function serveAttach(
  runtime: StreamingRuntime,
  target: AttachOptions,
  upgrade: UpgradeRequest,
  timeouts: Timeouts = TIMEOUTS,
): Promise<void> {
  const streams = await acceptCommand(upgrade, target, timeouts);
  let session: AttachSession;
  try {
    session = await runtime.openAttach(target, streams.gone);
  } catch (error) {
    await streams.finish(internalStatus(`error attaching to container: ${describeError(error)}`));
    return;
  }
  await serveAttachSession(streams, session);
}
