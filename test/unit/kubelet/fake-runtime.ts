/**
 * A runtime without containers: it keeps sandboxes and containers, does what CRI says to them, and lets tests end them.
 * Its time is the caller's; ends that lie ahead come by timers, which tests fake.
 */
import { NodeletError } from '../../../src/base/index.ts';
import {
  type Container,
  type ContainerEventResponse,
  ContainerState,
  type ContainerStatus,
  type ExecSession,
  type ExecSyncResponse,
  type Image,
  type ImageService,
  type LocalContainerConfig,
  type LocalRuntime,
  type PodSandboxConfig,
  PodSandboxState,
  type PodSandboxStatus,
  type PullImageRequest,
} from '../../../src/cri/index.ts';

/** What the program of a container does, by the container's name. */
export interface Program {
  /** Milliseconds after its start it ends by itself; it runs for ever where undefined. */
  readonly runs?: number;
  readonly code?: number | ((attempt: number) => number);
  /** Milliseconds that it takes to end after its stop signal; Infinity ignores the signal. */
  readonly stops?: number;
  /** Its exit code after the stop signal. */
  readonly stopCode?: number;
  /** What it writes to its termination message file. */
  readonly message?: string;
}

export interface FakeSandbox {
  readonly id: string;
  readonly config: PodSandboxConfig;
  readonly createdAt: number;
  ready: boolean;
  ips: string[];
}

export interface FakeContainer {
  readonly id: string;
  readonly sandboxId: string;
  readonly config: LocalContainerConfig;
  readonly createdAt: number;
  state: ContainerState;
  startedAt: number;
  finishedAt: number;
  exitCode: number;
  reason: string;
  timer: NodeJS.Timeout | undefined;
  readonly waiters: (() => void)[];
}

export class FakeRuntime implements LocalRuntime {
  readonly sandboxes = new Map<string, FakeSandbox>();
  readonly containers = new Map<string, FakeContainer>();
  readonly programs = new Map<string, Program>();
  /** One line for each call that changes something. */
  readonly calls: string[] = [];
  /** Hears the same lines. */
  onCall: (line: string) => void = () => {};
  /** Errors that the next calls of a verb (`runPodSandbox`) throw. */
  readonly failures = new Map<string, Error[]>();
  /** Answers of exec probes and hooks. */
  exec: (container: string, cmd: readonly string[], signal?: AbortSignal) => Promise<ExecSyncResponse> =
    async () => ({ exitCode: 0 });
  /** False: sandboxes are made without an address. */
  addresses = true;
  readonly #now: () => number;
  readonly #listeners = new Set<(event: ContainerEventResponse) => void>();
  #ids = 0;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  // --- what tests do ---

  failNext(verb: string, error: Error): void {
    this.failures.set(verb, [...(this.failures.get(verb) ?? []), error]);
  }

  /** The newest container of a name. */
  container(name: string): FakeContainer {
    const found = [...this.containers.values()].filter(({ config }) => config.metadata?.name === name).at(-1);
    if (found === undefined) throw new Error(`no container ${name}`);
    return found;
  }

  sandbox(): FakeSandbox {
    const found = [...this.sandboxes.values()].at(-1);
    if (found === undefined) throw new Error('no sandbox');
    return found;
  }

  /** The program of a container ends. */
  exit(container: FakeContainer, code: number, reason = code === 0 ? 'Completed' : 'Error'): void {
    if (container.state !== ContainerState.CONTAINER_RUNNING) return;
    clearTimeout(container.timer);
    container.state = ContainerState.CONTAINER_EXITED;
    container.finishedAt = this.#now();
    container.exitCode = code;
    container.reason = reason;
    this.#note(`exit ${label(container)} ${code}`);
    for (const waiter of container.waiters.splice(0)) waiter();
    this.#emit(container.sandboxId);
  }

  /** The sandbox dies with everything in it. */
  lose(sandbox: FakeSandbox): void {
    sandbox.ready = false;
    for (const container of this.#inside(sandbox.id)) this.exit(container, 137, 'Error');
    this.#emit(sandbox.id);
  }

  live(): string[] {
    return [...this.containers.values()]
      .filter(({ state }) => state === ContainerState.CONTAINER_RUNNING)
      .map(({ config }) => config.metadata?.name ?? '');
  }

  // --- CRI ---

  async version(): Promise<{ runtimeName: string }> {
    return { runtimeName: 'fake' };
  }

  async status(): Promise<object> {
    return {};
  }

  async runtimeConfig(): Promise<object> {
    return {};
  }

  async runPodSandbox(request: { config?: PodSandboxConfig }): Promise<{ podSandboxId: string }> {
    this.#call('runPodSandbox');
    const config = request.config ?? {};
    const id = this.#id('sandbox');
    const hostNetwork = config.linux?.securityContext?.namespaceOptions?.network === 2;
    const sandbox: FakeSandbox = {
      id,
      config,
      createdAt: this.#now(),
      ready: true,
      ips: hostNetwork || !this.addresses ? [] : [`10.0.0.${this.#ids + 1}`],
    };
    this.sandboxes.set(id, sandbox);
    this.#note(`run sandbox ${config.metadata?.name} #${config.metadata?.attempt}`);
    this.#emit(id);
    return { podSandboxId: id };
  }

  async stopPodSandbox({ podSandboxId = '' }: { podSandboxId?: string }): Promise<Record<string, never>> {
    this.#call('stopPodSandbox');
    const sandbox = this.#sandbox(podSandboxId);
    for (const container of this.#inside(podSandboxId)) this.exit(container, 137);
    this.#note(`stop sandbox ${sandbox.config.metadata?.name} #${sandbox.config.metadata?.attempt}`);
    sandbox.ready = false;
    this.#emit(podSandboxId);
    return {};
  }

  async removePodSandbox({ podSandboxId = '' }: { podSandboxId?: string }): Promise<Record<string, never>> {
    this.#call('removePodSandbox');
    const sandbox = this.sandboxes.get(podSandboxId);
    if (sandbox === undefined) return {};
    for (const { id } of this.#inside(podSandboxId)) this.containers.delete(id);
    this.#note(`remove sandbox ${sandbox.config.metadata?.name} #${sandbox.config.metadata?.attempt}`);
    this.#emit(podSandboxId);
    this.sandboxes.delete(podSandboxId);
    return {};
  }

  async podSandboxStatus({ podSandboxId = '' }: { podSandboxId?: string }): Promise<{
    status: PodSandboxStatus;
  }> {
    return { status: sandboxStatus(this.#sandbox(podSandboxId)) };
  }

  async listPodSandbox(request: {
    filter?: { labelSelector?: Record<string, string> };
  }): Promise<{ items: PodSandboxStatus[] }> {
    const items = [...this.sandboxes.values()].map(sandboxStatus);
    return { items: items.filter((item) => matches(item.labels, request.filter?.labelSelector)) };
  }

  async createContainer(request: {
    podSandboxId?: string;
    config?: LocalContainerConfig;
  }): Promise<{ containerId: string }> {
    this.#call('createContainer');
    const sandbox = this.#sandbox(request.podSandboxId ?? '');
    if (!sandbox.ready) throw new NodeletError('FAILED_PRECONDITION', 'the sandbox is not ready');
    const config = request.config ?? {};
    const twin = this.#inside(sandbox.id).find(
      ({ config: { metadata } }) =>
        metadata?.name === config.metadata?.name && metadata?.attempt === config.metadata?.attempt,
    );
    if (twin !== undefined) throw new NodeletError('ALREADY_EXISTS', `name and attempt of ${twin.id}`);
    const container: FakeContainer = {
      id: this.#id('container'),
      sandboxId: sandbox.id,
      config,
      createdAt: this.#now(),
      state: ContainerState.CONTAINER_CREATED,
      startedAt: 0,
      finishedAt: 0,
      exitCode: 0,
      reason: '',
      timer: undefined,
      waiters: [],
    };
    this.containers.set(container.id, container);
    this.#emit(sandbox.id);
    return { containerId: container.id };
  }

  async startContainer({ containerId = '' }: { containerId?: string }): Promise<Record<string, never>> {
    this.#call('startContainer');
    const container = this.#container(containerId);
    if (container.state !== ContainerState.CONTAINER_CREATED) {
      throw new NodeletError('FAILED_PRECONDITION', 'the container was started before');
    }
    container.state = ContainerState.CONTAINER_RUNNING;
    container.startedAt = this.#now();
    this.#note(`start ${label(container)}`);
    const program = this.#program(container);
    const attempt = container.config.metadata?.attempt ?? 0;
    if (program.runs !== undefined) {
      const code = typeof program.code === 'function' ? program.code(attempt) : (program.code ?? 0);
      container.timer = setTimeout(() => this.exit(container, code), program.runs);
    }
    this.#emit(container.sandboxId);
    return {};
  }

  /** As CRI: resolves once the container has ended. */
  async stopContainer(
    { containerId = '', timeout = 0 }: { containerId?: string; timeout?: number },
    signal?: AbortSignal,
  ): Promise<Record<string, never>> {
    this.#call('stopContainer');
    const container = this.#container(containerId);
    this.#note(`stop ${label(container)} within ${timeout} s`);
    if (container.state !== ContainerState.CONTAINER_RUNNING) return {};
    const { stops = 0, stopCode = 143 } = this.#program(container);
    clearTimeout(container.timer);
    const obeys = stops <= timeout * 1000;
    const end = () => this.exit(container, obeys ? stopCode : 137, 'Error');
    const delay = Math.min(stops, timeout * 1000);
    if (delay === 0) {
      end();
      return {};
    }
    container.timer = setTimeout(end, delay);
    await new Promise<void>((resolve) => {
      container.waiters.push(resolve);
      signal?.addEventListener('abort', () => resolve(), { once: true });
    });
    return {};
  }

  async removeContainer({ containerId = '' }: { containerId?: string }): Promise<Record<string, never>> {
    this.#call('removeContainer');
    const container = this.containers.get(containerId);
    if (container === undefined) return {};
    this.exit(container, 137);
    this.containers.delete(containerId);
    this.#note(`remove ${label(container)}`);
    this.#emit(container.sandboxId);
    return {};
  }

  async listContainers(request: {
    filter?: { labelSelector?: Record<string, string> };
  }): Promise<{ containers: Container[] }> {
    const containers = [...this.containers.values()].map((each) => ({
      ...this.#status(each),
      podSandboxId: each.sandboxId,
    }));
    return {
      containers: containers.filter((each) => matches(each.labels, request.filter?.labelSelector)),
    };
  }

  async containerStatus({ containerId = '' }: { containerId?: string }): Promise<{
    status: ContainerStatus;
  }> {
    return { status: this.#status(this.#container(containerId)) };
  }

  async execSync(
    { containerId = '', cmd = [] }: { containerId?: string; cmd?: string[] },
    signal?: AbortSignal,
  ): Promise<ExecSyncResponse> {
    const name = this.#container(containerId).config.metadata?.name ?? '';
    this.#note(`exec ${name}: ${cmd.join(' ')}`);
    return await this.exec(name, cmd, signal);
  }

  async *getContainerEvents(
    _request: object,
    signal?: AbortSignal,
  ): AsyncGenerator<ContainerEventResponse, void> {
    const queue: ContainerEventResponse[] = [];
    let wake = () => {};
    const listener = (event: ContainerEventResponse) => {
      queue.push(event);
      wake();
    };
    const abort = () => wake();
    this.#listeners.add(listener);
    signal?.addEventListener('abort', abort);
    try {
      for (;;) {
        const next = queue.shift();
        if (signal?.aborted) return;
        if (next !== undefined) yield next;
        else
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
      }
    } finally {
      this.#listeners.delete(listener);
      signal?.removeEventListener('abort', abort);
    }
  }

  async updateContainerResources(): Promise<Record<string, never>> {
    return {};
  }

  async reopenContainerLog(): Promise<Record<string, never>> {
    return {};
  }

  async containerStats(): Promise<object> {
    return {};
  }

  async listContainerStats(): Promise<object> {
    return {};
  }

  async podSandboxStats(): Promise<object> {
    return {};
  }

  async listPodSandboxStats(): Promise<object> {
    return {};
  }

  async openExec(): Promise<ExecSession> {
    throw new NodeletError('UNIMPLEMENTED', 'no streams here');
  }

  async openAttach(): Promise<never> {
    throw new NodeletError('UNIMPLEMENTED', 'no streams here');
  }

  async openPortForward(): Promise<never> {
    throw new NodeletError('UNIMPLEMENTED', 'no streams here');
  }

  spans(): [] {
    return [];
  }

  // --- inside ---

  #id(kind: string): string {
    this.#ids += 1;
    return `${kind}-${this.#ids}`;
  }

  #note(line: string): void {
    this.calls.push(line);
    this.onCall(line);
  }

  #call(verb: string): void {
    const error = this.failures.get(verb)?.shift();
    if (error !== undefined) throw error;
  }

  #sandbox(id: string): FakeSandbox {
    const sandbox = this.sandboxes.get(id);
    if (sandbox === undefined) throw new NodeletError('NOT_FOUND', `no sandbox ${id}`);
    return sandbox;
  }

  #container(id: string): FakeContainer {
    const container = this.containers.get(id);
    if (container === undefined) throw new NodeletError('NOT_FOUND', `no container ${id}`);
    return container;
  }

  #inside(sandboxId: string): FakeContainer[] {
    return [...this.containers.values()].filter((container) => container.sandboxId === sandboxId);
  }

  #program(container: FakeContainer): Program {
    return this.programs.get(container.config.metadata?.name ?? '') ?? {};
  }

  #status(container: FakeContainer): ContainerStatus {
    const { config } = container;
    const sandbox = this.sandboxes.get(container.sandboxId);
    const exited = container.state === ContainerState.CONTAINER_EXITED;
    const { message } = this.#program(container);
    return {
      id: container.id,
      metadata: config.metadata,
      state: container.state,
      createdAt: container.createdAt * 1e6,
      startedAt: container.startedAt * 1e6,
      finishedAt: container.finishedAt * 1e6,
      exitCode: container.exitCode,
      image: config.image,
      imageRef: config.image?.image ?? '',
      reason: container.reason,
      message: exited ? (message ?? '') : '',
      labels: config.labels,
      annotations: config.annotations,
      mounts: config.mounts,
      logPath: `${sandbox?.config.logDirectory ?? ''}/${config.logPath ?? ''}`,
    };
  }

  #emit(sandboxId: string): void {
    const sandbox = this.sandboxes.get(sandboxId);
    if (sandbox === undefined) return;
    const event: ContainerEventResponse = {
      podSandboxStatus: sandboxStatus(sandbox),
      containersStatuses: this.#inside(sandboxId).map((each) => this.#status(each)),
    };
    for (const listener of this.#listeners) listener(event);
  }
}

function label({ config: { metadata } }: FakeContainer): string {
  return `${metadata?.name} #${metadata?.attempt}`;
}

function sandboxStatus(sandbox: FakeSandbox): PodSandboxStatus {
  const [ip = '', ...rest] = sandbox.ips;
  return {
    id: sandbox.id,
    metadata: sandbox.config.metadata,
    state: sandbox.ready ? PodSandboxState.SANDBOX_READY : PodSandboxState.SANDBOX_NOTREADY,
    createdAt: sandbox.createdAt * 1e6,
    network: { ip, additionalIps: rest.map((each) => ({ ip: each })) },
    labels: sandbox.config.labels,
    annotations: sandbox.config.annotations,
  };
}

function matches(
  labels: Readonly<Record<string, string>> | undefined,
  selector: Readonly<Record<string, string>> | undefined,
): boolean {
  return Object.entries(selector ?? {}).every(([key, value]) => labels?.[key] === value);
}

/** Images that are there, images that a registry has, and what goes wrong with it. */
export class FakeImages implements ImageService {
  readonly present = new Map<string, Image>();
  readonly registry = new Map<string, Image>();
  readonly pulls: PullImageRequest[] = [];
  /** Errors of the next pulls. */
  readonly failures: Error[] = [];
  /** Milliseconds that a pull takes. */
  delay = 0;

  constructor(...present: string[]) {
    for (const name of present) this.present.set(name, { id: `sha256:${name}`, size: 1000 });
  }

  async imageStatus({ image }: { image?: { image?: string } }): Promise<{ image?: Image }> {
    const name = image?.image ?? '';
    const found = this.present.get(name) ?? [...this.present.values()].find(({ id }) => id === name);
    return found === undefined ? {} : { image: found };
  }

  async pullImage(request: PullImageRequest, signal?: AbortSignal): Promise<{ imageRef: string }> {
    this.pulls.push(request);
    if (this.delay > 0) {
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(resolve, this.delay);
        signal?.addEventListener('abort', () => {
          clearTimeout(timer);
          reject(new Error('pull given up'));
        });
      });
    }
    const failure = this.failures.shift();
    if (failure !== undefined) throw failure;
    const name = request.image?.image ?? '';
    const image = this.registry.get(name);
    if (image === undefined) throw new NodeletError('NOT_FOUND', `no such image: ${name}`);
    this.present.set(name, image);
    return { imageRef: image.id ?? '' };
  }

  async listImages(): Promise<object> {
    return { images: [...this.present.values()] };
  }

  async *streamImages(): AsyncGenerator<object, void> {}

  async removeImage({ image }: { image?: { image?: string } }): Promise<Record<string, never>> {
    this.present.delete(image?.image ?? '');
    return {};
  }

  async imageFsInfo(): Promise<object> {
    return {};
  }
}
