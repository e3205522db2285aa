/** Requests and limits into what the kernel is told: shares, quota, bytes, the OOM killer's preference. */
import type { HugepageLimit, LinuxContainerResources } from '../../cri/index.ts';
import {
  type BoundPod,
  type CheckedContainer,
  hugePageSize,
  isHugePages,
  isNodeCritical,
  isSidecar,
  qosClass,
  resourcesOf,
} from '../../kube/index.ts';
import type { KubeletSettings, NodeFacts } from '../node.ts';

const MIN_SHARES = 2;
const MAX_SHARES = 262_144;
const SHARES_PER_CPU = 1024;
const MIN_QUOTA = 1000;

/** cpu.shares of v1 for thousandths of a core. */
export function cpuShares(milliCpu: number): number {
  if (milliCpu === 0) return MIN_SHARES;
  return Math.min(MAX_SHARES, Math.max(MIN_SHARES, Math.floor((milliCpu * SHARES_PER_CPU) / 1000)));
}

/** Microseconds of CPU in a period; 0 means no limit. */
export function cpuQuota(milliCpu: number, period: number): number {
  return milliCpu === 0 ? 0 : Math.max(MIN_QUOTA, Math.floor((milliCpu * period) / 1000));
}

const GUARANTEED_OOM_SCORE = -997;
const BEST_EFFORT_OOM_SCORE = 1000;

/** How much sooner than others the kernel kills the container when memory runs out, −1000 to 1000. */
export function oomScoreAdj(pod: BoundPod, container: CheckedContainer, memoryCapacity: number): number {
  if (isNodeCritical(pod)) return GUARANTEED_OOM_SCORE;
  const qos = qosClass(pod);
  if (qos === 'Guaranteed') return GUARANTEED_OOM_SCORE;
  if (qos === 'BestEffort') return BEST_EFFORT_OOM_SCORE;
  const score = (each: CheckedContainer) =>
    1000 - Math.floor((1000 * unitsOf(each, 'requests', 'memory')) / memoryCapacity);
  let own = score(container);
  // A sidecar is not to die before the containers that it serves.
  if (isSidecar(container)) own = Math.min(own, ...pod.spec.containers.map(score));
  return Math.min(BEST_EFFORT_OOM_SCORE - 1, Math.max(1000 + GUARANTEED_OOM_SCORE, own));
}

function unitsOf(container: CheckedContainer, which: 'requests' | 'limits', name: string): number {
  return Number(resourcesOf(container, which).get(name)?.value() ?? 0n);
}

function milliOf(
  container: CheckedContainer,
  which: 'requests' | 'limits',
  name: string,
): number | undefined {
  const quantity = resourcesOf(container, which).get(name);
  return quantity === undefined ? undefined : Number(quantity.milliValue());
}

export interface ResourceContext {
  readonly node: Pick<NodeFacts, 'memoryCapacity' | 'hugePages' | 'cgroupV2Memory' | 'cgroupV2Swap'>;
  readonly settings: Pick<KubeletSettings, 'cpuCfsQuota' | 'cpuCfsPeriod'>;
}

export function containerResources(
  pod: BoundPod,
  container: CheckedContainer,
  { node, settings }: ResourceContext,
): LinuxContainerResources {
  const limit = milliOf(container, 'limits', 'cpu') ?? 0;
  const memory = unitsOf(container, 'limits', 'memory');
  const resources: LinuxContainerResources = {
    cpuShares: cpuShares(milliOf(container, 'requests', 'cpu') ?? limit),
    oomScoreAdj: oomScoreAdj(pod, container, node.memoryCapacity),
    hugepageLimits: hugePageLimits(container, Object.keys(node.hugePages)),
  };
  if (settings.cpuCfsQuota) {
    resources.cpuPeriod = settings.cpuCfsPeriod;
    resources.cpuQuota = cpuQuota(limit, settings.cpuCfsPeriod);
  }
  if (memory > 0) {
    resources.memoryLimitInBytes = memory;
    // the same value means: no swap
    resources.memorySwapLimitInBytes = memory;
  }
  // A container dies as a whole: half a container is worse than none.
  if (node.cgroupV2Memory) {
    resources.unified = { 'memory.oom.group': '1', ...(node.cgroupV2Swap ? { 'memory.swap.max': '0' } : {}) };
  }
  return resources;
}

/** Every page size of the machine, 0 where the container has no limit: huge pages are for those who ask. */
function hugePageLimits(container: CheckedContainer, sizes: readonly string[]): HugepageLimit[] {
  const limits = new Map<string, number>();
  for (const [name, value] of resourcesOf(container, 'limits')) {
    const size = isHugePages(name) ? hugePageSize(name) : undefined;
    if (size !== undefined) limits.set(hugePageUnit(size), Number(value.value()));
  }
  return sizes.map((pageSize) => ({ pageSize, limit: limits.get(pageSize) ?? 0 }));
}

/** `2MB` for 2097152: how the kernel's cgroup files and CRI name a page size. */
export function hugePageUnit(bytes: bigint): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB', 'PB'];
  let size = bytes;
  let unit = 0;
  while (size >= 1024n && unit < units.length - 1) {
    size /= 1024n;
    unit += 1;
  }
  return `${size}${units[unit]}`;
}
