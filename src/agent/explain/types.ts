/** What a running pod is made of, read from the kernel at the moment of asking: plain data for `nodelet explain`. */

export interface ExplainedNamespace {
  readonly kind: 'user' | 'pid' | 'mnt' | 'net' | 'ipc' | 'uts' | 'cgroup' | 'time';
  readonly inode: number;
  /** `host`, or the names of the pod's other containers that are in it too. */
  readonly sharedWith: readonly string[];
}

export interface ExplainedMount {
  readonly path: string;
  readonly type: string;
  readonly source: string;
  /** Directory of the source that is seen: not `/` for a bind of a part. */
  readonly root: string;
  readonly options: readonly string[];
  readonly propagation: string;
}

/** One value of a control file: what is allowed and what is used. */
export interface ExplainedLimit {
  readonly what: string;
  readonly file: string;
  readonly limit: string;
  readonly used: string;
}

export interface ExplainedContainer {
  readonly name: string;
  readonly id: string;
  readonly state: string;
  readonly pid: number;
  /** Its PID in its own namespace. */
  readonly innerPid: number;
  readonly command: readonly string[];
  readonly namespaces: readonly ExplainedNamespace[];
  readonly cgroup: string;
  readonly limits: readonly ExplainedLimit[];
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  /** Ids inside and outside; empty without a user namespace of its own. */
  readonly uidMap: readonly { readonly inside: number; readonly outside: number; readonly count: number }[];
  readonly capabilities: {
    readonly effective: readonly string[];
    readonly permitted: readonly string[];
    readonly inheritable: readonly string[];
    readonly bounding: readonly string[];
    readonly ambient: readonly string[];
  };
  /** 0 none, 1 strict, 2 filter. */
  readonly seccompMode: number;
  readonly seccompFilters: number;
  readonly noNewPrivileges: boolean;
  readonly oomScoreAdj: number;
  readonly mounts: readonly ExplainedMount[];
  readonly devices: readonly string[];
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
}

export interface ExplainedLink {
  readonly name: string;
  readonly mac: string;
  readonly mtu: number;
  readonly addresses: readonly string[];
  readonly up: boolean;
}

export interface PodExplanation {
  readonly pod: string;
  readonly uid: string;
  readonly phase: string;
  readonly qosClass: string;
  readonly sandboxId: string;
  readonly shimPid: number;
  readonly pausePid: number;
  readonly cgroup: string;
  readonly podLimits: readonly ExplainedLimit[];
  /** The host's own, for comparison. */
  readonly host: {
    readonly namespaces: readonly { readonly kind: string; readonly inode: number }[];
    readonly capabilities: number;
  };
  readonly network: {
    readonly hostNetwork: boolean;
    /** The pod's end and the host's. */
    readonly links: readonly ExplainedLink[];
    readonly hostLink: string;
    readonly bridge: string;
    readonly routes: readonly string[];
  };
  readonly containers: readonly ExplainedContainer[];
}
