export * from './api.gen.ts';
export type { RuntimeCalls } from './served.ts';
export * from './services.ts';

import type { CriClient } from './grpc/client.ts';
import type { CriServer, CriServerOptions } from './grpc/server.ts';

export type { CriClient } from './grpc/client.ts';
export type { CriServer, CriServerOptions } from './grpc/server.ts';

/** Serves CRI v1 on a unix socket; gRPC is loaded then. Throws SOCKET_IN_USE, SOCKET_UNUSABLE, INVALID_CONFIGURATION. */
export async function serveCri(options: CriServerOptions): Promise<CriServer> {
  return await (await import('./grpc/server.ts')).CriServer.listen(options);
}

/** CRI v1 of another process at a unix socket; gRPC is loaded then. */
export async function connectCri(path: string): Promise<CriClient> {
  return (await import('./grpc/client.ts')).openCriClient(path);
}
