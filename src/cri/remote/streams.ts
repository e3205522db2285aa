/** What a streaming URL leads to, from the client's side. Loaded with the first stream. */
import type { Duplex } from 'node:stream';
import type {
  AttachOptions,
  AttachSession,
  ExecOptions,
  ExecSession,
  PortForwardOptions,
} from '../services.ts';

const until = (signal: AbortSignal | undefined): { readonly signal?: AbortSignal } =>
  signal === undefined ? {} : { signal };

export async function followExec(
  url: string,
  options: ExecOptions,
  signal?: AbortSignal,
): Promise<ExecSession> {
  const { stdin, terminal, size } = options;
  const session = await (await import('../streaming/client/index.ts')).openRemoteExec(
    url,
    { stdin, terminal },
    until(signal),
  );
  if (terminal && size !== undefined) session.resize(size);
  return session;
}

export async function followAttach(
  url: string,
  { stdin, stdout, stderr, terminal }: AttachOptions,
  signal?: AbortSignal,
): Promise<AttachSession> {
  const wanted = { stdin, stdout, stderr: stderr && !terminal, terminal };
  return await (await import('../streaming/client/index.ts')).openRemoteAttach(url, wanted, until(signal));
}

export async function followPortForward(
  url: string,
  { port }: PortForwardOptions,
  signal?: AbortSignal,
): Promise<Duplex> {
  return await (await import('../streaming/client/index.ts')).openRemotePortForward(url, port, until(signal));
}
