/**
 * What the kubelet knows about one pod, as plain data. `observed` is read from the runtime before every decision,
 * `memory` is what the runtime cannot tell: failures, back-off, what was prepared. Times are milliseconds since 1970.
 */
import type { BackoffState } from '../../base/index.ts';
import type { LinuxContainerUser } from '../../kube/index.ts';

export interface ObservedSandbox {
  readonly id: string;
  readonly attempt: number;
  readonly ready: boolean;
  readonly createdAt: number;
  /** Empty in the host's network, or where the pod has no address (yet). */
  readonly ips: readonly string[];
}

export type ContainerState = 'created' | 'running' | 'exited' | 'unknown';

export interface ObservedContainer {
  readonly id: string;
  readonly name: string;
  readonly sandboxId: string;
  /** The restart count that it was made with. */
  readonly attempt: number;
  readonly state: ContainerState;
  readonly createdAt: number;
  readonly startedAt: number;
  readonly finishedAt: number;
  readonly exitCode: number;
  readonly reason: string;
  /** With the termination message, where there is one. */
  readonly message: string;
  readonly image: string;
  readonly imageRef: string;
  readonly logPath: string;
  readonly user?: LinuxContainerUser;
  /** Length of the crash-loop pause that preceded it, from its annotations. */
  readonly crashDelay?: number;
}

/** Sandboxes and containers of one pod, the newest first. */
export interface Observed {
  readonly sandboxes: readonly ObservedSandbox[];
  readonly containers: readonly ObservedContainer[];
}

/** What is wanted of a pod. `stop` ends it and keeps its record; `remove` ends it and everything of it. */
export type Desired =
  | { readonly kind: 'run' }
  | {
      readonly kind: 'stop' | 'remove';
      readonly at: number;
      /** Seconds, in place of the pod's own grace period. */
      readonly grace?: number;
      /** Why, where the pod shall be Failed with it. */
      readonly failure?: { readonly reason: string; readonly message: string };
    };

/** A phase that a pod never leaves. */
export interface Terminal {
  readonly phase: 'Succeeded' | 'Failed';
  readonly reason?: string;
  readonly message?: string;
}

/** A failure that is tried again at `retryAt`. */
export interface Failure {
  readonly reason: string;
  readonly message: string;
  readonly at: number;
  readonly retryAt: number;
}

/** A failed pull; `backoff.since + backoff.delay` is when the next may be tried. */
export interface PullFailure {
  readonly reason: string;
  readonly message: string;
  /** False where no registry was asked: the image may not be pulled, or its name is none. */
  readonly pulled: boolean;
  readonly backoff: BackoffState;
  /** True once it was said that we are backing off. */
  readonly announced: boolean;
}

export interface ContainerMemory {
  /** The image that the next attempt uses; forgotten once that attempt was started. */
  readonly imageRef?: string;
  /** The crash loop: length of the latest pause and when its container was started. */
  readonly crash?: BackoffState;
  /** Id of the dead container for whose pause it was said that we are backing off. */
  readonly announcedFor?: string;
}

export interface PodMemory {
  /** When the kubelet first worked on the pod. */
  readonly startTime: number;
  /** When it was decided that the pod ends; unset while it shall run. */
  readonly endingAt?: number;
  /** True once directories, cgroup and volumes stand. */
  readonly prepared: boolean;
  /** Of each action that failed and was not done since, by `actionKey`. */
  readonly failures: Readonly<Record<string, Failure>>;
  /** By image, as the pod names it. */
  readonly pulls: Readonly<Record<string, PullFailure>>;
  readonly containers: Readonly<Record<string, ContainerMemory>>;
  readonly terminal?: Terminal;
  /** True once a terminated pod's volumes, cgroup and user ids were given back. */
  readonly released: boolean;
}

export function newPodMemory(startTime: number): PodMemory {
  return { startTime, prepared: false, failures: {}, pulls: {}, containers: {}, released: false };
}

/** What probes say about one running container; a probe that does not exist leaves its field undefined. */
export interface ProbeResults {
  readonly startup?: 'unknown' | 'success' | 'failure';
  readonly liveness?: 'success' | 'failure';
  readonly readiness?: 'success' | 'failure';
}

/** The newest container of a name. */
export function newest(observed: Observed, name: string): ObservedContainer | undefined {
  return observed.containers.find((container) => container.name === name);
}

export function isAlive(container: ObservedContainer): boolean {
  return container.state === 'running' || container.state === 'unknown';
}
