export type { RuntimeContext } from './context.ts';
export { type HostFacts, probeHost } from './host.ts';
export type { KernelFeatures } from './launch/context.ts';
export { type DescribedOperation, describePlan } from './launch/describe.ts';
export type { LaunchPlan } from './launch/encode.ts';
export { OPERATIONS, type Operation } from './launch/protocol.gen.ts';
export type { OciSpec } from './launch/spec.ts';
export type { Container as RuntimeContainer, Sandbox as RuntimeSandbox } from './model.ts';
export { networkAttachment } from './network-attachment.ts';
export { runOci } from './oci/lazy.ts';
export {
  type PlannedImage,
  type PlannedLaunch,
  type PlanPodInput,
  type PlanPodOptions,
  type PodLaunchPlan,
  planPodLaunch,
} from './plan-pod.ts';
export { Runtime, type RuntimeOptions } from './runtime.ts';
export { LaunchError } from './shim/client.ts';
export { VERSION } from './version.ts';
