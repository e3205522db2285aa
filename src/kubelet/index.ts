export { admit, type Rejection } from './admission.ts';
export {
  type CgroupValues,
  classCgroups,
  type PodCgroup,
  type PodCgroups,
  podCgroup,
  type QosCgroup,
} from './cgroups.ts';
export { LinuxPodCgroups, planPodCgroup } from './cgroups-linux.ts';
export { type Action, describeAction } from './core/actions.ts';
export { type DecideInput, type Decision, decide, type Stage } from './core/decide.ts';
export type { Desired, Observed, ObservedContainer, ObservedSandbox, PodMemory } from './core/model.ts';
export { PodError } from './errors.ts';
export { EventRecorder } from './events.ts';
export {
  allowlistProblem,
  type CredentialProvider,
  defaultVerification,
  type PullVerification,
  readProviderConfig,
} from './images/index.ts';
export {
  Kubelet,
  type KubeletOptions,
  type LogRequest,
  type PodStatusChange,
  type StopOptions,
} from './kubelet.ts';
export { logContainer } from './logs/pod-log.ts';
export { type LogChunk, type LogOptions, type LogSource, readLog } from './logs/reader.ts';
export { defaultSettings, type KubeletSettings, type NodeFacts, type ResolvConf } from './node.ts';
export { type ObjectLookup, ObjectStore } from './objects.ts';
export { type KubeletDirectories, KubeletPaths } from './paths.ts';
export {
  type PlanContext,
  type PlannedContainer,
  type PlannedVolume,
  type PodPlan,
  planPod,
} from './plan.ts';
export { type ProbeNodeOptions, probeNode } from './probe-node.ts';
export { StaticPodSource, syncStaticPods } from './sources/file.ts';
export { generateStatus } from './status/status.ts';
export { parseResolvConf, podDns } from './translate/dns.ts';
export { ANNOTATION, LABEL } from './translate/labels.ts';
export { UserNamespaces } from './userns.ts';
export { refersTo } from './volumes/volumes.ts';
