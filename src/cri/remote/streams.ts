/** What a streaming URL leads to, from the client's side. */
import type { Duplex } from 'node:stream';
import { NodeletError } from '../../base/index.ts';
import type {
  AttachOptions,
  AttachSession,
  ExecOptions,
  ExecSession,
  PortForwardOptions,
} from '../services.ts';

export interface RemoteStreams {
  exec(url: string, options: ExecOptions, signal?: AbortSignal): Promise<ExecSession>;
  attach(url: string, options: AttachOptions, signal?: AbortSignal): Promise<AttachSession>;
  portForward(url: string, options: PortForwardOptions, signal?: AbortSignal): Promise<Duplex>;
}

const unavailable = async (): Promise<never> =>
  await Promise.reject(
    new NodeletError('UNIMPLEMENTED', 'this version cannot follow the URLs of another runtime'),
  );

export const remoteStreams: RemoteStreams = {
  exec: unavailable,
  attach: unavailable,
  portForward: unavailable,
};
