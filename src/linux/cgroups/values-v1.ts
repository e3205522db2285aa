import { type CgroupHost, type Controller, directoryOf } from './host.ts';
import { type CgroupResources, isSet } from './resources.ts';
import type { CgroupStep } from './step.ts';
import { clampShares } from './weight.ts';

/** What a v1 cgroup holds now, where the order of new values depends on it. -1: no limit. */
export interface LimitsV1 {
  readonly memory: number;
  /** Memory and swap; undefined where the kernel does not account swap. */
  readonly swap: number | undefined;
  readonly quota: number;
  readonly period: number;
}

/** A cgroup that was made just now. */
const FRESH: LimitsV1 = { memory: -1, swap: -1, quota: -1, period: 100_000 };

/** Values of the controllers that are bound to v1 (kernel documentation, cgroup-v1/). */
export function v1Values(
  host: CgroupHost,
  path: string,
  resources: CgroupResources,
  now: LimitsV1 = FRESH,
): CgroupStep[] {
  const steps: CgroupStep[] = [];
  const writer = (controller: Controller) => {
    const binding = host.controllers[controller];
    if (binding?.version !== 1) return undefined;
    const directory = directoryOf(binding.root, path);
    return (file: string, value: string | number, more: { optional?: true; why?: string } = {}) => {
      steps.push({ op: 'write', path: `${directory}/${file}`, value: String(value), ...more });
    };
  };

  const { cpu = {}, memory = {}, pids } = resources;
  const cpuWrite = writer('cpu');
  if (cpuWrite !== undefined) {
    if (cpu.idle !== undefined) cpuWrite('cpu.idle', cpu.idle ? 1 : 0, cpu.idle ? {} : { optional: true });
    if (isSet(cpu.shares) && cpu.idle !== true) cpuWrite('cpu.shares', clampShares(cpu.shares));
    for (const [file, value] of bandwidth(cpu.quota, cpu.period, now)) cpuWrite(file, value);
  }
  const cpusetWrite = writer('cpuset');
  if (cpusetWrite !== undefined) {
    if (cpu.cpus) cpusetWrite('cpuset.cpus', cpu.cpus);
    if (cpu.mems) cpusetWrite('cpuset.mems', cpu.mems);
  }
  const memoryWrite = writer('memory');
  if (memoryWrite !== undefined) {
    for (const [file, value, optional] of memoryLimits(memory.limit, memory.swap, now)) {
      memoryWrite(file, value, optional ? { optional: true, why: 'needs swap accounting' } : {});
    }
    if (isSet(memory.reservation)) memoryWrite('memory.soft_limit_in_bytes', memory.reservation);
  }
  const pidsWrite = writer('pids');
  if (pidsWrite !== undefined && isSet(pids?.limit))
    pidsWrite('pids.max', pids.limit < 0 ? 'max' : pids.limit);
  const hugetlbWrite = writer('hugetlb');
  if (hugetlbWrite !== undefined) {
    for (const { pageSize, limit } of resources.hugepageLimits ?? []) {
      if (!host.hugepageSizes.includes(pageSize)) continue;
      hugetlbWrite(`hugetlb.${pageSize}.limit_in_bytes`, limit);
      hugetlbWrite(`hugetlb.${pageSize}.rsvd.limit_in_bytes`, limit, { optional: true });
    }
  }
  return steps;
}

/**
 * Quota and period are two files, and the kernel checks their ratio against the parent's at every write. A longer
 * period first, or a shorter one last, never makes the ratio larger in between than it is before or after.
 */
function bandwidth(
  wantedQuota: number | undefined,
  wantedPeriod: number | undefined,
  now: LimitsV1,
): (readonly [file: string, value: number])[] {
  const quota = isSet(wantedQuota) ? Math.max(wantedQuota, -1) : undefined;
  const period = isSet(wantedPeriod) ? wantedPeriod : undefined;
  const quotaWrite = quota === undefined ? [] : [['cpu.cfs_quota_us', quota] as const];
  const periodWrite = period === undefined ? [] : [['cpu.cfs_period_us', period] as const];
  const periodFirst = now.quota < 0 || (period ?? now.period) >= now.period;
  return periodFirst ? [...periodWrite, ...quotaWrite] : [...quotaWrite, ...periodWrite];
}

/**
 * memsw (memory and swap) may never be below memory: what is raised is raised from above, what is lowered from below.
 */
function memoryLimits(
  limit: number | undefined,
  swap: number | undefined,
  now: LimitsV1,
): (readonly [file: string, value: number, optional: boolean])[] {
  const total = isSet(swap) ? swap : limit === -1 ? -1 : undefined;
  const limitWrite = isSet(limit) ? [['memory.limit_in_bytes', limit, false] as const] : [];
  // Without swap accounting there is no file; where swap would be allowed that has to be known.
  const harmless = total === -1 || total === limit;
  const totalWrite = total === undefined ? [] : [['memory.memsw.limit_in_bytes', total, harmless] as const];
  const unlimited = (value: number | undefined) => (value === undefined || value < 0 ? Infinity : value);
  const raisesTotal = total !== undefined && unlimited(total) > unlimited(now.swap);
  return raisesTotal ? [...totalWrite, ...limitWrite] : [...limitWrite, ...totalWrite];
}
