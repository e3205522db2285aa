/** Port-forward as a client, over SPDY: many connections of one pod over one connection to its node. */
import type { Duplex } from 'node:stream';
import { finished } from 'node:stream/promises';
import { NodeletError } from '../../../base/index.ts';
import { PORT_FORWARD } from '../port-forward.ts';
import type { SpdySession } from '../spdy/index.ts';
import { type DialOptions, dialSpdy } from './dial.ts';

export interface RemoteConnection {
  readonly stream: Duplex;
  /** What the other end says went wrong, when the connection is over; undefined where nothing did. */
  readonly failure: Promise<string | undefined>;
}

export class RemotePortForward {
  readonly #session: SpdySession;
  #next = 0;

  private constructor(session: SpdySession) {
    this.#session = session;
  }

  /** Throws UPGRADE_REFUSED, STREAM_PROTOCOL, the errno's code. */
  static async open(url: string, options: DialOptions = {}): Promise<RemotePortForward> {
    const { session } = await dialSpdy(url, [PORT_FORWARD], options);
    return new RemotePortForward(session);
  }

  get closed(): Promise<void> {
    return this.#session.closed;
  }

  /** A connection to a port of the pod. Throws STREAM_REFUSED, ABORTED. */
  async connect(port: number): Promise<RemoteConnection> {
    const requestId = String(this.#next);
    this.#next += 1;
    const headers = (type: string): ReadonlyMap<string, string> =>
      new Map([
        ['streamtype', type],
        ['port', String(port)],
        ['requestid', requestId],
      ]);
    const error = await this.#session.open(headers('error'));
    error.end();
    const stream = await this.#session.open(headers('data'));
    const chunks: Buffer[] = [];
    error.on('data', (chunk: Buffer) => chunks.push(chunk));
    const failure = finished(error)
      .catch(() => {})
      .then(() => (chunks.length === 0 ? undefined : Buffer.concat(chunks).toString('utf8')));
    return { stream, failure };
  }

  async close(): Promise<void> {
    await this.#session.end();
  }
}

/**
 * One connection behind the URL that PortForward gave. That nobody listens is found only after: then it is destroyed with
 * PORT_FORWARD_FAILED.
 */
export async function openRemotePortForward(
  url: string,
  port: number,
  options: DialOptions = {},
): Promise<Duplex> {
  const forward = await RemotePortForward.open(url, options);
  try {
    const { stream, failure } = await forward.connect(port);
    void failure.then((text) => {
      if (text !== undefined) stream.destroy(new NodeletError('PORT_FORWARD_FAILED', text));
    });
    stream.once('close', () => void forward.close());
    return stream;
  } catch (error) {
    void forward.close();
    throw error;
  }
}
