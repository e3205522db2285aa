import { createServer, type Server, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import { portForward } from '../../agent/index.ts';
import { describeError, messageOf, NodeletError } from '../../base/index.ts';
import { clientOf } from '../context.ts';
import { type ForwardedPort, listenAddresses, parsePorts, shown } from '../forwarded-ports.ts';
import { addExamples, addNamespace } from '../options.ts';
import { note } from '../output.ts';
import { findPod } from '../pods.ts';

interface Options {
  readonly address: string;
  readonly namespace?: string;
}

type Forward = Awaited<ReturnType<typeof portForward>>;

export function configure(command: Command): void {
  command
    .argument('<pod>')
    .argument('<ports...>', '[LOCAL:]REMOTE; LOCAL 0 or empty is any free port')
    .option('--address <addresses>', 'addresses to listen on, separated by commas', 'localhost');
  addNamespace(command);
  command.addHelpText(
    'after',
    "\nConnections reach the pod on its loopback address, 127.0.0.1 or ::1, until Ctrl-C or the pod's end.",
  );
  addExamples(command, [
    ['nodelet port-forward web 8080:80', 'http://localhost:8080 is port 80 of the pod'],
    ['nodelet port-forward web :80', 'any free port, which is printed'],
    ['nodelet port-forward --address 0.0.0.0 web 8080', 'for other machines, too'],
  ]);
  command.action(async (name: string, words: readonly string[], options: Options) => {
    const ports = parsePorts(words);
    const addresses = listenAddresses(options.address);
    const client = clientOf(command);
    const pod = await findPod(client, name, options.namespace);
    const forward = await portForward(client.socket, pod.metadata.namespace, pod.metadata.name);
    const servers: Server[] = [];
    try {
      for (const port of ports) servers.push(...(await listen(forward, port, addresses)));
      const lost = forward.closed.then(() => true);
      if (await Promise.race([lost, interrupted()]))
        throw new NodeletError('STREAM_LOST', 'lost connection to pod');
    } finally {
      for (const server of servers) server.close();
      await forward.close();
    }
  });
}

/** False: it was not the connection that ended. */
function interrupted(): Promise<false> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => resolve(false));
  });
}

/** A port on every address that can be had. Throws PORT_IN_USE where none can. */
async function listen(
  forward: Forward,
  port: ForwardedPort,
  addresses: readonly string[],
): Promise<Server[]> {
  const servers: Server[] = [];
  const failures: string[] = [];
  let { local } = port;
  for (const address of addresses) {
    const server = createServer(
      { allowHalfOpen: true },
      (socket) => void handle(forward, socket, port.remote),
    );
    try {
      local = await bind(server, local, address);
      servers.push(server);
      process.stdout.write(`Forwarding from ${shown(address, local)} -> ${port.remote}\n`);
    } catch (error) {
      failures.push(describeError(error));
    }
  }
  if (servers.length > 0) return servers;
  throw new NodeletError('PORT_IN_USE', `cannot listen on port ${port.local}: ${failures.join(', ')}`, {
    hint: 'choose another local port, or none: nodelet port-forward POD :REMOTE',
  });
}

async function bind(server: Server, port: number, host: string): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port, host, ipv6Only: host.includes(':') }, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const bound = server.address();
  return typeof bound === 'object' && bound !== null ? bound.port : port;
}

async function handle(forward: Forward, socket: Socket, remote: number): Promise<void> {
  const local = socket.localPort ?? 0;
  socket.on('error', () => {});
  process.stdout.write(`Handling connection for ${local}\n`);
  try {
    const { stream, failure } = await forward.connect(remote);
    // One side that breaks off takes the other along; what went wrong in the pod is told below.
    await Promise.all([pipeline(socket, stream), pipeline(stream, socket)]).catch(() => {});
    stream.destroy();
    const text = await failure;
    if (text !== undefined) note(`an error occurred forwarding ${local} -> ${remote}: ${text}`);
  } catch (error) {
    note(`error creating forwarding stream for port ${local} -> ${remote}: ${messageOf(error)}`);
  } finally {
    socket.destroy();
  }
}
