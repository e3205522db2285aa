/** Facts of the machine and settings of the kubelet that decide how a pod is translated. Plain data. */

import { defaultVerification, type PullVerification } from './images/index.ts';

export interface ResolvConf {
  readonly servers: readonly string[];
  readonly searches: readonly string[];
  readonly options: readonly string[];
}

export interface NodeFacts {
  readonly name: string;
  /** Addresses of the host, the preferred one first; one of each family is shown. */
  readonly ips: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** Bytes of memory of the machine. */
  readonly memoryCapacity: number;
  /** What pods may use together: thousandths of a core, bytes, bytes, and how many pods. */
  readonly allocatable: {
    readonly milliCpu: number;
    readonly memory: number;
    readonly ephemeralStorage: number;
    readonly pods: number;
  };
  /** What the cgroup of all pods may use: thousandths of a core and bytes. What is kept back for evictions counts in. */
  readonly podsLimit: { readonly milliCpu: number; readonly memory: number };
  /** Bytes of huge pages by their size, as CRI names it (`2MB`, `1GB`); 0 where the kernel knows the size and has none. */
  readonly hugePages: Readonly<Record<string, number>>;
  /** Existing `/sys/devices/system/cpu/cpuN/thermal_throttle`, to be masked. */
  readonly thermalThrottlePaths: readonly string[];
  /** True where memory is limited by cgroup v2. */
  readonly cgroupV2Memory: boolean;
  /** True where cgroup v2 accounts for swap besides. */
  readonly cgroupV2Swap: boolean;
  /** The host's resolv.conf. */
  readonly resolvConf: ResolvConf;
}

export interface KubeletSettings {
  /** Name servers of the cluster; without one `ClusterFirst` means `Default`. */
  readonly clusterDns: readonly string[];
  readonly clusterDomain: string;
  /** RuntimeDefault in place of Unconfined for containers that name no seccomp profile; upstream leaves it off by default. */
  readonly seccompDefault: boolean;
  /** Sysctls beyond the safe ones, exact or with a `*` at the end. */
  readonly allowedUnsafeSysctls: readonly string[];
  /** Whether CPU limits become quotas, and their period in microseconds. */
  readonly cpuCfsQuota: boolean;
  readonly cpuCfsPeriod: number;
  /** Processes of a pod; 0 for no limit. */
  readonly podPidsLimit: number;
  /** First id and number of ids of the range that pods with own users take theirs from; both multiples of 65536. */
  readonly userNamespaces: { readonly first: number; readonly length: number };
  /** When a pod has to show credentials for an image that is here already. */
  readonly imagePullVerification: PullVerification;
}

export const defaultSettings: KubeletSettings = {
  clusterDns: [],
  clusterDomain: 'cluster.local',
  seccompDefault: true,
  allowedUnsafeSysctls: [],
  cpuCfsQuota: true,
  cpuCfsPeriod: 100_000,
  podPidsLimit: 0,
  userNamespaces: { first: 65_536, length: 65_536 * 110 },
  imagePullVerification: defaultVerification,
};
