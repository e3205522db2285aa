import type { BoundPod } from '../../kube/index.ts';
import type { Observed, ObservedSandbox } from './model.ts';

export interface SandboxNeed {
  /** The sandbox that containers may be started in. */
  readonly usable: ObservedSandbox | undefined;
  /** Attempt of the sandbox that has to be made where none is usable. */
  readonly nextAttempt: number;
  /** True where there was one before. */
  readonly replaces: boolean;
}

/** A sandbox is usable where it is the only ready one, the newest, and has an address (unless it is in the host's network). */
export function sandboxNeed(pod: BoundPod, observed: Observed): SandboxNeed {
  const newest = observed.sandboxes[0];
  if (newest === undefined) return { usable: undefined, nextAttempt: 0, replaces: false };
  const ready = observed.sandboxes.filter((sandbox) => sandbox.ready);
  const addressed = pod.spec.hostNetwork === true || newest.ips.length > 0;
  const usable = ready.length === 1 && newest.ready && addressed ? newest : undefined;
  return { usable, nextAttempt: newest.attempt + 1, replaces: true };
}

/**
 * When the next sandbox may be made. The first replacement is at once; a further one not sooner than `pause` (milliseconds)
 * after the one before it was made: what makes it unusable is likely to make the next one so. Decided by what the runtime
 * shows, so that it holds over a restart of the agent.
 */
export function replacementTime(observed: Observed, pause: number, now: number): number {
  const newest = observed.sandboxes[0];
  // Made in the future: the clock was set back, and says nothing about the pause.
  if (newest === undefined || newest.attempt === 0 || newest.createdAt > now) return now;
  return newest.createdAt + pause;
}
