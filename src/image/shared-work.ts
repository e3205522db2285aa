/** Work that several may ask for at once and that is done once; it is cancelled when the last of them gives up. */
import { abortReason, Emitter, toError } from '../base/index.ts';

interface Running<T, E> {
  readonly promise: Promise<T>;
  readonly abort: AbortController;
  readonly events: Emitter<E>;
  /** Events that those who join later are told as well. */
  readonly past: E[];
  waiting: number;
}

export type Start<T, E> = (signal: AbortSignal, emit: (event: E) => void) => Promise<T>;

export class SharedWork<T, E> {
  readonly #running = new Map<string, Running<T, E>>();
  readonly #keep: (event: E) => boolean;

  /** `keep` says which events late joiners get. */
  constructor(keep: (event: E) => boolean) {
    this.#keep = keep;
  }

  /** Joins the work of that key, or starts it. */
  async join(
    key: string,
    start: Start<T, E>,
    listener: ((event: E) => void) | undefined,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    if (signal?.aborted) throw abortReason(signal);
    const running = this.#running.get(key) ?? this.#begin(key, start);
    running.waiting += 1;
    let unsubscribe = (): void => {};
    if (listener !== undefined) {
      for (const event of running.past) listener(event);
      unsubscribe = running.events.on(listener);
    }
    try {
      return signal === undefined ? await running.promise : await this.#wait(key, running, signal);
    } finally {
      unsubscribe();
      running.waiting -= 1;
    }
  }

  /** Who gives up leaves at once; the last one stops the work, and waits until everything has been put away. */
  async #wait(key: string, running: Running<T, E>, signal: AbortSignal): Promise<T> {
    return await new Promise<T>((resolve, reject) => {
      const abort = (): void => {
        if (running.waiting > 1) {
          reject(abortReason(signal));
          return;
        }
        // Nobody may join any more: a new caller starts afresh.
        if (this.#running.get(key) === running) this.#running.delete(key);
        running.abort.abort(abortReason(signal));
      };
      signal.addEventListener('abort', abort, { once: true });
      const settle = (): void => signal.removeEventListener('abort', abort);
      running.promise.then(
        (value) => {
          settle();
          resolve(value);
        },
        (error: unknown) => {
          settle();
          reject(toError(error));
        },
      );
    });
  }

  #begin(key: string, start: Start<T, E>): Running<T, E> {
    const abort = new AbortController();
    const events = new Emitter<E>();
    const past: E[] = [];
    const promise = start(abort.signal, (event) => {
      if (this.#keep(event)) past.push(event);
      events.emit(event);
    });
    const running: Running<T, E> = { promise, abort, events, past, waiting: 0 };
    this.#running.set(key, running);
    const forget = (): void => {
      if (this.#running.get(key) === running) this.#running.delete(key);
    };
    promise.then(forget, forget);
    return running;
  }
}
