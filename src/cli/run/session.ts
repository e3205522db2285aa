/**
 * One foreground run: gives pods to an agent, shows what happens to them and what they write, and sees them to their end.
 * Whatever ends it (the pods themselves, a signal, the time limit, a failure that waiting does not cure), it ends in the
 * same way: pods stopped, output shown to its end.
 */
import type { AgentClient, PodChange } from '../../agent/index.ts';
import { describeError, hasCode, NodeletError } from '../../base/index.ts';
import type { Event, Manifests, Pod } from '../../kube/index.ts';
import { EXIT } from '../exit-codes.ts';
import { printable } from '../format/text.ts';
import { eventLine } from '../render/events.ts';
import { PullBoard } from '../render/pulls.ts';
import type { Screen } from '../terminal/screen.ts';
import type { Style } from '../terminal/style.ts';
import { hasStarted, whyHopeless, whyHopelessEvent } from './give-up.ts';
import type { OutputMux } from './mux.ts';
import { describeEnd, exitStatus, hasEnded } from './verdict.ts';

export interface SessionOptions {
  readonly client: AgentClient;
  readonly manifests: Manifests;
  readonly screen: Screen;
  readonly style: Style;
  readonly mux: OutputMux;
  /** Events are not shown. */
  readonly quiet: boolean;
  /** Milliseconds until the pods are stopped. */
  readonly timeout: number | undefined;
  /** Waits for ever for what a kubelet tries for ever. */
  readonly keepTrying: boolean;
  /** Everything of the pods goes at the end. */
  readonly remove: boolean;
}

interface Followed {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  /** How its containers' lines are told apart. */
  readonly label: (container: string) => string;
  pod: Pod;
  ended: boolean;
}

export class Session {
  readonly #options: SessionOptions;
  readonly #started = Date.now();
  readonly #over = new AbortController();
  /** Nobody reads what the containers write any more. */
  readonly #unread = new AbortController();
  readonly #board = new PullBoard(() => performance.now());
  readonly #shown = new Set<string>();
  #followed: readonly Followed[] = [];
  /** The exit status of a run that did not end by itself; set once. */
  #code: number | undefined;
  #stops = 0;

  constructor(options: SessionOptions) {
    this.#options = options;
  }

  /**
   * Stops the pods: the first call gently, the second at once. The first call's `code` is the run's exit status. Also before
   * the pods are there: then they are stopped as soon as they are.
   */
  interrupt(code: number): void {
    this.#code ??= code;
    this.#stops += 1;
    if (code === EXIT.brokenPipe) this.unread();
    if (this.#stops <= 2) this.#stopPods();
  }

  /** Whoever read what the containers write has gone. */
  unread(): void {
    this.#unread.abort();
  }

  get interrupted(): boolean {
    return this.#stops > 0;
  }

  /** The exit status. Throws what the agent refuses, and AGENT_LOST. */
  async run(): Promise<number> {
    const { client, manifests, timeout, remove } = this.#options;
    if (this.interrupted) return this.#code ?? EXIT.failure;
    const { pods, configMaps, secrets } = manifests;
    const taken = (await client.create({ pods, configMaps, secrets })).pods;
    const many = taken.length > 1;
    this.#followed = taken.map((one, i) => ({
      ...one,
      label: (container) => (many ? `${one.name}/${container}` : container),
      pod: pods[i] ?? {},
      ended: false,
    }));
    if (this.interrupted) this.#stopPods();
    const timer = timeout === undefined ? undefined : setTimeout(() => this.#timeOut(), timeout);
    // Settled from the start: an agent that dies breaks these off as well, and that is told once, by the watch.
    const side = Promise.allSettled([this.#showEvents(), this.#showPulls()]);
    try {
      await Promise.all(this.#followed.map((one) => this.#follow(one)));
      await this.#showLastEvents();
    } finally {
      clearTimeout(timer);
      this.#over.abort();
      await side;
      this.#options.screen.show([]);
      if (remove) await this.#removePods();
    }
    return this.#code ?? this.#verdict();
  }

  #verdict(): number {
    const pods = this.#followed.map(({ pod }) => pod);
    for (const pod of pods) {
      const text = describeEnd(pod);
      if (text !== undefined) this.#say(text);
    }
    return exitStatus(pods);
  }

  #say(text: string): void {
    const { screen, style } = this.#options;
    screen.line(`${style.red('nodelet:')} ${printable(text)}`);
  }

  #timeOut(): void {
    this.#say('the time is up; stopping');
    this.interrupt(EXIT.timeout);
  }

  #giveUp(why: string): void {
    if (this.interrupted || this.#options.keepTrying) return;
    this.#say(why);
    this.interrupt(EXIT.failure);
  }

  // --- one pod

  async #follow(one: Followed): Promise<void> {
    await Promise.all([this.#watch(one), this.#showOutput(one)]);
  }

  /** Until the pod has ended or is gone. */
  async #watch(one: Followed): Promise<void> {
    const { client } = this.#options;
    try {
      for await (const change of client.watchPod(one.namespace, one.name, this.#over.signal)) {
        if (this.#isEnd(one, change)) {
          one.ended = true;
          return;
        }
      }
    } catch (error) {
      if (!hasCode(error, 'ECONNRESET', 'AGENT_UNREACHABLE')) throw error;
    }
    if (this.#over.signal.aborted) return;
    throw new NodeletError('AGENT_LOST', 'the agent has gone; the pods run on', {
      hint: 'nodelet agent takes them up again, then: nodelet pods',
    });
  }

  #isEnd(one: Followed, { type, object }: PodChange): boolean {
    one.pod = object;
    if (type === 'DELETED' || hasEnded(object)) return true;
    const why = whyHopeless(object);
    if (why !== undefined) this.#giveUp(why);
    return false;
  }

  async #showOutput(one: Followed): Promise<void> {
    const { client, mux } = this.#options;
    const end = AbortSignal.any([this.#over.signal, this.#unread.signal]);
    try {
      for await (const chunk of client.output(one.namespace, one.name, end)) {
        await mux.write(one.label(chunk.container), chunk);
      }
    } catch (error) {
      // A pod that is removed by somebody else takes its output with it.
      if (!end.aborted && !hasCode(error, 'POD_NOT_FOUND', 'ECONNRESET')) throw error;
    }
  }

  // --- what happens meanwhile

  async #showEvents(): Promise<void> {
    const { client } = this.#options;
    for await (const event of client.watchEvents({ from: 'start' }, this.#over.signal))
      this.#showEvent(event);
  }

  /** Those that were recorded with the end itself may still be on their way. */
  async #showLastEvents(): Promise<void> {
    for (const { uid } of this.#followed) {
      for (const event of await this.#options.client.events(uid)) this.#showEvent(event);
    }
  }

  #showEvent(event: Event): void {
    const one = this.#followed.find(({ uid }) => uid === event.involvedObject.uid);
    const key = `${event.metadata?.name} ${event.count}`;
    if (one === undefined || this.#shown.has(key)) return;
    this.#shown.add(key);
    const { quiet, screen, style } = this.#options;
    if (!quiet) screen.line(eventLine(event, this.#started, style, printable));
    if (hasStarted(one.pod)) return;
    const why = whyHopelessEvent(event);
    if (why !== undefined) this.#giveUp(why);
  }

  async #showPulls(): Promise<void> {
    const { client, quiet, screen } = this.#options;
    if (quiet) return;
    for await (const { reference, event } of client.pulls(this.#over.signal)) {
      const lines = this.#board.apply(reference, event);
      if (screen.live) screen.show(this.#board.lines());
      else for (const line of lines) screen.line(line);
    }
  }

  // --- the end

  #stopPods(): void {
    const grace = this.#stops > 1 ? 0 : undefined;
    for (const { ended, namespace, name } of this.#followed) {
      if (ended) continue;
      this.#options.client.stop(namespace, name, grace).catch((error: unknown) => {
        if (!this.#over.signal.aborted && !hasCode(error, 'POD_NOT_FOUND', 'ECONNRESET'))
          this.#say(`cannot stop pod "${name}": ${describeError(error)}`);
      });
    }
  }

  async #removePods(): Promise<void> {
    await Promise.all(
      this.#followed.map(async ({ namespace, name }) => {
        try {
          await this.#options.client.remove(namespace, name, 0);
        } catch (error) {
          if (!hasCode(error, 'POD_NOT_FOUND'))
            this.#say(`cannot remove pod "${name}": ${describeError(error)}`);
        }
      }),
    );
  }
}
