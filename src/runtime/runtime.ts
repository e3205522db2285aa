/**
 * The CRI runtime: sandboxes and containers over shims. Calls for the same sandbox or container go one after another,
 * except that a stop never waits for another stop. Errors carry the codes NOT_FOUND, INVALID_ARGUMENT, INVALID_STATE and
 * those of the verbs' own files.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import {
  Emitter,
  failpoint,
  KeyedMutex,
  type Log,
  messageOf,
  NodeletError,
  type Span,
} from '../base/index.ts';
import type { PodNetwork } from '../cni/index.ts';
import * as cri from '../cri/index.ts';
import type { ImageSource } from '../image/index.ts';
import type { CgroupStats } from '../linux/cgroups/index.ts';
import { defaultDeviceRules, loadDeviceProgram } from '../linux/devices/index.ts';
import type { Fd } from '../linux/fd.ts';
import { openAttach } from './attach.ts';
import { CDI_DIRECTORIES } from './cdi/index.ts';
import { RuntimeCgroups } from './cgroup.ts';
import { cannotCheckpoint } from './checkpoint.ts';
import type { RuntimeContext } from './context.ts';
import { createContainer } from './create-container.ts';
import { canHaveEmptyMounts, EmptyMounts } from './empty-mounts.ts';
import { openExec } from './exec.ts';
import { execSync } from './exec-sync.ts';
import { type HostFacts, probeHost } from './host.ts';
import { prepareImageMounts } from './image-mounts.ts';
import { inspectContainer, inspectSandbox } from './inspect.ts';
import { type DescribedOperation, describePlan } from './launch/describe.ts';
import { LoopbackPorts } from './loopback-ports.ts';
import { mergeResources } from './merge-resources.ts';
import { metricDescriptors, sandboxMetrics } from './metrics.ts';
import { type Container, Model, type Sandbox } from './model.ts';
import { openPortForward } from './port-forward.ts';
import { RecordStore } from './records.ts';
import { type Recovered, recover } from './recover.ts';
import { removeContainer } from './remove-container.ts';
import { runSandbox } from './run-sandbox.ts';
import { SeccompPrograms } from './seccomp.ts';
import { AppArmorProfiles } from './security-modules.ts';
import { ShimStarter } from './shim/start.ts';
import { Spares } from './spares.ts';
import { imageOf, planOf, specOf } from './spec-of.ts';
import { startContainer } from './start-container.ts';
import { checkContainer } from './state.ts';
import { containerStats, sandboxStats } from './stats.ts';
import {
  containerMatches,
  containerStatus,
  listedContainer,
  listedSandbox,
  sandboxMatches,
  sandboxStatus,
} from './status.ts';
import { stopAfterStart } from './stop-container.ts';
import { removeSandbox, stopSandbox } from './stop-sandbox.ts';
import { VERSION } from './version.ts';

export interface RuntimeOptions {
  readonly root: string;
  readonly state: string;
  /** Path of nodelet's own cgroup in every hierarchy: `/nodelet`. */
  readonly cgroupRoot: string;
  readonly images: ImageSource;
  /** Undefined: pods use the host's network only. */
  readonly network: PodNetwork | undefined;
  readonly log: Log;
  /** Milliseconds that starting a container, program or sandbox may take before it is given up; 60 s by default. */
  readonly startDeadline?: number;
  /** Where CDI specifications lie, in rising priority: /etc/cdi and /var/run/cdi by default. */
  readonly cdiDirectories?: readonly string[];
  /** Sandboxes that are made ahead, 1 by default; 0 makes each when it is asked for. */
  readonly spares?: number;
}

/** Events that wait for a listener who is slow; each holds the state of its pod. */
const EVENT_BACKLOG = 1000;

function tooSlow(): NodeletError {
  return new NodeletError('RESOURCE_EXHAUSTED', `more than ${EVENT_BACKLOG} events wait to be taken`, {
    hint: 'list sandboxes and containers, and listen again',
  });
}

function nameTaken({ id, record }: Sandbox): NodeletError {
  const { namespace, name, attempt = 0 } = record.config.metadata ?? {};
  return new NodeletError(
    'ALREADY_EXISTS',
    `sandbox "${id.slice(0, 12)}" of pod "${namespace}/${name}", attempt ${attempt}, has been stopped already`,
    { hint: 'remove it, or ask for another attempt' },
  );
}

export class Runtime implements cri.LocalRuntime, cri.RuntimeCalls {
  readonly #context: RuntimeContext;
  readonly #events = new Emitter<cri.ContainerEventResponse>();
  #deviceProgram: Fd | undefined;
  #closed = false;

  constructor(options: RuntimeOptions, host: HostFacts = probeHost()) {
    const staging = join(options.state, 'root');
    for (const path of [options.root, options.state]) mkdirSync(path, { recursive: true, mode: 0o700 });
    mkdirSync(staging, { recursive: true, mode: 0o755 });
    const shared = {
      cgroups: new RuntimeCgroups(options.cgroupRoot),
      shims: new ShimStarter(),
      store: new RecordStore(join(options.state, 'sandboxes')),
      log: options.log,
    };
    this.#context = {
      ...shared,
      // Without detached copies of detached mounts a pod cannot begin with what was made ahead.
      spares: new Spares(shared, host.features.cloneDetached ? (options.spares ?? 1) : 0),
      emptyMounts: new EmptyMounts(),
      paths: { root: options.root, state: options.state, staging },
      host,
      images: options.images,
      cdiDirectories: options.cdiDirectories ?? CDI_DIRECTORIES,
      startDeadline: options.startDeadline,
      network: options.network,
      loopbackPorts: new LoopbackPorts(options.log),
      seccomp: new SeccompPrograms(host.arch, host.kernel),
      apparmor: new AppArmorProfiles(host.securityModules),
      model: new Model(),
      locks: new KeyedMutex(),
      events: this.#events,
      defaultDeviceProgram: () => this.#loadDeviceProgram(),
      emit: (kind, sandbox, container) => this.#emit(kind, sandbox, container),
    };
  }

  /** For the parts that look at a pod from outside: explain, trace, plan. */
  get context(): RuntimeContext {
    return this.#context;
  }

  /** Adopts what runs and collects what has no owner. Called once, before anything else. */
  async recover(): Promise<Recovered> {
    const context = this.#context;
    const recovered = await recover(context);
    if (canHaveEmptyMounts(context.host.features))
      await context.emptyMounts.make(context, context.paths.staging);
    context.spares.refill();
    return recovered;
  }

  /** Lets go of every pod; they run on. */
  async close(): Promise<void> {
    this.#closed = true;
    try {
      this.#context.store.flush();
    } catch (error) {
      this.#context.log.warn({ error: messageOf(error) }, 'cannot write the last records of containers');
    }
    await this.#context.loopbackPorts.closeAll();
    await this.#context.spares.close();
    this.#context.emptyMounts.close();
    for (const sandbox of this.#context.model.sandboxes.values()) {
      sandbox.stopping = true;
      sandbox.release();
    }
    this.#context.shims.close();
    this.#deviceProgram?.close();
  }

  #loadDeviceProgram(): number {
    this.#deviceProgram ??= loadDeviceProgram(defaultDeviceRules);
    return this.#deviceProgram.number;
  }

  #emit(kind: cri.ContainerEventType, sandbox: Sandbox, container?: Container): void {
    if (this.#closed || this.#events.size === 0) return;
    this.#events.emit({
      containerId: container?.id ?? sandbox.id,
      containerEventType: kind,
      createdAt: Date.now() * 1e6,
      podSandboxStatus: sandboxStatus(sandbox),
      containersStatuses: [...sandbox.containers.values()].map(containerStatus),
    });
  }

  // --- sandboxes

  async runPodSandbox(
    request: cri.RunPodSandboxRequest,
    signal?: AbortSignal,
  ): Promise<cri.RunPodSandboxResponse> {
    const { locks, model } = this.#context;
    const { config = {}, runtimeHandler = '' } = request;
    if (runtimeHandler !== '')
      throw new NodeletError(
        'INVALID_ARGUMENT',
        `runtimeHandler ${JSON.stringify(runtimeHandler)} is not known here`,
        { hint: 'leave it empty' },
      );
    const { metadata } = config;
    const key = `name:${metadata?.namespace}/${metadata?.name}/${metadata?.uid}/${metadata?.attempt ?? 0}`;
    return await locks.run(
      key,
      async () => {
        // A caller that gave up and tries again gets what its first try made.
        const existing = model.sandboxByName(metadata);
        if (existing !== undefined && existing.phase !== 'ready') throw nameTaken(existing);
        const sandbox = existing ?? (await runSandbox(this.#context, config, runtimeHandler, signal));
        if (existing === undefined) this.#emit(cri.ContainerEventType.CONTAINER_STARTED_EVENT, sandbox);
        return { podSandboxId: sandbox.id };
      },
      signal,
    );
  }

  async stopPodSandbox(request: cri.StopPodSandboxRequest): Promise<cri.StopPodSandboxResponse> {
    const sandbox = this.#context.model.findSandbox(request.podSandboxId);
    if (sandbox !== undefined)
      await this.#context.locks.run(sandbox.id, () => stopSandbox(this.#context, sandbox));
    return {};
  }

  async removePodSandbox(request: cri.RemovePodSandboxRequest): Promise<cri.RemovePodSandboxResponse> {
    const sandbox = this.#context.model.findSandbox(request.podSandboxId);
    if (sandbox !== undefined) {
      await this.#context.locks.run(sandbox.id, async () => {
        if (this.#context.model.sandboxes.has(sandbox.id)) await removeSandbox(this.#context, sandbox);
      });
    }
    return {};
  }

  async podSandboxStatus(request: cri.PodSandboxStatusRequest): Promise<cri.PodSandboxStatusResponse> {
    const sandbox = this.#context.model.sandbox(request.podSandboxId);
    return {
      status: sandboxStatus(sandbox),
      containersStatuses: [...sandbox.containers.values()].map(containerStatus),
      timestamp: Date.now() * 1e6,
      ...(request.verbose === true ? { info: { info: JSON.stringify(inspectSandbox(sandbox)) } } : {}),
    };
  }

  async listPodSandbox(request: cri.ListPodSandboxRequest): Promise<cri.ListPodSandboxResponse> {
    const items = [...this.#context.model.sandboxes.values()]
      .filter((one) => sandboxMatches(one, request.filter))
      .map(listedSandbox);
    return { items };
  }

  /** Whoever made the pod's cgroup sizes it; the record keeps what the pod is meant to have. */
  async updatePodSandboxResources(
    request: cri.UpdatePodSandboxResourcesRequest,
  ): Promise<cri.UpdatePodSandboxResourcesResponse> {
    const { model, locks, store } = this.#context;
    const { id } = model.sandbox(request.podSandboxId);
    await locks.run(id, () => {
      // It may have been removed before its turn came.
      const sandbox = model.sandbox(id);
      const { record } = sandbox;
      const { overhead = record.config.linux?.overhead, resources = record.config.linux?.resources } =
        request;
      sandbox.record = {
        ...record,
        config: {
          ...record.config,
          linux: {
            ...record.config.linux,
            ...(overhead === undefined ? {} : { overhead }),
            ...(resources === undefined ? {} : { resources }),
          },
        },
      };
      store.saveSandbox(sandbox.record);
    });
    return {};
  }

  // --- containers

  async createContainer(
    request: cri.CreateContainerRequest,
    signal?: AbortSignal,
  ): Promise<cri.CreateContainerResponse> {
    const { model, locks } = this.#context;
    const sandbox = model.sandbox(request.podSandboxId);
    const config = request.config ?? {};
    const key = `container:${sandbox.id}/${config.metadata?.name}/${config.metadata?.attempt ?? 0}`;
    const container = await locks.run(
      key,
      () => createContainer(this.#context, sandbox, config, signal),
      signal,
    );
    return { containerId: container.id };
  }

  /** `work` alone with a container that is still there when its turn comes. Throws NOT_FOUND. */
  async #alone(
    containerId: string | undefined,
    work: (container: Container) => Promise<void> | void,
  ): Promise<void> {
    const { model, locks } = this.#context;
    const { id } = model.container(containerId);
    await locks.run(id, () => work(model.container(id)));
  }

  async startContainer(request: cri.StartContainerRequest): Promise<cri.StartContainerResponse> {
    await this.#alone(request.containerId, (container) => startContainer(this.#context, container));
    return {};
  }

  async stopContainer(request: cri.StopContainerRequest): Promise<cri.StopContainerResponse> {
    const container = this.#context.model.findContainer(request.containerId);
    if (container === undefined) return {};
    await stopAfterStart(this.#context, container, request.timeout ?? 0);
    return {};
  }

  async removeContainer(request: cri.RemoveContainerRequest): Promise<cri.RemoveContainerResponse> {
    const { model, locks } = this.#context;
    const container = model.findContainer(request.containerId);
    if (container !== undefined) {
      await locks.run(container.id, async () => {
        if (model.containers.has(container.id)) await removeContainer(this.#context, container);
      });
    }
    return {};
  }

  async listContainers(request: cri.ListContainersRequest): Promise<cri.ListContainersResponse> {
    const containers = [...this.#context.model.containers.values()]
      .filter((one) => containerMatches(one, request.filter))
      .map(listedContainer);
    return { containers };
  }

  async containerStatus(request: cri.ContainerStatusRequest): Promise<cri.ContainerStatusResponse> {
    const container = this.#context.model.container(request.containerId);
    return {
      status: containerStatus(container),
      ...(request.verbose === true
        ? { info: { info: JSON.stringify(inspectContainer(this.#context, container)) } }
        : {}),
    };
  }

  async updateContainerResources(
    request: cri.UpdateContainerResourcesRequest,
  ): Promise<cri.UpdateContainerResourcesResponse> {
    const { cgroups, store } = this.#context;
    await this.#alone(request.containerId, (container) => {
      const { record, sandbox } = container;
      checkContainer(record.id, record.state, 'update');
      const resources = mergeResources(record.config.linux?.resources ?? {}, request.linux ?? {});
      if (record.state === 'running')
        cgroups.update(
          sandbox.record.config.linux?.cgroupParent ?? '',
          record.id,
          request.linux ?? {},
          resources,
        );
      else cgroups.check(resources);
      // Not written down yet, so that who asked sees the old values and asks again.
      failpoint('update:after-cgroup');
      container.record = {
        ...record,
        config: { ...record.config, linux: { ...record.config.linux, resources } },
      };
      container.prepared = undefined;
      store.saveContainer(container.record);
    });
    return {};
  }

  async reopenContainerLog(request: cri.ReopenContainerLogRequest): Promise<cri.ReopenContainerLogResponse> {
    const container = this.#context.model.container(request.containerId);
    checkContainer(container.id, container.record.state, 'reopen-log');
    await container.sandbox.shim?.reopenLog(container.id);
    return {};
  }

  // --- programs in containers

  openExec(options: cri.ExecOptions): Promise<cri.ExecSession> {
    return openExec(this.#context, this.#context.model.container(options.containerId), options);
  }

  async openAttach(options: cri.AttachOptions): Promise<cri.AttachSession> {
    return await openAttach(this.#context.model.container(options.containerId), options);
  }

  async openPortForward(options: cri.PortForwardOptions, signal?: AbortSignal): Promise<Duplex> {
    return await openPortForward(this.#context.model.sandbox(options.podSandboxId), options, signal);
  }

  async execSync(request: cri.ExecSyncRequest, signal?: AbortSignal): Promise<cri.ExecSyncResponse> {
    return await execSync(this, request, signal);
  }

  // --- statistics

  async containerStats(request: cri.ContainerStatsRequest): Promise<cri.ContainerStatsResponse> {
    return { stats: await containerStats(this.#context, this.#context.model.container(request.containerId)) };
  }

  async listContainerStats(request: cri.ListContainerStatsRequest): Promise<cri.ListContainerStatsResponse> {
    const { filter } = request;
    const chosen = [...this.#context.model.containers.values()].filter(
      (one) =>
        one.record.state === 'running' &&
        containerMatches(one, {
          id: filter?.id,
          podSandboxId: filter?.podSandboxId,
          labelSelector: filter?.labelSelector,
        }),
    );
    return { stats: await Promise.all(chosen.map((one) => containerStats(this.#context, one))) };
  }

  /** All that the container's cgroup says, for those who show more than CRI carries. */
  cgroupStats(containerId: string): CgroupStats {
    const { record, sandbox } = this.#context.model.container(containerId);
    return this.#context.cgroups.stats(
      this.#context.cgroups.path(sandbox.record.config.linux?.cgroupParent ?? '', record.id),
    );
  }

  async podSandboxStats(request: cri.PodSandboxStatsRequest): Promise<cri.PodSandboxStatsResponse> {
    return { stats: await sandboxStats(this.#context, this.#context.model.sandbox(request.podSandboxId)) };
  }

  async listPodSandboxStats(
    request: cri.ListPodSandboxStatsRequest,
  ): Promise<cri.ListPodSandboxStatsResponse> {
    const chosen = [...this.#context.model.sandboxes.values()].filter((one) =>
      sandboxMatches(one, { id: request.filter?.id, labelSelector: request.filter?.labelSelector }),
    );
    return { stats: await Promise.all(chosen.map((one) => sandboxStats(this.#context, one))) };
  }

  async listMetricDescriptors(): Promise<cri.ListMetricDescriptorsResponse> {
    return { descriptors: metricDescriptors() };
  }

  async listPodSandboxMetrics(): Promise<cri.ListPodSandboxMetricsResponse> {
    const ready = [...this.#context.model.sandboxes.values()].filter(
      ({ record }) => record.state === 'ready',
    );
    return { podMetrics: ready.map((one) => sandboxMetrics(this.#context, one)) };
  }

  // --- the runtime itself

  async version(): Promise<cri.VersionResponse> {
    return { version: '0.1.0', runtimeName: 'nodelet', runtimeVersion: VERSION, runtimeApiVersion: 'v1' };
  }

  /** What pods share is made with the first of them; whoever asks waits until it is ready before there is one. */
  async #networkStatus(): Promise<Awaited<ReturnType<PodNetwork['status']>>> {
    const { network } = this.#context;
    if (network === undefined) return { ready: true };
    try {
      const status = await network.status();
      if (status.reason !== 'NetworkNotSetUp') return status;
      await network.setUp();
      return await network.status();
    } catch (error) {
      return { ready: false, reason: 'NetworkPluginNotReady', message: messageOf(error) };
    }
  }

  async status(request: cri.StatusRequest): Promise<cri.StatusResponse> {
    const { host } = this.#context;
    const net = await this.#networkStatus();
    return {
      status: {
        conditions: [
          { type: 'RuntimeReady', status: true, reason: '', message: '' },
          { type: 'NetworkReady', status: net.ready, reason: net.reason ?? '', message: net.message ?? '' },
        ],
      },
      runtimeHandlers: [{ name: '', features: { recursiveReadOnlyMounts: true, userNamespaces: true } }],
      features: { supplementalGroupsPolicy: true },
      ...(request.verbose === true
        ? { info: { host: JSON.stringify({ ...host, capabilities: `0x${host.capabilities.toString(16)}` }) } }
        : {}),
    };
  }

  /** The pods' subnets are a setting of this agent; what a kubelet was given for the node is compared with them. */
  async updateRuntimeConfig(
    request: cri.UpdateRuntimeConfigRequest,
  ): Promise<cri.UpdateRuntimeConfigResponse> {
    const podCidr = request.runtimeConfig?.networkConfig?.podCidr ?? '';
    if (podCidr !== '')
      this.#context.log.info(
        { podCidr },
        'the kubelet names a subnet for pods; the one in use is that of --pod-cidr',
      );
    return {};
  }

  async checkpointContainer(
    request: cri.CheckpointContainerRequest,
  ): Promise<cri.CheckpointContainerResponse> {
    const container = this.#context.model.container(request.containerId);
    throw cannotCheckpoint(container.id, process.env.PATH ?? '');
  }

  async runtimeConfig(): Promise<cri.RuntimeConfigResponse> {
    return { linux: { cgroupDriver: cri.CgroupDriver.CGROUPFS } };
  }

  /**
   * Every event of a sandbox or container from now on, until `signal` fires. Nothing is polled. Throws RESOURCE_EXHAUSTED for
   * whoever does not take them in time: it has to list anew.
   */
  async *getContainerEvents(
    _request: cri.GetEventsRequest,
    signal?: AbortSignal,
  ): AsyncIterable<cri.ContainerEventResponse> {
    const queue: cri.ContainerEventResponse[] = [];
    let ended = signal?.aborted === true;
    let overrun = false;
    let wake: (() => void) | undefined;
    const off = this.#events.on((event) => {
      if (queue.length < EVENT_BACKLOG) queue.push(event);
      else overrun = true;
      wake?.();
    });
    const stop = (): void => {
      ended = true;
      wake?.();
    };
    signal?.addEventListener('abort', stop);
    try {
      for (;;) {
        const next = queue.shift();
        if (overrun) throw tooSlow();
        if (next !== undefined) yield next;
        else if (ended) return;
        else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      off();
      signal?.removeEventListener('abort', stop);
    }
  }

  /** Listens without a queue; the function returned ends it. */
  onEvent(listener: (event: cri.ContainerEventResponse) => void): () => void {
    return this.#events.on(listener);
  }

  /**
   * The launch plan of a container in words, compiled anew from its record: what the spans of its start did. Throws
   * NOT_FOUND, IMAGE_NOT_FOUND.
   */
  describeLaunch(containerId: string): DescribedOperation[] {
    const context = this.#context;
    const container = context.model.container(containerId);
    const image = imageOf(context, container);
    const layers = prepareImageMounts(context.images, container.id, container.record.config);
    const spec = specOf(context, container, image, layers);
    const snapshot = context.images.prepare(container.id, image);
    const mounts = context.emptyMounts.of(container.sandbox);
    return describePlan(planOf(context, container, spec, snapshot, mounts !== undefined));
  }

  spans(podSandboxId: string): readonly Span[] {
    const sandbox = this.#context.model.findSandbox(podSandboxId);
    if (sandbox === undefined) return [];
    return [...sandbox.record.spans, ...[...sandbox.containers.values()].flatMap((one) => one.record.spans)];
  }
}
