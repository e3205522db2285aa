import { type CgroupHost, type Controller, directoryOf } from './host.ts';
import { type CgroupResources, isSet } from './resources.ts';
import type { CgroupKind, CgroupStep } from './step.ts';
import { containerCpuWeight, podCpuWeight } from './weight.ts';

const DEFAULT_PERIOD = 100_000;

/** Values of the controllers that are bound to v2 (kernel documentation, cgroup-v2.rst). */
export function v2Values(
  host: CgroupHost,
  path: string,
  resources: CgroupResources,
  kind: CgroupKind,
): CgroupStep[] {
  const directory = directoryOf(host.unified, path);
  const has = (controller: Controller) => host.controllers[controller]?.version === 2;
  const steps: CgroupStep[] = [];
  const write = (file: string, value: string | number, more: { optional?: true; why?: string } = {}) =>
    steps.push({ op: 'write', path: `${directory}/${file}`, value: String(value), ...more });

  const { cpu = {}, memory = {}, pids } = resources;
  if (has('cpu')) {
    if (cpu.idle !== undefined) {
      write('cpu.idle', cpu.idle ? 1 : 0, {
        why: 'SCHED_IDLE for the whole cgroup',
        ...(cpu.idle ? {} : { optional: true }),
      });
    }
    // An idle cgroup has no weight: the kernel refuses one.
    if (isSet(cpu.shares) && cpu.idle !== true) {
      const weight = kind === 'container' ? containerCpuWeight(cpu.shares) : podCpuWeight(cpu.shares);
      write('cpu.weight', weight, { why: `${cpu.shares} shares` });
    }
    if (isSet(cpu.quota) || isSet(cpu.period)) {
      const quota = (cpu.quota ?? 0) > 0 ? cpu.quota : 'max';
      write('cpu.max', `${quota} ${isSet(cpu.period) ? cpu.period : DEFAULT_PERIOD}`);
    }
  }
  if (has('cpuset')) {
    if (cpu.cpus) write('cpuset.cpus', cpu.cpus);
    if (cpu.mems) write('cpuset.mems', cpu.mems);
  }
  if (has('memory')) {
    if (isSet(memory.reservation)) write('memory.low', bytes(memory.reservation));
    if (isSet(memory.limit)) write('memory.max', bytes(memory.limit));
    const swap = swapMax(memory.limit, memory.swap);
    if (swap !== undefined) {
      // A kernel without swap has no such file, and nothing to limit.
      write('memory.swap.max', swap, swap === '0' || swap === 'max' ? { optional: true } : {});
    }
    if (resources.oomGroup !== undefined) {
      write('memory.oom.group', resources.oomGroup ? 1 : 0, {
        optional: true,
        why: 'an OOM kill takes the whole cgroup, or only the process that was chosen',
      });
    }
  }
  if (has('pids') && isSet(pids?.limit)) write('pids.max', pids.limit < 0 ? 'max' : pids.limit);
  if (has('hugetlb')) {
    for (const { pageSize, limit } of resources.hugepageLimits ?? []) {
      if (!host.hugepageSizes.includes(pageSize)) continue;
      write(`hugetlb.${pageSize}.max`, limit);
      write(`hugetlb.${pageSize}.rsvd.max`, limit, {
        optional: true,
        why: 'reservations count too (Linux 5.7)',
      });
    }
  }
  for (const [file, value] of Object.entries(resources.unified ?? {})) write(file, value, { why: 'unified' });
  return steps;
}

function bytes(value: number): string {
  return value < 0 ? 'max' : String(value);
}

/** OCI counts memory and swap together, as v1 did; v2 counts swap alone. */
function swapMax(limit: number | undefined, swap: number | undefined): string | undefined {
  if (!isSet(swap)) return limit === -1 ? 'max' : undefined;
  if (swap < 0) return 'max';
  return limit === undefined || limit < 0 ? String(swap) : String(swap - limit);
}
