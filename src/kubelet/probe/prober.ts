/**
 * Probes of one pod's running containers: a loop for each probe, from the container's start to its end. What they find is
 * published once a threshold is passed, and wakes the pod's worker.
 */
import { describeError } from '../../base/index.ts';
import type { CheckedContainer, Probe } from '../../kube/index.ts';
import type { ProbeResults } from '../core/model.ts';
import { containerOf, type PodContext, podAddress } from '../execute/context.ts';
import { type ProbeAnswer, probeOnce } from './probe.ts';

export type ProbeKind = 'startup' | 'liveness' | 'readiness';

const KINDS: readonly ProbeKind[] = ['startup', 'liveness', 'readiness'];
const FIELD = { startup: 'startupProbe', liveness: 'livenessProbe', readiness: 'readinessProbe' } as const;
const TITLE = { startup: 'Startup', liveness: 'Liveness', readiness: 'Readiness' } as const;

/** Tries of a probe that cannot be made, before it is left for the next period. */
const MAX_TRIES = 3;

export interface ProbedContainer {
  readonly name: string;
  readonly id: string;
  readonly startedAt: number;
  readonly ips: readonly string[];
}

/** What was found before a restart of the agent: a container that was ready is not taken for unready meanwhile. */
export type ProbeSeed = ReadonlyMap<string, ProbeResults>;

export class PodProber {
  readonly #context: PodContext;
  readonly #onChange: () => void;
  readonly #loops = new Map<string, ProbeLoop[]>();
  readonly #results = new Map<string, ProbeResults>();

  constructor(context: PodContext, seed: ProbeSeed, onChange: () => void) {
    this.#context = context;
    this.#onChange = onChange;
    for (const [id, results] of seed) this.#results.set(id, results);
  }

  get results(): ReadonlyMap<string, ProbeResults> {
    return this.#results;
  }

  /** Probes exactly these containers from now on. While the pod ends only readiness is still asked for. */
  sync(running: readonly ProbedContainer[], ending: boolean): void {
    const ids = new Set(running.map(({ id }) => id));
    for (const [id, loops] of this.#loops) {
      if (!ids.has(id)) this.#forget(id, loops);
      else if (ending) for (const loop of loops) if (loop.kind !== 'readiness') loop.stop();
    }
    for (const id of this.#results.keys()) if (!ids.has(id)) this.#results.delete(id);
    for (const each of running) if (!this.#loops.has(each.id) && !ending) this.#begin(each);
  }

  stop(): void {
    for (const [id, loops] of this.#loops) this.#forget(id, loops);
  }

  #forget(id: string, loops: readonly ProbeLoop[]): void {
    for (const loop of loops) loop.stop();
    this.#loops.delete(id);
    this.#results.delete(id);
  }

  #begin(each: ProbedContainer): void {
    const container = containerOf(this.#context.pod, each.name);
    const seeded = this.#results.get(each.id);
    this.#results.set(each.id, { ...initialResults(container), ...seeded });
    const loops = KINDS.flatMap((kind) => {
      const probe = container[FIELD[kind]];
      return probe === undefined ? [] : [this.#loop(kind, probe, container, each, seeded !== undefined)];
    });
    this.#loops.set(each.id, loops);
    for (const loop of loops) loop.start();
  }

  #loop(
    kind: ProbeKind,
    probe: Probe,
    container: CheckedContainer,
    each: ProbedContainer,
    adopted: boolean,
  ): ProbeLoop {
    const context = this.#context;
    return new ProbeLoop({
      kind,
      probe,
      startedAt: each.startedAt,
      adopted,
      now: context.now,
      mayRun: () => kind === 'startup' || hasStarted(container, this.#results.get(each.id)),
      run: (signal) => {
        const target = { ...context, container, containerId: each.id, podIp: podAddress(context, each.ips) };
        return probeOnce(probe, target, signal);
      },
      say: (reason, message) =>
        context.events.record(context.pod, 'Warning', reason, message, container.name),
      publish: (result) => {
        const before = this.#results.get(each.id);
        if (before === undefined || before[kind] === result) return;
        this.#results.set(each.id, { ...before, [kind]: result });
        if (kind === 'startup' && result === 'success') {
          for (const loop of this.#loops.get(each.id) ?? []) loop.trigger();
        }
        this.#onChange();
      },
    });
  }
}

function hasStarted(container: CheckedContainer, results: ProbeResults | undefined): boolean {
  return container.startupProbe === undefined || results?.startup === 'success';
}

function initialResults(container: CheckedContainer): ProbeResults {
  return {
    ...(container.startupProbe ? { startup: 'unknown' as const } : {}),
    ...(container.livenessProbe ? { liveness: 'success' as const } : {}),
    ...(container.readinessProbe ? { readiness: 'failure' as const } : {}),
  };
}

interface LoopOptions {
  readonly kind: ProbeKind;
  readonly probe: Probe;
  readonly startedAt: number;
  /** True where the container ran before this agent did: probes of many pods are then spread over their periods. */
  readonly adopted: boolean;
  readonly now: () => number;
  readonly mayRun: () => boolean;
  readonly run: (signal: AbortSignal) => Promise<ProbeAnswer>;
  readonly say: (reason: string, message: string) => void;
  readonly publish: (result: 'success' | 'failure') => void;
}

class ProbeLoop {
  readonly kind: ProbeKind;
  readonly #options: LoopOptions;
  readonly #abort = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #running = false;
  #last: 'success' | 'failure' | undefined;
  #count = 0;
  /** True once a failure (or the end of the start) leaves nothing to ask until there is another container. */
  #onHold = false;

  constructor(options: LoopOptions) {
    this.kind = options.kind;
    this.#options = options;
  }

  start(): void {
    const { startedAt, probe, adopted, now } = this.#options;
    const delay = startedAt + (probe.initialDelaySeconds ?? 0) * 1000 - now();
    const spread = adopted ? Math.random() * this.#period : 0;
    this.#schedule(Math.max(0, delay) + spread);
  }

  /** Runs now instead of at its time, where its time has come at all. */
  trigger(): void {
    const { startedAt, probe, now } = this.#options;
    if (this.#running || now() < startedAt + (probe.initialDelaySeconds ?? 0) * 1000) return;
    this.#schedule(0);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#abort.abort();
  }

  get #period(): number {
    return (this.#options.probe.periodSeconds ?? 10) * 1000;
  }

  #schedule(delay: number): void {
    clearTimeout(this.#timer);
    if (this.#onHold || this.#abort.signal.aborted) return;
    this.#timer = setTimeout(() => void this.#tick(), delay);
  }

  async #tick(): Promise<void> {
    const { mayRun, now } = this.#options;
    const begin = now();
    if (mayRun()) {
      this.#running = true;
      const answer = await this.#ask();
      this.#running = false;
      if (this.#abort.signal.aborted) return;
      if (answer !== undefined) this.#weigh(answer);
    }
    this.#schedule(Math.max(0, this.#period - (now() - begin)));
  }

  /** Undefined where the probe could not be made. */
  async #ask(): Promise<'success' | 'failure' | undefined> {
    const { run, say, kind } = this.#options;
    let problem = '';
    for (let i = 0; i < MAX_TRIES; i++) {
      try {
        const { result, output } = await run(this.#abort.signal);
        if (this.#abort.signal.aborted) return undefined;
        if (result === 'failure') say('Unhealthy', `${TITLE[kind]} probe failed: ${output}`);
        if (result === 'warning') say('ProbeWarning', `${TITLE[kind]} probe warning: ${output}`);
        return result === 'failure' ? 'failure' : 'success';
      } catch (error) {
        if (this.#abort.signal.aborted) return undefined;
        problem = describeError(error);
      }
    }
    say('Unhealthy', `${TITLE[kind]} probe errored and resulted in unknown state: ${problem}`);
    return undefined;
  }

  #weigh(result: 'success' | 'failure'): void {
    const { probe, publish, kind } = this.#options;
    this.#count = this.#last === result ? this.#count + 1 : 1;
    this.#last = result;
    const threshold = (result === 'failure' ? probe.failureThreshold : probe.successThreshold) ?? 1;
    if (this.#count < threshold) return;
    if (kind === 'startup' || (kind === 'liveness' && result === 'failure')) this.#onHold = true;
    publish(result);
  }
}
