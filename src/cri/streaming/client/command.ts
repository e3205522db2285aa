/** Exec and attach as a client: SPDY, which every CRI runtime speaks, or WebSocket in version 5. */
import type { Duplex, Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { WebSocket } from 'ws';
import { NodeletError } from '../../../base/index.ts';
import type { AttachSession, ExecSession, TerminalSize } from '../../services.ts';
import { CHANNEL, SPDY_VERSIONS, type WantedStreams } from '../command-streams.ts';
import { encodeSize } from '../resize.ts';
import { exitCodeOf } from '../status.ts';
import { UpgradeRefused } from '../upgrade.ts';
import { Channels } from '../websocket/index.ts';
import { answerOf, type DialOptions, dialSpdy } from './dial.ts';

export interface RemoteCommandOptions extends DialOptions {
  /** SPDY by default. */
  readonly transport?: 'spdy' | 'websocket';
}

/** What both kinds of session are made of. */
interface RemoteCommand {
  readonly stdin: Writable | undefined;
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  resize(size: TerminalSize): void;
  /** The exit code that the server tells, when the outputs have ended. */
  readonly exit: Promise<number>;
  close(): void;
}

/**
 * A program in a container of another runtime, behind the URL that its Exec gave. Its `pid` is not told: 0. `exit` rejects
 * with REMOTE_FAILED in the server's words, and EXEC_LOST where the connection ends before.
 */
export async function openRemoteExec(
  url: string,
  wanted: Omit<WantedStreams, 'stdout' | 'stderr'>,
  options: RemoteCommandOptions = {},
): Promise<ExecSession> {
  const command = await openCommand(url, { ...wanted, stdout: true, stderr: !wanted.terminal }, options);
  const { stdout } = command;
  if (stdout === undefined) throw new NodeletError('INTERNAL', 'a session without output');
  return { ...command, stdout, pid: 0 };
}

/** A container's own streams, behind the URL that Attach gave; see `openRemoteExec`. */
export async function openRemoteAttach(
  url: string,
  wanted: WantedStreams,
  options: RemoteCommandOptions = {},
): Promise<AttachSession> {
  const { exit, ...command } = await openCommand(url, wanted, options);
  return { ...command, ended: exit.then(() => {}) };
}

function openCommand(
  url: string,
  wanted: WantedStreams,
  options: RemoteCommandOptions,
): Promise<RemoteCommand> {
  return options.transport === 'websocket'
    ? overWebSocket(url, wanted, options)
    : overSpdy(url, wanted, options);
}

async function textOf(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await finished(stream, { writable: false }).catch(() => {});
  return Buffer.concat(chunks).toString('utf8');
}

/** The code of a status that has come whole, after the outputs: they are read by whoever has them. */
async function exitOf(
  status: Promise<string>,
  json: boolean,
  outputs: readonly (Readable | undefined)[],
  end: () => void,
): Promise<number> {
  try {
    const text = await status;
    for (const output of outputs)
      if (output !== undefined) await finished(output, { writable: false }).catch(() => {});
    return exitCodeOf(text, json);
  } finally {
    end();
  }
}

async function overSpdy(
  url: string,
  wanted: WantedStreams,
  options: RemoteCommandOptions,
): Promise<RemoteCommand> {
  const { session, protocol } = await dialSpdy(url, Object.keys(SPDY_VERSIONS), options);
  const version = SPDY_VERSIONS[protocol as keyof typeof SPDY_VERSIONS];
  try {
    const open = (type: string): Promise<Duplex> => session.open(new Map([['streamtype', type]]));
    // Upstream's order.
    const error = await open('error');
    const stdin = wanted.stdin ? await open('stdin') : undefined;
    const stdout = wanted.stdout ? await open('stdout') : undefined;
    const stderr = wanted.stderr && !wanted.terminal ? await open('stderr') : undefined;
    const resize = wanted.terminal && version.resize ? await open('resize') : undefined;
    for (const stream of [stdin, resize]) stream?.resume();
    const exit = exitOf(textOf(error), version.json, [stdout, stderr], () => void session.end());
    exit.catch(() => {});
    return {
      stdin,
      stdout,
      stderr,
      resize: (size) => void resize?.write(encodeSize(size)),
      exit,
      close: () => session.destroy(),
    };
  } catch (error) {
    session.destroy();
    throw error;
  }
}

const V5 = { base64: false, closes: true };

function webSocketUrl(url: string, socketPath: string | undefined): string {
  const at = new URL(url);
  if (socketPath !== undefined) return `ws+unix:${socketPath}:${at.pathname}${at.search}`;
  return url.replace(/^http/, 'ws');
}

async function overWebSocket(
  url: string,
  wanted: WantedStreams,
  options: RemoteCommandOptions,
): Promise<RemoteCommand> {
  const ws = new WebSocket(webSocketUrl(url, options.socketPath), 'v5.channel.k8s.io', {
    perMessageDeflate: false,
    ...(options.headers === undefined ? {} : { headers: options.headers }),
  });
  // Before it is open: the first messages may come with the answer.
  const channels = new Channels(ws, V5);
  const status = textOf(channels.readable(CHANNEL.error));
  const stdout = wanted.stdout ? channels.readable(CHANNEL.stdout) : undefined;
  const stderr = wanted.stderr && !wanted.terminal ? channels.readable(CHANNEL.stderr) : undefined;
  await new Promise<void>((resolve, reject) => {
    const abort = (): void => ws.terminate();
    options.signal?.addEventListener('abort', abort, { once: true });
    ws.once('open', () => {
      options.signal?.removeEventListener('abort', abort);
      resolve();
    });
    ws.once('error', reject);
    ws.once('unexpected-response', (_request, response) => {
      answerOf(response).then((text) => reject(new UpgradeRefused(response.statusCode ?? 0, text)), reject);
    });
  });
  const resize = channels.writable(CHANNEL.resize);
  const exit = exitOf(status, true, [stdout, stderr], () => void channels.end());
  exit.catch(() => {});
  return {
    stdin: wanted.stdin ? channels.writable(CHANNEL.stdin, true) : undefined,
    stdout,
    stderr,
    resize: (size) => void resize.write(encodeSize(size)),
    exit,
    close: () => channels.destroy(),
  };
}
