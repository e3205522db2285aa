/**
 * Ids for pods with users of their own (`hostUsers: false`): each takes 65536 from a range, so that no two pods share an
 * id, and keeps them in `pods/<uid>/userns`, in upstream's format.
 */
import { readdirSync, rmSync } from 'node:fs';
import { NodeletError, readJsonIfExists, replaceFileSync } from '../base/index.ts';
import { type IDMapping, NamespaceMode, type UserNamespace } from '../cri/index.ts';
import type { KubeletPaths } from './paths.ts';

const IDS_PER_POD = 65_536;

interface StoredMapping {
  readonly hostId: number;
  readonly containerId: number;
  readonly length: number;
}

export class UserNamespaces {
  readonly #paths: KubeletPaths;
  readonly #first: number;
  readonly #count: number;
  readonly #taken = new Map<string, number>();

  /** Reads what pods on disk have already. Throws INVALID_USERNS_RANGE. */
  constructor(paths: KubeletPaths, range: { readonly first: number; readonly length: number }) {
    if (range.first % IDS_PER_POD !== 0 || range.length % IDS_PER_POD !== 0 || range.first < IDS_PER_POD) {
      throw new NodeletError(
        'INVALID_USERNS_RANGE',
        `cannot give user namespaces ids from ${range.first}, ${range.length} of them: both must be multiples of ${IDS_PER_POD} and 0 must not be among them`,
      );
    }
    this.#paths = paths;
    this.#first = range.first;
    this.#count = range.length / IDS_PER_POD;
    for (const uid of podsOnDisk(paths.pods)) {
      const hostId = readStored(paths.userNamespace(uid));
      if (hostId !== undefined) this.#taken.set(uid, hostId);
    }
  }

  /** The pod's mapping: the one that it has, else a free one, written durably before it is used. Throws USERNS_EXHAUSTED. */
  ensure(uid: string): UserNamespace {
    const hostId = this.#taken.get(uid) ?? this.#allocate(uid);
    return mappingAt(hostId);
  }

  /** What `ensure` would give, without taking it; undefined where nothing is free. */
  peek(uid: string): UserNamespace | undefined {
    const hostId = this.#taken.get(uid) ?? this.#free();
    return hostId === undefined ? undefined : mappingAt(hostId);
  }

  release(uid: string): void {
    this.#taken.delete(uid);
    rmSync(this.#paths.userNamespace(uid), { force: true });
  }

  #free(): number | undefined {
    const used = new Set(this.#taken.values());
    for (let i = 0; i < this.#count; i++) {
      const hostId = this.#first + i * IDS_PER_POD;
      if (!used.has(hostId)) return hostId;
    }
    return undefined;
  }

  #allocate(uid: string): number {
    const hostId = this.#free();
    if (hostId !== undefined) {
      const mapping: StoredMapping = { hostId, containerId: 0, length: IDS_PER_POD };
      const stored = { uidMappings: [mapping], gidMappings: [mapping] };
      replaceFileSync(this.#paths.userNamespace(uid), JSON.stringify(stored), { durable: true, mode: 0o600 });
      this.#taken.set(uid, hostId);
      return hostId;
    }
    throw new NodeletError('USERNS_EXHAUSTED', 'could not find an empty slot to allocate a user namespace', {
      hint: `all ${this.#count} ranges are taken; give the agent a larger one`,
    });
  }
}

function mappingAt(hostId: number): UserNamespace {
  const mapping: IDMapping[] = [{ hostId, containerId: 0, length: IDS_PER_POD }];
  return { mode: NamespaceMode.POD, uids: mapping, gids: mapping };
}

function podsOnDisk(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function readStored(path: string): number | undefined {
  const stored = readJsonIfExists(path) as { uidMappings?: readonly StoredMapping[] } | undefined;
  const hostId = stored?.uidMappings?.[0]?.hostId;
  return typeof hostId === 'number' ? hostId : undefined;
}
