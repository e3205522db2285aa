/** New values for a cgroup in which processes run. */
import { readFileSync } from 'node:fs';
import { hasCode } from '../../base/index.ts';
import { applySteps } from './apply.ts';
import { type CgroupHost, directoryOf } from './host.ts';
import { checkPath, type PlanOptions, planCgroup } from './plan.ts';
import { type CgroupResources, checkResources } from './resources.ts';
import type { CgroupKind, CgroupStep } from './step.ts';
import { type LimitsV1, v1Values } from './values-v1.ts';
import { v2Values } from './values-v2.ts';

/**
 * The steps from the values that a v1 cgroup has now to new ones. v2 takes any order, so `now` does not matter there.
 * Throws CGROUP_PATH_INVALID, CGROUP_VALUE_INVALID, CGROUP_CONTROLLER_MISSING.
 */
export function planUpdate(
  host: CgroupHost,
  path: string,
  resources: CgroupResources,
  kind: CgroupKind,
  now: LimitsV1,
): CgroupStep[] {
  checkPath(path);
  checkResources(host, resources);
  return [...v1Values(host, path, resources, now), ...v2Values(host, path, resources, kind)];
}

/** Gives an existing cgroup new values, in an order that the kernel takes. Throws as planUpdate and applySteps. */
export function updateResources(
  host: CgroupHost,
  path: string,
  resources: CgroupResources,
  kind: CgroupKind,
): void {
  applySteps(planUpdate(host, path, resources, kind, readLimitsV1(host, path)));
}

/**
 * Makes a cgroup where there is none, and gives it its values from whatever values it has: for cgroups that outlive the
 * agent (pods, QoS classes), of which nobody knows whether they are new. Throws as planCgroup and applySteps.
 */
export function ensureCgroup(
  host: CgroupHost,
  path: string,
  resources: CgroupResources,
  options: PlanOptions,
): void {
  checkResources(host, resources);
  applySteps(planCgroup(host, path, {}, options));
  updateResources(host, path, resources, options.kind);
}

/** v1 writes "no limit" as the largest multiple of a page below 2^63; anything near it is none. */
const NO_LIMIT = 2 ** 62;

/** What the v1 controllers hold for a cgroup; no limits where the controllers are bound to v2. */
export function readLimitsV1(host: CgroupHost, path: string): LimitsV1 {
  const value = (controller: 'memory' | 'cpu', file: string): number | undefined => {
    const binding = host.controllers[controller];
    if (binding?.version !== 1) return undefined;
    try {
      const number = Number(readFileSync(`${directoryOf(binding.root, path)}/${file}`, 'utf8'));
      return number >= NO_LIMIT ? -1 : number;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      throw error;
    }
  };
  return {
    memory: value('memory', 'memory.limit_in_bytes') ?? -1,
    swap: value('memory', 'memory.memsw.limit_in_bytes'),
    quota: value('cpu', 'cpu.cfs_quota_us') ?? -1,
    period: value('cpu', 'cpu.cfs_period_us') ?? 100_000,
  };
}
