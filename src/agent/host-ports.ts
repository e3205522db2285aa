/** Host ports of pods on the host's loopback addresses: a listener of the agent's for each, for as long as the pod runs. */
import { describeError, type Log } from '../base/index.ts';
import { LocalhostPortProxy, type PortMapping } from '../cni/index.ts';
import type { PodStatusChange } from '../kubelet/index.ts';

type Protocol = PortMapping['protocol'];

function mappingsOf({ pod }: PodStatusChange): PortMapping[] {
  return [...(pod.spec.initContainers ?? []), ...pod.spec.containers].flatMap((container) =>
    (container.ports ?? [])
      .filter((port) => (port.hostPort ?? 0) > 0)
      .map((port) => ({
        hostPort: port.hostPort ?? 0,
        containerPort: port.containerPort,
        protocol: (port.protocol ?? 'TCP').toLowerCase() as Protocol,
        hostIP: port.hostIP ?? '',
      })),
  );
}

export class HostPorts {
  readonly #open = new Map<
    string,
    { readonly key: string; readonly proxy: Promise<LocalhostPortProxy | undefined> }
  >();
  readonly #log: Log;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Follows a pod's addresses. */
  update(change: PodStatusChange): void {
    const { uid } = change.pod.metadata;
    if (change.pod.spec.hostNetwork === true) return;
    const addresses = (change.status.podIPs ?? []).map((one) => one.ip ?? '').filter((ip) => ip !== '');
    const mappings = mappingsOf(change);
    const running = change.status.phase === 'Running' || change.status.phase === 'Pending';
    const key = mappings.length > 0 && running && addresses.length > 0 ? addresses.join() : '';
    const before = this.#open.get(uid);
    if ((before?.key ?? '') === key) return;
    this.remove(uid);
    if (key === '') return;
    const proxy = LocalhostPortProxy.listen({ mappings, podAddresses: addresses }, this.#log).catch(
      (error: unknown) => {
        this.#log.warn(
          {
            pod: `${change.pod.metadata.namespace}/${change.pod.metadata.name}`,
            error: describeError(error),
          },
          'host ports are not open on loopback addresses',
        );
        return undefined;
      },
    );
    this.#open.set(uid, { key, proxy });
  }

  remove(uid: string): void {
    const entry = this.#open.get(uid);
    this.#open.delete(uid);
    void entry?.proxy.then((proxy) => proxy?.close());
  }

  async close(): Promise<void> {
    const entries = [...this.#open.values()];
    this.#open.clear();
    await Promise.all(entries.map(async ({ proxy }) => await (await proxy)?.close()));
  }
}
