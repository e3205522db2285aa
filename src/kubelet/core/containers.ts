/** Which containers of a pod with a ready sandbox are to be started or killed. Pure. */
import { type BoundPod, type CheckedContainer, isSidecar, type Probe } from '../../kube/index.ts';
import { newest, type Observed, type ObservedContainer, type ProbeResults } from './model.ts';
import { restartsAfter, restartsAfterProbe, shallStart } from './restart.ts';

export interface ContainerKill {
  readonly container: CheckedContainer;
  readonly id: string;
  readonly message: string;
  /** Seconds that a probe sets for the container that failed it. */
  readonly probeGrace?: number;
}

export interface ContainerWork {
  /** In the order in which they start; an init container that is not started holds up those behind it. */
  readonly starts: readonly CheckedContainer[];
  readonly kills: readonly ContainerKill[];
  /** True once every init container has done its part. */
  readonly initialized: boolean;
  /** True where nothing more will run: the pod ends. */
  readonly finished: boolean;
}

export type Probes = ReadonlyMap<string, ProbeResults>;

export function planContainers(pod: BoundPod, observed: Observed, probes: Probes): ContainerWork {
  const work = new Work(pod, observed, probes);
  const initialized = work.planInit();
  if (initialized) work.planMain();
  if (work.finished) work.starts = [];
  return { starts: work.starts, kills: work.kills, initialized, finished: work.finished };
}

/** True where a container beside the init containers was made and did not exit: initialization is behind us. */
export function mainIsUp(pod: BoundPod, observed: Observed): boolean {
  return pod.spec.containers.some((container) => {
    const state = newest(observed, container.name)?.state;
    return state === 'created' || state === 'running';
  });
}

class Work {
  starts: CheckedContainer[] = [];
  readonly kills: ContainerKill[] = [];
  finished = false;
  readonly #pod: BoundPod;
  readonly #observed: Observed;
  readonly #probes: Probes;

  constructor(pod: BoundPod, observed: Observed, probes: Probes) {
    this.#pod = pod;
    this.#observed = observed;
    this.#probes = probes;
  }

  /** Returns true where the containers proper may run. */
  planInit(): boolean {
    const containers = this.#pod.spec.initContainers ?? [];
    const last = containers.length - 1;
    if (last < 0) return true;
    if (mainIsUp(this.#pod, this.#observed)) {
      // What has completed may be collected by now; only sidecars still matter.
      for (const container of containers) if (isSidecar(container)) this.#keepSidecar(container);
      return true;
    }
    // The last one that was ever made is as far as initialization got; all before it are done, sidecars among them stay.
    const front = containers.findLastIndex(
      (container) => newest(this.#observed, container.name) !== undefined,
    );
    for (const container of containers.slice(0, Math.max(front, 0))) {
      if (isSidecar(container)) this.#keepSidecar(container);
    }
    const current = containers[front];
    if (current === undefined) {
      this.starts.push(...containers.slice(0, 1));
      return false;
    }
    const done = isSidecar(current) ? this.#keepSidecar(current) : this.#runInit(current);
    if (!done) return false;
    if (front === last) return true;
    this.starts.push(...containers.slice(front + 1, front + 2));
    return false;
  }

  /** Returns true once the init container has succeeded. */
  #runInit(container: CheckedContainer): boolean {
    const observed = newest(this.#observed, container.name);
    if (observed?.state === 'running') return false;
    if (observed?.state === 'exited') {
      if (observed.exitCode === 0) return true;
      if (restartsAfter(this.#pod, container, observed.exitCode)) this.starts.push(container);
      else this.finished = true;
      return false;
    }
    if (observed?.state === 'unknown') {
      if (!restartsAfterProbe(this.#pod, container)) {
        this.finished = true;
        return false;
      }
      this.#killLost(container, observed);
    }
    this.starts.push(container);
    return false;
  }

  /** Returns true once the sidecar has started, by its startup probe where it has one. */
  #keepSidecar(container: CheckedContainer): boolean {
    const observed = newest(this.#observed, container.name);
    if (observed?.state !== 'running') {
      if (observed?.state === 'unknown') this.#killLost(container, observed);
      this.starts.push(container);
      return false;
    }
    const results = this.#probes.get(observed.id);
    if (container.startupProbe !== undefined && results?.startup !== 'success') {
      if (results?.startup === 'failure')
        this.#killProbed(container, observed, 'startup', container.startupProbe);
      return false;
    }
    if (results?.liveness === 'failure')
      this.#killProbed(container, observed, 'liveness', container.livenessProbe);
    return true;
  }

  planMain(): void {
    let kept = 0;
    for (const container of this.#pod.spec.containers) {
      const observed = newest(this.#observed, container.name);
      if (observed?.state !== 'running') {
        if (!shallStart(this.#pod, container, observed)) continue;
        if (observed?.state === 'unknown') this.#killLost(container, observed);
        this.starts.push(container);
        continue;
      }
      kept += 1;
      const results = this.#probes.get(observed.id);
      if (results?.liveness === 'failure')
        this.#killProbed(container, observed, 'liveness', container.livenessProbe);
      else if (results?.startup === 'failure') {
        this.#killProbed(container, observed, 'startup', container.startupProbe);
      }
    }
    const waiting = this.#pod.spec.containers.some((container) => this.starts.includes(container));
    if (kept === 0 && !waiting) this.finished = true;
  }

  #killLost(container: CheckedContainer, observed: ObservedContainer): void {
    const what = this.#isInit(container) ? 'Init container' : 'Container';
    const message = `${what} is in "unknown" state, try killing it before restart`;
    this.kills.push({ container, id: observed.id, message });
  }

  #killProbed(
    container: CheckedContainer,
    observed: ObservedContainer,
    kind: 'startup' | 'liveness',
    probe: Probe | undefined,
  ): void {
    const what = this.#isInit(container) ? 'Init container' : 'Container';
    const again = restartsAfterProbe(this.#pod, container) ? ', will be restarted' : '';
    const grace = probe?.terminationGracePeriodSeconds;
    this.kills.push({
      container,
      id: observed.id,
      message: `${what} ${container.name} failed ${kind} probe${again}`,
      ...(grace === undefined ? {} : { probeGrace: grace }),
    });
  }

  #isInit(container: CheckedContainer): boolean {
    return (this.#pod.spec.initContainers ?? []).includes(container);
  }
}
