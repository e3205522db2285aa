/**
 * The local API: HTTP on a unix socket that only root may open. Paths are the kubelet's where it has them. Streams end with
 * their client; a client that does not read stops its own stream only.
 */
import { once } from 'node:events';
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { describeError, NodeletError, withDeadline } from '../../base/index.ts';
import type { Agent } from '../agent.ts';
import { socketPath } from '../config.ts';
import { errorBody, statusOf } from './errors.ts';
import { ROUTES, type Route } from './routes.ts';

/** Milliseconds for answers that are under way when the agent ends. */
const LAST_ANSWERS = 1000;

/** A manifest of 10 MiB in JSON, and then some. */
const BODY_LIMIT = 32 * 1024 * 1024;

export interface Call {
  readonly agent: Agent;
  readonly url: URL;
  /** What the path's `{…}` stand for. */
  readonly params: Readonly<Record<string, string>>;
  readonly body: unknown;
  readonly response: ServerResponse;
  /** Fires when the client has gone. */
  readonly signal: AbortSignal;
}

export class ApiServer {
  readonly #agent: Agent;
  readonly #path: string;
  readonly #server: Server;
  /** Answers that are not written yet. */
  readonly #open = new Set<ServerResponse>();

  private constructor(agent: Agent) {
    this.#agent = agent;
    this.#path = socketPath(agent.config);
    this.#server = createServer((request, response) => void this.#answer(request, response));
    this.#server.on('upgrade', (request, socket, head) => void this.#upgrade(request, socket, head));
    // A log that is followed may say nothing for hours.
    this.#server.requestTimeout = 0;
    this.#server.timeout = 0;
  }

  static async listen(agent: Agent): Promise<ApiServer> {
    const server = new ApiServer(agent);
    // Ours by the agent's lock: one that an earlier agent left.
    rmSync(server.#path, { force: true });
    const before = process.umask(0o177);
    try {
      await new Promise<void>((resolve, reject) => {
        server.#server.once('error', reject);
        server.#server.listen(server.#path, resolve);
      });
    } finally {
      process.umask(before);
    }
    chmodSync(server.#path, 0o600);
    return server;
  }

  #match(
    method: string,
    url: URL,
  ): { readonly route: Route; readonly params: Record<string, string> } | undefined {
    for (const route of ROUTES) {
      if (route.method !== method) continue;
      const params = matchPath(route.path, url.pathname);
      if (params !== undefined) return { route, params };
    }
    return undefined;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    this.#open.add(response);
    response.on('close', () => {
      this.#open.delete(response);
      gone.abort();
    });
    try {
      const url = new URL(request.url ?? '/', 'http://nodelet');
      const found = this.#match(request.method ?? 'GET', url);
      if (found === undefined)
        throw new NodeletError('ROUTE_NOT_FOUND', `no such path: ${request.method} ${url.pathname}`);
      const body = await readBody(request);
      const result = await found.route.run({
        agent: this.#agent,
        url,
        params: found.params,
        body,
        response,
        signal: gone.signal,
      });
      if (result !== undefined) sendJson(response, 200, result);
      else if (!response.writableEnded) response.end();
    } catch (error) {
      if (gone.signal.aborted) return;
      // A stream that breaks half-way can only be cut off.
      if (response.headersSent) response.destroy();
      else sendJson(response, statusOf(error), errorBody(error));
    }
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    try {
      const url = new URL(request.url ?? '/', 'http://nodelet');
      const { STREAM_ROUTES } = await import('./streams-server.ts');
      for (const route of STREAM_ROUTES) {
        const params = matchPath(route.path, url.pathname);
        if (params === undefined) continue;
        await route.serve({ agent: this.#agent, url, params }, { request, socket, head });
        return;
      }
      throw new NodeletError('ROUTE_NOT_FOUND', `no such path: ${url.pathname}`);
    } catch (error) {
      const text = JSON.stringify(errorBody(error));
      const status = statusOf(error);
      if (socket.destroyed) return;
      socket.end(
        `HTTP/1.1 ${status} Error\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n\r\n${text}`,
      );
      this.#agent.log.debug({ error: describeError(error) }, 'stream refused');
    }
  }

  /** Answers that are under way are given a moment (the removal of the last pod ends the agent); streams are cut. */
  async close(): Promise<void> {
    const unanswered = [...this.#open].filter((response) => !response.headersSent || response.writableEnded);
    const answered = Promise.all(unanswered.map(async (response) => await once(response, 'close')));
    const ended = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    this.#server.closeIdleConnections();
    await withDeadline('the last answers', LAST_ANSWERS, answered).catch(() => {});
    this.#server.closeAllConnections();
    await ended;
    rmSync(this.#path, { force: true });
  }
}

/** `{name}` matches one segment, decoded. */
function matchPath(pattern: string, path: string): Record<string, string> | undefined {
  const wanted = pattern.split('/');
  const given = path.split('/');
  if (wanted.length !== given.length) return undefined;
  const params: Record<string, string> = {};
  for (const [i, segment] of wanted.entries()) {
    const value = given[i] ?? '';
    if (!segment.startsWith('{')) {
      if (segment !== value) return undefined;
      continue;
    }
    try {
      params[segment.slice(1, -1)] = decodeURIComponent(value);
    } catch {
      return undefined;
    }
  }
  return params;
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > BODY_LIMIT)
      throw new NodeletError('BODY_TOO_LARGE', `the request has more than ${BODY_LIMIT} bytes`);
    chunks.push(chunk);
  }
  if (size === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch (error) {
    throw new NodeletError('INVALID_ARGUMENT', 'the request is no JSON', { cause: error });
  }
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  const text = `${JSON.stringify(value)}\n`;
  response.writeHead(status, {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(text),
  });
  response.end(text);
}
