import { POLL } from '../constants.ts';
import { FdWatcher } from '../fd.ts';
import { native } from '../native.ts';
import { check } from '../syscall-error.ts';
import { NETLINK_ADD_MEMBERSHIP, SOL_NETLINK } from './constants.ts';
import { type NetlinkMessage, parseMessages } from './reader.ts';

export interface NetlinkMonitorOptions {
  readonly protocol: number;
  /** Multicast groups by number, for example RTNLGRP.LINK. */
  readonly groups: readonly number[];
  readonly netnsFd?: number | undefined;
  /** Bytes of the receive buffer; default 1 MiB. */
  readonly bufferSize?: number;
  onMessage(message: NetlinkMessage): void;
  /** Messages were lost: what was learnt from earlier ones has to be listed anew. */
  onOverrun(): void;
  /** The socket failed or said something unreadable; the monitor is closed. */
  onError(error: unknown): void;
}

const EAGAIN = 11;
const ENOBUFS = 105;

/** Tells of the kernel's changes from the event loop. Keeps the process alive unless `unref` is called. */
export class NetlinkMonitor implements Disposable {
  readonly #options: NetlinkMonitorOptions;
  readonly #watcher: FdWatcher;
  readonly #buffer = Buffer.allocUnsafeSlow(64 * 1024);
  #fd: number;

  constructor(options: NetlinkMonitorOptions) {
    this.#options = options;
    const { netnsFd = -1, protocol, bufferSize = 1024 * 1024 } = options;
    this.#fd = check(native().netlinkSocket(netnsFd, protocol, 0, bufferSize), 'open a netlink socket');
    try {
      for (const group of options.groups) {
        const joined = native().setsockopt(this.#fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
        check(joined, `join netlink group ${group}`);
      }
      this.#watcher = new FdWatcher(this.#fd, POLL.READABLE, (events) => {
        this.#drain();
        // An overrun is an error of the socket, for which libuv stops watching.
        if (events < 0 && this.#fd >= 0) this.#watcher.update(POLL.READABLE);
      });
    } catch (error) {
      native().close(this.#fd);
      throw error;
    }
  }

  unref(): void {
    this.#watcher.unref();
  }

  close(): void {
    if (this.#fd < 0) return;
    this.#watcher.close();
    native().close(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #drain(): void {
    try {
      // A listener may close the monitor while a burst is read.
      while (this.#fd >= 0) {
        const result = native().recvmsg(this.#fd, this.#buffer);
        if (result === -EAGAIN) return;
        if (result === -ENOBUFS) {
          this.#options.onOverrun();
          continue;
        }
        const { size, truncated } = check(result, 'read from a netlink socket') as {
          size: number;
          truncated: boolean;
        };
        if (truncated) {
          this.#options.onOverrun();
          continue;
        }
        for (const message of parseMessages(Buffer.from(this.#buffer.subarray(0, size)))) {
          this.#options.onMessage(message);
        }
      }
    } catch (error) {
      this.close();
      this.#options.onError(error);
    }
  }
}
