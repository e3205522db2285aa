/**
 * What to do next for one pod: a pure function of the pod, what is wanted of it, what the runtime shows, what is
 * remembered and what is under way. The worker carries the actions out and asks again when anything has changed.
 *
 * A pod goes through three stages: *syncing* (it shall run), *ending* (its containers are stopped, sidecars last, then its
 * sandbox) and *ended* (what it held is given back; where it shall be removed, everything of it is).
 */
import type { BackoffPolicy } from '../../base/index.ts';
import { type BoundPod, type CheckedContainer, isSidecar, type PodStatus } from '../../kube/index.ts';
import { generateStatus } from '../status/status.ts';
import { type Action, actionKey, type Busy, containerSlot, slotOf, startKey } from './actions.ts';
import { type ContainerWork, mainIsUp, type Probes, planContainers } from './containers.ts';
import {
  type Desired,
  isAlive,
  newest,
  type Observed,
  type ObservedContainer,
  type PodMemory,
  type Terminal,
} from './model.ts';
import { announceTime, startTime } from './restart.ts';
import { replacementTime, sandboxNeed } from './sandbox.ts';

export interface DecideInput {
  readonly pod: BoundPod;
  readonly desired: Desired;
  readonly observed: Observed;
  readonly memory: PodMemory;
  readonly probes: Probes;
  readonly busy: Busy;
  readonly previous: PodStatus | undefined;
  readonly hostIps: readonly string[];
  readonly crashLoop: BackoffPolicy;
  /** Milliseconds between two sandboxes of which the first was of no use. */
  readonly retryAfter: number;
  readonly now: number;
}

export type Stage = 'syncing' | 'ending' | 'ended';

export interface Decision {
  readonly stage: Stage;
  readonly status: PodStatus;
  /** The phase that the pod has for good from now on; to be remembered before anything else is done. */
  readonly terminal: Terminal | undefined;
  /** To be started now; none is in a slot that is busy, but for kills that shorten one under way. */
  readonly actions: readonly Action[];
  /** Slots whose work has no purpose any more. */
  readonly cancel: readonly string[];
  /** When to decide again at the latest. */
  readonly wakeAt: number | undefined;
}

/** A container gets at least this long to stop, whatever was asked for. Seconds. */
export const MINIMUM_GRACE = 2;

export function decide(input: DecideInput): Decision {
  const { pod, desired, observed, memory, now } = input;
  const deadline = deadlineOf(input);
  const terminal =
    memory.terminal ??
    requestedEnd(desired) ??
    (deadline !== undefined && deadline <= now ? DEADLINE : undefined);
  const work = planContainers(pod, observed, input.probes);
  const plan = new Plan(input);
  // Once it ends it is not taken up again: what is stopped last would seem to be missing.
  const ending =
    desired.kind !== 'run' || terminal !== undefined || memory.endingAt !== undefined || ends(input, work);
  if (!ending) plan.sync(work);
  else plan.end();
  const ended = ending && !plan.pending;
  const status = statusOf(input, terminal, ending, ended);
  if (ended) plan.giveBack();
  if (!ending && deadline !== undefined) plan.wake(deadline);
  return {
    stage: ended ? 'ended' : ending ? 'ending' : 'syncing',
    status,
    terminal: ending ? (terminal ?? terminalOf(status)) : undefined,
    actions: plan.actions,
    cancel: plan.cancel,
    wakeAt: plan.wakeAt,
  };
}

const DEADLINE: Terminal = {
  phase: 'Failed',
  reason: 'DeadlineExceeded',
  message: 'Pod was active on the node longer than the specified deadline',
};

function deadlineOf({ pod, memory }: DecideInput): number | undefined {
  const seconds = pod.spec.activeDeadlineSeconds;
  return seconds === undefined ? undefined : memory.startTime + seconds * 1000;
}

function requestedEnd(desired: Desired): Terminal | undefined {
  if (desired.kind === 'run' || desired.failure === undefined) return undefined;
  return { phase: 'Failed', ...desired.failure };
}

function terminalOf(status: PodStatus): Terminal | undefined {
  const { phase } = status;
  return phase === 'Succeeded' || phase === 'Failed' ? { phase } : undefined;
}

/** True where the pod, left to itself, will not run anything more. */
function ends(input: DecideInput, work: ContainerWork): boolean {
  const { pod, observed } = input;
  const need = sandboxNeed(pod, observed);
  if (need.usable !== undefined) return work.finished;
  if (observed.containers.length === 0) return false;
  // Without a sandbox everything would start over: not where nothing is restarted, or nothing is left to run.
  if (pod.spec.restartPolicy === 'Never' && need.replaces) return true;
  const initialized =
    mainIsUp(pod, observed) || pod.spec.containers.some((each) => newest(observed, each.name));
  const rest = pod.spec.containers.filter((container) => !succeededForGood(pod, container, observed));
  return initialized && rest.length === 0;
}

function succeededForGood(pod: BoundPod, container: CheckedContainer, observed: Observed): boolean {
  if ((container.restartPolicy ?? pod.spec.restartPolicy) !== 'OnFailure') return false;
  const last = newest(observed, container.name);
  return last?.state === 'exited' && last.exitCode === 0;
}

function statusOf(
  input: DecideInput,
  terminal: Terminal | undefined,
  ending: boolean,
  ended: boolean,
): PodStatus {
  const { pod, observed, memory, probes, previous, hostIps, now } = input;
  return generateStatus({ pod, observed, memory, probes, previous, hostIps, now, terminal, ending, ended });
}

class Plan {
  readonly actions: Action[] = [];
  readonly cancel: string[] = [];
  wakeAt: number | undefined;
  /** True while the pod's end is not reached: something lives or is under way. */
  pending = false;
  readonly #input: DecideInput;

  constructor(input: DecideInput) {
    this.#input = input;
  }

  add(action: Action): void {
    const slot = slotOf(action);
    if (this.#input.busy.has(slot) || this.actions.some((other) => slotOf(other) === slot)) return;
    const failure = this.#input.memory.failures[actionKey(action)];
    if (failure !== undefined && failure.retryAt > this.#input.now) this.wake(failure.retryAt);
    else this.actions.push(action);
  }

  wake(at: number): void {
    if (at > this.#input.now) this.wakeAt = Math.min(this.wakeAt ?? at, at);
  }

  sync(work: ContainerWork): void {
    const { pod, observed, memory } = this.#input;
    const need = sandboxNeed(pod, observed);
    this.#collect();
    if (!memory.prepared) this.add({ kind: 'prepare-pod' });
    if (need.usable === undefined) {
      if (!this.#clearForSandbox() || !memory.prepared) return;
      const at = replacementTime(observed, this.#input.retryAfter, this.#input.now);
      if (at > this.#input.now) return this.wake(at);
      this.add({ kind: 'create-sandbox', attempt: need.nextAttempt, replaces: need.replaces });
      return;
    }
    for (const kill of work.kills) {
      const grace = kill.probeGrace ?? pod.spec.terminationGracePeriodSeconds;
      this.#kill(kill.container.name, kill.id, grace, kill.message);
    }
    if (memory.prepared) this.#start(work, need.usable.id, need.usable.ips);
  }

  /** Stops what is left of a sandbox that cannot be used. Returns true once a new one may be made. */
  #clearForSandbox(): boolean {
    const { pod, observed } = this.#input;
    const alive = observed.containers.filter(isAlive);
    for (const container of alive) {
      this.#kill(container.name, container.id, pod.spec.terminationGracePeriodSeconds, '');
    }
    if (alive.length > 0) return false;
    const ready = observed.sandboxes.filter((sandbox) => sandbox.ready);
    for (const sandbox of ready) this.add({ kind: 'stop-sandbox', id: sandbox.id });
    // Init containers run again in the new sandbox: what they did before no longer counts.
    const init = observed.containers.filter((each) =>
      (pod.spec.initContainers ?? []).some((c) => c.name === each.name),
    );
    for (const container of init) this.#remove(container);
    return ready.length === 0 && init.length === 0;
  }

  /**
   * One start at a time, in order: the next begins when the one before has started (its hook included), failed, or is
   * being put off. Images are fetched meanwhile.
   */
  #start(work: ContainerWork, sandboxId: string, ips: readonly string[]): void {
    const { pod, observed, memory, busy, now } = this.#input;
    let blocked = false;
    for (const container of work.starts) {
      const isInit = (pod.spec.initContainers ?? []).includes(container);
      const last = newest(observed, container.name);
      const own = memory.containers[container.name];
      const failure = memory.failures[startKey(container.name)];
      const start = startTime(this.#input.crashLoop, last, own, failure, now);
      if (start.at > now) {
        this.wake(start.at);
        if (start.because === 'crash-loop') this.#announceCrash(container, last, own?.announcedFor, start.at);
        if (isInit && !isSidecar(container)) return;
        continue;
      }
      if (busy.has(containerSlot(container.name))) {
        blocked = true;
        continue;
      }
      if (work.kills.some((kill) => kill.container === container)) continue;
      if (own?.imageRef === undefined) {
        const waits = this.#fetch(container);
        if (waits === 'backoff') {
          if (isInit && !isSidecar(container)) return;
          continue;
        }
        blocked = true;
        if (isInit) return;
        continue;
      }
      if (blocked) continue;
      this.add({
        kind: 'start-container',
        container: container.name,
        sandboxId,
        ips,
        imageRef: own.imageRef,
        attempt: last === undefined ? undefined : last.attempt + 1,
        crash: last === undefined ? undefined : start.crash,
      });
      blocked = true;
      if (isInit) return;
    }
  }

  #announceCrash(
    container: CheckedContainer,
    last: ObservedContainer | undefined,
    announcedFor: string | undefined,
    until: number,
  ): void {
    if (last === undefined || announcedFor === last.id) return;
    const at = announceTime(last.finishedAt, until);
    if (at > this.#input.now) return this.wake(at);
    return this.add({
      kind: 'announce-backoff',
      container: container.name,
      id: last.id,
      image: container.image,
    });
  }

  /** Asks for the image. Says whether that is put off because an earlier pull failed. */
  #fetch(container: CheckedContainer): 'asked' | 'backoff' {
    const { memory, now, busy } = this.#input;
    const failure = memory.pulls[container.image];
    const until = failure === undefined ? 0 : failure.backoff.since + failure.backoff.delay;
    if (failure !== undefined && until > now) {
      this.wake(until);
      if (failure.pulled && !failure.announced) {
        const at = announceTime(failure.backoff.since, until);
        if (at > now) this.wake(at);
        else {
          const { name, image } = container;
          this.add({ kind: 'announce-backoff', container: name, id: undefined, image });
        }
      }
      return 'backoff';
    }
    // One pull of an image at a time: the others find it there, or its failure.
    const pulling = [...busy.values(), ...this.actions].some(
      (action) => action.kind === 'ensure-image' && action.image === container.image,
    );
    if (!pulling) this.add({ kind: 'ensure-image', container: container.name, image: container.image });
    return 'asked';
  }

  /** Keeps, for each name, the newest container and one dead one before it; removes sandboxes that hold nothing. */
  #collect(): void {
    const { observed } = this.#input;
    const seen = new Map<string, number>();
    for (const container of observed.containers) {
      const before = seen.get(container.name) ?? 0;
      seen.set(container.name, before + 1);
      if (before >= 2 && !isAlive(container)) this.#remove(container);
    }
    for (const sandbox of observed.sandboxes.slice(1)) {
      if (sandbox.ready || observed.containers.some((container) => container.sandboxId === sandbox.id))
        continue;
      this.add({ kind: 'remove-sandbox', id: sandbox.id });
    }
  }

  #remove(container: ObservedContainer): void {
    this.add({
      kind: 'remove-container',
      container: container.name,
      id: container.id,
      attempt: container.attempt,
    });
  }

  /** A kill that shall be over sooner than the one under way takes its place. */
  #kill(name: string, id: string, grace: number, message: string): void {
    const { busy, observed, now } = this.#input;
    const seconds = Math.max(0, grace);
    const action: Action = {
      kind: 'kill-container',
      container: name,
      id,
      ips: observed.sandboxes[0]?.ips ?? [],
      grace: seconds,
      until: now + seconds * 1000,
      message,
    };
    const running = busy.get(slotOf(action));
    if (running === undefined) return this.add(action);
    // the same deadline, in whole seconds from now, may come out a second apart
    if (running.kind === 'kill-container' && running.id === id && running.until > action.until + 1000) {
      this.cancel.push(slotOf(action));
      this.actions.push(action);
    }
    return undefined;
  }

  /** Stops everything: main containers at once, sidecars behind them in reverse order, then the sandbox. */
  end(): void {
    const { observed, busy } = this.#input;
    for (const [slot, action] of busy) {
      if (!GIVING_BACK.has(action.kind)) this.pending = true;
      if (UNWANTED.has(action.kind)) this.cancel.push(slot);
    }
    const grace = this.#endGrace();
    const alive = observed.containers.filter(isAlive);
    for (const container of alive) {
      this.pending = true;
      if (this.#mayStop(container, alive))
        this.#kill(container.name, container.id, this.#graceLeft(grace), '');
    }
    if (alive.length > 0) {
      // A sidecar waits for its turn only as long as the grace period lasts.
      this.wake(this.#endsAt(grace));
      return;
    }
    if (this.pending) return;
    for (const sandbox of observed.sandboxes.filter((each) => each.ready)) {
      this.pending = true;
      this.add({ kind: 'stop-sandbox', id: sandbox.id });
    }
  }

  #endGrace(): number {
    const { desired, pod } = this.#input;
    return (desired.kind === 'run' ? undefined : desired.grace) ?? pod.spec.terminationGracePeriodSeconds;
  }

  #endsAt(grace: number): number {
    const { desired, memory, now } = this.#input;
    return (desired.kind === 'run' ? (memory.endingAt ?? now) : desired.at) + grace * 1000;
  }

  /** What is left of the grace period for a container that had to wait for its turn. */
  #graceLeft(grace: number): number {
    const left = Math.ceil((this.#endsAt(grace) - this.#input.now) / 1000);
    return Math.min(grace, Math.max(0, left));
  }

  #mayStop(container: ObservedContainer, alive: readonly ObservedContainer[]): boolean {
    const { pod, now } = this.#input;
    const sidecars = (pod.spec.initContainers ?? []).filter(isSidecar).map((each) => each.name);
    const turn = sidecars.indexOf(container.name);
    if (turn < 0) return true;
    if (this.#endsAt(this.#endGrace()) <= now) return true;
    const later = sidecars.slice(turn + 1);
    return !alive.some(
      (other) => later.includes(other.name) || pod.spec.containers.some((c) => c.name === other.name),
    );
  }

  /** What an ended pod still holds. */
  giveBack(): void {
    const { memory, desired, observed } = this.#input;
    if (!memory.released) return this.add({ kind: 'release-pod' });
    if (desired.kind !== 'remove') {
      // The newest dead container of each name stays, with its log; so does the sandbox that holds it.
      this.#collect();
      return undefined;
    }
    for (const container of observed.containers) this.#remove(container);
    if (observed.containers.length > 0) return undefined;
    for (const sandbox of observed.sandboxes) this.add({ kind: 'remove-sandbox', id: sandbox.id });
    if (observed.sandboxes.length === 0) this.add({ kind: 'erase-pod' });
    return undefined;
  }
}

/** What has no purpose once the pod ends. */
const UNWANTED: ReadonlySet<Action['kind']> = new Set([
  'ensure-image',
  'start-container',
  'create-sandbox',
  'prepare-pod',
]);

/** What happens after the end, and so does not put it off. */
const GIVING_BACK: ReadonlySet<Action['kind']> = new Set([
  'remove-container',
  'remove-sandbox',
  'release-pod',
  'erase-pod',
]);
