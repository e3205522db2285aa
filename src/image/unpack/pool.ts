/**
 * The image worker threads. Each kind of job has places of its own, so that no container's removal waits for a slow
 * registry (a layer job waits for its download) or for a slow disk (a commit waits for all of it). Threads are
 * started when needed, used for any kind, and end after some idle time: each costs some 15 MiB.
 */
import { Worker } from 'node:worker_threads';
import {
  abortReason,
  type Deferred,
  deferred,
  describeError,
  type Log,
  NodeletError,
} from '../../base/index.ts';
import type { FromWorker, JobKind, JobOf, ResultOf, ToWorker } from './messages.ts';

export interface PoolOptions {
  /** The bundled worker. */
  readonly file: () => string;
  /** Layers and archives that are unpacked at a time. */
  readonly size: number;
  readonly log: Log;
  readonly idleTime?: number;
}

export interface StartOptions {
  readonly signal?: AbortSignal;
  /** Of a layer job: bytes of the blob that are there. */
  readonly available?: number;
  readonly onProgress?: (read: number) => void;
}

export interface RunningJob<K extends JobKind> {
  readonly result: Promise<ResultOf<K>>;
  /** Of a layer job: the blob's file has grown. */
  grow(available: number): void;
}

interface Task {
  readonly message: Extract<ToWorker, { type: 'run' }>;
  readonly lane: Lane;
  readonly done: Deferred<unknown>;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((read: number) => void) | undefined;
  available: number;
  thread: Thread | undefined;
}

interface Thread {
  readonly worker: Worker;
  task: Task | undefined;
  idle: NodeJS.Timeout | undefined;
}

type Lane = 'unpack' | 'disk' | 'quick';

const lanes: Readonly<Record<JobKind, Lane>> = {
  layer: 'unpack',
  archive: 'unpack',
  commit: 'disk',
  copyOut: 'disk',
  compare: 'disk',
  settle: 'quick',
  remove: 'quick',
  measure: 'quick',
};

export class WorkerPool {
  readonly #options: PoolOptions;
  /** Jobs of each lane that run at a time. */
  readonly #places: Readonly<Record<Lane, number>>;
  readonly #threads = new Set<Thread>();
  #queue: Task[] = [];
  #closed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#places = { unpack: options.size, disk: 1, quick: 2 };
  }

  async run<K extends JobKind>(kind: K, job: JobOf<K>, options: StartOptions = {}): Promise<ResultOf<K>> {
    return await this.start(kind, job, options).result;
  }

  start<K extends JobKind>(kind: K, job: JobOf<K>, options: StartOptions = {}): RunningJob<K> {
    const task: Task = {
      message: { type: 'run', kind, job, available: 0 } as Task['message'],
      lane: lanes[kind],
      done: deferred(),
      signal: options.signal,
      onProgress: options.onProgress,
      available: options.available ?? 0,
      thread: undefined,
    };
    const abort = (): void => this.#abort(task);
    if (this.#closed) task.done.reject(new NodeletError('ABORTED', 'the image service is closed'));
    else if (options.signal?.aborted) task.done.reject(abortReason(options.signal));
    else {
      options.signal?.addEventListener('abort', abort, { once: true });
      this.#queue.push(task);
      this.#dispatch();
    }
    const result = task.done.promise.finally(() => options.signal?.removeEventListener('abort', abort));
    return {
      result: result as Promise<ResultOf<K>>,
      grow(available) {
        task.available = available;
        if (task.thread?.task === task) post(task.thread, { type: 'grow', available });
      },
    };
  }

  /** Ends all threads; jobs that run or wait are rejected. */
  async close(): Promise<void> {
    this.#closed = true;
    const error = new NodeletError('ABORTED', 'the image service is closed');
    for (const task of this.#queue.splice(0)) task.done.reject(error);
    await Promise.all(
      [...this.#threads].map(async (thread) => {
        clearTimeout(thread.idle);
        thread.task?.done.reject(error);
        thread.task = undefined;
        await thread.worker.terminate();
      }),
    );
    this.#threads.clear();
  }

  #dispatch(): void {
    for (let i = 0; i < this.#queue.length; ) {
      const task = this.#queue[i] as Task;
      const thread = this.#threadFor(task);
      if (thread === undefined) {
        i += 1;
        continue;
      }
      this.#queue.splice(i, 1);
      this.#give(thread, task);
    }
  }

  /** An idle thread, or a new one where there may be more. */
  #threadFor(task: Task): Thread | undefined {
    const threads = [...this.#threads];
    const running = threads.filter((thread) => thread.task?.lane === task.lane).length;
    if (running >= this.#places[task.lane]) return undefined;
    return threads.find((thread) => thread.task === undefined) ?? this.#spawn();
  }

  #spawn(): Thread {
    const worker = new Worker(this.#options.file(), {
      name: 'nodelet-image',
      // A small young generation: what it holds are buffers that have been written already.
      resourceLimits: { maxOldGenerationSizeMb: 512, maxYoungGenerationSizeMb: 4 },
    });
    const thread: Thread = { worker, task: undefined, idle: undefined };
    this.#threads.add(thread);
    worker.on('message', (message: FromWorker) => this.#receive(thread, message));
    worker.on('error', (error) => this.#lost(thread, error));
    worker.on('exit', () => this.#lost(thread, undefined));
    return thread;
  }

  #give(thread: Thread, task: Task): void {
    clearTimeout(thread.idle);
    thread.idle = undefined;
    thread.task = task;
    task.thread = thread;
    thread.worker.ref();
    post(thread, { ...task.message, available: task.available });
  }

  #receive(thread: Thread, message: FromWorker): void {
    const task = thread.task;
    if (task === undefined) return;
    if (message.type === 'progress') {
      task.onProgress?.(message.read);
      return;
    }
    thread.task = undefined;
    thread.worker.unref();
    thread.idle = setTimeout(() => this.#retire(thread), this.#options.idleTime ?? 10_000).unref();
    if (message.type === 'done') {
      task.done.resolve(message.result);
    } else if (task.signal?.aborted) {
      task.done.reject(abortReason(task.signal));
    } else {
      const { code, message: text, hint, details } = message.error;
      task.done.reject(new NodeletError(code, text, { details, ...(hint === undefined ? {} : { hint }) }));
    }
    this.#dispatch();
  }

  #retire(thread: Thread): void {
    if (thread.task !== undefined) return;
    this.#threads.delete(thread);
    void thread.worker.terminate();
  }

  /** The thread ended by itself: out of memory, or a bug. */
  #lost(thread: Thread, cause: unknown): void {
    clearTimeout(thread.idle);
    this.#threads.delete(thread);
    const task = thread.task;
    thread.task = undefined;
    if (task !== undefined) {
      this.#options.log.error(
        { kind: task.message.kind, cause: describeError(cause) },
        'an image worker was lost',
      );
      task.done.reject(
        new NodeletError('WORKER_LOST', `cannot finish the ${task.message.kind} job: its thread ended`, {
          cause,
        }),
      );
    }
    if (!this.#closed) this.#dispatch();
  }

  #abort(task: Task): void {
    const at = this.#queue.indexOf(task);
    if (at >= 0) {
      this.#queue.splice(at, 1);
      if (task.signal !== undefined) task.done.reject(abortReason(task.signal));
      return;
    }
    // A running job answers when it has closed what it had open.
    if (task.thread?.task === task) post(task.thread, { type: 'abort' });
  }
}

function post(thread: Thread, message: ToWorker): void {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  thread.worker.postMessage(message);
}
