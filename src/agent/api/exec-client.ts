/** Runs a program in a container through the agent, this process' streams in place of its own. */
import type { Readable, Writable } from 'node:stream';
import { WebSocket } from 'ws';
import { hasCode, NodeletError } from '../../base/index.ts';
import { unreachable } from './client.ts';
import { fromBody } from './errors.ts';
import { CHANNEL, EXEC_PROTOCOL } from './exec-server.ts';
import type { ErrorBody } from './types.ts';

export interface ExecRequest {
  readonly namespace: string;
  readonly pod: string;
  /** `-` for the pod's default container. */
  readonly container: string;
  readonly command: readonly string[];
  readonly terminal: boolean;
  readonly stdin: Readable | undefined;
  readonly stdout: Writable;
  readonly stderr: Writable;
  /** The terminal's size now; asked again when `onResize` fires. */
  readonly size?: () => { readonly rows: number; readonly columns: number } | undefined;
  readonly onResize?: (listener: () => void) => () => void;
}

interface Status {
  readonly status?: string;
  readonly message?: string;
  readonly reason?: string;
  readonly details?: { readonly causes?: readonly { readonly reason?: string; readonly message?: string }[] };
}

/** The program's exit code. Throws what the agent answers, and EXEC_LOST where the connection ends without an answer. */
export async function exec(socket: string, request: ExecRequest): Promise<number> {
  const query = new URLSearchParams();
  for (const word of request.command) query.append('command', word);
  query.set('tty', String(request.terminal));
  query.set('stdin', String(request.stdin !== undefined));
  const size = request.size?.();
  if (size !== undefined) {
    query.set('rows', String(size.rows));
    query.set('columns', String(size.columns));
  }
  const path = ['exec', request.namespace, request.pod, request.container].map(encodeURIComponent).join('/');
  const ws = new WebSocket(`ws+unix:${socket}:/${path}?${query.toString()}`, EXEC_PROTOCOL, {
    perMessageDeflate: false,
  });
  return await new Promise<number>((resolve, reject) => {
    let code: number | NodeletError | undefined;
    const cleanups: (() => void)[] = [];
    ws.on('unexpected-response', (_request, response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        try {
          reject(fromBody(JSON.parse(Buffer.concat(chunks).toString('utf8')) as ErrorBody));
        } catch (error) {
          reject(
            new NodeletError('AGENT_ANSWER', `the agent answered ${response.statusCode}`, { cause: error }),
          );
        }
      });
    });
    ws.on('error', (error) => reject(hasCode(error, 'ENOENT', 'ECONNREFUSED') ? unreachable(socket) : error));
    ws.on('open', () => cleanups.push(...forward(ws, request)));
    ws.on('message', (data: Buffer) => {
      const body = data.subarray(1);
      if (data[0] === CHANNEL.error) code = exitOf(body);
      else deliver(ws, data[0] === CHANNEL.stderr ? request.stderr : request.stdout, body);
    });
    ws.on('close', () => {
      for (const cleanup of cleanups) cleanup();
      if (typeof code === 'number') resolve(code);
      else
        reject(
          code ?? new NodeletError('EXEC_LOST', 'the connection to the agent has ended before the program'),
        );
    });
  });
}

/** Not faster than the reader takes it. */
function deliver(ws: WebSocket, out: Writable, body: Buffer): void {
  if (out.write(body)) return;
  ws.pause();
  out.once('drain', () => ws.resume());
}

function exitOf(body: Buffer): number | NodeletError {
  const status = JSON.parse(body.toString('utf8')) as Status;
  if (status.status === 'Success') return 0;
  const cause = status.details?.causes?.find((one) => one.reason === 'ExitCode');
  if (cause !== undefined) return Number(cause.message);
  return new NodeletError(status.reason ?? 'EXEC_FAILED', status.message ?? 'the program could not be run');
}

function forward(ws: WebSocket, request: ExecRequest): (() => void)[] {
  const cleanups: (() => void)[] = [];
  const send = (channel: number, data: Uint8Array): void => {
    if (ws.readyState === WebSocket.OPEN) ws.send(Buffer.concat([Buffer.from([channel]), data]));
  };
  const { stdin } = request;
  if (stdin !== undefined) {
    const onData = (chunk: Buffer): void => {
      if (ws.readyState !== WebSocket.OPEN) return;
      stdin.pause();
      ws.send(Buffer.concat([Buffer.from([CHANNEL.stdin]), chunk]), () => stdin.resume());
    };
    const onEnd = (): void => send(CHANNEL.close, Buffer.from([CHANNEL.stdin]));
    stdin.on('data', onData);
    stdin.once('end', onEnd);
    cleanups.push(() => {
      stdin.off('data', onData);
      stdin.off('end', onEnd);
      stdin.pause();
    });
  }
  const resize = (): void => {
    const size = request.size?.();
    if (size !== undefined)
      send(CHANNEL.resize, Buffer.from(JSON.stringify({ Width: size.columns, Height: size.rows })));
  };
  const off = request.onResize?.(resize);
  if (off !== undefined) cleanups.push(off);
  return cleanups;
}
