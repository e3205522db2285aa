/** What the probes bring back, and the verdicts are made from. */
import type { CgroupHost } from '../../linux/cgroups/index.ts';
import type { NftablesProbe } from '../../linux/nftables/index.ts';

/** Something that was tried: it worked, or why not. */
export type Outcome<T = true> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly code: string; readonly message: string; readonly hint?: string };

export const TRIED_NAMESPACES = ['mnt', 'pid', 'net', 'ipc', 'uts', 'cgroup', 'user'] as const;
export type TriedNamespace = (typeof TRIED_NAMESPACES)[number];

export interface ProgramFacts {
  /** process.versions.node */
  readonly node: string;
  readonly addon: Outcome;
  readonly shim: Outcome;
  /** The pid of the agent that has the state directory. */
  readonly agent: number | undefined;
  readonly socket: string;
}

export interface RightsFacts {
  readonly uid: number;
  /** Names of those that are effective and in the bounding set. */
  readonly capabilities: readonly string[];
}

export interface KernelFacts {
  readonly release: string;
  /** System calls and mount features that everything is built on, by name. */
  readonly calls: Readonly<Record<string, Outcome>>;
  readonly namespaces: Readonly<Record<TriedNamespace, Outcome>>;
  /** user.max_<kind>_namespaces; undefined where there is no such limit. */
  readonly limits: Readonly<Partial<Record<TriedNamespace, number>>>;
  /** A fresh /proc in a PID namespace; and in one that belongs to a user namespace. */
  readonly proc: Outcome;
  readonly userProc: Outcome;
  /** /proc/sys/kernel/seccomp/actions_avail; undefined where the file is missing. */
  readonly seccompActions: readonly string[] | undefined;
}

export interface CgroupFactsFound {
  readonly host: Outcome<CgroupHost>;
  /** A cgroup made and removed in each hierarchy, a process born in it. */
  readonly scratch: Outcome<{ readonly kill: boolean; readonly freeze: boolean }>;
  readonly deviceProgram: Outcome;
}

export interface StorageFacts {
  readonly root: string;
  /** The directory that was tried: the root, or the first above it that exists. */
  readonly directory: string;
  readonly type: string;
  readonly overlay: Outcome;
  readonly idMap: Outcome;
  /** Bytes. */
  readonly free: number;
  readonly size: number;
  /** Inodes; both 0 where the file system counts none. */
  readonly freeInodes: number;
  readonly inodes: number;
}

export interface NetworkFacts {
  /** False with --network host. */
  readonly bridge: boolean;
  readonly links: Outcome;
  readonly nftables: Outcome<NftablesProbe>;
  /** What connecting a pod now would fail with. */
  readonly plan: Outcome;
  readonly forward: { readonly value: string | undefined; readonly writable: boolean };
  readonly bridgeNetfilter: boolean;
  readonly ipv6: 'on' | 'disabled' | 'absent';
  /** Links with a default route. */
  readonly uplinks: readonly string[];
  readonly conntrack: { readonly count: number; readonly max: number } | undefined;
  readonly resolvConf: { readonly path: string; readonly servers: readonly string[] | undefined };
}

export interface MachineFacts {
  /** Bytes. */
  readonly memory: { readonly available: number; readonly total: number };
  readonly openFiles: number;
  readonly inotify: { readonly instances: number | undefined; readonly watches: number | undefined };
  readonly maxPid: number | undefined;
  /** Milliseconds since 1970. */
  readonly clock: { readonly now: number; readonly built: number };
}

export interface Facts {
  readonly program: ProgramFacts;
  readonly rights: RightsFacts;
  readonly kernel: KernelFacts;
  readonly cgroups: CgroupFactsFound;
  readonly storage: StorageFacts;
  readonly network: NetworkFacts;
  readonly machine: MachineFacts;
}
