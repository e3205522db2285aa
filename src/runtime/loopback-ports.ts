/** Host ports of sandboxes on the host's loopback addresses: a listener of this process for each, while the sandbox is ready. */
import { describeError, type Log } from '../base/index.ts';
import { LocalhostPortProxy } from '../cni/index.ts';
import { networkAttachment } from './network-attachment.ts';
import type { SandboxRecord } from './records.ts';

export class LoopbackPorts {
  readonly #open = new Map<string, LocalhostPortProxy>();
  readonly #log: Log;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Opens those of a connected sandbox. A port that is taken is a warning: the pod is reached by every other address. */
  async open(record: SandboxRecord): Promise<void> {
    const { portMappings: mappings } = networkAttachment(record, undefined);
    const podAddresses = (record.network?.ips ?? []).map(({ address }) => address.replace(/\/.*$/, ''));
    if (mappings.length === 0 || podAddresses.length === 0) return;
    try {
      this.#open.set(record.id, await LocalhostPortProxy.listen({ mappings, podAddresses }, this.#log));
    } catch (error) {
      this.#log.warn(
        { sandbox: record.id, error: describeError(error) },
        'host ports are not open on loopback addresses',
      );
    }
  }

  /** Twice is safe. */
  async close(sandboxId: string): Promise<void> {
    const proxy = this.#open.get(sandboxId);
    this.#open.delete(sandboxId);
    await proxy?.close();
  }

  async closeAll(): Promise<void> {
    await Promise.all([...this.#open.keys()].map((id) => this.close(id)));
  }
}
