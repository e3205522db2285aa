/**
 * The streaming server of CRI: Exec, Attach and PortForward answer with a URL of it. It listens on loopback and knows its
 * clients by their token; it never redirects.
 */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { describeError, type Log, NodeletError } from '../../base/index.ts';
import type { AttachRequest, ExecRequest, PortForwardRequest } from '../api.gen.ts';
import type { StreamingRuntime, StreamingUrls } from '../services.ts';
import { servePortForward } from './port-forward.ts';
import { serveAttach, serveExec } from './session.ts';
import { TokenCache } from './tokens.ts';
import { refuse, TIMEOUTS, type Timeouts, UpgradeRefused, type UpgradeRequest } from './upgrade.ts';

export interface StreamingServerOptions {
  readonly runtime: StreamingRuntime;
  readonly log: Log;
  /** 127.0.0.1 where none is given. */
  readonly address?: string;
  /** Any free one where none is given. */
  readonly port?: number;
  readonly timeouts?: Timeouts;
}

type Serve = (upgrade: UpgradeRequest) => Promise<void>;

interface Waiting {
  readonly kind: 'exec' | 'attach' | 'portforward';
  readonly serve: Serve;
}

/** A client that connects says what it wants within this time. */
const HEAD_TIMEOUT = 10_000;

export class StreamingServer implements StreamingUrls {
  readonly #options: StreamingServerOptions;
  readonly #timeouts: Timeouts;
  readonly #tokens = new TokenCache<Waiting>();
  readonly #server: Server;
  readonly #sockets = new Set<Duplex>();
  #base = '';

  private constructor(options: StreamingServerOptions) {
    this.#options = options;
    this.#timeouts = options.timeouts ?? TIMEOUTS;
    this.#server = createServer({
      headersTimeout: HEAD_TIMEOUT,
      connectionsCheckingInterval: HEAD_TIMEOUT / 2,
      requestTimeout: HEAD_TIMEOUT,
      maxHeaderSize: 16_384,
    });
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      // A peer whose machine has gone is noticed.
      socket.setKeepAlive(true, 30_000);
      socket.setNoDelay(true);
    });
    this.#server.on('request', (request, response) => {
      const known = pathOf(request) !== undefined;
      response.writeHead(known ? 400 : 404, {
        'Content-Type': 'text/plain; charset=utf-8',
        Connection: 'close',
      });
      response.end(
        known ? 'unable to upgrade: missing upgrade headers in request\n' : '404 page not found\n',
      );
    });
    this.#server.on('upgrade', (request, socket, head) => void this.#upgrade({ request, socket, head }));
  }

  /** Throws the errno's code where the address cannot be bound. */
  static async listen(options: StreamingServerOptions): Promise<StreamingServer> {
    const server = new StreamingServer(options);
    const { address = '127.0.0.1', port = 0 } = options;
    await new Promise<void>((resolve, reject) => {
      server.#server.once('error', reject);
      server.#server.listen(port, address, () => {
        server.#server.off('error', reject);
        resolve();
      });
    });
    const bound = server.#server.address() as AddressInfo;
    server.#base = `http://${address.includes(':') ? `[${address}]` : address}:${bound.port}`;
    return server;
  }

  /** `http://127.0.0.1:PORT` */
  get url(): string {
    return this.#base;
  }

  #urlOf(kind: Waiting['kind'], serve: Serve): string {
    return `${this.#base}/${kind}/${this.#tokens.insert({ kind, serve })}`;
  }

  exec(request: ExecRequest): string {
    const wanted = wantedOf('exec', request);
    const { runtime } = this.#options;
    const target = { ...wanted, command: request.cmd ?? [] };
    return this.#urlOf('exec', (upgrade) => serveExec(runtime, target, upgrade, this.#timeouts));
  }

  attach(request: AttachRequest): string {
    const wanted = wantedOf('attach', request);
    const { runtime } = this.#options;
    return this.#urlOf('attach', (upgrade) => serveAttach(runtime, wanted, upgrade, this.#timeouts));
  }

  portForward(request: PortForwardRequest): string {
    const { podSandboxId = '', port = [] } = request;
    if (podSandboxId === '')
      throw new NodeletError('INVALID_ARGUMENT', 'portForward: missing required podSandboxId');
    const wrong = port.find((one) => !Number.isInteger(one) || one < 1 || one > 65_535);
    if (wrong !== undefined)
      throw new NodeletError('INVALID_ARGUMENT', `portForward: port ${wrong} is not between 1 and 65535`);
    const { runtime } = this.#options;
    return this.#urlOf('portforward', (upgrade) =>
      servePortForward(runtime, { podSandboxId, ports: port }, upgrade, this.#timeouts),
    );
  }

  async #upgrade(upgrade: UpgradeRequest): Promise<void> {
    const { request, socket } = upgrade;
    socket.on('error', () => {});
    try {
      const path = pathOf(request);
      const waiting = path === undefined ? undefined : this.#tokens.consume(path.token);
      if (waiting === undefined || waiting.kind !== path?.kind)
        throw new UpgradeRefused(404, '404 page not found');
      if (request.method !== 'GET' && request.method !== 'POST')
        throw new UpgradeRefused(405, '405: Method Not Allowed');
      await waiting.serve(upgrade);
    } catch (error) {
      if (error instanceof UpgradeRefused) refuse(socket, error);
      else socket.destroy();
      this.#options.log.debug({ error: describeError(error) }, 'a streaming request was not served');
    }
  }

  /** Ends every session. Twice is safe. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

function pathOf(request: IncomingMessage): { readonly kind: string; readonly token: string } | undefined {
  const match = /^\/(exec|attach|portforward)\/([A-Za-z0-9_-]{1,64})(?:\?|$)/.exec(request.url ?? '');
  return match === null ? undefined : { kind: match[1] ?? '', token: match[2] ?? '' };
}

function wantedOf(
  verb: string,
  request: ExecRequest | AttachRequest,
): { containerId: string; terminal: boolean; stdin: boolean; stdout: boolean; stderr: boolean } {
  const { containerId = '', tty = false, stdin = false, stdout = false, stderr = false } = request;
  const invalid = (what: string): NodeletError => new NodeletError('INVALID_ARGUMENT', `${verb}: ${what}`);
  if (containerId === '') throw invalid('missing required containerId');
  if (tty && stderr) throw invalid('tty and stderr cannot both be true');
  if (!stdin && !stdout && !stderr) throw invalid('one of stdin, stdout, or stderr must be set');
  return { containerId, terminal: tty, stdin, stdout, stderr };
}
