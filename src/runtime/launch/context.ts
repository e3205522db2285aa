/** What a plan needs to know besides the specification: this host, this pod, and where things are kept. */
import type { CgroupStep } from '../../linux/cgroups/index.ts';
import type { OciNamespaceType } from './spec.ts';

/** How the container's cgroup is made, joined and, at the end, emptied. */
export interface LaunchCgroup {
  /** Made and written before the clone, in this order. */
  readonly steps: readonly CgroupStep[];
  /** The v2 directory that the child is cloned into. */
  readonly directory: string;
  /** v1 `cgroup.procs` files that it joins by itself. */
  readonly join: readonly string[];
  /**
   * Written just before the program starts: CPU quota. A child that sets up under a small quota may be held for many
   * periods, and with it whatever kernel locks it has.
   */
  readonly late: readonly { readonly path: string; readonly value: string }[];
  readonly killFile: string;
  /** Control file and key that count OOM kills. */
  readonly oom: { readonly file: string; readonly key: string };
}

/** Mounts that show the container its cgroup. */
export type CgroupView =
  | { readonly kind: 'unified' }
  | {
      readonly kind: 'hybrid';
      /** Directory name below /sys/fs/cgroup and the mount options of its hierarchy. */
      readonly hierarchies: readonly { readonly name: string; readonly options: readonly string[] }[];
      readonly unifiedName: string;
    }
  | {
      /** Without a cgroup namespace a mount would show the whole host: the container's own directories are bound. */
      readonly kind: 'bound';
      /** Where the container sees them, below the mount's destination ("" is that itself), and what is bound there. */
      readonly directories: readonly { readonly name: string; readonly source: string }[];
    };

/** What this kernel can do, asked once at start. */
export interface KernelFeatures {
  /** open_tree(OPEN_TREE_CLONE) of a tree that is attached nowhere (Linux 6.15). */
  readonly cloneDetached: boolean;
  /** CAP_SYS_RESOURCE: raising limits, lowering oom_score_adj. */
  readonly sysResource: boolean;
}

export interface RootOverlay {
  /** Topmost first. */
  readonly lower: readonly string[];
  readonly upper: string;
  readonly work: string;
}

export interface StreamsOptions {
  /** Directory of the pod's logs, and the log's path below it. */
  readonly directory: string;
  readonly log: string;
  readonly stdin: boolean;
}

export interface SeccompProgram {
  readonly filter: Uint8Array;
  readonly flags: number;
}

/**
 * What differs where another program than the agent asks for a container, and starts it later: an OCI runtime's caller.
 * Standard input, output and error and the descriptors to be kept travel with the plan, in this order, after its others.
 */
export interface FrontContext {
  /** Where `start` connects to; its first packet releases the program. */
  readonly socket: { readonly directory: string; readonly name: string };
  /** Descriptors that become 3, 4, … in the container. */
  readonly preserve: number;
  readonly keyring: boolean;
}

export interface ContainerContext {
  readonly id: string;
  readonly front?: FrontContext;
  /** An empty directory; the root is mounted on it, in the container's mount namespace. */
  readonly staging: string;
  /** An overlay to make, or undefined where `root.path` of the specification is the root. */
  readonly overlay: RootOverlay | undefined;
  readonly cgroup: LaunchCgroup;
  readonly cgroupView: CgroupView;
  readonly streams: StreamsOptions;
  readonly terminal: boolean;
  readonly exitRecord: string;
  readonly seccomp: SeccompProgram | undefined;
  /** True: the first descriptor that travels with the plan is the device program. */
  readonly deviceProgram: boolean;
  /**
   * True: the next descriptor is a mount namespace with nothing but an empty read-only root in it. The container's begins as
   * its copy; otherwise as a copy of the host's, which is then left by pivot_root.
   */
  readonly emptyMounts: boolean;
  /** Namespaces of another container that are joined: their descriptors come next, in this order. */
  readonly targets: readonly OciNamespaceType[];
  readonly features: KernelFeatures;
}

/** Longest log line before it is split, as containerd's max_container_log_line_size. */
export const LOG_LINE_LIMIT = 16_384;
