/** What the runtime's verbs share. Built once by `Runtime`. */
import type { Emitter, KeyedMutex, Log } from '../base/index.ts';
import type { PodNetwork } from '../cni/index.ts';
import type { ContainerEventResponse, ContainerEventType } from '../cri/index.ts';
import type { ImageSource } from '../image/index.ts';
import type { RuntimeCgroups } from './cgroup.ts';
import type { EmptyMounts } from './empty-mounts.ts';
import type { HostFacts } from './host.ts';
import type { LoopbackPorts } from './loopback-ports.ts';
import type { Container, Model, Sandbox } from './model.ts';
import type { RecordStore } from './records.ts';
import type { SeccompPrograms } from './seccomp.ts';
import type { AppArmorProfiles } from './security-modules.ts';
import type { ShimStarter } from './shim/start.ts';
import type { Spares } from './spares.ts';

export interface RuntimePaths {
  /** Durable: volumes of containers are below it. */
  readonly root: string;
  /** Gone after a reboot: records and sockets. */
  readonly state: string;
  /** `<state>/root`: the empty directory on which roots are mounted. */
  readonly staging: string;
}

export interface RuntimeContext {
  readonly paths: RuntimePaths;
  readonly host: HostFacts;
  readonly cgroups: RuntimeCgroups;
  readonly images: ImageSource;
  readonly cdiDirectories: readonly string[];
  /** Milliseconds that a launch plan may take; undefined: the shim client's own. */
  readonly startDeadline: number | undefined;
  /** Undefined: every pod uses the host's network. */
  readonly network: PodNetwork | undefined;
  readonly loopbackPorts: LoopbackPorts;
  readonly seccomp: SeccompPrograms;
  readonly apparmor: AppArmorProfiles;
  readonly shims: ShimStarter;
  readonly spares: Spares;
  readonly emptyMounts: EmptyMounts;
  readonly store: RecordStore;
  readonly model: Model;
  readonly locks: KeyedMutex;
  readonly events: Emitter<ContainerEventResponse>;
  readonly log: Log;
  /** The device program of containers without devices of their own, loaded once. */
  defaultDeviceProgram(): number | undefined;
  emit(kind: ContainerEventType, sandbox: Sandbox, container?: Container): void;
}
