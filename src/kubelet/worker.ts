/**
 * One pod's loop: observe, decide, execute. It sleeps until something has happened (a container's event, a probe, a change
 * of what is wanted, an action's end) or the decision's own time has come; what happens meanwhile is one wake-up, and the
 * latest state is what counts.
 */
import { type BackoffPolicy, describeError, monotonicMicros, sleep, type Tracer } from '../base/index.ts';
import type { BoundPod, PodStatus } from '../kube/index.ts';
import { type Action, describeAction, slotOf } from './core/actions.ts';
import { type Decision, decide } from './core/decide.ts';
import { type Desired, isAlive, newPodMemory, type Observed, type PodMemory } from './core/model.ts';
import { forgetConfiguration, type Outcome, type RetryPolicy, remember } from './core/remember.ts';
import { asPodError } from './errors.ts';
import type { PodContext } from './execute/context.ts';
import { execute } from './execute/execute.ts';
import { Observer } from './observe.ts';
import { PodProber } from './probe/prober.ts';
import { RecordFile, recordOf } from './record.ts';

export interface WorkerOptions {
  readonly context: PodContext;
  readonly crashLoop: BackoffPolicy;
  readonly retry: RetryPolicy;
  readonly tracer?: Tracer;
  /** Hears the status whenever it has changed. */
  readonly onStatus: (status: PodStatus) => void;
  /** Hears once that nothing of the pod is left. */
  readonly onGone: () => void;
}

interface Running {
  readonly action: Action;
  readonly abort: AbortController;
}

/** Reasons of failures that name no reason of their own. */
const DEFAULT_REASONS: Partial<Record<Action['kind'], string>> = {
  'prepare-pod': 'FailedMount',
  'create-sandbox': 'CreatePodSandboxError',
  'ensure-image': 'ErrImagePull',
  'start-container': 'RunContainerError',
  'kill-container': 'KillContainerError',
  'stop-sandbox': 'KillPodSandboxError',
};

const OBSERVE_RETRY = 1000;

export class PodWorker {
  readonly pod: BoundPod;
  readonly #options: WorkerOptions;
  readonly #context: PodContext;
  readonly #observer: Observer;
  readonly #prober: PodProber;
  readonly #record: RecordFile;
  readonly #running = new Map<string, Running>();
  readonly #closed = new AbortController();
  #desired: Desired;
  #memory: PodMemory;
  #observed: Observed = { sandboxes: [], containers: [] };
  #decision: Decision | undefined;
  #statusText = '';
  #timer: NodeJS.Timeout | undefined;
  #wake: (() => void) | undefined;
  #due = true;
  /** How many actions have ended. */
  #done = 0;
  #gone = false;

  /** Takes up what the record of an earlier agent says of the pod. */
  constructor(options: WorkerOptions, desired: Desired = { kind: 'run' }) {
    const { context } = options;
    const { pod } = context;
    this.pod = pod;
    this.#options = options;
    this.#context = context;
    const all = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
    this.#observer = new Observer(context.runtime, pod.metadata.uid, all.length);
    this.#record = new RecordFile(context.paths, pod.metadata.uid);
    const record = this.#record.read();
    this.#desired = record === undefined || record.desired.kind === 'run' ? desired : record.desired;
    this.#memory = {
      ...newPodMemory(record?.startTime ?? context.now()),
      ...(record?.endingAt === undefined ? {} : { endingAt: record.endingAt }),
      ...(record?.terminal === undefined ? {} : { terminal: record.terminal }),
    };
    this.#prober = new PodProber(context, new Map(Object.entries(record?.probes ?? {})), () => this.wake());
  }

  /** The latest status; undefined until the first decision. */
  get status(): PodStatus | undefined {
    return this.#decision?.status;
  }

  get decision(): Decision | undefined {
    return this.#decision;
  }

  get observed(): Observed {
    return this.#observed;
  }

  get desired(): Desired {
    return this.#desired;
  }

  get memory(): PodMemory {
    return this.#memory;
  }

  /** Something about the pod may have changed. */
  wake(): void {
    this.#due = true;
    this.#wake?.();
  }

  /** A stop is never taken back; a later request may only shorten it, or add the removal. */
  want(desired: Exclude<Desired, { kind: 'run' }>): void {
    const before = this.#desired;
    if (before.kind === 'run') this.#desired = desired;
    else {
      const deadline = (each: Exclude<Desired, { kind: 'run' }>) =>
        each.at + (each.grace ?? this.pod.spec.terminationGracePeriodSeconds) * 1000;
      const sooner = deadline(desired) < deadline(before) ? desired : before;
      const kind = before.kind === 'remove' ? 'remove' : desired.kind;
      this.#desired = { ...sooner, kind, ...(before.failure ? { failure: before.failure } : {}) };
    }
    this.#save();
    this.wake();
  }

  /** A ConfigMap or Secret that the pod refers to has changed. */
  configurationChanged(): void {
    this.#memory = forgetConfiguration(this.#memory);
    this.wake();
  }

  /** Runs until nothing of the pod is left, or the worker is closed. Never rejects. */
  async run(): Promise<void> {
    while (!this.#gone && !this.#closed.signal.aborted) {
      await this.#untilDue();
      if (this.#closed.signal.aborted) return;
      this.#due = false;
      try {
        await this.#turn();
      } catch (error) {
        this.#context.log.error({ error: describeError(error) }, 'cannot look after the pod');
        await sleep(OBSERVE_RETRY, this.#closed.signal).catch(() => {});
        this.#due = true;
      }
    }
  }

  /** Lets go of the pod; its containers run on. Actions under way are given up. */
  close(): void {
    this.#closed.abort();
    clearTimeout(this.#timer);
    this.#prober.stop();
    for (const { abort } of this.#running.values()) abort.abort();
    this.#wake?.();
  }

  async #untilDue(): Promise<void> {
    while (!this.#due && !this.#closed.signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }

  async #turn(): Promise<void> {
    let done: number;
    do {
      done = this.#done;
      this.#observed = await this.#observer.observe();
      if (this.#closed.signal.aborted) return;
      // What an action that ended meanwhile has done may be missing in what was read: it would be done once more.
    } while (done !== this.#done);
    const decision = this.#decide();
    // Probes that begin now change what is known of readiness: the status is to say so at once.
    const probed = this.#probe(decision);
    const final = probed ? this.#decide() : decision;
    this.#decision = final;
    this.#rememberStage(final);
    this.#publish(final.status);
    for (const slot of final.cancel) this.#running.get(slot)?.abort.abort();
    for (const action of final.actions) this.#start(action);
    this.#schedule(final.wakeAt);
  }

  #decide(): Decision {
    const { context, crashLoop, retry } = this.#options;
    return decide({
      pod: this.pod,
      desired: this.#desired,
      observed: this.#observed,
      memory: this.#memory,
      probes: this.#prober.results,
      busy: new Map([...this.#running].map(([slot, { action }]) => [slot, action])),
      previous: this.#decision?.status,
      hostIps: context.node.ips,
      crashLoop,
      retryAfter: retry.retryAfter,
      now: context.now(),
    });
  }

  /** Returns true where the set of probed containers has changed. */
  #probe(decision: Decision): boolean {
    const before = [...this.#prober.results.keys()].join();
    const running = this.#observed.containers.filter(({ state }) => state === 'running');
    this.#prober.sync(
      running.map(({ name, id, startedAt }) => ({
        name,
        id,
        startedAt,
        ips: this.#observed.sandboxes[0]?.ips ?? [],
      })),
      decision.stage !== 'syncing',
    );
    return [...this.#prober.results.keys()].join() !== before;
  }

  #rememberStage({ stage, terminal }: Decision): void {
    const memory = this.#memory;
    if (terminal !== undefined && memory.terminal === undefined) this.#memory = { ...this.#memory, terminal };
    if (stage !== 'syncing' && memory.endingAt === undefined) {
      this.#memory = { ...this.#memory, endingAt: this.#context.now() };
    }
    this.#save();
  }

  #save(): void {
    try {
      this.#record.write(recordOf(this.#memory, this.#desired, this.#prober.results));
    } catch (error) {
      this.#context.log.warn({ error: describeError(error) }, 'cannot write the record of the pod');
    }
  }

  #publish(status: PodStatus): void {
    const text = JSON.stringify(status);
    if (text === this.#statusText) return;
    this.#statusText = text;
    this.#options.onStatus(status);
  }

  #schedule(wakeAt: number | undefined): void {
    clearTimeout(this.#timer);
    if (wakeAt === undefined || this.#gone) return;
    // setTimeout takes 31 bits of milliseconds, and may fire one too early
    const delay = Math.min(Math.max(1, Math.ceil(wakeAt - this.#context.now()) + 1), 0x7fff_ffff);
    this.#timer = setTimeout(() => this.wake(), delay);
  }

  #start(action: Action): void {
    const slot = slotOf(action);
    const running: Running = { action, abort: new AbortController() };
    this.#running.set(slot, running);
    this.#context.log.debug({ action: describeAction(action) }, 'action');
    void this.#perform(action, running.abort.signal).then((outcome) => {
      // A kill that was shortened has been replaced: its end says nothing.
      if (this.#running.get(slot) !== running) return;
      this.#running.delete(slot);
      this.#done += 1;
      if (outcome !== undefined) {
        const { retry } = this.#options;
        this.#memory = remember(this.#memory, action, outcome, retry, this.#context.now());
      }
      if (action.kind === 'erase-pod' && outcome?.ok === true) {
        this.#gone = true;
        clearTimeout(this.#timer);
        this.#prober.stop();
        this.#options.onGone();
      }
      this.wake();
    });
  }

  /** Undefined where the action was given up: nothing is learned from that. */
  async #perform(action: Action, signal: AbortSignal): Promise<Outcome | undefined> {
    const start = monotonicMicros();
    try {
      const { imageRef } = await execute(this.#context, action, signal);
      return { ok: true, ...(imageRef === undefined ? {} : { imageRef }) };
    } catch (error) {
      if (signal.aborted) return undefined;
      const { reason, message } = asPodError(error, DEFAULT_REASONS[action.kind] ?? 'Failed');
      this.#context.log.warn(
        { action: describeAction(action), reason, error: describeError(error) },
        'action failed',
      );
      return { ok: false, reason, message };
    } finally {
      const duration = monotonicMicros() - start;
      this.#options.tracer?.add({ name: describeAction(action), category: 'kubelet', start, duration });
    }
  }

  /** True while a container of the pod may run. */
  get alive(): boolean {
    return this.#observed.containers.some(isAlive);
  }
}
