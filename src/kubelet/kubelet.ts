/**
 * The kubelet of one node: pods go in, and run until they have ended or are taken out. One worker looks after each; events
 * of the runtime, probes and timers wake it.
 */
import { existsSync, mkdirSync, realpathSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import {
  type BackoffPolicy,
  describeError,
  Emitter,
  type Log,
  NodeletError,
  type Span,
  SpanList,
  sleep,
} from '../base/index.ts';
import type { ContainerEventResponse, ImageService, LocalRuntime } from '../cri/index.ts';
import { type BoundPod, type Event, type Pod, type PodStatus, podKey, timestamp } from '../kube/index.ts';
import { admit } from './admission.ts';
import { classCgroups, type PodCgroups } from './cgroups.ts';
import { type Desired, isAlive, type Observed } from './core/model.ts';
import type { RetryPolicy } from './core/remember.ts';
import { EventRecorder } from './events.ts';
import type { KubeletContext, PodContext } from './execute/context.ts';
import { type CredentialProvider, credentialFiles, NodeCredentials, PullRecords } from './images/index.ts';
import { logContainer } from './logs/pod-log.ts';
import { type LogChunk, type LogOptions, readLog } from './logs/reader.ts';
import { defaultSettings, type KubeletSettings, type NodeFacts } from './node.ts';
import { ObjectStore } from './objects.ts';
import { collectOrphans } from './orphans.ts';
import { isSafeUid, type KubeletDirectories, KubeletPaths, relativeLogPath } from './paths.ts';
import { LABEL } from './translate/labels.ts';
import { UserNamespaces } from './userns.ts';
import { refersTo } from './volumes/volumes.ts';
import { PodWorker } from './worker.ts';

export interface KubeletOptions {
  readonly runtime: LocalRuntime;
  readonly images: ImageService;
  readonly cgroups: PodCgroups;
  readonly directories: KubeletDirectories;
  readonly node: NodeFacts;
  readonly settings?: Partial<KubeletSettings>;
  /** ConfigMaps and Secrets that pods refer to. */
  readonly objects?: ObjectStore;
  /** Programs that know credentials of registries, and their directory. */
  readonly credentialProviders?: {
    readonly directory: string;
    readonly providers: readonly CredentialProvider[];
  };
  /** Files like docker's config.json, with credentials for all pods; default the kubelet's own and docker's. */
  readonly credentialFiles?: readonly string[];
  readonly crashLoop?: Partial<BackoffPolicy>;
  readonly imagePull?: Partial<BackoffPolicy>;
  /** Milliseconds until a failed step is tried again, 10 s by default. */
  readonly retryAfter?: number;
  readonly log: Log;
  readonly now?: () => number;
}

export interface StopOptions {
  /** Seconds, in place of the pod's own grace period. */
  readonly grace?: number;
  /** Makes the pod Failed with this reason. */
  readonly failure?: { readonly reason: string; readonly message: string };
}

/** Without a container's name the pod has to have one only, or to name one by its annotation. */
export interface LogRequest extends LogOptions {
  readonly container?: string;
  readonly previous?: boolean;
}

/** A pod with its latest status, as the API shows it. */
export interface PodStatusChange {
  readonly pod: BoundPod;
  readonly status: PodStatus;
}

const BACKOFF: BackoffPolicy = { initial: 10_000, factor: 2, max: 300_000, resetAfter: 600_000 };
const EVENT_STREAM_RETRY = 1000;

/** Spans kept of each pod, the earliest: what its start took. */
const MAX_SPANS = 512;

class StartSpans extends SpanList {
  override add(span: Span): void {
    if (this.spans.length < MAX_SPANS) super.add(span);
  }
}

interface Entry {
  readonly worker: PodWorker;
  readonly context: PodContext;
  readonly spans: SpanList;
  readonly done: Promise<void>;
  /** Takes the pod's place once it is gone. */
  next?: BoundPod;
}

export class Kubelet {
  readonly objects: ObjectStore;
  readonly events: EventRecorder;
  readonly #options: KubeletOptions;
  readonly #settings: KubeletSettings;
  readonly #context: KubeletContext;
  readonly #crashLoop: BackoffPolicy;
  readonly #retry: RetryPolicy;
  readonly #pods = new Map<string, Entry>();
  readonly #statuses = new Emitter<PodStatusChange>();
  readonly #removals = new Emitter<BoundPod>();
  readonly #closed = new AbortController();
  #eventLoop: Promise<void> | undefined;
  #orphanTimer: NodeJS.Timeout | undefined;
  #unsubscribe: () => void;

  constructor(options: KubeletOptions) {
    const now = options.now ?? Date.now;
    const paths = new KubeletPaths(openDirectories(options.directories));
    this.#options = options;
    this.#settings = { ...defaultSettings, ...options.settings };
    this.objects = options.objects ?? new ObjectStore();
    this.events = new EventRecorder({ nodeName: options.node.name, now });
    this.#crashLoop = { ...BACKOFF, ...options.crashLoop };
    this.#retry = {
      imagePull: { ...BACKOFF, ...options.imagePull },
      retryAfter: options.retryAfter ?? 10_000,
    };
    this.#context = {
      ...options,
      paths,
      settings: this.#settings,
      objects: this.objects,
      events: this.events,
      userNamespaces: new UserNamespaces(paths, this.#settings.userNamespaces),
      nodeCredentials: new NodeCredentials({
        files: options.credentialFiles ?? credentialFiles(paths.directories.root, homedir()),
        providers: options.credentialProviders?.providers ?? [],
        directory: options.credentialProviders?.directory ?? '',
        log: options.log,
        now,
      }),
      pullRecords: new PullRecords(paths.directories.root, options.log, now),
      now,
    };
    this.#unsubscribe = this.objects.onChange(({ kind, namespace, name }) => {
      for (const { worker } of this.#pods.values()) {
        if (worker.pod.metadata.namespace === namespace && refersTo(worker.pod, kind, name)) {
          worker.configurationChanged();
        }
      }
    });
  }

  get paths(): KubeletPaths {
    return this.#context.paths;
  }

  /** What a pod's translation needs, for `nodelet plan`. */
  get context(): KubeletContext {
    return this.#context;
  }

  /**
   * Begins with the pods that an earlier agent had: what runs of them is adopted, what runs of others is ended and removed.
   * One that was to be removed carries a deletionTimestamp, as `list` shows it: nothing else may remember that. Called once.
   */
  async start(known: readonly BoundPod[] = []): Promise<void> {
    this.#eventLoop = this.#followEvents();
    try {
      await this.#context.pullRecords.recover(this.#context.images);
    } catch (error) {
      this.#options.log.warn(
        { error: describeError(error) },
        'records of pulled images could not be checked',
      );
    }
    const uids = new Set(known.map((pod) => pod.metadata.uid));
    await this.#collectOrphans((uid) => !uids.has(uid) && !this.#pods.has(uid));
    const had = (pod: BoundPod) => existsSync(this.paths.record(pod.metadata.uid));
    for (const pod of known) if (had(pod)) this.#run(pod);
    // Those that go come first: another of the same name waits for them.
    const going = known.filter(({ metadata }) => metadata.deletionTimestamp !== undefined);
    for (const pod of new Set([...going, ...known])) this.add(pod);
    await this.#updateClasses();
  }

  /**
   * Takes a pod in. One of the same name and another UID is stopped and removed first; the same UID again changes nothing.
   * A pod that the node cannot take becomes Failed with upstream's reason. Throws INVALID_POD_UID.
   */
  add(pod: BoundPod): void {
    const { uid } = pod.metadata;
    if (!isSafeUid(uid)) {
      throw new NodeletError('INVALID_POD_UID', `cannot use ${JSON.stringify(uid)} as the UID of a pod`);
    }
    if (this.#pods.has(uid)) return;
    const before = this.#entryByName(podKey(pod));
    if (before !== undefined) {
      before.next = pod;
      before.worker.want({ kind: 'remove', at: this.#context.now() });
      return;
    }
    const going = pod.metadata.deletionTimestamp !== undefined;
    const rejection = going ? undefined : admit(pod, this.#activePods(), this.#context.node, this.#settings);
    if (rejection === undefined) this.#run(pod);
    else {
      const message = `Pod was rejected: ${rejection.message}`;
      this.events.record(pod, 'Warning', rejection.reason, rejection.message);
      this.#run(pod, { kind: 'stop', at: this.#context.now(), failure: { ...rejection, message } });
    }
    void this.#updateClasses();
  }

  /** Ends a pod's containers; its record, status and logs stay. Throws POD_NOT_FOUND. */
  stop(uid: string, options: StopOptions = {}): void {
    this.#entry(uid).worker.want({ kind: 'stop', at: this.#context.now(), ...options });
  }

  /** Ends a pod and removes everything of it; resolves once nothing is left. Throws POD_NOT_FOUND. */
  async remove(uid: string, options: StopOptions = {}): Promise<void> {
    const entry = this.#entry(uid);
    delete entry.next;
    entry.worker.want({ kind: 'remove', at: this.#context.now(), ...options });
    await entry.done;
  }

  has(uid: string): boolean {
    return this.#pods.has(uid);
  }

  /** Every pod with its status, by namespace and name. */
  list(): Pod[] {
    return [...this.#pods.values()]
      .sort((a, b) => (podKey(a.worker.pod) < podKey(b.worker.pod) ? -1 : 1))
      .map((entry) => this.#show(entry));
  }

  get(uid: string): Pod | undefined {
    const entry = this.#pods.get(uid);
    return entry === undefined ? undefined : this.#show(entry);
  }

  /** By `namespace/name`. */
  getByName(key: string): Pod | undefined {
    const entry = this.#entryByName(key);
    return entry === undefined ? undefined : this.#show(entry);
  }

  /** Sandboxes and containers as they were last seen. */
  observed(uid: string): Observed | undefined {
    return this.#pods.get(uid)?.worker.observed;
  }

  /** Spans of what the kubelet half did for a pod. */
  spans(uid: string): SpanList['spans'] {
    return this.#pods.get(uid)?.spans.spans ?? [];
  }

  /**
   * The log of a container, the newest or the one before it; with `follow` until it has ended. Throws POD_NOT_FOUND,
   * CONTAINER_NOT_FOUND, LOG_NOT_FOUND, LOG_UNSAFE, INVALID_ARGUMENT.
   */
  async *logs(uid: string, request: LogRequest = {}, signal?: AbortSignal): AsyncGenerator<LogChunk, void> {
    const { worker } = this.#entry(uid);
    const { pod } = worker;
    const { id, name, attempt } = logContainer(pod, worker.observed, request);
    const ended = new AbortController();
    const check = () => {
      const now = worker.observed.containers.find((each) => each.id === id);
      if (now === undefined || !isAlive(now) || this.#pods.get(uid)?.worker !== worker) ended.abort();
    };
    const stop = [this.#statuses.on(check), this.#removals.on(check)];
    const close = () => ended.abort();
    this.#closed.signal.addEventListener('abort', close);
    check();
    try {
      const root = this.paths.podLogs(pod);
      const path = join(root, relativeLogPath(name, attempt));
      yield* readLog({ root, path, ended: ended.signal }, request, signal);
    } finally {
      for (const unsubscribe of stop) unsubscribe();
      this.#closed.signal.removeEventListener('abort', close);
    }
  }

  /** Hears every change of a pod's status. */
  onStatus(listener: (change: PodStatusChange) => void): () => void {
    return this.#statuses.on(listener);
  }

  /** Hears of pods of which nothing is left, before their last trace on disk is removed. */
  onRemoved(listener: (pod: BoundPod) => void): () => void {
    return this.#removals.on(listener);
  }

  onEvent(listener: (event: Event) => void): () => void {
    return this.events.on(listener);
  }

  /** What resists is tried again until it is gone. */
  async #collectOrphans(isOrphan: (uid: string) => boolean): Promise<void> {
    let next = isOrphan;
    try {
      const { removed, left } = await collectOrphans(this.#context, isOrphan);
      if (removed.length > 0) this.#context.log.info({ removed }, 'removed what was left of unknown pods');
      if (left.length === 0) return;
      next = (uid) => left.includes(uid) && !this.#pods.has(uid);
    } catch (error) {
      this.#context.log.warn({ error: describeError(error) }, 'cannot look for what is left of unknown pods');
    }
    if (this.#closed.signal.aborted) return;
    this.#orphanTimer = setTimeout(() => void this.#collectOrphans(next), this.#retry.retryAfter);
  }

  /** Lets go of every pod; their containers run on. */
  async close(): Promise<void> {
    this.#closed.abort();
    this.#unsubscribe();
    clearTimeout(this.#orphanTimer);
    const entries = [...this.#pods.values()];
    for (const { worker } of entries) worker.close();
    await Promise.all([this.#eventLoop, ...entries.map(({ done }) => done)]);
  }

  #entry(uid: string): Entry {
    const entry = this.#pods.get(uid);
    if (entry === undefined)
      throw new NodeletError('POD_NOT_FOUND', `cannot find pod ${JSON.stringify(uid)}`);
    return entry;
  }

  #entryByName(key: string): Entry | undefined {
    return [...this.#pods.values()].find(({ worker }) => podKey(worker.pod) === key);
  }

  #activePods(): BoundPod[] {
    const active = [...this.#pods.values()].filter(({ worker }) => worker.memory.terminal === undefined);
    return active.map(({ worker }) => worker.pod);
  }

  #show({ worker }: Entry): Pod {
    const { pod, desired } = worker;
    const status = worker.status ?? { phase: 'Pending' };
    const shown = { apiVersion: 'v1', kind: 'Pod', metadata: pod.metadata, spec: pod.spec, status };
    if (desired.kind !== 'remove') return shown;
    const grace = desired.grace ?? pod.spec.terminationGracePeriodSeconds;
    return {
      ...shown,
      metadata: {
        ...pod.metadata,
        deletionTimestamp: timestamp(desired.at + grace * 1000),
        deletionGracePeriodSeconds: grace,
      },
    };
  }

  #run(pod: BoundPod, desired: Desired = desiredOf(pod)): void {
    const { uid, name, namespace } = pod.metadata;
    const context: PodContext = {
      ...this.#context,
      pod,
      log: this.#context.log.child({ pod: `${namespace}/${name}`, uid }),
    };
    const spans = new StartSpans();
    const worker = new PodWorker(
      {
        context,
        crashLoop: this.#crashLoop,
        retry: this.#retry,
        tracer: spans,
        onStatus: (status) => this.#statuses.emit({ pod, status }),
        onGone: () => this.#gone(uid),
      },
      desired,
    );
    this.#pods.set(uid, { worker, context, spans, done: worker.run() });
  }

  #gone(uid: string): void {
    const entry = this.#pods.get(uid);
    if (entry === undefined) return;
    this.#pods.delete(uid);
    this.#removals.emit(entry.worker.pod);
    // Only now: whoever remembers the pod beside us has forgotten it, and no agent can take it for a new one.
    rmSync(this.paths.pod(uid), { recursive: true, force: true });
    if (entry.next !== undefined && !this.#closed.signal.aborted) this.add(entry.next);
    void this.#updateClasses();
  }

  /** The cgroup of class Burstable weighs what its pods ask for together. */
  async #updateClasses(): Promise<void> {
    const { podsLimit } = this.#context.node;
    try {
      await this.#options.cgroups.setClasses(classCgroups(this.#activePods(), podsLimit));
    } catch (error) {
      this.#context.log.warn({ error: describeError(error) }, 'cannot set the cgroups of the QoS classes');
    }
  }

  /** Wakes the worker of each pod to which something has happened. A stream that ends is opened again, and all are woken. */
  async #followEvents(): Promise<void> {
    const { signal } = this.#closed;
    while (!signal.aborted) {
      try {
        for await (const event of this.#options.runtime.getContainerEvents({}, signal)) this.#wake(event);
      } catch (error) {
        if (!signal.aborted) {
          this.#context.log.warn(
            { error: describeError(error) },
            'the stream of container events has broken',
          );
        }
      }
      await sleep(EVENT_STREAM_RETRY, signal).catch(() => {});
      for (const { worker } of this.#pods.values()) worker.wake();
    }
  }

  #wake(event: ContainerEventResponse): void {
    const { podSandboxStatus, containersStatuses = [] } = event;
    const uid =
      podSandboxStatus?.metadata?.uid ??
      podSandboxStatus?.labels?.[LABEL.podUid] ??
      containersStatuses[0]?.labels?.[LABEL.podUid];
    if (uid !== undefined && uid !== '') this.#pods.get(uid)?.worker.wake();
    else for (const { worker } of this.#pods.values()) worker.wake();
  }
}

/** A pod that is being deleted says so itself. */
function desiredOf({ metadata }: BoundPod): Desired {
  const { deletionTimestamp, deletionGracePeriodSeconds: grace = 0 } = metadata;
  if (deletionTimestamp === undefined) return { kind: 'run' };
  return { kind: 'remove', at: Date.parse(deletionTimestamp) - grace * 1000, grace };
}

/** Makes the directories and resolves links in their paths: mounts are found by the paths that the kernel shows. */
function openDirectories(directories: KubeletDirectories): KubeletDirectories {
  const open = (path: string, mode: number) => {
    mkdirSync(path, { recursive: true, mode });
    return realpathSync(path);
  };
  return {
    root: open(directories.root, 0o750),
    podLogs: open(directories.podLogs, 0o755),
    ...(directories.containerLogs === undefined
      ? {}
      : { containerLogs: open(directories.containerLogs, 0o755) }),
  };
}
