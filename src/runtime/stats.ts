/** Statistics as CRI has them, read from the container's cgroup and its writable layer at the moment of asking. */
import { dirname } from 'node:path';
import type * as cri from '../cri/index.ts';
import type { CgroupStats, Pressure } from '../linux/cgroups/index.ts';
import { readProcessFile } from '../linux/procfs.ts';
import type { RuntimeContext } from './context.ts';
import type { Container, Sandbox } from './model.ts';

function psi(pressure: Pressure | undefined): { psi?: cri.PsiStats } {
  if (pressure === undefined) return {};
  const line = (one: Pressure['some'] | undefined): cri.PsiData | undefined =>
    one === undefined
      ? undefined
      : { Total: one.totalMicros, Avg10: one.avg10, Avg60: one.avg60, Avg300: one.avg300 };
  return { psi: { Full: line(pressure.full), Some: line(pressure.some) } };
}

function cpuUsage(stats: CgroupStats, timestamp: number): { cpu?: cri.CpuUsage } {
  if (stats.cpu === undefined) return {};
  return {
    cpu: { timestamp, usageCoreNanoSeconds: { value: stats.cpu.usageNanos }, ...psi(stats.pressure.cpu) },
  };
}

function memoryUsage(stats: CgroupStats, timestamp: number): { memory?: cri.MemoryUsage } {
  const { memory } = stats;
  if (memory === undefined) return {};
  return {
    memory: {
      timestamp,
      workingSetBytes: { value: memory.workingSet },
      usageBytes: { value: memory.usage },
      rssBytes: { value: memory.rss },
      pageFaults: { value: memory.pageFaults },
      majorPageFaults: { value: memory.majorPageFaults },
      ...(memory.limit === undefined
        ? {}
        : { availableBytes: { value: Math.max(0, memory.limit - memory.workingSet) } }),
      ...psi(stats.pressure.memory),
    },
  };
}

function ioUsage(stats: CgroupStats, timestamp: number): { io?: cri.IoUsage } {
  return stats.pressure.io === undefined ? {} : { io: { timestamp, ...psi(stats.pressure.io) } };
}

export async function containerStats(
  context: RuntimeContext,
  container: Container,
): Promise<cri.ContainerStats> {
  const { record, sandbox } = container;
  const path = context.cgroups.path(sandbox.record.config.linux?.cgroupParent ?? '', record.id);
  const stats = context.cgroups.stats(path);
  const timestamp = Date.now() * 1e6;
  const layer = await context.images.snapshotUsage(record.id);
  return {
    attributes: {
      id: record.id,
      metadata: record.config.metadata,
      labels: record.config.labels ?? {},
      annotations: record.config.annotations ?? {},
    },
    ...cpuUsage(stats, timestamp),
    ...memoryUsage(stats, timestamp),
    ...ioUsage(stats, timestamp),
    ...(stats.memory?.swapUsage === undefined
      ? {}
      : { swap: { timestamp, swapUsageBytes: { value: stats.memory.swapUsage } } }),
    writableLayer: {
      timestamp,
      fsId: { mountpoint: context.paths.root },
      usedBytes: { value: layer.bytes },
      inodesUsed: { value: layer.inodes },
    },
  };
}

/** Any process of the pod shows its network by /proc/<pid>/net; none where the pod has no network of its own. */
export function interfacesOf(sandbox: Sandbox): cri.NetworkInterfaceUsage[] {
  const running = [...sandbox.containers.values()].find((one) => one.record.state === 'running');
  const pid = sandbox.record.pausePid || (running?.record.pid ?? 0);
  if (pid === 0 || sandbox.options.hostNetwork) return [];
  const interfaces: cri.NetworkInterfaceUsage[] = [];
  for (const line of (readProcessFile(pid, 'net/dev') ?? '').split('\n').slice(2)) {
    const [name, rest] = line.trim().split(/:\s*/);
    if (name === undefined || rest === undefined || name === 'lo') continue;
    const numbers = rest.split(/\s+/).map(Number);
    interfaces.push({
      name,
      rxBytes: { value: numbers[0] ?? 0 },
      rxErrors: { value: numbers[2] ?? 0 },
      txBytes: { value: numbers[8] ?? 0 },
      txErrors: { value: numbers[10] ?? 0 },
    });
  }
  return interfaces;
}

function networkUsage(sandbox: Sandbox, timestamp: number): cri.NetworkUsage | undefined {
  const interfaces = interfacesOf(sandbox);
  if (interfaces.length === 0) return undefined;
  return {
    timestamp,
    defaultInterface: interfaces.find((one) => one.name === 'eth0') ?? interfaces[0],
    interfaces,
  };
}

export async function sandboxStats(context: RuntimeContext, sandbox: Sandbox): Promise<cri.PodSandboxStats> {
  const { record } = sandbox;
  const timestamp = Date.now() * 1e6;
  const parent = record.config.linux?.cgroupParent ?? '';
  const stats = context.cgroups.stats(parent === '' ? dirname(context.cgroups.path('', record.id)) : parent);
  const running = [...sandbox.containers.values()].filter((one) => one.record.state === 'running');
  const network = networkUsage(sandbox, timestamp);
  return {
    attributes: {
      id: record.id,
      metadata: record.config.metadata,
      labels: record.config.labels ?? {},
      annotations: record.config.annotations ?? {},
    },
    linux: {
      ...cpuUsage(stats, timestamp),
      ...memoryUsage(stats, timestamp),
      ...ioUsage(stats, timestamp),
      ...(network === undefined ? {} : { network }),
      process: { timestamp, processCount: { value: stats.pids?.current ?? 0 } },
      containers: await Promise.all(running.map((one) => containerStats(context, one))),
    },
  };
}
