import type { Log } from '../base/index.ts';
import type { CriClient } from './grpc/client.ts';
import type { CriServer, CriServerOptions } from './grpc/server.ts';
import type { RemoteEndpoints, RemoteNode } from './remote/connect.ts';
import type { StreamingServer, StreamingServerOptions } from './streaming/index.ts';

export * from './api.gen.ts';
export type { CriClient } from './grpc/client.ts';
export type { CriServer, CriServerOptions } from './grpc/server.ts';
export type { RemoteEndpoints, RemoteNode } from './remote/connect.ts';
export type { RuntimeCalls } from './served.ts';
export * from './services.ts';
export type { StreamingServer, StreamingServerOptions } from './streaming/index.ts';
export { bytesOf, textOf } from './wire/text.ts';

/** Serves CRI v1 on a unix socket; gRPC is loaded then. Throws SOCKET_IN_USE, SOCKET_UNUSABLE, INVALID_CONFIGURATION. */
export async function serveCri(options: CriServerOptions): Promise<CriServer> {
  return await (await import('./grpc/server.ts')).CriServer.listen(options);
}

/** Opens the server that Exec, Attach and PortForward lead to. */
export async function serveStreams(options: StreamingServerOptions): Promise<StreamingServer> {
  return await (await import('./streaming/index.ts')).StreamingServer.listen(options);
}

/** CRI v1 of another process at a unix socket; gRPC is loaded then. */
export async function connectCri(path: string): Promise<CriClient> {
  return (await import('./grpc/client.ts')).openCriClient(path);
}

/** A runtime of another process for the kubelet. Throws RUNTIME_UNREACHABLE, RUNTIME_UNSUITABLE. */
export async function connectRuntime(endpoints: RemoteEndpoints, log: Log): Promise<RemoteNode> {
  return await (await import('./remote/connect.ts')).connectRuntime(endpoints, log);
}
