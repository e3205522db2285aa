export { applySteps } from './apply.ts';
export { readEvents, type WaitOptions } from './events.ts';
export {
  type CgroupFacts,
  type CgroupHost,
  CONTROLLERS,
  type Controller,
  type ControllerBinding,
  detectCgroups,
  directoryOf,
  type MissingController,
  readCgroupHost,
  v1Roots,
} from './host.ts';
export {
  freeze,
  isPopulated,
  type KillOptions,
  killCgroup,
  removeCgroup,
  thaw,
  waitEmpty,
} from './lifecycle.ts';
export { listOwned, type OwnedCgroup, processesIn } from './members.ts';
export {
  checkOwnedRoot,
  checkPath,
  type JoinTargets,
  joinTargets,
  type PlanOptions,
  planCgroup,
} from './plan.ts';
export { type CgroupResources, checkResources, parseIdList } from './resources.ts';
export {
  type CgroupStats,
  type CpuStats,
  type IoStats,
  type MemoryStats,
  type OomStats,
  type PidsStats,
  type Pressure,
  type PressureLine,
  parsePressure,
  readOomKills,
  readStats,
} from './stats.ts';
export type { CgroupKind, CgroupStep } from './step.ts';
export { ensureCgroup, planUpdate, readLimitsV1, updateResources } from './update.ts';
export type { LimitsV1 } from './values-v1.ts';
export { clampShares, containerCpuWeight, podCpuWeight } from './weight.ts';
