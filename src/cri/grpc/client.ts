/** CRI v1 of another process: the same two services, over gRPC on its unix socket. Connects by itself, and again. */
import { Client, type ClientReadableStream, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { abortReason, NodeletError } from '../../base/index.ts';
import type { ImageService, RuntimeService } from '../api.gen.ts';
import { codecOf, type Message } from '../wire/codec.ts';
import { IMAGE_SERVICE_CALLS, PACKAGE, RUNTIME_SERVICE_CALLS } from '../wire/tables.gen.ts';
import { CODE_KEY, fromGrpcError } from './codes.ts';

export interface CriClient {
  readonly path: string;
  readonly runtime: RuntimeService;
  readonly images: ImageService;
  /** Cancels what is under way. Twice is safe. */
  close(): void;
}

/** A list of ten thousand containers, and outputs of 16 MiB each. */
const MESSAGE_LIMIT = 64 * 1024 * 1024;

/** Milliseconds for a call, where its caller does not say how long it may take. */
const USUAL = 2 * 60_000;

/** Calls that last as long as what they ask for: milliseconds beyond what the request says, or none at all. */
const LONG: Readonly<Record<string, (request: { readonly timeout?: number }) => number | undefined>> = {
  StopContainer: ({ timeout = 0 }) => timeout * 1000 + USUAL,
  // The runtime ends the program in time; the answer is given some more.
  ExecSync: ({ timeout = 0 }) => (timeout > 0 ? timeout * 1000 + USUAL : undefined),
  RunPodSandbox: () => 2 * USUAL,
  CheckpointContainer: ({ timeout = 0 }) => (timeout > 0 ? timeout * 1000 + USUAL : undefined),
  PullImage: () => undefined,
};

/** `path` is the socket's. Nothing is asked yet: the first call connects. */
export function openCriClient(path: string): CriClient {
  const client = new Client(`unix://${path}`, credentials.createInsecure(), {
    'grpc.max_receive_message_length': MESSAGE_LIMIT,
    'grpc.max_send_message_length': MESSAGE_LIMIT,
    'grpc.enable_channelz': 0,
    'grpc.enable_retries': 0,
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 3000,
    // Two clients of one process shall not share a connection: each is closed by itself.
    'grpc.use_local_subchannel_pool': 1,
  });
  return {
    path,
    runtime: methodsOf(client, 'RuntimeService', RUNTIME_SERVICE_CALLS) as RuntimeService,
    images: methodsOf(client, 'ImageService', IMAGE_SERVICE_CALLS) as ImageService,
    close: () => client.close(),
  };
}

type Calls = readonly (readonly [string, string, string, string, boolean])[];

function methodsOf(client: Client, service: string, calls: Calls): object {
  const methods: Record<string, unknown> = {};
  for (const [name, method, request, response, stream] of calls) {
    const requests = codecOf(request);
    const responses = codecOf(response);
    const remote: RemoteCall = {
      client,
      name,
      path: `/${PACKAGE}.${service}/${name}`,
      write: (message) => requests.encode(message),
      read: (bytes) => responses.decode(bytes),
    };
    methods[method] = stream
      ? (message: object, signal?: AbortSignal) => streamed(remote, message, signal)
      : (message: object, signal?: AbortSignal) => unary(remote, message, signal);
  }
  return methods;
}

interface RemoteCall {
  readonly client: Client;
  readonly name: string;
  readonly path: string;
  readonly write: (message: object) => Buffer;
  readonly read: (bytes: Buffer) => Message;
}

function errorOf(name: string, error: unknown, signal: AbortSignal | undefined): Error {
  if (signal?.aborted) return abortReason(signal);
  const { code, details, metadata } = error as Partial<ServiceError>;
  if (typeof code !== 'number')
    return new NodeletError('RUNTIME_ERROR', `${name}: the answer cannot be read`, { cause: error });
  const own = metadata?.get(CODE_KEY)[0];
  return fromGrpcError(name, code, details ?? '', typeof own === 'string' ? own : undefined);
}

function unary(remote: RemoteCall, message: object, signal?: AbortSignal): Promise<Message> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(abortReason(signal));
      return;
    }
    const long = LONG[remote.name];
    const ms = long === undefined ? USUAL : long(message);
    const stop = (): void => call.cancel();
    const call = remote.client.makeUnaryRequest<object, Message>(
      remote.path,
      remote.write,
      remote.read,
      message,
      new Metadata(),
      ms === undefined ? {} : { deadline: Date.now() + ms },
      (error, value) => {
        signal?.removeEventListener('abort', stop);
        if (error === null && value !== undefined) resolve(value);
        else reject(errorOf(remote.name, error, signal));
      },
    );
    signal?.addEventListener('abort', stop, { once: true });
  });
}

async function* streamed(remote: RemoteCall, message: object, signal?: AbortSignal): AsyncGenerator<Message> {
  if (signal?.aborted) return;
  const call: ClientReadableStream<Message> = remote.client.makeServerStreamRequest<object, Message>(
    remote.path,
    remote.write,
    remote.read,
    message,
  );
  const stop = (): void => call.cancel();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    for await (const one of call as AsyncIterable<Message>) yield one;
  } catch (error) {
    // As in the process: a stream whose signal has fired ends.
    if (signal?.aborted !== true) throw errorOf(remote.name, error, signal);
  } finally {
    signal?.removeEventListener('abort', stop);
    call.cancel();
  }
}
