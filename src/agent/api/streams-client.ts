/** The caller's side of exec, attach and port-forward: this process' streams in place of the container's. */
import type { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { hasCode, NodeletError } from '../../base/index.ts';
import type { TerminalSize } from '../../cri/index.ts';
import {
  type DialOptions,
  openRemoteAttach,
  openRemoteExec,
  RemotePortForward,
  UpgradeRefused,
} from '../../cri/streaming/index.ts';
import { unreachable } from './client.ts';
import { fromBody } from './errors.ts';
import type { ErrorBody } from './types.ts';

/** This side of a session. */
export interface SessionStreams {
  readonly terminal: boolean;
  readonly stdin: Readable | undefined;
  readonly stdout: Writable;
  readonly stderr: Writable;
  /** The terminal's size now; asked again when `onResize` fires. */
  readonly size?: () => { readonly rows: number; readonly columns: number } | undefined;
  readonly onResize?: (listener: () => void) => () => void;
}

export interface AttachRequest extends SessionStreams {
  readonly namespace: string;
  readonly pod: string;
  /** `-` for the pod's default container. */
  readonly container: string;
}

export interface ExecRequest extends AttachRequest {
  readonly command: readonly string[];
}

function pathOf(verb: string, ...parts: readonly string[]): string {
  return `http://nodelet/${[verb, ...parts].map(encodeURIComponent).join('/')}`;
}

/** An error of the agent as it was there. */
async function ofAgent<T>(socket: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ECONNREFUSED')) throw unreachable(socket);
    if (!(error instanceof UpgradeRefused)) throw error;
    let body: ErrorBody;
    try {
      body = JSON.parse(error.message) as ErrorBody;
    } catch {
      throw new NodeletError('AGENT_ANSWER', `the agent answered ${error.status}`, { cause: error });
    }
    throw fromBody(body);
  }
}

interface Program {
  readonly stdin: Writable | undefined;
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  resize(size: TerminalSize): void;
}

/** Not faster than who reads it. The stream of this process stays open. */
async function deliver(from: Readable | undefined, to: Writable): Promise<void> {
  if (from !== undefined) await pipeline(from, to, { end: false }).catch(() => from.resume());
}

/** Joins both sides until the outputs and `end` are over; then this process' input is free again. */
async function join<T>(ours: SessionStreams, program: Program, end: Promise<T>): Promise<T> {
  const { stdin } = ours;
  const input = program.stdin;
  if (stdin !== undefined && input !== undefined) stdin.pipe(input);
  const resize = (): void => {
    const size = ours.size?.();
    if (size !== undefined) program.resize({ height: size.rows, width: size.columns });
  };
  const off = ours.onResize?.(resize);
  if (ours.terminal) resize();
  try {
    const [result] = await Promise.all([
      end,
      deliver(program.stdout, ours.stdout),
      deliver(program.stderr, ours.stderr),
    ]);
    return result;
  } finally {
    off?.();
    if (input !== undefined) stdin?.unpipe(input);
    stdin?.pause();
  }
}

/** The program's exit code. Throws what the agent answers, and EXEC_LOST where the connection ends without an answer. */
export async function exec(socket: string, request: ExecRequest): Promise<number> {
  const { terminal, stdin } = request;
  const query = new URLSearchParams();
  for (const word of request.command) query.append('command', word);
  query.set('tty', String(terminal));
  query.set('stdin', String(stdin !== undefined));
  const size = request.size?.();
  if (size !== undefined) {
    query.set('rows', String(size.rows));
    query.set('columns', String(size.columns));
  }
  const url = `${pathOf('exec', request.namespace, request.pod, request.container)}?${query.toString()}`;
  const session = await ofAgent(
    socket,
    openRemoteExec(
      url,
      { terminal, stdin: stdin !== undefined },
      { socketPath: socket, transport: 'websocket' },
    ),
  );
  return await join(request, session, session.exit);
}

/** Until the container has ended, or this side's input where the container keeps its own. Throws as `exec`. */
export async function attach(socket: string, request: AttachRequest): Promise<void> {
  const { terminal, stdin } = request;
  const query = new URLSearchParams({ tty: String(terminal), stdin: String(stdin !== undefined) });
  const url = `${pathOf('attach', request.namespace, request.pod, request.container)}?${query.toString()}`;
  const session = await ofAgent(
    socket,
    openRemoteAttach(
      url,
      { terminal, stdin: stdin !== undefined, stdout: true, stderr: !terminal },
      { socketPath: socket, transport: 'websocket' },
    ),
  );
  await join(request, session, session.ended);
}

/** Ports of a pod, a connection at a time. Throws what the agent answers. */
export async function portForward(
  socket: string,
  namespace: string,
  pod: string,
): Promise<RemotePortForward> {
  const options: DialOptions = { socketPath: socket };
  return await ofAgent(socket, RemotePortForward.open(pathOf('portForward', namespace, pod), options));
}
