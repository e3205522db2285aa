/** Whether and when a container that is not running is started (again). */
import { type BackoffPolicy, type BackoffState, nextBackoff } from '../../base/index.ts';
import { type BoundPod, type CheckedContainer, isSidecar } from '../../kube/index.ts';
import type { ContainerMemory, Failure, ObservedContainer } from './model.ts';

/** By the container's own restart policy, else the pod's. */
export function restartsAfter(pod: BoundPod, container: CheckedContainer, exitCode: number): boolean {
  const policy = container.restartPolicy ?? pod.spec.restartPolicy;
  return policy === 'Always' || (policy === 'OnFailure' && exitCode !== 0);
}

/** True where the container shall run and does not. `observed` is the newest of its name. */
export function shallStart(
  pod: BoundPod,
  container: CheckedContainer,
  observed: ObservedContainer | undefined,
): boolean {
  if (observed === undefined) return true;
  if (observed.state === 'running') return false;
  // Created and never started, or lost: another attempt is the only way on.
  if (observed.state !== 'exited') return true;
  return restartsAfter(pod, container, observed.exitCode);
}

/** Whether a running container that fails its probes is started again. */
export function restartsAfterProbe(pod: BoundPod, container: CheckedContainer): boolean {
  if (isSidecar(container)) return true;
  return (container.restartPolicy ?? pod.spec.restartPolicy) !== 'Never';
}

export interface StartTime {
  /** Not before this moment. */
  readonly at: number;
  /** What holds it until then. */
  readonly because: 'nothing' | 'crash-loop' | 'failure';
  /** The crash loop's state once the container is started. */
  readonly crash: BackoffState | undefined;
}

/**
 * When the next attempt may start. The first restart is at once; each further one waits from the exit on, 10 s, then
 * twice as long, at most 300 s; after 600 s without a start it begins anew.
 */
export function startTime(
  policy: BackoffPolicy,
  observed: ObservedContainer | undefined,
  memory: ContainerMemory | undefined,
  failure: Failure | undefined,
  now: number,
): StartTime {
  const retryAt = failure?.retryAt ?? 0;
  if (observed?.state !== 'exited') {
    return {
      at: retryAt,
      because: retryAt > now ? 'failure' : 'nothing',
      crash: crashState(observed, memory),
    };
  }
  const before = crashState(observed, memory);
  const quiet = before === undefined || observed.finishedAt - before.since > policy.resetAfter;
  const crashEnd = quiet ? 0 : observed.finishedAt + before.delay;
  const crash = { ...nextBackoff(policy, before, observed.finishedAt), since: now };
  if (crashEnd > now && crashEnd >= retryAt) return { at: crashEnd, because: 'crash-loop', crash };
  return { at: Math.max(retryAt, crashEnd), because: retryAt > now ? 'failure' : 'nothing', crash };
}

/** From memory, or as the container's annotations kept it over a restart of the agent. */
function crashState(
  observed: ObservedContainer | undefined,
  memory: ContainerMemory | undefined,
): BackoffState | undefined {
  if (memory?.crash !== undefined) return memory.crash;
  if (observed?.crashDelay === undefined) return undefined;
  return { delay: observed.crashDelay, since: observed.createdAt };
}

/** A back-off is announced (event, waiting reason) once it has lasted a moment, so that what led to it is seen first. */
export function announceTime(from: number, until: number): number {
  return Math.min(from + 1000, (from + until) / 2);
}
