/** The caller's side of the local API. */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { hasCode, NodeletError } from '../../base/index.ts';
import type { PullProgress } from '../../image/index.ts';
import type { Event, Pod } from '../../kube/index.ts';
import type { PodExplanation } from '../explain/index.ts';
import type { OutputChunk } from '../output.ts';
import { fromBody } from './errors.ts';
import { FrameDecoder } from './frames.ts';
import type {
  ContainerRow,
  CreateRequest,
  CreateResponse,
  ErrorBody,
  StatsRow,
  TraceResponse,
  VersionResponse,
} from './types.ts';

export interface PodChange {
  readonly type: 'MODIFIED' | 'DELETED';
  readonly object: Pod;
}

interface CallOptions {
  readonly body?: unknown;
  readonly signal?: AbortSignal;
}

type Query = Readonly<Record<string, string | number | boolean | undefined>>;

function pathOf(path: string, query: Query = {}): string {
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(query))
    if (value !== undefined) params.append(key, String(value));
  const text = params.toString();
  return text === '' ? path : `${path}?${text}`;
}

export class AgentClient {
  readonly socket: string;

  constructor(socket: string) {
    this.socket = socket;
  }

  /** Throws AGENT_UNREACHABLE where nobody listens, and what the agent answers. */
  #call(method: string, path: string, options: CallOptions = {}): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const body = options.body === undefined ? undefined : JSON.stringify(options.body);
      const request = httpRequest({
        socketPath: this.socket,
        method,
        path,
        headers:
          body === undefined
            ? {}
            : { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) },
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      });
      request.on('error', (error) => {
        if (hasCode(error, 'ENOENT', 'ECONNREFUSED')) reject(unreachable(this.socket));
        else reject(error);
      });
      request.on('response', (response) => {
        if (response.statusCode === 200) {
          resolve(response);
          return;
        }
        text(response).then(
          (answer) => reject(errorOf(answer, response.statusCode ?? 0)),
          (error: unknown) => reject(error),
        );
      });
      request.end(body);
    });
  }

  async #json<T>(method: string, path: string, options: CallOptions = {}): Promise<T> {
    return JSON.parse(await text(await this.#call(method, path, options))) as T;
  }

  async *#lines<T>(path: string, signal?: AbortSignal): AsyncGenerator<T, void> {
    const response = await this.#call('GET', path, signal === undefined ? {} : { signal });
    let rest = '';
    response.setEncoding('utf8');
    try {
      for await (const chunk of response as AsyncIterable<string>) {
        const lines = (rest + chunk).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) yield JSON.parse(line) as T;
      }
    } catch (error) {
      if (signal?.aborted !== true) throw error;
    } finally {
      response.destroy();
    }
  }

  /** False where no agent answers. */
  async isRunning(): Promise<boolean> {
    try {
      await this.version();
      return true;
    } catch (error) {
      if (hasCode(error, 'AGENT_UNREACHABLE')) return false;
      throw error;
    }
  }

  version(): Promise<VersionResponse> {
    return this.#json('GET', '/nodelet/v1/version');
  }

  async pods(): Promise<Pod[]> {
    return (await this.#json<{ items: Pod[] }>('GET', '/pods')).items;
  }

  pod(namespace: string, name: string): Promise<Pod> {
    return this.#json('GET', podPath(namespace, name));
  }

  create(request: CreateRequest): Promise<CreateResponse> {
    return this.#json('POST', '/nodelet/v1/pods', { body: request });
  }

  /** Ends the pod's containers; resolves when they have ended. */
  stop(namespace: string, name: string, grace?: number): Promise<Pod> {
    return this.#json('POST', pathOf(`${podPath(namespace, name)}/stop`, { grace }));
  }

  /** Resolves when nothing of the pod is left. */
  async remove(namespace: string, name: string, grace?: number): Promise<void> {
    await this.#json('DELETE', pathOf(podPath(namespace, name), { grace }));
  }

  /** The pod now and at each change, until it is gone. */
  watchPod(namespace: string, name: string, signal?: AbortSignal): AsyncGenerator<PodChange, void> {
    return this.#lines(`${podPath(namespace, name)}/watch`, signal);
  }

  async events(uid?: string): Promise<Event[]> {
    return (await this.#json<{ items: Event[] }>('GET', pathOf('/nodelet/v1/events', { uid }))).items;
  }

  /** Those so far (unless `from` is now) and those to come. */
  watchEvents(
    options: { readonly uid?: string; readonly from?: 'start' | 'now' } = {},
    signal?: AbortSignal,
  ): AsyncGenerator<Event, void> {
    return this.#lines(
      pathOf('/nodelet/v1/events', { watch: 1, uid: options.uid, from: options.from }),
      signal,
    );
  }

  /** Query as the kubelet's: follow, previous, tailLines, sinceSeconds, sinceTime, timestamps, limitBytes. */
  async *logs(
    namespace: string,
    pod: string,
    container: string,
    query: Query = {},
    signal?: AbortSignal,
  ): AsyncGenerator<Buffer, void> {
    const path = pathOf(
      `/containerLogs/${encodeURIComponent(namespace)}/${encodeURIComponent(pod)}/${encodeURIComponent(container)}`,
      query,
    );
    const response = await this.#call('GET', path, signal === undefined ? {} : { signal });
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) yield chunk;
    } catch (error) {
      if (signal?.aborted !== true) throw error;
    } finally {
      response.destroy();
    }
  }

  /** What the pod's containers write, from their start on, until the pod has ended. */
  async *output(namespace: string, name: string, signal?: AbortSignal): AsyncGenerator<OutputChunk, void> {
    const response = await this.#call(
      'GET',
      `${podPath(namespace, name)}/output`,
      signal === undefined ? {} : { signal },
    );
    const decoder = new FrameDecoder();
    try {
      for await (const piece of response as AsyncIterable<Buffer>) yield* decoder.push(piece);
    } catch (error) {
      if (signal?.aborted !== true) throw error;
    } finally {
      response.destroy();
    }
  }

  /** Progress of the agent's pulls from now on. */
  pulls(signal?: AbortSignal): AsyncGenerator<PullProgress, void> {
    return this.#lines('/nodelet/v1/pulls', signal);
  }

  async containers(): Promise<ContainerRow[]> {
    return (await this.#json<{ items: ContainerRow[] }>('GET', '/nodelet/v1/containers')).items;
  }

  async stats(): Promise<StatsRow[]> {
    return (await this.#json<{ items: StatsRow[] }>('GET', '/nodelet/v1/stats')).items;
  }

  inspect(id: string): Promise<unknown> {
    return this.#json('GET', `/nodelet/v1/inspect/${encodeURIComponent(id)}`);
  }

  explain(namespace: string, name: string): Promise<PodExplanation> {
    return this.#json('GET', `${podPath(namespace, name)}/explain`);
  }

  trace(namespace: string, name: string): Promise<TraceResponse> {
    return this.#json('GET', `${podPath(namespace, name)}/trace`);
  }
}

function podPath(namespace: string, name: string): string {
  return `/nodelet/v1/pods/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;
}

async function text(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

function errorOf(answer: string, status: number): NodeletError {
  try {
    return fromBody(JSON.parse(answer) as ErrorBody);
  } catch {
    return new NodeletError('AGENT_ANSWER', `the agent answered ${status}: ${answer.slice(0, 200)}`);
  }
}

export function unreachable(socket: string): NodeletError {
  return new NodeletError('AGENT_UNREACHABLE', `no agent answers at "${socket}"`, {
    hint: 'start one with: nodelet agent (as root), or run a pod with: nodelet run FILE',
  });
}
