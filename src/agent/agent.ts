/**
 * The composition root: configuration in, a running node out. Start-up is recovery; ending lets go of the pods, which run
 * on, unless they are removed first.
 */
import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { describeError, Emitter, type Log, NodeletError } from '../base/index.ts';
import {
  type ImageService as CriImages,
  connectRuntime,
  type LocalRuntime,
  type RemoteNode,
} from '../cri/index.ts';
import { type BoundPod, bindPod, type CheckedPod, type Manifests, type Pod, podKey } from '../kube/index.ts';
import {
  Kubelet,
  LinuxPodCgroups,
  type NodeFacts,
  type PodStatusChange,
  probeNode,
  refersTo,
  StaticPodSource,
  type StopOptions,
  syncStaticPods,
} from '../kubelet/index.ts';
import { type HostFacts, probeHost } from '../runtime/index.ts';
import { REMOVE_WHEN_ENDED } from './annotations.ts';
import type { AgentConfig } from './config.ts';
import { type CredentialProviderSet, loadCredentialProviders } from './credential-providers.ts';
import type { CriEndpoint } from './cri.ts';
import { closeAll, LocalNode, networkOf } from './local-node.ts';
import { AgentLock } from './lock.ts';
import { PodStore } from './pod-store.ts';
import { checkRoot, checkStorage } from './storage.ts';

/** A pod that was taken in. */
export interface Taken {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
}

export class Agent {
  readonly config: AgentConfig;
  readonly log: Log;
  readonly host: HostFacts;
  readonly node: NodeFacts;
  /** Undefined where the kubelet uses the runtime of another process. */
  readonly local: LocalNode | undefined;
  readonly runtime: LocalRuntime;
  readonly kubelet: Kubelet;
  /** Fires when the last pod is gone. */
  readonly empty = new Emitter<void>();
  readonly #lock: AgentLock;
  readonly #remote: RemoteNode | undefined;
  readonly #store: PodStore;
  #static: StaticPodSource | undefined;
  #criEndpoint: CriEndpoint | undefined;
  #closing: Promise<void> | undefined;

  private constructor(
    config: AgentConfig,
    log: Log,
    lock: AgentLock,
    remote: RemoteNode | undefined,
    credentialProviders: CredentialProviderSet | undefined,
  ) {
    this.config = config;
    this.log = log;
    this.#lock = lock;
    this.#remote = remote;
    this.host = probeHost();
    // It makes nothing yet and checks what it was told: before anything else is made.
    const network = remote === undefined ? networkOf(config, log.child({ room: 'network' })) : undefined;
    for (const path of [config.kubeletRoot, config.podLogs])
      mkdirSync(path, { recursive: true, mode: 0o755 });
    const cgroups = new LinuxPodCgroups(config.cgroupRoot);
    this.node = probeNode({
      root: config.kubeletRoot,
      cgroups,
      name: config.nodeName,
      maxPods: config.maxPods,
      resolvConf: config.resolvConf,
      ...(config.nodeIps.length > 0 ? { ips: config.nodeIps } : {}),
    });
    const parts = remote ?? localParts(new LocalNode(config, this.host, network, log));
    this.local = 'local' in parts ? parts.local : undefined;
    this.runtime = parts.runtime;
    this.#store = new PodStore(config.state);
    this.kubelet = new Kubelet({
      runtime: this.runtime,
      images: parts.images,
      cgroups,
      directories: {
        root: config.kubeletRoot,
        podLogs: config.podLogs,
        ...(config.containerLogs === '' ? {} : { containerLogs: config.containerLogs }),
      },
      node: this.node,
      settings: {
        clusterDns: config.clusterDns,
        clusterDomain: config.clusterDomain,
        seccompDefault: config.seccompDefault,
        allowedUnsafeSysctls: config.allowedUnsafeSysctls,
        podPidsLimit: config.podPidsLimit,
        imagePullVerification: config.imagePullVerification,
      },
      ...(credentialProviders === undefined ? {} : { credentialProviders }),
      ...(config.registryAuthFile === '' ? {} : { credentialFiles: [config.registryAuthFile] }),
      log: log.child({ room: 'kubelet' }),
    });
  }

  /**
   * Takes the state directory, recovers, and runs. Throws ROOT_REQUIRED, ROOT_UNSUITABLE, AGENT_RUNNING,
   * RUNTIME_UNREACHABLE, RUNTIME_UNSUITABLE and what the rooms throw.
   */
  static async start(config: AgentConfig, log: Log): Promise<Agent> {
    checkRoot();
    if (config.runtimeEndpoint === '') checkStorage(config.root);
    const credentialProviders = await loadCredentialProviders(config);
    const lock = new AgentLock(config.state);
    let remote: RemoteNode | undefined;
    let agent: Agent | undefined;
    try {
      remote = await connect(config, log);
      agent = new Agent(config, log, lock, remote, credentialProviders);
      await agent.#start();
      return agent;
    } catch (error) {
      if (agent === undefined) {
        remote?.close();
        lock[Symbol.dispose]();
      } else await agent.close();
      throw error;
    }
  }

  async #start(): Promise<void> {
    await this.local?.runtime.recover();
    this.kubelet.onStatus((change) => this.#removeWhenEnded(change));
    this.kubelet.onRemoved((pod) => this.#removed(pod));
    const given = this.#store.load();
    for (const configMap of given.configMaps) this.kubelet.objects.putConfigMap(configMap);
    for (const secret of given.secrets) this.kubelet.objects.putSecret(secret);
    const known = [...given.pods];
    if (this.config.podManifestPath !== '')
      known.push(...(await this.#startStatic(this.config.podManifestPath)));
    await this.kubelet.start(known);
    this.local?.collector.start();
    await this.#serveCri();
  }

  /** Beside the kubelet, which goes on calling the runtime directly. */
  async #serveCri(): Promise<void> {
    const { criSocket } = this.config;
    if (criSocket === '' || this.local === undefined) return;
    const { openCriEndpoint } = await import('./cri.ts');
    this.#criEndpoint = await openCriEndpoint(this.local, criSocket, this.log.child({ room: 'cri' }));
  }

  async #startStatic(path: string): Promise<readonly BoundPod[]> {
    let before = { pods: [], configMaps: [], secrets: [] } as Awaited<ReturnType<StaticPodSource['load']>>;
    const source = new StaticPodSource({
      path,
      nodeName: this.node.name,
      log: this.log,
      onChange: (after) => {
        syncStaticPods(this.kubelet, before, after, this.log);
        before = after;
      },
    });
    before = await source.load();
    for (const configMap of before.configMaps) this.kubelet.objects.putConfigMap(configMap);
    for (const secret of before.secrets) this.kubelet.objects.putSecret(secret);
    source.start();
    this.#static = source;
    return before.pods;
  }

  /** For pods of which nobody waits for the end: `nodelet run --detach --rm`. */
  #removeWhenEnded({ pod, status }: PodStatusChange): void {
    if (pod.metadata.annotations?.[REMOVE_WHEN_ENDED] !== 'true') return;
    if (status.phase !== 'Succeeded' && status.phase !== 'Failed') return;
    this.kubelet.remove(pod.metadata.uid).catch((error: unknown) => {
      this.log.warn({ pod: podKey(pod), error: describeError(error) }, 'cannot remove a pod that has ended');
    });
  }

  #removed(pod: BoundPod): void {
    this.#store.remove(pod.metadata.uid);
    this.#forgetObjects(pod);
    if (this.kubelet.list().length === 0) this.empty.emit();
  }

  /** ConfigMaps and Secrets came with pods: those of a pod go with it, unless another refers to them or a file holds them. */
  #forgetObjects(pod: BoundPod): void {
    const { objects } = this.kubelet;
    const { namespace } = pod.metadata;
    const others = this.kubelet.list() as BoundPod[];
    const isFree = (kind: 'ConfigMap' | 'Secret', name: string): boolean =>
      refersTo(pod, kind, name) &&
      this.#static?.holds(kind, namespace, name) !== true &&
      !others.some((other) => other.metadata.namespace === namespace && refersTo(other, kind, name));
    for (const [kind, list] of [
      ['ConfigMap', objects.configMaps()],
      ['Secret', objects.secrets()],
    ] as const) {
      for (const { metadata } of list) {
        if ((metadata?.namespace ?? 'default') !== namespace) continue;
        const { name = '' } = metadata ?? {};
        if (isFree(kind, name)) objects.delete(kind, namespace, name);
      }
    }
  }

  /** For what only a runtime in this process can tell. Throws RUNTIME_REMOTE. */
  ownNode(what: string): LocalNode {
    if (this.local !== undefined) return this.local;
    throw new NodeletError(
      'RUNTIME_REMOTE',
      `cannot ${what}: the pods of this agent run over "${this.config.runtimeEndpoint}"`,
      { hint: "ask that runtime's own tools, for example crictl" },
    );
  }

  /** An agent without a pod network would make its sandbox again and again, for want of an address. */
  #checkNetwork(pod: CheckedPod): void {
    if (this.local?.network !== undefined || this.#remote !== undefined || pod.spec.hostNetwork === true)
      return;
    throw new NodeletError(
      'POD_NETWORK_OFF',
      `cannot run pod "${podKey(pod)}": this agent has no pod network`,
      {
        hint: 'set hostNetwork: true in its spec, or start the agent without --network host',
      },
    );
  }

  /**
   * Takes pods in and remembers them. Throws POD_EXISTS for a name that is taken, POD_NETWORK_OFF, STATE_UNWRITABLE: nothing
   * of the manifest is taken then.
   */
  createPods(manifests: Manifests): Taken[] {
    for (const pod of manifests.pods) {
      if (this.kubelet.getByName(podKey(pod)) !== undefined) {
        throw new NodeletError('POD_EXISTS', `a pod "${podKey(pod)}" exists already`, {
          hint: `remove it first: nodelet rm ${podKey(pod)}`,
        });
      }
    }
    for (const pod of manifests.pods) this.#checkNetwork(pod);
    for (const configMap of manifests.configMaps) this.kubelet.objects.putConfigMap(configMap);
    for (const secret of manifests.secrets) this.kubelet.objects.putSecret(secret);
    // A manifest's own UID is kept: it is how a pod is recognised after a restart.
    const bound = manifests.pods.map((pod) =>
      bindPod(pod, { uid: pod.metadata.uid ?? randomUUID(), nodeName: this.node.name, now: new Date() }),
    );
    try {
      for (const pod of bound) this.#store.save(pod, manifests);
    } catch (error) {
      for (const pod of bound) this.#store.remove(pod.metadata.uid);
      throw error;
    }
    return bound.map((pod) => {
      this.kubelet.add(pod);
      const { uid, namespace, name } = pod.metadata;
      return { uid, namespace, name };
    });
  }

  /** By `name` (namespace default), `namespace/name` or UID. Throws POD_NOT_FOUND. */
  findPod(text: string): Pod & { metadata: { uid: string; name: string; namespace: string } } {
    const pod =
      this.kubelet.get(text) ?? this.kubelet.getByName(text.includes('/') ? text : `default/${text}`);
    if (pod === undefined) {
      const names = this.kubelet.list().map((one) => `${one.metadata?.namespace}/${one.metadata?.name}`);
      throw new NodeletError('POD_NOT_FOUND', `cannot find pod ${JSON.stringify(text)}`, {
        hint:
          names.length === 0
            ? 'there is no pod'
            : `there are ${names.slice(0, 10).join(', ')}${names.length > 10 ? ' and more' : ''}`,
      });
    }
    return pod as Pod & { metadata: { uid: string; name: string; namespace: string } };
  }

  stopPod(uid: string, options: StopOptions = {}): void {
    this.kubelet.stop(uid, options);
  }

  async removePod(uid: string, options: StopOptions = {}): Promise<void> {
    await this.kubelet.remove(uid, options);
  }

  /** Lets go of everything; pods run on. Twice is safe. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#static?.close();
    await closeAll(this.log, [
      ['CRI socket', () => this.#criEndpoint?.close()],
      ['kubelet', () => this.kubelet.close()],
      ['runtime', () => this.local?.close()],
      ['connection to the runtime', () => this.#remote?.close()],
    ]);
    this.#lock[Symbol.dispose]();
  }
}

/** Undefined where the agent is to use its own runtime. */
async function connect(config: AgentConfig, log: Log): Promise<RemoteNode | undefined> {
  if (config.runtimeEndpoint === '') return undefined;
  const endpoints = { runtime: config.runtimeEndpoint, images: config.imageEndpoint };
  const remote = await connectRuntime(endpoints, log.child({ room: 'cri' }));
  log.info({ name: remote.name, version: remote.version, ...endpoints }, 'pods run over another runtime');
  return remote;
}

function localParts(local: LocalNode): {
  readonly local: LocalNode;
  readonly runtime: LocalRuntime;
  readonly images: CriImages;
} {
  return { local, runtime: local.runtime, images: local.criImages };
}
