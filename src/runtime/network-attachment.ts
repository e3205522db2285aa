/** A sandbox as the network room sees it. Pure. */
import type { NetworkAttachment } from '../cni/index.ts';
import type { PodSandboxConfig } from '../cri/index.ts';

export function networkAttachment(
  sandbox: { readonly id: string; readonly config: PodSandboxConfig },
  netnsFd: number | undefined,
): NetworkAttachment {
  const { metadata, portMappings } = sandbox.config;
  const protocols = ['tcp', 'udp', 'sctp'] as const;
  return {
    id: sandbox.id,
    netnsFd,
    podNamespace: metadata?.namespace ?? '',
    podName: metadata?.name ?? '',
    podUid: metadata?.uid ?? '',
    portMappings: (portMappings ?? [])
      .filter((port) => (port.hostPort ?? 0) > 0)
      .map((port) => ({
        hostPort: port.hostPort ?? 0,
        containerPort: port.containerPort ?? 0,
        protocol: protocols[port.protocol ?? 0] ?? 'tcp',
        hostIP: port.hostIp ?? '',
      })),
  };
}
