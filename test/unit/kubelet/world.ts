/** A kubelet over the fake runtime, in a directory of its own and in faked time. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { vi } from 'vitest';
import { silentLog } from '../../../src/base/index.ts';
import {
  type BoundPod,
  bindPod,
  type ContainerStatus,
  type PodStatus,
  parseManifests,
} from '../../../src/kube/index.ts';
import {
  Kubelet,
  type KubeletOptions,
  type NodeFacts,
  type PodCgroup,
  type PodCgroups,
  type QosCgroup,
} from '../../../src/kubelet/index.ts';
import { FakeImages, FakeRuntime } from './fake-runtime.ts';

export const NODE: NodeFacts = {
  name: 'node-1',
  ips: ['192.0.2.1', '2001:db8::1'],
  labels: { 'kubernetes.io/hostname': 'node-1', disk: 'ssd' },
  memoryCapacity: 8 * 2 ** 30,
  allocatable: { milliCpu: 4000, memory: 7 * 2 ** 30, ephemeralStorage: 100 * 2 ** 30, pods: 10 },
  podsLimit: { milliCpu: 4000, memory: 8 * 2 ** 30 },
  hugePages: { '2MB': 0 },
  thermalThrottlePaths: ['/sys/devices/system/cpu/cpu0/thermal_throttle'],
  cgroupV2Memory: true,
  cgroupV2Swap: true,
  resolvConf: { servers: ['192.0.2.53'], searches: ['example.com'], options: ['edns0'] },
};

export class FakeCgroups implements PodCgroups {
  readonly pods = new Map<string, PodCgroup>();
  classes: readonly QosCgroup[] = [];

  async ensure(cgroup: PodCgroup): Promise<string> {
    this.pods.set(uidOf(cgroup.path), cgroup);
    return this.parent(cgroup);
  }

  parent({ path }: Pick<PodCgroup, 'path'>): string {
    return `/test/${path}`;
  }

  async setClasses(classes: readonly QosCgroup[]): Promise<void> {
    this.classes = classes;
  }

  async remove(uid: string): Promise<void> {
    this.pods.delete(uid);
  }

  async list(): Promise<string[]> {
    return [...this.pods.keys()];
  }
}

function uidOf(path: string): string {
  return path.slice(path.lastIndexOf('/pod') + '/pod'.length);
}

type Fields = Readonly<Record<string, unknown>>;

/** A pod by its spec (containers get an image each), as the kubelet gets it. */
export async function podOf(spec: Fields, metadata: Fields & { uid?: string } = {}): Promise<BoundPod> {
  const withImages = (containers: unknown) =>
    (containers as Fields[] | undefined)?.map((each) => ({ image: 'app:1', ...each }));
  const { containers = [{ name: 'a' }], initContainers } = spec;
  const manifest = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web', ...metadata },
    spec: {
      ...spec,
      containers: withImages(containers),
      ...(initContainers === undefined ? {} : { initContainers: withImages(initContainers) }),
    },
  };
  const { pods } = await parseManifests(JSON.stringify(manifest), { source: 'test' });
  const [pod] = pods;
  if (pod === undefined) throw new Error('no pod');
  return bindPod(pod, { uid: metadata.uid ?? 'uid-1', nodeName: NODE.name, now: new Date(START) });
}

export const START = Date.parse('2026-03-01T12:00:00Z');

/** Rounds of the event loop without anything new, after which nothing more is on its way. */
const QUIET_ROUNDS = 12;
const STEP = 100;
/** Rounds after which a moment that does not come to rest is a loop without a pause. */
const RESTLESS = 5000;

export class World implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'nodelet-kubelet-'));
  readonly runtime = new FakeRuntime(() => Date.now());
  readonly images = new FakeImages('app:1');
  readonly cgroups = new FakeCgroups();
  /** What happened, each line with the seconds since the world began. */
  readonly story: string[] = [];
  /** The pods that were taken in and are not gone, as an agent keeps them. */
  readonly store = new Map<string, BoundPod>();
  readonly #options: Partial<KubeletOptions>;
  kubelet: Kubelet;
  #changes = 0;

  constructor(options: Partial<KubeletOptions> = {}) {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'], now: START });
    this.#options = options;
    this.runtime.onCall = (line) => {
      this.#changes += 1;
      this.story.push(`${this.#time()} ${line}`);
    };
    this.kubelet = this.#make();
  }

  #time(): string {
    return ((Date.now() - START) / 1000).toFixed(1);
  }

  #make(): Kubelet {
    const kubelet = new Kubelet({
      runtime: this.runtime,
      images: this.images,
      cgroups: this.cgroups,
      directories: { root: join(this.directory, 'kubelet'), podLogs: join(this.directory, 'logs') },
      node: NODE,
      credentialFiles: [],
      log: silentLog,
      now: () => Date.now(),
      ...this.#options,
    });
    kubelet.onStatus(() => {
      this.#changes += 1;
    });
    kubelet.onEvent(() => {
      this.#changes += 1;
    });
    kubelet.onRemoved(({ metadata }) => {
      this.#changes += 1;
      this.store.delete(metadata.uid);
    });
    return kubelet;
  }

  /** Begins (again, after `crash`) with these pods. */
  async start(known: readonly BoundPod[] = []): Promise<void> {
    await this.kubelet.start(known);
    await this.settle();
  }

  async add(pod: BoundPod): Promise<void> {
    this.store.set(pod.metadata.uid, pod);
    this.kubelet.add(pod);
    await this.settle();
  }

  /** The agent ends and another one comes in its place; containers run on. */
  async restartAgent(
    known: readonly BoundPod[],
    meanwhile: () => Promise<void> | void = () => {},
  ): Promise<void> {
    await this.kubelet.close();
    await meanwhile();
    this.kubelet = this.#make();
    await this.start(known);
  }

  /** Until nothing more happens at this moment. */
  async settle(): Promise<void> {
    let rounds = 0;
    for (let quiet = 0, seen = this.#changes; quiet < QUIET_ROUNDS; quiet++) {
      await new Promise((resolve) => setImmediate(resolve));
      rounds += 1;
      if (rounds > RESTLESS) {
        const lately = [...this.story.slice(-10), ...this.events().slice(-10)].join('\n');
        throw new Error(`at ${this.#time()} something happens again and again:\n${lately}`);
      }
      if (this.#changes === seen) continue;
      seen = this.#changes;
      quiet = 0;
    }
  }

  async advance(seconds: number): Promise<void> {
    await this.settle();
    for (let left = seconds * 1000; left > 0; left -= STEP) {
      await vi.advanceTimersByTimeAsync(Math.min(STEP, left));
      await this.settle();
    }
  }

  /** Until something that takes real time (the disk) has come true. */
  async until(what: string, condition: () => boolean): Promise<void> {
    const deadline = performance.now() + 10_000;
    while (!condition()) {
      if (performance.now() > deadline) throw new Error(`still not: ${what}`);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await this.settle();
  }

  status(uid = 'uid-1'): PodStatus {
    return this.kubelet.get(uid)?.status ?? {};
  }

  containerStatus(name: string, uid = 'uid-1'): ContainerStatus {
    const { containerStatuses = [], initContainerStatuses = [] } = this.status(uid);
    const found = [...initContainerStatuses, ...containerStatuses].find((each) => each.name === name);
    if (found === undefined) throw new Error(`no status of ${name}`);
    return found;
  }

  condition(type: string, uid = 'uid-1'): string {
    const found = this.status(uid).conditions?.find((each) => each.type === type);
    return found === undefined ? 'none' : [found.status, found.reason].filter(Boolean).join(' ');
  }

  /** `reason: message` of every event, with its count where it is more than one. */
  events(uid?: string): string[] {
    return this.kubelet.events
      .list(uid)
      .map(({ reason, message, count = 1 }) => `${reason}: ${message}${count > 1 ? ` (${count})` : ''}`);
  }

  /** The story so far; the next one begins afterwards. */
  tell(): string[] {
    return this.story.splice(0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kubelet.close();
    vi.useRealTimers();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
