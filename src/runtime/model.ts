/** The sandboxes and containers of this agent, in memory: the records and what hangs on them while the agent lives. */
import { type Deferred, deferred, NodeletError } from '../base/index.ts';
import type { PodSandboxMetadata } from '../cri/index.ts';
import type { Snapshot } from '../image/index.ts';
import type { Fd } from '../linux/fd.ts';
import type { POD_SLOTS } from './launch/protocol.gen.ts';
import type { OciSpec } from './launch/spec.ts';
import {
  type ContainerNamespaces,
  containerNamespaces,
  type PodNamespaces,
  podNamespaces,
} from './namespaces.ts';
import type { ContainerRecord, SandboxRecord } from './records.ts';
import type { ShimClient } from './shim/client.ts';
import type { SandboxPhase } from './state.ts';

export class Sandbox {
  record: SandboxRecord;
  /** Undefined before the shim has started and after it has ended. */
  shim: ShimClient | undefined;
  /** The shim as our child, where this agent started it. */
  shimPidfd: Fd | undefined;
  /** The pod's namespaces. */
  readonly namespaces = new Map<keyof typeof POD_SLOTS, Fd>();
  readonly containers = new Map<string, Container>();
  /** Set for good by a stop: what ends from then on ends because of it. */
  stopping = false;
  /** A stop has come to its end in this process: nothing is left for another one. */
  stopped = false;

  constructor(record: SandboxRecord) {
    this.record = record;
  }

  get id(): string {
    return this.record.id;
  }

  get phase(): SandboxPhase {
    return this.stopping && this.record.state === 'ready' ? 'stopping' : this.record.state;
  }

  get namespaceModes(): PodNamespaces {
    return podNamespaces(this.record.config);
  }

  get options(): { readonly hostNetwork: boolean } {
    return { hostNetwork: !this.namespaceModes.network };
  }

  /** As `release`, where what was held may end with it: the event loop does not wait for that. */
  async releaseLast(): Promise<void> {
    const last = [...this.namespaces.values()];
    this.namespaces.clear();
    this.release();
    await Promise.all(last.map((fd) => fd.closeAway()));
  }

  /** Closes what this process holds; the pod itself goes on. */
  release(): void {
    this.shim?.close();
    this.shim = undefined;
    this.shimPidfd?.close();
    this.shimPidfd = undefined;
    for (const fd of this.namespaces.values()) fd.close();
    this.namespaces.clear();
  }
}

export interface ContainerExit {
  readonly code: number;
  readonly oomKills: number;
  /** Nanoseconds since 1970. */
  readonly finishedAt: number;
}

/** What a create has worked out for the start that follows. */
export interface PreparedContainer {
  readonly spec: OciSpec;
  readonly snapshot: Snapshot;
}

export class Container {
  record: ContainerRecord;
  readonly sandbox: Sandbox;
  /** Resolves when it has ended (or at once where it does not run). */
  ended: Deferred<void> = deferred<void>();
  /** While a start is being recorded, an exit waits for it. */
  starting = false;
  earlyExit: ContainerExit | undefined;
  /** From its create until its start. */
  prepared: PreparedContainer | undefined;

  constructor(record: ContainerRecord, sandbox: Sandbox) {
    this.record = record;
    this.sandbox = sandbox;
  }

  get id(): string {
    return this.record.id;
  }

  get namespaceModes(): ContainerNamespaces {
    const options = this.record.config.linux?.securityContext?.namespaceOptions;
    return containerNamespaces(options, this.sandbox.namespaceModes);
  }
}

/** Finds by id; CRI clients may also give a unique prefix. */
export class Model {
  readonly sandboxes = new Map<string, Sandbox>();
  readonly containers = new Map<string, Container>();
  readonly #sandboxNames = new Map<string, string>();

  addSandbox(sandbox: Sandbox): void {
    this.sandboxes.set(sandbox.id, sandbox);
    this.#sandboxNames.set(sandboxName(sandbox.record.config.metadata), sandbox.id);
  }

  removeSandbox(sandbox: Sandbox): void {
    this.sandboxes.delete(sandbox.id);
    const name = sandboxName(sandbox.record.config.metadata);
    if (this.#sandboxNames.get(name) === sandbox.id) this.#sandboxNames.delete(name);
  }

  addContainer(container: Container): void {
    this.containers.set(container.id, container);
    container.sandbox.containers.set(container.id, container);
  }

  removeContainer(container: Container): void {
    this.containers.delete(container.id);
    container.sandbox.containers.delete(container.id);
  }

  sandboxByName(metadata: PodSandboxMetadata | undefined): Sandbox | undefined {
    const id = this.#sandboxNames.get(sandboxName(metadata));
    return id === undefined ? undefined : this.sandboxes.get(id);
  }

  findSandbox(id: string | undefined): Sandbox | undefined {
    return find(this.sandboxes, id ?? '', 'sandbox');
  }

  findContainer(id: string | undefined): Container | undefined {
    return find(this.containers, id ?? '', 'container');
  }

  /** Throws NOT_FOUND. */
  sandbox(id: string | undefined): Sandbox {
    const found = this.findSandbox(id);
    if (found === undefined)
      throw new NodeletError('NOT_FOUND', `cannot find sandbox ${JSON.stringify(id ?? '')}`);
    return found;
  }

  /** Throws NOT_FOUND. */
  container(id: string | undefined): Container {
    const found = this.findContainer(id);
    if (found === undefined)
      throw new NodeletError('NOT_FOUND', `cannot find container ${JSON.stringify(id ?? '')}`);
    return found;
  }
}

function find<T>(all: ReadonlyMap<string, T>, id: string, what: string): T | undefined {
  const exact = all.get(id);
  if (exact !== undefined || id === '') return exact;
  const matches = [...all.keys()].filter((key) => key.startsWith(id));
  if (matches.length > 1)
    throw new NodeletError(
      'INVALID_ARGUMENT',
      `${what} id ${JSON.stringify(id)} is ambiguous: ${matches.length} begin so`,
    );
  const [only] = matches;
  return only === undefined ? undefined : all.get(only);
}

export function sandboxName(metadata: PodSandboxMetadata | undefined): string {
  return [metadata?.name, metadata?.namespace, metadata?.uid, metadata?.attempt ?? 0].join('_');
}
