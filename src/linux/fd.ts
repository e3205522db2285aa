import { close } from 'node:fs';
import { type NativeWatcher, native } from './native.ts';
import { check } from './syscall-error.ts';

/** An open descriptor with one owner. Closing twice is safe. */
export class Fd implements Disposable {
  #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** The number, for a call; throws where the descriptor was closed. */
  get number(): number {
    if (this.#fd < 0) check(-9, 'use of a closed descriptor');
    return this.#fd;
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  /** Hands the number to a new owner. */
  release(): number {
    const fd = this.number;
    this.#fd = -1;
    return fd;
  }

  close(): void {
    if (this.#fd < 0) return;
    native().close(this.#fd);
    this.#fd = -1;
  }

  /**
   * The same on another thread, for a last descriptor with which the kernel takes something apart before it answers: a mount
   * that nobody else has (dissolve_on_fput waits for every CPU), a namespace.
   */
  async closeAway(): Promise<void> {
    if (this.#fd < 0) return;
    const fd = this.release();
    await new Promise<void>((resolve) => {
      close(fd, () => resolve());
    });
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Calls `listener` from the event loop whenever the descriptor has one of `events` (POLL.*); never owns it. */
export class FdWatcher implements Disposable {
  readonly #watcher: NativeWatcher;
  #closed = false;

  constructor(fd: number, events: number, listener: (events: number) => void) {
    this.#watcher = new (native().FdWatcher)(fd, listener);
    check(this.#watcher.start(events), 'poll');
  }

  /** Watches for other events; 0 pauses. */
  update(events: number): void {
    if (this.#closed) return;
    if (events === 0) this.#watcher.stop();
    else check(this.#watcher.start(events), 'poll');
  }

  ref(): void {
    this.#watcher.ref();
  }

  unref(): void {
    this.#watcher.unref();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watcher.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
