/** Pods' cgroups on this machine. */
import { existsSync } from 'node:fs';
import {
  type CgroupHost,
  type CgroupResources,
  type CgroupStep,
  checkOwnedRoot,
  directoryOf,
  ensureCgroup,
  killCgroup,
  listOwned,
  planCgroup,
  readCgroupHost,
  removeCgroup,
} from '../linux/cgroups/index.ts';
import {
  type CgroupValues,
  classFolders,
  type PodCgroup,
  type PodCgroups,
  type QosCgroup,
} from './cgroups.ts';

/** Milliseconds in which what was killed in a pod's cgroup has to be gone. */
const REMOVAL_DEADLINE = 10_000;

export class LinuxPodCgroups implements PodCgroups {
  readonly host: CgroupHost;
  /** The topmost cgroup that is ours: `/nodelet`. */
  readonly root: string;

  /** Makes the root. Throws CGROUP_V2_MISSING, CGROUP_PATH_INVALID, and what the kernel says. */
  constructor(root: string, host: CgroupHost = readCgroupHost()) {
    this.root = root;
    this.host = host;
    checkOwnedRoot(host, root);
    ensureCgroup(host, root, {}, { kind: 'pod', owned: root });
  }

  /** Whether memory is limited by v2, and whether v2 accounts for swap besides. */
  get memory(): { readonly v2: boolean; readonly swap: boolean } {
    const v2 = this.host.controllers.memory?.version === 2;
    return { v2, swap: v2 && existsSync(`${directoryOf(this.host.unified, this.root)}/memory.swap.max`) };
  }

  async ensure({ path, values }: Pick<PodCgroup, 'path' | 'values'>): Promise<string> {
    ensureCgroup(this.host, this.#at(path), resourcesOf(values), { kind: 'pod', owned: this.root });
    return this.#at(path);
  }

  parent({ path }: Pick<PodCgroup, 'path'>): string {
    return this.#at(path);
  }

  async setClasses(classes: readonly QosCgroup[]): Promise<void> {
    for (const each of classes) await this.ensure(each);
  }

  async remove(uid: string): Promise<void> {
    for (const folder of classFolders()) {
      const path = this.#at(`${folder}/pod${uid}`);
      killCgroup(this.host, path);
      await removeCgroup(this.host, path, { deadline: REMOVAL_DEADLINE });
    }
  }

  async list(): Promise<string[]> {
    const uids = classFolders().flatMap((folder) => {
      const prefix = `${this.#at(folder)}/pod`;
      return listOwned(this.host, this.#at(folder)).flatMap(({ path }) => {
        const uid = path.startsWith(prefix) ? path.slice(prefix.length) : '';
        return uid === '' || uid.includes('/') ? [] : [uid];
      });
    });
    return [...new Set(uids)];
  }

  #at(path: string): string {
    return `${this.root}/${path}`;
  }
}

/** What `ensure` would do for a pod on a host that has none of its cgroups yet. Pure. */
export function planPodCgroup(
  host: CgroupHost,
  root: string,
  { path, values }: Pick<PodCgroup, 'path' | 'values'>,
): CgroupStep[] {
  return planCgroup(host, `${root}/${path}`, resourcesOf(values), { kind: 'pod', owned: root });
}

function resourcesOf(values: CgroupValues): CgroupResources {
  const { cpuShares, cpuQuota, cpuPeriod, memoryLimit, pidsLimit, hugePages } = values;
  return {
    cpu: {
      ...(cpuShares === undefined ? {} : { shares: cpuShares }),
      ...(cpuQuota === undefined ? {} : { quota: cpuQuota }),
      ...(cpuPeriod === undefined ? {} : { period: cpuPeriod }),
    },
    ...(memoryLimit === undefined ? {} : { memory: { limit: memoryLimit } }),
    ...(pidsLimit === undefined ? {} : { pids: { limit: pidsLimit } }),
    hugepageLimits: Object.entries(hugePages ?? {}).map(([pageSize, limit]) => ({ pageSize, limit })),
  };
}
