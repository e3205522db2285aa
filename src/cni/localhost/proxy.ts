import { hasCode, type Log, silentLog } from '../../base/index.ts';
import { hostPortInUse } from '../errors.ts';
import type { PortMapping } from '../types.ts';
import { type LocalhostListener, localhostListeners } from './listeners.ts';
import { TcpForwarder } from './tcp.ts';
import { UdpForwarder } from './udp.ts';

export interface LocalhostPortProxyOptions {
  readonly mappings: readonly PortMapping[];
  /** The pod's addresses, without prefix. */
  readonly podAddresses: readonly string[];
  /** The host's network namespace; undefined for the process's own. */
  readonly hostNetnsFd?: number;
  /** Milliseconds after which a silent UDP client is forgotten; default 30,000, as conntrack's. */
  readonly udpIdleMs?: number;
}

interface Forwarder {
  close(): Promise<void>;
}

/**
 * A pod's host ports on the host's loopback addresses, which no rule can lead to a pod (see rules.ts). A process: it
 * lives as long as the agent, which opens it again for a pod that it adopts. The pod sees the gateway as its client.
 */
export class LocalhostPortProxy implements AsyncDisposable {
  /** What it listens on. */
  readonly listeners: readonly LocalhostListener[];
  readonly #forwarders: readonly Forwarder[];

  private constructor(listeners: readonly LocalhostListener[], forwarders: readonly Forwarder[]) {
    this.listeners = listeners;
    this.#forwarders = forwarders;
  }

  /** All ports, or none and an error: HOST_PORT_IN_USE where a process of the host has one. */
  static async listen(options: LocalhostPortProxyOptions, log: Log = silentLog): Promise<LocalhostPortProxy> {
    const listeners: LocalhostListener[] = [];
    const forwarders: Forwarder[] = [];
    try {
      for (const listener of localhostListeners(options.mappings, options.podAddresses)) {
        const forwarder = await open(listener, options, log);
        if (forwarder === undefined) continue;
        listeners.push(listener);
        forwarders.push(forwarder);
      }
    } catch (error) {
      await Promise.all(forwarders.map(async (forwarder) => await forwarder.close()));
      throw error;
    }
    return new LocalhostPortProxy(listeners, forwarders);
  }

  /** Ends the ports and every connection; twice is safe. */
  async close(): Promise<void> {
    await Promise.all(this.#forwarders.map(async (forwarder) => await forwarder.close()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function open(
  listener: LocalhostListener,
  options: LocalhostPortProxyOptions,
  log: Log,
): Promise<Forwarder | undefined> {
  try {
    return listener.protocol === 'tcp'
      ? await TcpForwarder.listen(listener, options.hostNetnsFd, log)
      : await UdpForwarder.listen(listener, options.hostNetnsFd, options.udpIdleMs ?? 30_000, log);
  } catch (error) {
    if (hasCode(error, 'EADDRINUSE')) {
      const address = listener.address.includes(':') ? `[${listener.address}]` : listener.address;
      throw hostPortInUse(`${address}:${listener.port}/${listener.protocol}`, 'a process of the host');
    }
    // A host without IPv6, or with its loopback down, has no such address.
    if (!listener.required && hasCode(error, 'EADDRNOTAVAIL', 'EAFNOSUPPORT')) return undefined;
    throw error;
  }
}
