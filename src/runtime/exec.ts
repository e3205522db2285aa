/** Programs in a running container. Their streams belong to the agent: they end with it, unlike the container's. */
import { randomBytes } from 'node:crypto';
import type { Readable, Writable } from 'node:stream';
import { CleanupStack, deferred, NodeletError, withDeadline } from '../base/index.ts';
import type { ExecOptions, ExecSession, TerminalSize } from '../cri/index.ts';
import { O, SIGNALS } from '../linux/constants.ts';
import { Fd } from '../linux/fd.ts';
import { native } from '../linux/native.ts';
import { check, errnoName } from '../linux/syscall-error.ts';
import type { RuntimeContext } from './context.ts';
import { differingKinds } from './join-kinds.ts';
import { compileExec } from './launch/compile-exec.ts';
import { hostId, type OciProcess } from './launch/spec.ts';
import type { Container } from './model.ts';
import { pipe, readable, writable } from './pipes.ts';
import { LaunchError, type ShimClient } from './shim/client.ts';
import { imageOf, specOf } from './spec-of.ts';
import { checkContainer } from './state.ts';
import { openTerminal } from './terminal.ts';

/** After the program has ended, what its children still hold open is given up: `sh -c 'sleep 1d &'` would last a day. */
const DRAIN_LIMIT = 2_000;
const ESRCH = 3;

function processOf(context: RuntimeContext, container: Container, options: ExecOptions): OciProcess {
  // Where its volumes come from does not matter here.
  const spec = specOf(context, container, imageOf(context, container), new Map());
  const env = [...spec.process.env];
  if (options.terminal && !env.some((entry) => entry.startsWith('TERM='))) env.push('TERM=xterm');
  env.push(...(options.env ?? []));
  return {
    ...spec.process,
    args: options.command,
    env,
    terminal: options.terminal,
    ...(options.size === undefined
      ? {}
      : { consoleSize: { height: options.size.height, width: options.size.width } }),
  };
}

export async function openExec(
  context: RuntimeContext,
  container: Container,
  options: ExecOptions,
): Promise<ExecSession> {
  const { record, sandbox } = container;
  checkContainer(record.id, record.state, 'exec');
  const { shim } = sandbox;
  if (shim === undefined)
    throw new NodeletError('SHIM_GONE', `the shim of container "${record.id.slice(0, 12)}" has ended`);
  if (options.command.length === 0 || options.command[0] === '')
    throw new NodeletError('INVALID_ARGUMENT', 'exec: no command');
  const id = `exec-${randomBytes(12).toString('hex')}`;
  using pidfd = openProcess(record.pid);
  const process = processOf(context, container, options);
  const plan = compileExec(process, {
    id,
    cgroup: context.cgroups.currentOf(record.pid, sandbox.record.config.linux?.cgroupParent ?? '', record.id),
    kinds: differingKinds(record.pid),
    hostUid: hostId(sandbox.record.uidMap, process.user.uid),
    seccomp: context.seccomp.of(
      record.config.linux?.securityContext ?? {},
      process.capabilities?.bounding ?? [],
    ),
  });
  // Not reaped yet, so all that was found by its pid was of this process and not of one that has the number now.
  if (!(await shim.signal(record.id, 0))) throw justEnded();
  const exited = deferred<number>();
  const off = shim.exited.on((event) => {
    if (event.name === id) exited.resolve(event.code);
  });
  const gone = shim.gone.on(() => exited.resolve(255));
  const undo = new CleanupStack();
  undo.push('listeners', () => {
    off();
    gone();
  });
  let streams: Streams | undefined;
  try {
    streams = options.terminal ? undefined : openStreams(options.stdin);
    const fds =
      streams === undefined ? [pidfd.number] : [pidfd.number, ...streams.theirs.map((fd) => fd.number)];
    const started = await shim.run(plan, fds, { deadline: context.startDeadline });
    for (const fd of streams?.theirs ?? []) fd.close();
    const terminal = streams === undefined ? started.fds[0] : undefined;
    const session =
      streams === undefined
        ? terminalSession(shim, id, started.pid, terminal, options.stdin, exited.promise)
        : pipeSession(shim, id, started.pid, streams, exited.promise);
    void exited.promise.then(() => undo.run());
    return session;
  } catch (error) {
    for (const fd of [...(streams?.theirs ?? []), ...(streams?.ours ?? [])]) fd.close();
    await undo.run();
    throw execError(container, error);
  }
}

function execError(container: Container, error: unknown): Error {
  if (!(error instanceof LaunchError))
    return error instanceof Error ? error : new NodeletError('INTERNAL', String(error));
  const missing = error.operation === 'find-program' || error.operation === 'execute';
  const exitCode = missing ? (error.errno === 2 ? 127 : 126) : 128;
  const what = error.detail.replace(/: not found in PATH$/, '');
  const text = missing
    ? `exec: ${JSON.stringify(what)}: ${error.detail === what ? errnoName(error.errno) : 'executable file not found in $PATH'}`
    : error.message;
  return new NodeletError(
    'EXEC_FAILED',
    `cannot run a program in container "${container.record.config.metadata?.name ?? ''}": ${text}`,
    {
      cause: error,
      details: { exitCode },
    },
  );
}

interface Streams {
  /** stdin, stdout, stderr as the program has them. */
  readonly theirs: readonly [Fd, Fd, Fd];
  readonly ours: readonly Fd[];
  readonly stdin: Fd | undefined;
  readonly stdout: Fd;
  readonly stderr: Fd;
}

function openStreams(withStdin: boolean): Streams {
  const opened: Fd[] = [];
  const open = (): readonly [Fd, Fd] => {
    const ends = pipe();
    opened.push(...ends);
    return ends;
  };
  try {
    const [outRead, outWrite] = open();
    const [errRead, errWrite] = open();
    const [inRead, inWrite] = withStdin ? open() : [openNull(), undefined];
    const ours = [outRead, errRead];
    if (inWrite !== undefined) ours.push(inWrite);
    return { theirs: [inRead, outWrite, errWrite], ours, stdin: inWrite, stdout: outRead, stderr: errRead };
  } catch (error) {
    for (const fd of opened) fd.close();
    throw error;
  }
}

function openNull(): Fd {
  return new Fd(check(native().openat2(-100, '/dev/null', O.RDONLY, 0, 0), 'open', '/dev/null'));
}

/** Throws INVALID_STATE where there is no such process any more. */
function openProcess(pid: number): Fd {
  const fd = native().pidfdOpen(pid);
  if (fd === -ESRCH) throw justEnded();
  return new Fd(check(fd, 'pidfd_open'));
}

function justEnded(): NodeletError {
  return new NodeletError('INVALID_STATE', 'the container has just ended');
}

/** Ends with the stream, or a while after the program that wrote to it. */
function ended(stream: Readable): Promise<void> {
  return new Promise((resolve) => {
    stream.once('close', () => resolve());
  });
}

async function settle(exit: Promise<number>, streams: readonly Readable[]): Promise<number> {
  const closed = Promise.all(streams.map(ended));
  const code = await exit;
  await withDeadline('the end of the output', DRAIN_LIMIT, closed).catch(() => {
    for (const stream of streams) stream.destroy();
  });
  return code;
}

function pipeSession(
  shim: ShimClient,
  id: string,
  pid: number,
  streams: Streams,
  exit: Promise<number>,
): ExecSession {
  const stdout = readable(streams.stdout);
  const stderr = readable(streams.stderr);
  const stdin = streams.stdin === undefined ? undefined : writable(streams.stdin);
  // A program that closes its input early is no error of ours.
  stdin?.on('error', () => {});
  for (const stream of [stdout, stderr]) stream.on('error', () => stream.destroy());
  return {
    pid,
    stdin,
    stdout,
    stderr,
    resize() {},
    exit: settle(exit, [stdout, stderr]).finally(() => stdin?.destroy()),
    close: () => end(shim, id, [stdout, stderr], stdin),
  };
}

function terminalSession(
  shim: ShimClient,
  id: string,
  pid: number,
  master: Fd | undefined,
  withStdin: boolean,
  exit: Promise<number>,
): ExecSession {
  if (master === undefined) throw new NodeletError('SHIM_PROTOCOL', 'the shim sent no terminal');
  const terminal = openTerminal(master);
  return {
    pid,
    stdin: withStdin ? terminal.input : undefined,
    stdout: terminal.output,
    stderr: undefined,
    resize: (size: TerminalSize) => terminal.resize(size),
    exit: settle(exit, [terminal.output]),
    close: () => end(shim, id, [terminal.output], terminal.input),
  };
}

function end(shim: ShimClient, id: string, outputs: readonly Readable[], input: Writable | undefined): void {
  for (const stream of outputs) stream.destroy();
  input?.destroy();
  if (shim.connected) void shim.signal(id, SIGNALS.SIGKILL ?? 9).catch(() => false);
}
