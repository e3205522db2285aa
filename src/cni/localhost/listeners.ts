/** Which loopback ports of the host lead to a pod: pure. */

import { isLoopback } from '../host-ports.ts';
import type { PortMapping } from '../types.ts';

export interface LocalhostListener {
  readonly protocol: 'tcp' | 'udp';
  /** A loopback address of the host. */
  readonly address: string;
  readonly port: number;
  /** The pod's end. */
  readonly targetAddress: string;
  readonly targetPort: number;
  /** The mapping named this address; one that names none does without a family that the host lacks. */
  readonly required: boolean;
}

/**
 * The loopback addresses that mappings cover. The pod is reached by the address of the same family, or by the one that
 * it has. SCTP is left out: Node speaks none.
 */
export function localhostListeners(
  mappings: readonly PortMapping[],
  podAddresses: readonly string[],
): LocalhostListener[] {
  const listeners = new Map<string, LocalhostListener>();
  for (const { protocol, hostPort, containerPort, hostIP } of mappings) {
    if (protocol === 'sctp' || hostPort === 0) continue;
    for (const address of loopbackAddresses(hostIP)) {
      const isV6 = address.includes(':');
      const targetAddress = podAddresses.find((ip) => ip.includes(':') === isV6) ?? podAddresses[0];
      if (targetAddress === undefined) continue;
      const listener = {
        protocol,
        address,
        port: hostPort,
        targetAddress,
        targetPort: containerPort,
        required: hostIP === address,
      };
      const key = `${protocol} ${address} ${hostPort}`;
      if (!listeners.has(key)) listeners.set(key, listener);
    }
  }
  return [...listeners.values()];
}

function loopbackAddresses(hostIP: string): string[] {
  if (hostIP === '') return ['127.0.0.1', '::1'];
  if (hostIP === '0.0.0.0') return ['127.0.0.1'];
  if (hostIP === '::') return ['::1'];
  return isLoopback(hostIP) ? [hostIP] : [];
}
