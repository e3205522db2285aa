/**
 * Tracked connections that a change of host ports has made wrong: a connection keeps the translation that its first
 * packet got, so a client that goes on sending from one port would never reach the new pod (kubernetes#58336). Pure.
 */
import type { Flow } from '../linux/netlink/index.ts';
import { canonicalHostIp } from './host-ports.ts';
import type { PortMapping } from './types.ts';

const UDP = 17;

/**
 * UDP to a port that has just become the pod's, and that goes elsewhere. TCP is left alone: a connection to a server of
 * the host that had the port before lives on.
 */
export function staleAfterAdd(
  flows: readonly Flow[],
  mappings: readonly PortMapping[],
  podAddresses: ReadonlySet<string>,
  hostAddresses: ReadonlySet<string>,
): Flow[] {
  const ports = mappings.filter(({ protocol, hostPort }) => protocol === 'udp' && hostPort !== 0);
  return flows.filter(({ protocol, original, reply }) => {
    if (protocol !== UDP || podAddresses.has(reply.source) || !hostAddresses.has(original.destination))
      return false;
    return ports.some(({ hostPort, hostIP }) => {
      const address = canonicalHostIp(hostIP);
      return (
        hostPort === original.destinationPort && (address === undefined || address === original.destination)
      );
    });
  });
}

/** Whatever is translated to an address that the pod had, which the next pod may get. */
export function staleAfterRemove(flows: readonly Flow[], podAddresses: ReadonlySet<string>): Flow[] {
  return flows.filter(
    ({ original, reply }) => podAddresses.has(reply.source) && original.destination !== reply.source,
  );
}
