/** Pods that were given to the agent by hand: kept until they are removed, or the machine reboots. */
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { hasCode, readJsonIfExists, replaceFileSync } from '../base/index.ts';
import type { BoundPod, ConfigMap, Secret } from '../kube/index.ts';
import { bootId } from '../linux/procfs.ts';
import { unwritable } from './errors.ts';

export interface GivenPods {
  readonly pods: readonly BoundPod[];
  readonly configMaps: readonly ConfigMap[];
  readonly secrets: readonly Secret[];
}

interface StoredPod {
  readonly version: 1;
  readonly bootId: string;
  readonly pod: BoundPod;
  readonly configMaps: readonly ConfigMap[];
  readonly secrets: readonly Secret[];
}

export class PodStore {
  readonly #directory: string;
  readonly #bootId = bootId();

  constructor(state: string) {
    this.#directory = join(state, 'pods');
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
  }

  #path(uid: string): string {
    return join(this.#directory, `${uid}.json`);
  }

  /** Each pod keeps the objects that came with it: its manifest is whole by itself. Throws STATE_UNWRITABLE. */
  save(pod: BoundPod, objects: Pick<GivenPods, 'configMaps' | 'secrets'>): void {
    const { namespace } = pod.metadata;
    const own = <T extends ConfigMap | Secret>(list: readonly T[]): T[] =>
      list.filter((one) => (one.metadata?.namespace ?? 'default') === namespace);
    const stored: StoredPod = {
      version: 1,
      bootId: this.#bootId,
      pod,
      configMaps: own(objects.configMaps),
      secrets: own(objects.secrets),
    };
    const path = this.#path(pod.metadata.uid);
    try {
      replaceFileSync(path, JSON.stringify(stored), { durable: false });
    } catch (error) {
      throw unwritable(path, error);
    }
  }

  remove(uid: string): void {
    rmSync(this.#path(uid), { force: true });
  }

  has(uid: string): boolean {
    return this.#read(`${uid}.json`) !== undefined;
  }

  /** What an earlier agent of this boot was given; the rest is forgotten. */
  load(): GivenPods {
    const pods: BoundPod[] = [];
    const configMaps: ConfigMap[] = [];
    const secrets: Secret[] = [];
    for (const name of this.#names()) {
      const stored = this.#read(name);
      if (stored === undefined) {
        rmSync(join(this.#directory, name), { force: true });
        continue;
      }
      pods.push(stored.pod);
      configMaps.push(...stored.configMaps);
      secrets.push(...stored.secrets);
    }
    return { pods, configMaps, secrets };
  }

  #names(): string[] {
    try {
      return readdirSync(this.#directory);
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return [];
      throw error;
    }
  }

  #read(name: string): StoredPod | undefined {
    if (!name.endsWith('.json')) return undefined;
    try {
      const stored = readJsonIfExists(join(this.#directory, name)) as StoredPod | undefined;
      return stored?.version === 1 && stored.bootId === this.#bootId ? stored : undefined;
    } catch {
      return undefined; // cut off by a crash before its rename, or by hand
    }
  }
}
