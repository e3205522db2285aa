/**
 * Everything that a pod's containers write, as it comes, over restarts, until the pod has ended: what `nodelet run` shows.
 * Each instance of a container is followed by its id, so that none is missed and none shown twice.
 */
import { type Deferred, deferred, hasCode } from '../base/index.ts';
import { type LogChunk, readLog } from '../kubelet/index.ts';
import type { Agent } from './agent.ts';

export interface OutputChunk extends LogChunk {
  readonly container: string;
}

/** Chunks on their way from several readers to one consumer; a reader waits until its chunk was taken. */
class Funnel {
  readonly #waiting: { readonly chunk: OutputChunk; readonly taken: Deferred<void> }[] = [];
  #wake: (() => void) | undefined;
  #closed = false;

  put(chunk: OutputChunk): Promise<void> {
    if (this.#closed) return Promise.resolve();
    const taken = deferred<void>();
    this.#waiting.push({ chunk, taken });
    this.wake();
    return taken.promise;
  }

  take(): OutputChunk | undefined {
    const next = this.#waiting.shift();
    next?.taken.resolve();
    return next?.chunk;
  }

  wake(): void {
    this.#wake?.();
  }

  /** Lets every reader go on, and end. */
  close(): void {
    this.#closed = true;
    while (this.take() !== undefined);
  }

  async change(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = undefined;
  }

  get empty(): boolean {
    return this.#waiting.length === 0;
  }
}

/** Throws POD_NOT_FOUND for a pod that is not there any more. */
export async function* podOutput(
  agent: Agent,
  uid: string,
  signal: AbortSignal,
): AsyncGenerator<OutputChunk, void> {
  const { kubelet } = agent;
  const funnel = new Funnel();
  const seen = new Map<string, AbortController>();
  let reading = 0;
  let over = false;

  const follow = async (id: string, container: string, path: string, ended: AbortSignal): Promise<void> => {
    const root = kubelet.paths.directories.podLogs;
    try {
      for await (const chunk of readLog({ root, path, ended }, { follow: true }, signal)) {
        await funnel.put({ ...chunk, container });
      }
    } catch (error) {
      // A container that could not be started has no log; one that was removed meanwhile has none any more.
      if (!hasCode(error, 'LOG_NOT_FOUND', 'ENOENT')) {
        const data = Buffer.from(
          `nodelet: cannot read the log of container ${id.slice(0, 12)}: ${String(error)}\n`,
        );
        await funnel.put({ container, stream: 'stderr', data });
      }
    }
  };

  const look = (): void => {
    for (const { id, name, state, logPath } of kubelet.observed(uid)?.containers.toReversed() ?? []) {
      if (state === 'created') continue;
      const alive = state === 'running' || state === 'unknown';
      const known = seen.get(id);
      if (known !== undefined) {
        if (!alive) known.abort();
        continue;
      }
      const ended = new AbortController();
      if (!alive) ended.abort();
      seen.set(id, ended);
      reading += 1;
      void follow(id, name, logPath, ended.signal).finally(() => {
        reading -= 1;
        funnel.wake();
      });
    }
    const phase = kubelet.get(uid)?.status?.phase;
    if (phase !== undefined && phase !== 'Succeeded' && phase !== 'Failed') return;
    over = true;
    for (const ended of seen.values()) ended.abort();
    funnel.wake();
  };

  const wake = (): void => funnel.wake();
  const stop = [
    kubelet.onStatus(({ pod }) => {
      if (pod.metadata.uid === uid) look();
    }),
    kubelet.onRemoved((pod) => {
      if (pod.metadata.uid === uid) look();
    }),
  ];
  signal.addEventListener('abort', wake);
  try {
    look();
    while (!signal.aborted) {
      const chunk = funnel.take();
      if (chunk !== undefined) yield chunk;
      else if (over && reading === 0 && funnel.empty) return;
      else await funnel.change();
    }
  } finally {
    for (const unsubscribe of stop) unsubscribe();
    signal.removeEventListener('abort', wake);
    for (const ended of seen.values()) ended.abort();
    funnel.close();
  }
}
