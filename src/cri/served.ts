/**
 * What of CRI's services is the same for every runtime: the streaming lists, as parts of the plain ones, and the URLs of
 * Exec, Attach and PortForward, once it is known that there is something to lead to.
 */
import { NodeletError } from '../base/index.ts';
import * as cri from './api.gen.ts';
import type { StreamingUrls } from './services.ts';

type Derived =
  | 'exec'
  | 'attach'
  | 'portForward'
  | 'streamPodSandboxes'
  | 'streamContainers'
  | 'streamContainerStats'
  | 'streamPodSandboxStats'
  | 'streamPodSandboxMetrics';

/** The calls that a runtime answers itself. */
export type RuntimeCalls = Omit<cri.RuntimeService, Derived>;

/** Items of one message of a streaming list: far below what a message may hold. */
const PART = 100;

function* parts<T>(items: readonly T[] = []): Iterable<T[]> {
  for (let at = 0; at < items.length; at += PART) yield items.slice(at, at + PART);
}

async function checkRunning(runtime: RuntimeCalls, verb: string, containerId = ''): Promise<void> {
  const { status = {} } = await runtime.containerStatus({ containerId });
  if (status.state === cri.ContainerState.CONTAINER_RUNNING) return;
  throw new NodeletError(
    'INVALID_STATE',
    `cannot ${verb} container "${containerId.slice(0, 12)}": it does not run`,
  );
}

export function derivedCalls(runtime: RuntimeCalls, urls: StreamingUrls): Pick<cri.RuntimeService, Derived> {
  return {
    async exec(request) {
      await checkRunning(runtime, 'exec in', request.containerId);
      return { url: urls.exec(request) };
    },
    async attach(request) {
      await checkRunning(runtime, 'attach to', request.containerId);
      return { url: urls.attach(request) };
    },
    async portForward(request) {
      const { podSandboxId = '' } = request;
      const { status = {} } = await runtime.podSandboxStatus({ podSandboxId });
      if (status.state !== cri.PodSandboxState.SANDBOX_READY)
        throw new NodeletError(
          'INVALID_STATE',
          `cannot forward a port of sandbox "${podSandboxId.slice(0, 12)}": it is not ready`,
        );
      return { url: urls.portForward(request) };
    },
    async *streamPodSandboxes(request) {
      const { items } = await runtime.listPodSandbox(request);
      for (const podSandboxes of parts(items)) yield { podSandboxes };
    },
    async *streamContainers(request) {
      const { containers: all } = await runtime.listContainers(request);
      for (const containers of parts(all)) yield { containers };
    },
    async *streamContainerStats(request) {
      const { stats } = await runtime.listContainerStats(request);
      for (const containerStats of parts(stats)) yield { containerStats };
    },
    async *streamPodSandboxStats(request) {
      const { stats } = await runtime.listPodSandboxStats(request);
      for (const podSandboxStats of parts(stats)) yield { podSandboxStats };
    },
    async *streamPodSandboxMetrics(request) {
      const { podMetrics } = await runtime.listPodSandboxMetrics(request);
      for (const podSandboxMetrics of parts(podMetrics)) yield { podSandboxMetrics };
    },
  };
}
