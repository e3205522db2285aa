/** The HTTP side of a stream: which protocol a client asks for, and how it is granted or refused. */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { NodeletError } from '../../base/index.ts';
import { SpdySession, type SpdyStream } from './spdy/index.ts';

export const PROTOCOL_HEADER = 'x-stream-protocol-version';
const ACCEPTED_HEADER = 'X-Accepted-Stream-Protocol-Versions';
export const SPDY = 'SPDY/3.1';

/** As much as upstream's server takes in one WebSocket message. */
const MAX_MESSAGE = 32 * 1024 * 1024;

/** A request that cannot be upgraded; `status` and `headers` are its HTTP answer. */
export class UpgradeRefused extends NodeletError {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, message: string, headers: Readonly<Record<string, string>> = {}) {
    super('UPGRADE_REFUSED', message);
    this.status = status;
    this.headers = headers;
  }
}

const REASONS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
};

/** Answers a request that was to be upgraded, in plain text, and closes. */
export function refuse(socket: Duplex, error: UpgradeRefused): void {
  const headers = Object.entries(error.headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const text = `${error.message}\n`;
  socket.end(
    `HTTP/1.1 ${error.status} ${REASONS[error.status] ?? 'Error'}\r\nContent-Type: text/plain; charset=utf-8\r\n` +
      `Content-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n${headers.join('')}\r\n${text}`,
  );
}

/** The values of a header that is a list. Pure. */
export function listOf(header: string | string[] | undefined): string[] {
  return [header ?? []]
    .flat()
    .flatMap((value) => value.split(','))
    .map((value) => value.trim())
    .filter((value) => value !== '');
}

export function wantsWebSocket(request: IncomingMessage): boolean {
  return request.headers.upgrade?.toLowerCase() === 'websocket';
}

/** The first of the client's protocols that the server has. Pure. */
export function negotiate(offered: readonly string[], served: readonly string[]): string | undefined {
  return offered.find((protocol) => served.includes(protocol));
}

/**
 * The subprotocol of a WebSocket request; the empty one where the client names none and `served` has it. Throws
 * UPGRADE_REFUSED. Pure.
 */
export function webSocketProtocol(request: IncomingMessage, served: readonly string[]): string {
  const offered = listOf(request.headers['sec-websocket-protocol']);
  const chosen = negotiate(offered.length === 0 ? [''] : offered, served);
  if (chosen === undefined)
    throw new UpgradeRefused(
      403,
      `requested protocol(s) are not supported: [${offered.join(' ')}]; supports [${served.join(' ')}]`,
    );
  return chosen;
}

/** The protocol of a SPDY request. Throws UPGRADE_REFUSED, in upstream's words. Pure. */
export function spdyProtocol(request: IncomingMessage, served: readonly string[]): string {
  const upgrade = listOf(request.headers.upgrade).map((value) => value.toUpperCase());
  if (!upgrade.includes(SPDY))
    throw new UpgradeRefused(400, 'unable to upgrade: missing upgrade headers in request');
  const header = request.headers[PROTOCOL_HEADER];
  if (header === undefined)
    throw new UpgradeRefused(
      400,
      'unable to upgrade: header X-Stream-Protocol-Version does not exist in request',
    );
  const offered = listOf(header);
  if (offered.length === 0)
    throw new UpgradeRefused(
      400,
      'unable to upgrade: header X-Stream-Protocol-Version has no valid protocols',
    );
  const chosen = negotiate(offered, served);
  if (chosen === undefined)
    throw new UpgradeRefused(
      403,
      `unable to upgrade: unable to negotiate protocol: client supports [${offered.join(' ')}], server accepts [${served.join(' ')}]`,
      { [ACCEPTED_HEADER]: served.join(', ') },
    );
  return chosen;
}

export interface UpgradeRequest {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  /** What came behind the request's head. */
  readonly head: Buffer;
}

export interface Timeouts {
  /** Milliseconds without traffic after which a connection is closed. */
  readonly idle: number;
  /** Milliseconds in which a SPDY client must have opened its streams. */
  readonly creation: number;
}

/** Upstream's. */
export const TIMEOUTS: Timeouts = { idle: 4 * 60 * 60 * 1000, creation: 30_000 };

export function acceptSpdy(
  { socket, head }: UpgradeRequest,
  protocol: string,
  timeouts: Timeouts,
  onStream: (stream: SpdyStream) => void,
): SpdySession {
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${SPDY}\r\n` +
      `X-Stream-Protocol-Version: ${protocol}\r\n\r\n`,
  );
  if (head.length > 0) socket.unshift(head);
  return new SpdySession(socket, { side: 'server', onStream, idleTimeout: timeouts.idle });
}

/** Where the request is no WebSocket's, ws itself answers and the socket closes: ABORTED. */
export function acceptWebSocket(
  { request, socket, head }: UpgradeRequest,
  protocol: string,
): Promise<WebSocket> {
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE,
  });
  // The protocol is agreed here: "SPDY/3.1+portforward.k8s.io" is no token of HTTP, and ws would refuse it.
  delete request.headers['sec-websocket-protocol'];
  if (protocol !== '') server.on('headers', (headers) => headers.push(`Sec-WebSocket-Protocol: ${protocol}`));
  return new Promise((resolve, reject) => {
    socket.once('close', () => reject(new NodeletError('ABORTED', 'the client has gone')));
    server.handleUpgrade(request, socket, head, (ws) => resolve(ws));
  });
}
