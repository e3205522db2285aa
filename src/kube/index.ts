export { defaultPod, defaultPullPolicy } from './defaults.ts';
export { describeFieldError, type FieldError, type FieldErrorKind } from './field-error.ts';
export type * from './gen/types.gen.ts';
export {
  describeProblem,
  type ManifestProblem,
  type Manifests,
  type ParseOptions,
  parseManifests,
  type Validation,
} from './manifest/parse.ts';
export {
  isNodeCritical,
  podPriority,
  podResources,
  qosClass,
  type ResourceList,
  resourcesOf,
} from './pod-resources.ts';
export { Quantity } from './quantity.ts';
export * from './types.ts';
export { unsupported } from './unsupported.ts';
export { splitSubscript } from './validation/env.ts';
export { decodeBase64 } from './validation/objects.ts';
export { MAX_NAMESERVERS, MAX_SEARCH_LENGTH, MAX_SEARCH_PATHS, validatePod } from './validation/pod.ts';
export { hugePageSize, isHugePages } from './validation/resources.ts';
export { dottedSysctl } from './validation/security.ts';
