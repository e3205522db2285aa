/** The columns READY, STATUS and RESTARTS as kubectl computes them from a pod's status. Pure. */
import type { Container, ContainerStatus, Pod } from '../../kube/index.ts';
import { formatAge } from '../format/duration.ts';

export interface PodSummary {
  readonly ready: number;
  readonly total: number;
  /** `Running`, `CrashLoopBackOff`, `Init:0/2`, `Completed`, `Terminating`, … */
  readonly status: string;
  readonly restarts: number;
  /** When the latest restart's container had ended; milliseconds since 1970. */
  readonly lastRestart: number | undefined;
}

/** An init container that runs on beside the others (as kube's own, whose door would bring the validators along). */
function isSidecar(container: Container): boolean {
  return container.restartPolicy === 'Always';
}

interface Restarts {
  count: number;
  last: number | undefined;
}

function addRestarts(to: Restarts, status: ContainerStatus): void {
  to.count += status.restartCount;
  const ended = Date.parse(status.lastState?.terminated?.finishedAt ?? '');
  if (!Number.isNaN(ended)) to.last = Math.max(to.last ?? 0, ended);
}

function hasCondition(pod: Pod, type: string): boolean {
  return (pod.status?.conditions ?? []).some((one) => one.type === type && one.status === 'True');
}

/** Why a container has ended, in one word. */
function endReason(status: ContainerStatus): string {
  const { reason, signal, exitCode } = status.state?.terminated ?? { exitCode: 0 };
  if (reason !== undefined && reason !== '') return reason;
  return signal === undefined || signal === 0 ? `ExitCode:${exitCode}` : `Signal:${signal}`;
}

/** What the first init container that has not done its part is at; undefined where all have. */
function initStatus(
  pod: Pod,
  all: Restarts,
  sidecars: Restarts,
): { readonly status: string | undefined; readonly ready: number } {
  const specs = new Map<string, Container>((pod.spec?.initContainers ?? []).map((one) => [one.name, one]));
  let ready = 0;
  for (const [i, container] of (pod.status?.initContainerStatuses ?? []).entries()) {
    const spec = specs.get(container.name);
    const sidecar = spec !== undefined && isSidecar(spec);
    addRestarts(all, container);
    if (sidecar) addRestarts(sidecars, container);
    const { terminated, waiting } = container.state ?? {};
    if (terminated?.exitCode === 0) continue;
    if (sidecar && container.started === true) {
      if (container.ready) ready += 1;
      continue;
    }
    if (terminated !== undefined) return { status: `Init:${endReason(container)}`, ready };
    const reason = waiting?.reason ?? '';
    if (reason !== '' && reason !== 'PodInitializing') return { status: `Init:${reason}`, ready };
    return { status: `Init:${i}/${specs.size}`, ready };
  }
  return { status: undefined, ready };
}

/** Of the main containers: the last word that the first of them with one has to say. */
function mainStatus(
  pod: Pod,
  phase: string,
  restarts: Restarts,
): { readonly status: string; readonly ready: number } {
  let status = phase;
  let error: string | undefined;
  let ready = 0;
  let running = false;
  for (const container of (pod.status?.containerStatuses ?? []).toReversed()) {
    addRestarts(restarts, container);
    const { waiting, terminated } = container.state ?? {};
    if (waiting?.reason !== undefined && waiting.reason !== '') status = waiting.reason;
    else if (terminated !== undefined) {
      status = endReason(container);
      if (terminated.exitCode !== 0) error = status;
    } else if (container.ready && container.state?.running !== undefined) {
      running = true;
      ready += 1;
    }
  }
  // One that has completed beside others that have not does not speak for the pod.
  if (status === 'Completed') {
    if (running && hasCondition(pod, 'Ready')) status = 'Running';
    else if (error !== undefined) status = error;
    else if (running) status = 'NotReady';
  }
  return { status, ready };
}

export function summarizePod(pod: Pod): PodSummary {
  const phase = pod.status?.phase ?? 'Pending';
  const specs = pod.spec?.initContainers ?? [];
  const total = (pod.spec?.containers ?? []).length + specs.filter(isSidecar).length;
  const all: Restarts = { count: 0, last: undefined };
  const sidecars: Restarts = { count: 0, last: undefined };
  const init = initStatus(pod, all, sidecars);
  let status = pod.status?.reason || phase;
  let { ready } = init;
  let restarts = all;
  if (init.status !== undefined) status = init.status;
  if (init.status === undefined || hasCondition(pod, 'Initialized')) {
    restarts = sidecars;
    const main = mainStatus(pod, status, restarts);
    ready += main.ready;
    status = main.status;
  }
  const over = phase === 'Succeeded' || phase === 'Failed';
  if (pod.metadata?.deletionTimestamp !== undefined && !over) status = 'Terminating';
  return { ready, total, status, restarts: restarts.count, lastRestart: restarts.last };
}

/** `0`, `3 (2m ago)`. */
export function restartsText(summary: PodSummary, now: number): string {
  const { restarts, lastRestart } = summary;
  if (restarts === 0 || lastRestart === undefined) return String(restarts);
  return `${restarts} (${formatAge(now - lastRestart)} ago)`;
}

const GOOD = new Set(['Running', 'Completed', 'Succeeded']);
const WAITING = new Set(['Pending', 'ContainerCreating', 'PodInitializing', 'Terminating', 'NotReady']);

/** What a status means to somebody who looks at it. */
export function statusMood(status: string): 'good' | 'waiting' | 'bad' {
  if (GOOD.has(status)) return 'good';
  return WAITING.has(status) || /^Init:\d+\/\d+$/.test(status) ? 'waiting' : 'bad';
}
