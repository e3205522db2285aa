/**
 * Programs in containers over WebSocket, by Kubernetes' own protocol v5.channel.k8s.io: the first byte of a message is the
 * channel (0 stdin, 1 stdout, 2 stderr, 3 error, 4 resize, 255 close of the channel that follows).
 */
import type { IncomingMessage } from 'node:http';
import type { Duplex, Readable } from 'node:stream';
import { WebSocket, WebSocketServer } from 'ws';
import { codeOf, describeError, NodeletError, toError } from '../../base/index.ts';
import type { ExecSession } from '../../cri/index.ts';
import type { Agent } from '../agent.ts';

export const EXEC_PROTOCOL = 'v5.channel.k8s.io';
export const CHANNEL = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4, close: 255 } as const;

const server = new WebSocketServer({
  noServer: true,
  perMessageDeflate: false,
  handleProtocols: (offered) => (offered.has(EXEC_PROTOCOL) ? EXEC_PROTOCOL : false),
});

interface ExecCall {
  readonly agent: Agent;
  readonly url: URL;
  readonly params: Readonly<Record<string, string>>;
}

/** The running container of that name. Throws CONTAINER_NOT_FOUND, INVALID_STATE. */
function containerOf({ agent, params }: ExecCall): string {
  const pod = agent.findPod(`${params.namespace}/${params.pod}`);
  const containers = pod.spec?.containers ?? [];
  const name =
    params.container === '-'
      ? (pod.metadata.annotations?.['kubectl.kubernetes.io/default-container'] ?? containers[0]?.name)
      : params.container;
  const known = [...(pod.spec?.initContainers ?? []), ...containers].map((one) => one.name);
  if (name === undefined || !known.includes(name)) {
    throw new NodeletError(
      'CONTAINER_NOT_FOUND',
      `container ${JSON.stringify(params.container)} is not in pod "${params.namespace}/${params.pod}"`,
      {
        hint: `there are ${known.join(', ')}`,
      },
    );
  }
  const observed = agent.kubelet.observed(pod.metadata.uid)?.containers.find((one) => one.name === name);
  if (observed?.state !== 'running') {
    throw new NodeletError(
      'INVALID_STATE',
      `container "${name}" of pod "${params.namespace}/${params.pod}" does not run (${observed?.state ?? 'not created'})`,
    );
  }
  return observed.id;
}

export async function serveExec(
  call: ExecCall,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const query = call.url.searchParams;
  const flag = (name: string): boolean => ['true', '1'].includes(query.get(name) ?? '');
  const height = Number(query.get('rows') ?? 0);
  const width = Number(query.get('columns') ?? 0);
  const session = await call.agent.runtime.openExec({
    containerId: containerOf(call),
    command: query.getAll('command'),
    terminal: flag('tty'),
    stdin: flag('stdin'),
    ...(height > 0 && width > 0 ? { size: { height, width } } : {}),
  });
  if (socket.destroyed) {
    session.close();
    return;
  }
  server.handleUpgrade(request, socket, head, (ws) => void serve(session, ws));
}

/** Resolves when the message is with the kernel: a client that does not read holds the program, not our memory. */
function send(ws: WebSocket, channel: number, data: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    if (ws.readyState !== WebSocket.OPEN) {
      reject(new NodeletError('ABORTED', 'the client has gone'));
      return;
    }
    ws.send(Buffer.concat([Buffer.from([channel]), data]), (error) =>
      error ? reject(toError(error)) : resolve(),
    );
  });
}

async function pump(ws: WebSocket, channel: number, stream: Readable | undefined): Promise<void> {
  if (stream === undefined) return;
  for await (const chunk of stream as AsyncIterable<Buffer>) await send(ws, channel, chunk);
}

/** metav1.Status, as kubectl expects it. */
export function exitStatus(code: number): object {
  if (code === 0) return { metadata: {}, status: 'Success' };
  return {
    metadata: {},
    status: 'Failure',
    reason: 'NonZeroExitCode',
    message: `command terminated with non-zero exit code: exit status ${code}`,
    details: { causes: [{ reason: 'ExitCode', message: String(code) }] },
  };
}

async function serve(session: ExecSession, ws: WebSocket): Promise<void> {
  ws.on('message', (data: Buffer) => receive(session, ws, data));
  ws.on('close', () => session.close());
  ws.on('error', () => session.close());
  let status: object;
  try {
    const outputs = Promise.all([
      pump(ws, CHANNEL.stdout, session.stdout),
      pump(ws, CHANNEL.stderr, session.stderr),
    ]);
    // Output that cannot be delivered any more ends the program by the close above.
    const [code] = await Promise.all([session.exit, outputs.catch(() => [])]);
    status = exitStatus(code);
  } catch (error) {
    status = {
      metadata: {},
      status: 'Failure',
      reason: codeOf(error) ?? 'InternalError',
      message: describeError(error),
    };
  }
  await send(ws, CHANNEL.error, Buffer.from(JSON.stringify(status))).catch(() => {});
  ws.close(1000);
}

function receive(session: ExecSession, ws: WebSocket, data: Buffer): void {
  const channel = data[0];
  const body = data.subarray(1);
  if (channel === CHANNEL.stdin) {
    // Not faster than the program reads.
    if (session.stdin !== undefined && !session.stdin.destroyed && !session.stdin.write(body)) {
      ws.pause();
      session.stdin.once('drain', () => ws.resume());
    }
  } else if (channel === CHANNEL.resize) {
    try {
      const size = JSON.parse(body.toString('utf8')) as { Width?: number; Height?: number };
      session.resize({ width: size.Width ?? 0, height: size.Height ?? 0 });
    } catch {
      // A size that cannot be read leaves the terminal as it is.
    }
  } else if (channel === CHANNEL.close && body[0] === CHANNEL.stdin) session.stdin?.end();
}
