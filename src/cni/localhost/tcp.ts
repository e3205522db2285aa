import { createServer, type Server, type Socket } from 'node:net';
import { LinkedSignal, type Log } from '../../base/index.ts';
import { bindTcpInNetns, dialTcpInNetns } from '../../linux/netns.ts';
import type { LocalhostListener } from './listeners.ts';

/** Accepts on a loopback port and carries bytes to the pod and back; each side's pace holds the other back. */
export class TcpForwarder {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #stop = new AbortController();
  readonly #netnsFd: number | undefined;
  readonly #listener: LocalhostListener;
  readonly #log: Log;

  private constructor(server: Server, listener: LocalhostListener, netnsFd: number | undefined, log: Log) {
    this.#server = server;
    this.#listener = listener;
    this.#netnsFd = netnsFd;
    this.#log = log;
  }

  /** Throws `SyscallError`: EADDRINUSE where somebody listens there. */
  static async listen(
    listener: LocalhostListener,
    netnsFd: number | undefined,
    log: Log,
  ): Promise<TcpForwarder> {
    const fd = bindTcpInNetns(netnsFd, listener.address, listener.port);
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
    const forwarder = new TcpForwarder(server, listener, netnsFd, log);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ fd }, () => {
        server.off('error', reject);
        resolve();
      });
    });
    server.on('error', (error) => log.warn({ err: error, ...listener }, 'a loopback host port failed'));
    server.on('connection', (client) => void forwarder.#serve(client));
    return forwarder;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #serve(client: Socket): Promise<void> {
    const { targetAddress, targetPort } = this.#listener;
    const gone = new AbortController();
    this.#track(client);
    client.once('close', () => gone.abort());
    try {
      using linked = new LinkedSignal([this.#stop.signal, gone.signal]);
      const pod = await dialTcpInNetns(this.#netnsFd, targetAddress, targetPort, {
        signal: linked.signal,
        allowHalfOpen: true,
      });
      this.#track(pod);
      if (client.destroyed) {
        pod.destroy();
        return;
      }
      // The end of one direction is passed on and leaves the other open; an error ends both.
      client.once('error', () => pod.destroy());
      pod.once('error', () => client.resetAndDestroy());
      client.pipe(pod);
      pod.pipe(client);
    } catch (error) {
      // As if nobody listened: the client sees a reset, not an empty answer.
      if (!client.destroyed) client.resetAndDestroy();
      this.#log.debug({ err: error, ...this.#listener }, 'cannot reach the pod for a loopback host port');
    }
  }

  #track(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => {}); // told to the other side, and here of no consequence
    socket.once('close', () => this.#sockets.delete(socket));
  }
}
