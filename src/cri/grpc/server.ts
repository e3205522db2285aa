/**
 * CRI v1 over gRPC on a unix socket that only root may open. What a request says is checked before anything is done; a
 * client that goes away, or whose deadline passes, aborts its request.
 */
import { setMaxListeners } from 'node:events';
import type { Socket } from 'node:net';
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
} from '@grpc/grpc-js';
import { type Log, messageOf, NodeletError } from '../../base/index.ts';
import type { ImageService } from '../api.gen.ts';
import { derivedCalls, type RuntimeCalls } from '../served.ts';
import type { StreamingUrls } from '../services.ts';
import { checkRequest } from '../validate/index.ts';
import { codecOf, type Message } from '../wire/codec.ts';
import { IMAGE_SERVICE_CALLS, PACKAGE, RUNTIME_SERVICE_CALLS } from '../wire/tables.gen.ts';
import { CODE_KEY, toGrpcError } from './codes.ts';
import { UnixListener } from './socket.ts';

export interface CriServerOptions {
  /** Absolute. */
  readonly path: string;
  readonly runtime: RuntimeCalls;
  readonly images: ImageService;
  readonly urls: StreamingUrls;
  readonly log: Log;
}

/** As containerd's. */
const MESSAGE_LIMIT = 16 * 1024 * 1024;
/** Connections at a time; a kubelet has two, a crictl one. */
const CONNECTIONS = 256;
/** Milliseconds that a new connection has for its first words. */
const SILENCE = 10_000;
/**
 * Milliseconds between pings. Node does not notice by itself that a peer has gone with which HTTP/2 was at odds before: the
 * ping fails then, and the connection's descriptor goes.
 */
const KEEPALIVE = 5000;
/** Milliseconds for answers that are under way when the server ends. */
const LAST_ANSWERS = 2000;

type Method = (request: never, signal: AbortSignal) => Promise<object> | AsyncIterable<object>;

/** A request that could not be read, in the place of one. */
class Malformed {
  readonly reason: string;

  constructor(reason: string) {
    this.reason = reason;
  }
}

export class CriServer {
  readonly #server: Server;
  readonly #log: Log;
  readonly #ending = new AbortController();
  readonly #sockets = new Set<Socket>();
  readonly #unary = new Set<Promise<void>>();
  #listener: UnixListener | undefined;
  #closing: Promise<void> | undefined;

  private constructor(log: Log) {
    this.#log = log;
    this.#server = new Server({
      'grpc.max_receive_message_length': MESSAGE_LIMIT,
      'grpc.max_concurrent_streams': 1000,
      'grpc.enable_channelz': 0,
      'grpc.max_metadata_size': 16 * 1024,
      'grpc.keepalive_time_ms': KEEPALIVE,
      'grpc.keepalive_timeout_ms': 2 * KEEPALIVE,
    });
  }

  get path(): string {
    return this.#listener?.path ?? '';
  }

  /** Throws SOCKET_IN_USE, SOCKET_UNUSABLE, INVALID_CONFIGURATION. */
  static async listen(options: CriServerOptions): Promise<CriServer> {
    const server = new CriServer(options.log);
    // One listener for each stream that is open, which is no leak.
    setMaxListeners(0, server.#ending.signal);
    const { runtime, images, urls } = options;
    server.#add('RuntimeService', RUNTIME_SERVICE_CALLS, [derivedCalls(runtime, urls), runtime]);
    server.#add('ImageService', IMAGE_SERVICE_CALLS, [images]);
    const injector = server.#server.createConnectionInjector(ServerCredentials.createInsecure());
    server.#listener = await UnixListener.listen(options.path, (socket) => {
      if (server.#welcome(socket)) injector.injectConnection(socket);
    });
    return server;
  }

  /** Counts a connection, and ends one that stays silent: a half-open one costs a descriptor. */
  #welcome(socket: Socket): boolean {
    socket.on('error', () => {});
    if (this.#sockets.size >= CONNECTIONS || this.#closing !== undefined) {
      socket.destroy();
      return false;
    }
    this.#sockets.add(socket);
    const timer = setTimeout(() => {
      if (socket.bytesRead === 0) socket.destroy();
    }, SILENCE);
    socket.once('close', () => {
      clearTimeout(timer);
      this.#sockets.delete(socket);
    });
    return true;
  }

  #add(
    service: string,
    calls: readonly (readonly [string, string, string, string, boolean])[],
    implementations: readonly object[],
  ): void {
    for (const [name, method, request, response, stream] of calls) {
      const requests = codecOf(request);
      const responses = codecOf(response);
      const work = methodOf(implementations, method);
      const read = (bytes: Buffer): Message | Malformed => {
        try {
          return requests.decode(bytes);
        } catch (error) {
          return new Malformed(messageOf(error));
        }
      };
      const checked = (message: Message | Malformed, signal: AbortSignal): ReturnType<Method> => {
        if (message instanceof Malformed)
          throw new NodeletError('INVALID_ARGUMENT', `the request is no ${request}: ${message.reason}`);
        checkRequest(request, message);
        return work(message as never, signal);
      };
      const path = `/${PACKAGE}.${service}/${name}`;
      const write = (message: object): Buffer => responses.encode(message);
      if (stream)
        this.#server.register<Message | Malformed, object>(
          path,
          (call: ServerWritableStream<Message | Malformed, object>) => void this.#stream(name, call, checked),
          write,
          read,
          'serverStream',
        );
      else
        this.#server.register<Message | Malformed, object>(
          path,
          (call: ServerUnaryCall<Message | Malformed, object>, done: sendUnaryData<object>) => {
            const answer = this.#answer(name, call, done, checked);
            this.#unary.add(answer);
            void answer.then(() => this.#unary.delete(answer));
          },
          write,
          read,
          'unary',
        );
    }
  }

  async #answer(
    name: string,
    call: ServerUnaryCall<Message | Malformed, object>,
    done: sendUnaryData<object>,
    work: (message: Message | Malformed, signal: AbortSignal) => ReturnType<Method>,
  ): Promise<void> {
    const gone = new AbortController();
    call.once('cancelled', () => gone.abort(cancelled(name)));
    try {
      done(null, await (work(call.request, gone.signal) as Promise<object>));
    } catch (error) {
      done(this.#failure(name, error));
    }
  }

  /** A client that does not read stops the source: what is not taken is not asked for. */
  async #stream(
    name: string,
    call: ServerWritableStream<Message | Malformed, object>,
    work: (message: Message | Malformed, signal: AbortSignal) => ReturnType<Method>,
  ): Promise<void> {
    const gone = new AbortController();
    const end = (): void => gone.abort(cancelled(name));
    call.once('cancelled', end);
    this.#ending.signal.addEventListener('abort', end);
    try {
      for await (const message of work(call.request, gone.signal) as AsyncIterable<object>) {
        if (gone.signal.aborted) break;
        if (!call.write(message)) await drained(call, gone.signal);
      }
      call.end();
    } catch (error) {
      if (gone.signal.aborted) call.end();
      else call.emit('error', this.#failure(name, error));
    } finally {
      this.#ending.signal.removeEventListener('abort', end);
    }
  }

  #failure(call: string, error: unknown): Error & { code: number; details: string; metadata: Metadata } {
    const { code, details, nodeletCode } = toGrpcError(error);
    this.#log.debug({ call, code: nodeletCode, error: details }, 'a CRI request has failed');
    const metadata = new Metadata();
    metadata.set(CODE_KEY, nodeletCode);
    return Object.assign(new Error(details), { code, details, metadata });
  }

  /** Streams end, answers that are under way have a moment, then every connection is cut. Twice is safe. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#listener?.close();
    this.#ending.abort();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, LAST_ANSWERS);
    });
    await Promise.race([Promise.allSettled(this.#unary), late]);
    clearTimeout(timer);
    // Sends what was answered; who is asked for nothing more is gone then.
    await new Promise<void>((resolve) => {
      const cut = setTimeout(() => {
        this.#server.forceShutdown();
        resolve();
      }, 200);
      this.#server.tryShutdown(() => {
        clearTimeout(cut);
        resolve();
      });
    });
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** Of the first that has it. */
function methodOf(implementations: readonly object[], method: string): Method {
  for (const one of implementations) {
    const work = (one as Readonly<Record<string, Method | undefined>>)[method];
    if (work !== undefined) return work.bind(one);
  }
  throw new NodeletError('INTERNAL', `no "${method}" is served`);
}

function cancelled(call: string): NodeletError {
  return new NodeletError('ABORTED', `${call}: the client has gone, or its time was up`);
}

async function drained(
  call: ServerWritableStream<Message | Malformed, object>,
  signal: AbortSignal,
): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      call.off('drain', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    call.once('drain', done);
    signal.addEventListener('abort', done);
  });
}
