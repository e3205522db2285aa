/** Connections into a pod: by a socket that is made in its network namespace, so that no program has to be there. */
import type { Socket } from 'node:net';
import { describeError, NodeletError } from '../base/index.ts';
import type { PortForwardOptions } from '../cri/index.ts';
import { dialTcpInNetns } from '../linux/netns.ts';
import type { Sandbox } from './model.ts';

/** What listens on loopback answers at once; what does not is full. */
const CONNECT_TIMEOUT = 10_000;

/**
 * Connects to a port of the pod's loopback, IPv4 before IPv6. Throws INVALID_ARGUMENT, INVALID_STATE,
 * PORT_FORWARD_FAILED in upstream's words.
 */
export async function openPortForward(
  sandbox: Sandbox,
  { port }: PortForwardOptions,
  signal?: AbortSignal,
): Promise<Socket> {
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw new NodeletError('INVALID_ARGUMENT', `portForward: port ${port} is not between 1 and 65535`);
  const short = sandbox.id.slice(0, 12);
  const netns = sandbox.options.hostNetwork ? undefined : sandbox.namespaces.get('net')?.number;
  if (sandbox.record.state !== 'ready' || (netns === undefined && !sandbox.options.hostNetwork))
    throw new NodeletError('INVALID_STATE', `cannot forward a port of sandbox "${short}": it is not running`);
  const options = {
    allowHalfOpen: true,
    timeout: CONNECT_TIMEOUT,
    ...(signal === undefined ? {} : { signal }),
  };
  const failures: string[] = [];
  for (const [family, address] of [
    ['IPv4', '127.0.0.1'],
    ['IPv6', '::1'],
  ] as const) {
    try {
      const socket = await dialTcpInNetns(netns, address, port, options);
      socket.setNoDelay(true);
      return socket;
    } catch (error) {
      signal?.throwIfAborted();
      failures.push(`${family}: ${describeError(error)}`);
    }
  }
  throw new NodeletError(
    'PORT_FORWARD_FAILED',
    `failed to connect to localhost:${port} inside the network namespace of sandbox "${short}": ${failures.join(', ')}`,
    {
      hint: 'see that a container of the pod listens on that port of the loopback address, or of all addresses',
    },
  );
}
