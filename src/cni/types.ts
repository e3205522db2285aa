/**
 * The contract between the runtime and whatever gives a pod its network: the built-in bridge network now, a CNI
 * conflist as well later. Names follow the CNI specification 1.1.
 */
export interface PortMapping {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  /** Empty for every address of the host. */
  readonly hostIP: string;
}

export interface NetworkAttachment {
  /** The sandbox's ID: the container ID of CNI. */
  readonly id: string;
  /** The pod's network namespace. Undefined at a removal after the namespace has gone. */
  readonly netnsFd: number | undefined;
  readonly podNamespace: string;
  readonly podName: string;
  readonly podUid: string;
  readonly portMappings: readonly PortMapping[];
}

export interface NetworkResult {
  readonly interfaces: readonly {
    readonly name: string;
    readonly mac: string;
    readonly mtu: number;
    /** 'host' or 'pod'. */
    readonly side: 'host' | 'pod';
  }[];
  readonly ips: readonly {
    /** With its prefix length: 10.88.0.5/16 */
    readonly address: string;
    readonly gateway: string;
  }[];
  readonly routes: readonly { readonly dst: string; readonly gw?: string }[];
}

/** One thing that the network would do, for `nodelet plan`: `verb` as ip(8) or nft(8) would say it. */
export interface NetworkStep {
  readonly where: 'host' | 'pod';
  readonly action: string;
}

export interface PodNetwork {
  readonly name: string;
  /** Makes what all pods share (bridge, sysctls, nftables table); nothing changes where it is right already. */
  setUp(): Promise<void>;
  /** Connects a pod. On failure everything that it made is undone. Twice for one id gives the same result. */
  add(attachment: NetworkAttachment): Promise<NetworkResult>;
  /** Idempotent; also with the namespace gone. */
  remove(attachment: NetworkAttachment): Promise<void>;
  /** Releases addresses, links and rules of every attachment that is not in `valid`; returns the ids. */
  collect(valid: ReadonlySet<string>): Promise<string[]>;
  status(): Promise<{ readonly ready: boolean; readonly reason?: string; readonly message?: string }>;
  /** The steps of `add`, with the addresses that it would take; changes nothing. */
  plan(attachment: NetworkAttachment): NetworkStep[];
  /** Removes what setUp made; refused with NETWORK_IN_USE while pods are attached. */
  tearDown(): Promise<void>;
}
