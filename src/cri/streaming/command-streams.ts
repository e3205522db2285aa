/**
 * What the client of an exec or attach has opened, whatever protocol it speaks: SPDY in versions 1 to 4, WebSocket with
 * channels in versions 1, 4 and 5, binary or base64.
 */
import type { Readable, Writable } from 'node:stream';
import { deferred, NodeletError, withDeadline } from '../../base/index.ts';
import type { TerminalSize } from '../services.ts';
import { SizeDecoder } from './resize.ts';
import type { SpdyStream } from './spdy/index.ts';
import { encodeStatus, type Status } from './status.ts';
import {
  acceptSpdy,
  acceptWebSocket,
  spdyProtocol,
  type Timeouts,
  type UpgradeRequest,
  wantsWebSocket,
  webSocketProtocol,
} from './upgrade.ts';
import { type ChannelCodec, Channels } from './websocket/index.ts';

export interface WantedStreams {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly terminal: boolean;
}

export interface CommandStreams {
  readonly stdin: Readable | undefined;
  readonly stdout: Writable | undefined;
  readonly stderr: Writable | undefined;
  /** Calls back with each size of the client's terminal from now on, the last of those before at once. */
  onResize(listener: (size: TerminalSize) => void): void;
  /** Fires when the client has gone, or the session is over. */
  readonly gone: AbortSignal;
  /** Tells the client how it ended, and closes; to be called when the outputs have ended. */
  finish(status: Status): Promise<void>;
}

export const CHANNEL = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4 } as const;

/** Versions of the SPDY protocol, the best first, by what they have. */
export const SPDY_VERSIONS = {
  'v4.channel.k8s.io': { json: true, resize: true, first: false },
  'v3.channel.k8s.io': { json: false, resize: true, first: false },
  'v2.channel.k8s.io': { json: false, resize: false, first: false },
  /** Its server ends the error stream as soon as it is there (kubernetes#13394, 13395); clients count on that. */
  'channel.k8s.io': { json: false, resize: false, first: true },
} as const;

interface WebSocketVersion extends ChannelCodec {
  readonly json: boolean;
}

export const WEBSOCKET_VERSIONS: Readonly<Record<string, WebSocketVersion>> = {
  'v5.channel.k8s.io': { base64: false, closes: true, json: true },
  'v4.channel.k8s.io': { base64: false, closes: false, json: true },
  'v4.base64.channel.k8s.io': { base64: true, closes: false, json: true },
  'channel.k8s.io': { base64: false, closes: false, json: false },
  'base64.channel.k8s.io': { base64: true, closes: false, json: false },
  /** A client that names no protocol. */
  '': { base64: false, closes: false, json: false },
};

/** Upgrades the request. Throws UPGRADE_REFUSED before that, and ABORTED or DEADLINE_EXCEEDED after it. */
export async function acceptCommand(
  upgrade: UpgradeRequest,
  wanted: WantedStreams,
  timeouts: Timeouts,
): Promise<CommandStreams> {
  return wantsWebSocket(upgrade.request)
    ? await acceptChannels(upgrade, wanted, timeouts)
    : await acceptStreams(upgrade, wanted, timeouts);
}

/** Sizes as they come, and the last of them for who asks late. */
class Sizes {
  readonly #decoder = new SizeDecoder();
  #last: TerminalSize | undefined;
  #listener: ((size: TerminalSize) => void) | undefined;

  follow(stream: Readable): void {
    stream.on('data', (piece: Buffer) => {
      for (const size of this.#decoder.push(piece)) {
        this.#last = size;
        this.#listener?.(size);
      }
    });
  }

  listen(listener: (size: TerminalSize) => void): void {
    this.#listener = listener;
    if (this.#last !== undefined) listener(this.#last);
  }
}

// --- WebSocket

async function acceptChannels(
  upgrade: UpgradeRequest,
  wanted: WantedStreams,
  timeouts: Timeouts,
): Promise<CommandStreams> {
  const protocol = webSocketProtocol(upgrade.request, Object.keys(WEBSOCKET_VERSIONS));
  const version = WEBSOCKET_VERSIONS[protocol] ?? { base64: false, closes: false, json: false };
  const ws = await acceptWebSocket(upgrade, protocol);
  const channels = new Channels(ws, version, timeouts.idle);
  const gone = new AbortController();
  void channels.closed.then(() => gone.abort());
  const sizes = new Sizes();
  sizes.follow(channels.readable(CHANNEL.resize));
  const error = channels.writable(CHANNEL.error);
  const streams = {
    stdin: wanted.stdin ? channels.readable(CHANNEL.stdin) : undefined,
    stdout: wanted.stdout ? channels.writable(CHANNEL.stdout) : undefined,
    stderr: wanted.stderr && !wanted.terminal ? channels.writable(CHANNEL.stderr) : undefined,
  };
  // An empty message tells the client that the connection stands.
  (streams.stdout ?? streams.stderr ?? error).write(Buffer.alloc(0));
  return {
    ...streams,
    onResize: (listener) => sizes.listen(listener),
    gone: gone.signal,
    finish: async (status) => {
      const text = encodeStatus(status, version.json);
      if (text.length > 0) await new Promise<void>((resolve) => void error.write(text, () => resolve()));
      await channels.end();
    },
  };
}

// --- SPDY

/** Ends our side of a stream; resolves when that is with the kernel, or the stream has gone. */
function ended(stream: SpdyStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed || stream.writableFinished) {
      resolve();
      return;
    }
    stream.once('finish', resolve).once('close', resolve);
    stream.end();
  });
}

type StreamType = 'error' | 'stdin' | 'stdout' | 'stderr' | 'resize';

async function acceptStreams(
  upgrade: UpgradeRequest,
  wanted: WantedStreams,
  timeouts: Timeouts,
): Promise<CommandStreams> {
  const protocol = spdyProtocol(upgrade.request, Object.keys(SPDY_VERSIONS)) as keyof typeof SPDY_VERSIONS;
  const version = SPDY_VERSIONS[protocol];
  const expected: StreamType[] = ['error'];
  if (wanted.stdin) expected.push('stdin');
  if (wanted.stdout) expected.push('stdout');
  if (wanted.stderr && !wanted.terminal) expected.push('stderr');
  if (wanted.terminal && version.resize) expected.push('resize');
  const opened = new Map<string, SpdyStream>();
  const complete = deferred<void>();
  const sizes = new Sizes();
  const session = acceptSpdy(upgrade, protocol, timeouts, (stream) => {
    const type = stream.headers.get('streamtype') ?? '';
    const news = expected.includes(type as StreamType) && !opened.has(type);
    if (news) opened.set(type, stream);
    if (news && type === 'resize') sizes.follow(stream);
    else if (!news || type !== 'stdin') stream.ignoreInput();
    if (opened.size === expected.length) complete.resolve();
  });
  const gone = new AbortController();
  void session.closed.then(() => {
    gone.abort();
    complete.reject(new NodeletError('ABORTED', 'the client has gone'));
  });
  try {
    await withDeadline('the opening of the streams by the client', timeouts.creation, complete.promise);
  } catch (error) {
    session.destroy();
    throw error;
  }
  const error = opened.get('error');
  if (version.first) {
    error?.destroy();
    opened.get('stdin')?.end();
  }
  return {
    stdin: opened.get('stdin'),
    stdout: opened.get('stdout'),
    stderr: opened.get('stderr'),
    onResize: (listener) => sizes.listen(listener),
    gone: gone.signal,
    finish: async (status) => {
      error?.write(encodeStatus(status, version.json));
      const ends = Promise.all([...opened.values()].map(ended));
      await Promise.race([ends, session.closed]);
      await session.end();
    },
  };
}
