/** The client's side of an upgrade: to a URL of a streaming server, or to a path of an API on a unix socket. */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Duplex } from 'node:stream';
import { NodeletError } from '../../../base/index.ts';
import { SpdySession } from '../spdy/index.ts';
import { PROTOCOL_HEADER, SPDY, UpgradeRefused } from '../upgrade.ts';

export interface DialOptions {
  /** A unix socket; the URL's host is then only a name. */
  readonly socketPath?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** A refusal may be a page of a proxy. */
const ANSWER_LIMIT = 64 * 1024;

/** The text of an answer that is no upgrade. */
export async function answerOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > ANSWER_LIMIT) break;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8').trimEnd();
}

function upgrade(
  url: string,
  protocols: readonly string[],
  options: DialOptions,
): Promise<{ socket: Duplex; head: Buffer; response: IncomingMessage }> {
  const at = new URL(url);
  const { socketPath, headers = {}, signal } = options;
  return new Promise((resolve, reject) => {
    const request = (at.protocol === 'https:' ? httpsRequest : httpRequest)(at, {
      method: 'POST',
      headers: { ...headers, Connection: 'Upgrade', Upgrade: SPDY, [PROTOCOL_HEADER]: [...protocols] },
      ...(socketPath === undefined ? {} : { socketPath }),
      ...(signal === undefined ? {} : { signal }),
      // One connection for one session.
      agent: false,
    });
    request.once('error', reject);
    request.once('upgrade', (response, socket, head) => resolve({ socket, head, response }));
    request.once('response', (response) => {
      answerOf(response).then((text) => reject(new UpgradeRefused(response.statusCode ?? 0, text)), reject);
    });
    request.end();
  });
}

/** A SPDY connection and the protocol that the server chose. Throws UPGRADE_REFUSED, STREAM_PROTOCOL, the errno's code. */
export async function dialSpdy(
  url: string,
  protocols: readonly string[],
  options: DialOptions,
): Promise<{ session: SpdySession; protocol: string }> {
  const { socket, head, response } = await upgrade(url, protocols, options);
  const protocol = String(response.headers[PROTOCOL_HEADER] ?? '');
  if (!protocols.includes(protocol)) {
    socket.destroy();
    throw new NodeletError(
      'STREAM_PROTOCOL',
      `the server chose ${JSON.stringify(protocol)}, not one of ${protocols.join(', ')}`,
    );
  }
  if (head.length > 0) socket.unshift(head);
  return { session: new SpdySession(socket, { side: 'client' }), protocol };
}
