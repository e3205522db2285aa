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
