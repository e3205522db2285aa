/** v1 Events about pods, as a kubelet records them: the same thing said again raises a count. */
import { Emitter } from '../base/index.ts';
import { type BoundPod, type Event, timestamp } from '../kube/index.ts';

export type EventType = 'Normal' | 'Warning';

export interface EventRecorderOptions {
  readonly nodeName: string;
  readonly now: () => number;
  /** Events kept; the oldest are forgotten first. */
  readonly capacity?: number;
}

/** `spec.containers{name}`: how an event names a container. */
export function containerFieldPath(pod: BoundPod, container: string): string {
  const isInit = (pod.spec.initContainers ?? []).some((each) => each.name === container);
  return `spec.${isInit ? 'initContainers' : 'containers'}{${container}}`;
}

export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #events = new Map<string, Event>();
  readonly #emitter = new Emitter<Event>();
  #counter = 0;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
  }

  /** Records an event about a pod, or about one container of it. */
  record(pod: BoundPod, type: EventType, reason: string, message: string, container?: string): void {
    const { name, namespace, uid } = pod.metadata;
    const fieldPath = container === undefined ? undefined : containerFieldPath(pod, container);
    const key = JSON.stringify([uid, fieldPath, type, reason, message]);
    const now = this.#options.now();
    const before = this.#events.get(key);
    const event: Event =
      before === undefined
        ? {
            apiVersion: 'v1',
            kind: 'Event',
            metadata: { name: this.#name(name, now), namespace, creationTimestamp: timestamp(now) },
            involvedObject: {
              apiVersion: 'v1',
              kind: 'Pod',
              name,
              namespace,
              uid,
              ...(fieldPath === undefined ? {} : { fieldPath }),
            },
            type,
            reason,
            message,
            source: { component: 'kubelet', host: this.#options.nodeName },
            reportingComponent: 'kubelet',
            reportingInstance: this.#options.nodeName,
            firstTimestamp: timestamp(now),
            lastTimestamp: timestamp(now),
            count: 1,
          }
        : { ...before, lastTimestamp: timestamp(now), count: (before.count ?? 1) + 1 };
    // put last: the map's order is that of the latest occurrence
    this.#events.delete(key);
    this.#events.set(key, event);
    this.#trim();
    this.#emitter.emit(event);
  }

  /** By latest occurrence, of one pod where `uid` is given. */
  list(uid?: string): Event[] {
    const events = [...this.#events.values()];
    return uid === undefined ? events : events.filter((event) => event.involvedObject.uid === uid);
  }

  /** Hears every occurrence; a repeated one with its raised count. */
  on(listener: (event: Event) => void): () => void {
    return this.#emitter.on(listener);
  }

  #trim(): void {
    const capacity = this.#options.capacity ?? 2000;
    for (const key of this.#events.keys()) {
      if (this.#events.size <= capacity) return;
      this.#events.delete(key);
    }
  }

  /** `<pod>.<16 hex digits>`, never twice. */
  #name(pod: string, now: number): string {
    this.#counter += 1;
    const stamp = (BigInt(Math.round(now)) * 1_000_000n + BigInt(this.#counter % 1_000_000)).toString(16);
    return `${pod}.${stamp.padStart(16, '0')}`;
  }
}
