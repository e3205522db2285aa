/**
 * CRI's metrics: what cAdvisor used to measure, by its names, from the cgroups at the moment of asking. The table is the
 * only place that knows of a metric.
 */
import {
  type ContainerMetrics,
  type Metric,
  type MetricDescriptor,
  MetricType,
  type PodSandboxMetrics,
} from '../cri/index.ts';
import type { CgroupStats } from '../linux/cgroups/index.ts';
import type { RuntimeContext } from './context.ts';
import type { Container, Sandbox } from './model.ts';
import { interfacesOf } from './stats.ts';

const { COUNTER, GAUGE } = MetricType;
const LABELS = ['id', 'name', 'image', 'namespace', 'pod', 'container'] as const;

interface ContainerRow {
  readonly name: string;
  readonly help: string;
  readonly type: MetricType;
  /** Undefined where this host does not count it. */
  readonly of: (stats: CgroupStats) => number | undefined;
}

const CONTAINER: readonly ContainerRow[] = [
  {
    name: 'container_cpu_usage_seconds_total',
    help: 'CPU time used, in seconds.',
    type: COUNTER,
    of: ({ cpu }) => cpu && Math.floor(cpu.usageNanos / 1e9),
  },
  {
    name: 'container_memory_usage_bytes',
    help: 'Memory in use, caches included.',
    type: GAUGE,
    of: ({ memory }) => memory?.usage,
  },
  {
    name: 'container_memory_working_set_bytes',
    help: 'Memory in use, without caches that can go.',
    type: GAUGE,
    of: ({ memory }) => memory?.workingSet,
  },
  { name: 'container_memory_rss', help: 'Anonymous memory.', type: GAUGE, of: ({ memory }) => memory?.rss },
  {
    name: 'container_memory_cache',
    help: 'Memory of file caches.',
    type: GAUGE,
    of: ({ memory }) => memory?.fileCache,
  },
  { name: 'container_memory_swap', help: 'Swap in use.', type: GAUGE, of: ({ memory }) => memory?.swapUsage },
  {
    name: 'container_memory_max_usage_bytes',
    help: 'The most memory ever used.',
    type: GAUGE,
    of: ({ memory }) => memory?.peak,
  },
  {
    name: 'container_spec_memory_limit_bytes',
    help: 'Limit of memory, 0 for none.',
    type: GAUGE,
    of: ({ memory }) => memory && (memory.limit ?? 0),
  },
  {
    name: 'container_oom_events_total',
    help: 'Processes that the OOM killer ended.',
    type: COUNTER,
    of: ({ oom }) => oom?.kills,
  },
  { name: 'container_threads', help: 'Processes and threads.', type: GAUGE, of: ({ pids }) => pids?.current },
  {
    name: 'container_threads_max',
    help: 'Limit of processes and threads, 0 for none.',
    type: GAUGE,
    of: ({ pids }) => pids && (pids.limit ?? 0),
  },
  {
    name: 'container_fs_reads_bytes_total',
    help: 'Bytes read from disks.',
    type: COUNTER,
    of: ({ io }) => io?.readBytes,
  },
  {
    name: 'container_fs_writes_bytes_total',
    help: 'Bytes written to disks.',
    type: COUNTER,
    of: ({ io }) => io?.writtenBytes,
  },
  { name: 'container_fs_reads_total', help: 'Reads from disks.', type: COUNTER, of: ({ io }) => io?.reads },
  { name: 'container_fs_writes_total', help: 'Writes to disks.', type: COUNTER, of: ({ io }) => io?.writes },
];

const NETWORK = [
  ['container_network_receive_bytes_total', 'Bytes received.', 'rxBytes'],
  ['container_network_receive_errors_total', 'Errors while receiving.', 'rxErrors'],
  ['container_network_transmit_bytes_total', 'Bytes sent.', 'txBytes'],
  ['container_network_transmit_errors_total', 'Errors while sending.', 'txErrors'],
] as const;

export function metricDescriptors(): MetricDescriptor[] {
  return [
    ...CONTAINER.map(({ name, help }) => ({ name, help, labelKeys: [...LABELS] })),
    ...NETWORK.map(([name, help]) => ({ name, help, labelKeys: [...LABELS, 'interface'] })),
  ];
}

function labelsOf(sandbox: Sandbox, container?: Container): string[] {
  const { metadata } = sandbox.record.config;
  return [
    container?.id ?? sandbox.id,
    container?.id ?? sandbox.id,
    container?.record.config.image?.image ?? '',
    metadata?.namespace ?? '',
    metadata?.name ?? '',
    container?.record.config.metadata?.name ?? 'POD',
  ];
}

function containerMetrics(context: RuntimeContext, container: Container): ContainerMetrics {
  const { record, sandbox } = container;
  const stats = context.cgroups.stats(
    context.cgroups.path(sandbox.record.config.linux?.cgroupParent ?? '', record.id),
  );
  const labelValues = labelsOf(sandbox, container);
  const metrics = CONTAINER.flatMap(({ name, type, of }): Metric[] => {
    const value = of(stats);
    return value === undefined ? [] : [{ name, metricType: type, labelValues, value: { value } }];
  });
  return { containerId: record.id, metrics };
}

export function sandboxMetrics(context: RuntimeContext, sandbox: Sandbox): PodSandboxMetrics {
  const running = [...sandbox.containers.values()].filter(({ record }) => record.state === 'running');
  const labels = labelsOf(sandbox);
  return {
    podSandboxId: sandbox.id,
    metrics: interfacesOf(sandbox).flatMap((link) =>
      NETWORK.map(([name, , field]) => ({
        name,
        metricType: COUNTER,
        labelValues: [...labels, link.name ?? ''],
        value: { value: link[field]?.value ?? 0 },
      })),
    ),
    containerMetrics: running.map((container) => containerMetrics(context, container)),
  };
}
