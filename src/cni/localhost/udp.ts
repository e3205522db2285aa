import type { Socket } from 'node:dgram';
import type { Log } from '../../base/index.ts';
import { bindUdpInNetns } from '../../linux/netns.ts';
import type { LocalhostListener } from './listeners.ts';

/** Clients of one port at a time; the one that was silent longest makes room. */
const MAX_FLOWS = 1024;
/** Datagrams that wait for a flow's socket. */
const MAX_WAITING = 64;
/** Bytes that wait in a socket: beyond, datagrams are dropped, as a full queue anywhere drops them. */
const MAX_QUEUED = 1024 * 1024;

interface Flow {
  /** Undefined until it is bound. */
  socket: Socket | undefined;
  readonly waiting: Buffer[];
  readonly timer: NodeJS.Timeout;
}

/** Passes datagrams to the pod, and the pod's answers to the client that they are for. */
export class UdpForwarder {
  readonly #front: Socket;
  readonly #flows = new Map<string, Flow>();
  readonly #listener: LocalhostListener;
  readonly #netnsFd: number | undefined;
  readonly #idleMs: number;
  readonly #log: Log;
  #closed = false;

  private constructor(
    front: Socket,
    listener: LocalhostListener,
    netnsFd: number | undefined,
    idleMs: number,
    log: Log,
  ) {
    this.#front = front;
    this.#listener = listener;
    this.#netnsFd = netnsFd;
    this.#idleMs = idleMs;
    this.#log = log;
  }

  /** Throws `SyscallError`: EADDRINUSE where somebody listens there. */
  static async listen(
    listener: LocalhostListener,
    netnsFd: number | undefined,
    idleMs: number,
    log: Log,
  ): Promise<UdpForwarder> {
    const front = await bindUdpInNetns(netnsFd, listener.address, listener.port);
    const forwarder = new UdpForwarder(front, listener, netnsFd, idleMs, log);
    front.on('error', (error) => log.warn({ err: error, ...listener }, 'a loopback host port failed'));
    front.on('message', (data, from) => forwarder.#fromClient(data, from.address, from.port));
    return forwarder;
  }

  /** Clients that are remembered. */
  get flows(): number {
    return this.#flows.size;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const key of this.#flows.keys()) this.#forget(key);
    await new Promise<void>((resolve) => this.#front.close(() => resolve()));
  }

  #fromClient(data: Buffer, address: string, port: number): void {
    const key = `${address} ${port}`;
    const flow = this.#flows.get(key) ?? this.#open(key, address, port);
    // Last in the map is last silent.
    this.#flows.delete(key);
    this.#flows.set(key, flow);
    flow.timer.refresh();
    if (flow.socket !== undefined) this.#toPod(flow.socket, data);
    else if (flow.waiting.length < MAX_WAITING) flow.waiting.push(data);
  }

  #open(key: string, address: string, port: number): Flow {
    const oldest = this.#flows.size >= MAX_FLOWS ? this.#flows.keys().next().value : undefined;
    if (oldest !== undefined) this.#forget(oldest);
    const timer = setTimeout(() => this.#forget(key), this.#idleMs);
    timer.unref();
    const flow: Flow = { socket: undefined, waiting: [], timer };
    void this.#connect(key, flow, address, port);
    return flow;
  }

  /** A socket of the flow's own: its port is how the pod tells the clients apart. */
  async #connect(key: string, flow: Flow, address: string, port: number): Promise<void> {
    const { targetAddress, targetPort } = this.#listener;
    try {
      const socket = await bindUdpInNetns(this.#netnsFd, targetAddress.includes(':') ? '::' : '0.0.0.0', 0);
      socket.on('error', () => this.#forget(key)); // nobody listens in the pod; the next datagram tries again
      socket.on('message', (data) => this.#toClient(flow, data, address, port));
      // Only the pod may answer.
      await new Promise<void>((resolve) => socket.connect(targetPort, targetAddress, () => resolve()));
      if (this.#closed || this.#flows.get(key) !== flow) {
        socket.close();
        return;
      }
      flow.socket = socket;
      for (const data of flow.waiting.splice(0)) this.#toPod(socket, data);
    } catch (error) {
      this.#log.debug({ err: error, ...this.#listener }, 'cannot reach the pod for a loopback host port');
      this.#forget(key);
    }
  }

  #toPod(socket: Socket, data: Buffer): void {
    if (socket.getSendQueueSize() < MAX_QUEUED) socket.send(data, () => {});
  }

  #toClient(flow: Flow, data: Buffer, address: string, port: number): void {
    flow.timer.refresh();
    if (!this.#closed && this.#front.getSendQueueSize() < MAX_QUEUED)
      this.#front.send(data, port, address, () => {});
  }

  #forget(key: string): void {
    const flow = this.#flows.get(key);
    if (flow === undefined) return;
    this.#flows.delete(key);
    clearTimeout(flow.timer);
    flow.socket?.close();
    flow.socket = undefined;
  }
}
