/** Every path of the local API. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { LinkedSignal, NodeletError } from '../../base/index.ts';
import type { Event, Manifests, Pod } from '../../kube/index.ts';
import type { LogRequest, StopOptions } from '../../kubelet/index.ts';
import { VERSION } from '../../runtime/index.ts';
import { explainPod } from '../explain/index.ts';
import { podOutput } from '../output.ts';
import { containerRows } from '../rows.ts';
import { statsRows } from '../stats.ts';
import { tracePod } from '../trace.ts';
import { encodeFrame } from './frames.ts';
import { ProgressFilter } from './progress.ts';
import type { Call } from './server.ts';
import type { CreateRequest, CreateResponse, VersionResponse } from './types.ts';

export interface Route {
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly path: string;
  /** An answer to be sent as JSON; undefined where the call has written its own. */
  run(call: Call): Promise<unknown>;
}

function podOf(call: Call): ReturnType<Call['agent']['findPod']> {
  return call.agent.findPod(`${call.params.namespace}/${call.params.pod}`);
}

function endOptions(call: Call): StopOptions {
  const grace = call.url.searchParams.get('grace');
  if (grace === null) return {};
  const seconds = Number(grace);
  if (!Number.isInteger(seconds) || seconds < 0)
    throw new NodeletError(
      'INVALID_ARGUMENT',
      `grace ${JSON.stringify(grace)} is no whole number of seconds`,
    );
  return { grace: seconds };
}

/** Bytes that a client may leave unread. */
const UNREAD_LIMIT = 16 * 1024 * 1024;

/** One JSON value a line, for as long as the client listens. */
class Lines {
  readonly #response: ServerResponse;

  constructor(response: ServerResponse) {
    this.#response = response;
    response.writeHead(200, { 'Content-Type': 'application/x-ndjson' });
    response.flushHeaders();
  }

  /** What happens does not wait for who hears of it: a client that does not read is cut off before it fills the memory. */
  write(value: unknown): void {
    if (this.#response.writableLength > UNREAD_LIMIT) this.#response.destroy();
    else this.#response.write(`${JSON.stringify(value)}\n`);
  }

  /** Until the client has gone. */
  async untilClosed(signal: AbortSignal): Promise<void> {
    if (!signal.aborted) await once(signal, 'abort').catch(() => {});
  }
}

function optionalNumber(call: Call, name: string): number | undefined {
  const text = call.url.searchParams.get(name);
  if (text === null) return undefined;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0)
    throw new NodeletError('INVALID_ARGUMENT', `${name} ${JSON.stringify(text)} is no whole number`);
  return value;
}

function logRequest(call: Call): LogRequest {
  const query = call.url.searchParams;
  const flag = (name: string): boolean => ['true', '1'].includes(query.get(name) ?? '');
  const sinceTime = query.get('sinceTime');
  const tailLines = optionalNumber(call, 'tailLines');
  const sinceSeconds = optionalNumber(call, 'sinceSeconds');
  const limitBytes = optionalNumber(call, 'limitBytes');
  const { container } = call.params;
  return {
    // "-" leaves the choice to the pod: one container, or the one that its annotation names
    ...(container === undefined || container === '-' ? {} : { container }),
    follow: flag('follow'),
    previous: flag('previous'),
    timestamps: flag('timestamps'),
    ...(tailLines === undefined ? {} : { tailLines }),
    ...(sinceSeconds === undefined ? {} : { sinceSeconds }),
    ...(limitBytes === undefined ? {} : { limitBytes }),
    ...(sinceTime === null ? {} : { sinceTime }),
  };
}

async function writeLogs(call: Call): Promise<undefined> {
  const { response, signal, agent } = call;
  const stream = agent.kubelet.logs(podOf(call).metadata.uid, logRequest(call), signal);
  // The first chunk (or error) decides between an error answer and a stream.
  let next = await stream.next();
  response.writeHead(200, { 'Content-Type': 'text/plain; charset=utf-8' });
  response.flushHeaders();
  while (next.done !== true) {
    if (!response.write(next.value.data)) await once(response, 'drain', { signal });
    next = await stream.next();
  }
  return undefined;
}

export const ROUTES: readonly Route[] = [
  {
    method: 'GET',
    path: '/healthz',
    async run({ response }) {
      response.end('ok');
      return undefined;
    },
  },
  {
    method: 'GET',
    path: '/nodelet/v1/version',
    async run({ agent }): Promise<VersionResponse> {
      return {
        version: VERSION,
        pid: process.pid,
        node: agent.node.name,
        kernel: agent.host.release,
        root: agent.config.root,
        state: agent.config.state,
        memory: process.memoryUsage.rss(),
      };
    },
  },
  {
    method: 'GET',
    path: '/pods',
    async run({ agent }) {
      return { apiVersion: 'v1', kind: 'PodList', metadata: {}, items: agent.kubelet.list() };
    },
  },
  {
    method: 'GET',
    path: '/nodelet/v1/pods/{namespace}/{pod}',
    async run(call) {
      return podOf(call);
    },
  },
  {
    method: 'POST',
    path: '/nodelet/v1/pods',
    async run({ agent, body }): Promise<CreateResponse> {
      const { pods, configMaps, secrets } = (body ?? {}) as Partial<CreateRequest>;
      if (!Array.isArray(pods) || !Array.isArray(configMaps) || !Array.isArray(secrets)) {
        throw new NodeletError('INVALID_ARGUMENT', 'the request needs pods, configMaps and secrets');
      }
      // Typed by the caller; what reaches the kernel is checked again by the rooms below.
      const manifests: Manifests = { pods, configMaps, secrets, warnings: [] };
      return { pods: agent.createPods(manifests) };
    },
  },
  {
    method: 'POST',
    path: '/nodelet/v1/pods/{namespace}/{pod}/stop',
    async run(call) {
      const { uid } = podOf(call).metadata;
      call.agent.stopPod(uid, endOptions(call));
      await untilEnded(call, uid);
      return call.agent.kubelet.get(uid) ?? {};
    },
  },
  {
    method: 'DELETE',
    path: '/nodelet/v1/pods/{namespace}/{pod}',
    async run(call) {
      const pod = podOf(call);
      await call.agent.removePod(pod.metadata.uid, endOptions(call));
      return { uid: pod.metadata.uid };
    },
  },
  {
    method: 'GET',
    path: '/nodelet/v1/pods/{namespace}/{pod}/watch',
    async run(call) {
      const { uid } = podOf(call).metadata;
      const lines = new Lines(call.response);
      const show = (): void => {
        const pod = call.agent.kubelet.get(uid);
        if (pod !== undefined) lines.write({ type: 'MODIFIED', object: pod });
      };
      const gone = new AbortController();
      const stop = [
        call.agent.kubelet.onStatus((change) => {
          if (change.pod.metadata.uid === uid) show();
        }),
        call.agent.kubelet.onRemoved((pod) => {
          if (pod.metadata.uid !== uid) return;
          lines.write({ type: 'DELETED', object: pod });
          gone.abort();
        }),
      ];
      try {
        show();
        using over = new LinkedSignal([call.signal, gone.signal]);
        await lines.untilClosed(over.signal);
      } finally {
        for (const unsubscribe of stop) unsubscribe();
      }
      return undefined;
    },
  },
  {
    method: 'GET',
    path: '/nodelet/v1/events',
    async run(call) {
      const query = call.url.searchParams;
      const uid = query.get('uid') ?? undefined;
      const events = call.agent.kubelet.events.list(uid);
      if (query.get('watch') === null)
        return { apiVersion: 'v1', kind: 'EventList', metadata: {}, items: events };
      const lines = new Lines(call.response);
      const write = (event: Event): void => {
        if (uid === undefined || event.involvedObject.uid === uid) lines.write(event);
      };
      if (query.get('from') !== 'now') for (const event of events) write(event);
      const stop = call.agent.kubelet.onEvent(write);
      try {
        await lines.untilClosed(call.signal);
      } finally {
        stop();
      }
      return undefined;
    },
  },
  { method: 'GET', path: '/containerLogs/{namespace}/{pod}/{container}', run: writeLogs },
  {
    // Every container's output until the pod has ended, in frames (frames.ts).
    method: 'GET',
    path: '/nodelet/v1/pods/{namespace}/{pod}/output',
    async run(call) {
      const { response, signal } = call;
      const stream = podOutput(call.agent, podOf(call).metadata.uid, signal);
      response.writeHead(200, { 'Content-Type': 'application/octet-stream' });
      response.flushHeaders();
      for await (const chunk of stream) {
        if (!response.write(encodeFrame(chunk))) await once(response, 'drain', { signal });
      }
      return undefined;
    },
  },
  {
    // Progress of every pull from now on.
    method: 'GET',
    path: '/nodelet/v1/pulls',
    async run(call) {
      const lines = new Lines(call.response);
      const filter = new ProgressFilter();
      // Another image service tells nothing of what it does.
      const stop = call.agent.local?.images.progress.on((progress) => {
        if (filter.passes(progress, Date.now())) lines.write(progress);
      });
      try {
        await lines.untilClosed(call.signal);
      } finally {
        stop?.();
      }
      return undefined;
    },
  },
  {
    method: 'GET',
    path: '/nodelet/v1/containers',
    async run({ agent }) {
      return { items: await containerRows(agent) };
    },
  },
  {
    method: 'GET',
    path: '/nodelet/v1/stats',
    async run({ agent }) {
      return { items: await statsRows(agent) };
    },
  },
  {
    method: 'GET',
    path: '/nodelet/v1/inspect/{id}',
    async run({ agent, params }) {
      const id = params.id ?? '';
      const { containers = [] } = await agent.runtime.listContainers({ filter: { id } });
      if (containers.length > 0)
        return await agent.runtime.containerStatus({ containerId: id, verbose: true });
      return await agent.runtime.podSandboxStatus({ podSandboxId: id, verbose: true });
    },
  },
  {
    method: 'GET',
    path: '/nodelet/v1/pods/{namespace}/{pod}/explain',
    async run(call) {
      return explainPod(call.agent, podOf(call));
    },
  },
  {
    method: 'GET',
    path: '/nodelet/v1/pods/{namespace}/{pod}/trace',
    async run(call) {
      return tracePod(call.agent, podOf(call));
    },
  },
];

/** Until the pod's containers have ended. */
async function untilEnded(call: Call, uid: string): Promise<void> {
  const ended = (pod: Pod | undefined): boolean =>
    pod === undefined || pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
  if (ended(call.agent.kubelet.get(uid))) return;
  await new Promise<void>((resolve) => {
    const finish = (): void => {
      for (const unsubscribe of stop) unsubscribe();
      resolve();
    };
    const stop = [
      call.agent.kubelet.onStatus(({ pod }) => {
        if (pod.metadata.uid === uid && ended(call.agent.kubelet.get(uid))) finish();
      }),
      call.agent.kubelet.onRemoved((pod) => {
        if (pod.metadata.uid === uid) finish();
      }),
    ];
    call.signal.addEventListener('abort', finish, { once: true });
  });
}
