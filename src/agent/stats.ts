import { LABEL } from '../kubelet/index.ts';
import type { Agent } from './agent.ts';
import type { StatsRow } from './api/types.ts';

/** Readings before, for the CPU's share: one a container. */
const before = new WeakMap<Agent, Map<string, { readonly nanos: number; readonly at: number }>>();

export async function statsRows(agent: Agent): Promise<StatsRow[]> {
  const { stats = [] } = await agent.runtime.listContainerStats({});
  const last = before.get(agent) ?? new Map<string, { nanos: number; at: number }>();
  const next = new Map<string, { nanos: number; at: number }>();
  // containerd lists those too that have ended: without a reading of the CPU, and in any order.
  const running = stats.filter(({ cpu }) => cpu !== undefined);
  const rows = running.map((one): StatsRow => {
    const id = one.attributes?.id ?? '';
    const labels = one.attributes?.labels ?? {};
    const nanos = one.cpu?.usageCoreNanoSeconds?.value ?? 0;
    const at = one.cpu?.timestamp ?? 0;
    next.set(id, { nanos, at });
    const earlier = last.get(id);
    const elapsed = earlier === undefined ? 0 : at - earlier.at;
    // Limits and processes are no part of CRI's statistics.
    const own = agent.local?.runtime;
    const group = own?.context.model.findContainer(id) === undefined ? undefined : own.cgroupStats(id);
    return {
      id,
      name: one.attributes?.metadata?.name ?? '',
      namespace: labels[LABEL.podNamespace] ?? '',
      pod: labels[LABEL.podName] ?? '',
      cpuPercent:
        earlier === undefined || elapsed <= 0 ? undefined : ((nanos - earlier.nanos) / elapsed) * 100,
      cpuNanos: nanos,
      memoryBytes: one.memory?.workingSetBytes?.value ?? 0,
      memoryLimit: group?.memory?.limit ?? 0,
      diskBytes: one.writableLayer?.usedBytes?.value ?? 0,
      inodes: one.writableLayer?.inodesUsed?.value ?? 0,
      pids: group?.pids?.current ?? 0,
    };
  });
  before.set(agent, next);
  return rows;
}
