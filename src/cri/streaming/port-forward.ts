/**
 * Ports of a pod: over SPDY, over SPDY in a WebSocket, and over the older WebSocket protocol, whose ports are named
 * beforehand. Each connection is a pair of streams, one for its data and one for what went wrong.
 */
import type { Duplex, Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createWebSocketStream } from 'ws';
import { describeError, NodeletError } from '../../base/index.ts';
import type { StreamingRuntime } from '../services.ts';
import { SpdySession, type SpdyStream } from './spdy/index.ts';
import {
  acceptSpdy,
  acceptWebSocket,
  listOf,
  spdyProtocol,
  TIMEOUTS,
  type Timeouts,
  UpgradeRefused,
  type UpgradeRequest,
  wantsWebSocket,
  webSocketProtocol,
} from './upgrade.ts';
import { type ChannelCodec, Channels } from './websocket/index.ts';

export const PORT_FORWARD = 'portforward.k8s.io';
/** SPDY's bytes in binary messages. */
export const TUNNEL = `SPDY/3.1+${PORT_FORWARD}`;

const CHANNEL_PROTOCOLS: Readonly<Record<string, ChannelCodec>> = {
  'v4.channel.k8s.io': { base64: false, closes: false },
  'v4.base64.channel.k8s.io': { base64: true, closes: false },
  '': { base64: false, closes: false },
};

export interface PortForwardTarget {
  readonly podSandboxId: string;
  /** For the older WebSocket protocol; where there are none the query's `port` is asked. */
  readonly ports: readonly number[];
}

/**
 * Serves one upgrade request until its client goes. Throws UPGRADE_REFUSED where it cannot be upgraded; everything later
 * the client is told.
 */
export async function servePortForward(
  runtime: StreamingRuntime,
  target: PortForwardTarget,
  upgrade: UpgradeRequest,
  timeouts: Timeouts = TIMEOUTS,
): Promise<void> {
  const forwarder = new Forwarder(runtime, target.podSandboxId);
  if (!wantsWebSocket(upgrade.request)) {
    const protocol = spdyProtocol(upgrade.request, [PORT_FORWARD]);
    const pairs = new Pairs(forwarder, timeouts.creation);
    await pairs.follow(acceptSpdy(upgrade, protocol, timeouts, (stream) => pairs.add(stream)));
    return;
  }
  const protocol = webSocketProtocol(upgrade.request, [TUNNEL, ...Object.keys(CHANNEL_PROTOCOLS)]);
  if (protocol === TUNNEL) {
    const pairs = new Pairs(forwarder, timeouts.creation);
    const tunnel = createWebSocketStream(await acceptWebSocket(upgrade, protocol));
    await pairs.follow(
      new SpdySession(tunnel, {
        side: 'server',
        onStream: (stream) => pairs.add(stream),
        idleTimeout: timeouts.idle,
      }),
    );
    return;
  }
  const ports = target.ports.length > 0 ? target.ports : portsOf(upgrade.request.url ?? '');
  const ws = await acceptWebSocket(upgrade, protocol);
  const channels = new Channels(
    ws,
    CHANNEL_PROTOCOLS[protocol] ?? { base64: false, closes: false },
    timeouts.idle,
  );
  await forwarder.channels(channels, ports);
}

function portOf(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(port) || port > 65_535)
    throw new UpgradeRefused(400, `unable to parse ${JSON.stringify(text)} as a port`);
  if (port < 1) throw new UpgradeRefused(400, `port ${JSON.stringify(text)} must be > 0`);
  return port;
}

/** The ports of a query. Throws UPGRADE_REFUSED. Pure. */
export function portsOf(url: string): number[] {
  const values = new URL(url, 'http://localhost').searchParams.getAll('port');
  if (values.length === 0) throw new UpgradeRefused(400, 'query parameter "port" is required');
  const ports = values.flatMap((value) => {
    if (value === '') throw new UpgradeRefused(400, 'query parameter "port" cannot be empty');
    return listOf(value).map(portOf);
  });
  // A channel's number is a byte, 255 has a meaning of its own.
  if (ports.length > 127)
    throw new UpgradeRefused(400, `${ports.length} ports are more than the protocol has channels for`);
  return ports;
}

/** Both ways of a connection; resolves when both have ended. A side that breaks takes the other with it. */
async function join(input: Readable, output: Writable, connection: Duplex): Promise<void> {
  await Promise.all([
    pipeline(input, connection, { end: true }),
    pipeline(connection, output, { end: true }),
  ]);
}

class Forwarder {
  readonly #runtime: StreamingRuntime;
  readonly #podSandboxId: string;

  constructor(runtime: StreamingRuntime, podSandboxId: string) {
    this.#runtime = runtime;
    this.#podSandboxId = podSandboxId;
  }

  /** One connection. Returns upstream's words for what went wrong; a connection that the pod resets is not. */
  async forward(
    port: number,
    input: Readable,
    output: Writable,
    gone: AbortSignal,
  ): Promise<string | undefined> {
    let connection: Duplex;
    try {
      connection = await this.#runtime.openPortForward({ podSandboxId: this.#podSandboxId, port }, gone);
    } catch (error) {
      return `error forwarding port ${port} to pod ${this.#podSandboxId}, uid : ${describeError(error)}`;
    }
    const close = (): void => void connection.destroy();
    gone.addEventListener('abort', close, { once: true });
    if (gone.aborted) close();
    try {
      await join(input, output, connection);
    } catch {
      // Either end has broken the connection off; the other end sees the same.
    } finally {
      gone.removeEventListener('abort', close);
      connection.destroy();
    }
    return undefined;
  }

  /** Channels 2n (data) and 2n + 1 (error) of each port, one connection each. */
  async channels(channels: Channels, ports: readonly number[]): Promise<void> {
    const gone = new AbortController();
    void channels.closed.then(() => gone.abort());
    await Promise.all(
      ports.map(async (port, i) => {
        const input = channels.readable(2 * i);
        const output = channels.writable(2 * i);
        const errors = channels.writable(2 * i + 1);
        const number = Buffer.alloc(2);
        number.writeUInt16LE(port);
        output.write(number);
        errors.write(number);
        const failure = await this.forward(port, input, output, gone.signal);
        if (failure !== undefined)
          await new Promise<void>((resolve) => void errors.write(failure, () => resolve()));
      }),
    );
    await channels.end();
  }
}

interface Pair {
  data: SpdyStream | undefined;
  error: SpdyStream | undefined;
  readonly timer: NodeJS.Timeout;
}

/** Streams of one connection find each other by their `requestid`. */
class Pairs {
  readonly #forwarder: Forwarder;
  readonly #timeout: number;
  readonly #pairs = new Map<string, Pair>();

  constructor(forwarder: Forwarder, timeout: number) {
    this.#forwarder = forwarder;
    this.#timeout = timeout;
  }

  /** Until the connection has ended. */
  async follow(session: SpdySession): Promise<void> {
    await session.closed;
    for (const { timer } of this.#pairs.values()) clearTimeout(timer);
    this.#pairs.clear();
  }

  /** Throws what makes the connection refuse the stream. */
  add(stream: SpdyStream): void {
    portOf(stream.headers.get('port') ?? '');
    const type = stream.headers.get('streamtype');
    if (type !== 'data' && type !== 'error')
      throw new NodeletError('STREAM_PROTOCOL', `invalid stream type ${JSON.stringify(type)}`);
    const id = requestId(stream, type);
    const pair = this.#pairs.get(id) ?? this.#expect(id);
    if (pair[type] !== undefined) {
      pair.error?.write(`error processing stream for request ${id}: ${type} stream already assigned`);
      stream.ignoreInput();
      return;
    }
    pair[type] = stream;
    const { data, error } = pair;
    if (data === undefined || error === undefined) return;
    clearTimeout(pair.timer);
    this.#pairs.delete(id);
    void this.#run(data, error);
  }

  #expect(id: string): Pair {
    const timer = setTimeout(() => {
      this.#pairs.delete(id);
      pair.error?.end(`(request=${id}) timed out waiting for streams`);
      pair.data?.destroy();
    }, this.#timeout).unref();
    const pair: Pair = { data: undefined, error: undefined, timer };
    this.#pairs.set(id, pair);
    return pair;
  }

  async #run(data: SpdyStream, error: SpdyStream): Promise<void> {
    error.ignoreInput();
    const gone = new AbortController();
    // The client wants no more of it: not even what is still on its way.
    for (const event of ['reset', 'close']) data.once(event, () => gone.abort());
    const port = portOf(data.headers.get('port') ?? '');
    const failure = await this.#forwarder.forward(port, data, data, gone.signal);
    if (failure === undefined) {
      error.end();
      return;
    }
    // Upstream's order: the text, then both streams reset, so that the client sees the failure of this connection only.
    error.write(failure, () => {
      error.destroy();
      data.destroy();
    });
  }
}

/** Older clients give no id: there the error stream comes first and the data stream is the next one. */
function requestId(stream: SpdyStream, type: 'data' | 'error'): string {
  return stream.headers.get('requestid') ?? String(type === 'error' ? stream.id : stream.id - 2);
}
