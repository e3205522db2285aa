/** What runtime-spec's resources have beyond those that Kubernetes uses: block I/O, swappiness, bursts, real time. */
import { NodeletError } from '../../base/index.ts';
import { type CgroupHost, type CgroupStep, type Controller, directoryOf } from '../../linux/cgroups/index.ts';
import type { BlockIo, OciResources } from './config/resources.ts';
import { unsupported } from './errors.ts';

/** Throws OCI_UNSUPPORTED, CGROUP_CONTROLLER_MISSING for what this host cannot hold to. */
export function extraSteps(host: CgroupHost, path: string, resources: OciResources): CgroupStep[] {
  return [
    ...memorySteps(host, path, resources),
    ...cpuSteps(host, path, resources),
    ...blockSteps(host, path, resources.blockIo),
  ];
}

function binding(
  host: CgroupHost,
  path: string,
  controller: Controller,
): { version: 1 | 2; directory: string } {
  const found = host.controllers[controller];
  if (found === undefined)
    throw new NodeletError(
      'CGROUP_CONTROLLER_MISSING',
      `cannot limit ${controller}: this host has no ${controller} controller`,
      { hint: host.missing.find((one) => one.controller === controller)?.mend, details: { controller } },
    );
  return { version: found.version, directory: directoryOf(found.root, path) };
}

const write = (directory: string, file: string, value: string | number): CgroupStep => ({
  op: 'write',
  path: `${directory}/${file}`,
  value: String(value),
});

function memorySteps(
  host: CgroupHost,
  path: string,
  { swappiness, disableOomKiller }: OciResources,
): CgroupStep[] {
  if (swappiness === undefined && !disableOomKiller) return [];
  const { version, directory } = binding(host, path, 'memory');
  if (version === 2)
    throw unsupported(
      `config.json: linux.resources.memory.${disableOomKiller ? 'disableOOMKiller' : 'swappiness'}`,
      'cgroup v2 has no such thing',
    );
  return [
    ...(swappiness === undefined ? [] : [write(directory, 'memory.swappiness', swappiness)]),
    ...(disableOomKiller ? [write(directory, 'memory.oom_control', 1)] : []),
  ];
}

function cpuSteps(
  host: CgroupHost,
  path: string,
  { burst, realtimeRuntime, realtimePeriod }: OciResources,
): CgroupStep[] {
  if (burst === undefined && (realtimeRuntime ?? 0) === 0 && (realtimePeriod ?? 0) === 0) return [];
  const { version, directory } = binding(host, path, 'cpu');
  const steps: CgroupStep[] = [];
  if (burst !== undefined)
    steps.push(write(directory, version === 1 ? 'cpu.cfs_burst_us' : 'cpu.max.burst', burst));
  if ((realtimeRuntime ?? 0) === 0 && (realtimePeriod ?? 0) === 0) return steps;
  if (version === 2)
    throw unsupported('config.json: linux.resources.cpu.realtimeRuntime', 'cgroup v2 has no such thing');
  if (realtimePeriod !== undefined && realtimePeriod > 0)
    steps.push(write(directory, 'cpu.rt_period_us', realtimePeriod));
  if (realtimeRuntime !== undefined && realtimeRuntime > 0)
    steps.push(write(directory, 'cpu.rt_runtime_us', realtimeRuntime));
  return steps;
}

const V1_THROTTLE = {
  rbps: 'blkio.throttle.read_bps_device',
  wbps: 'blkio.throttle.write_bps_device',
  riops: 'blkio.throttle.read_iops_device',
  wiops: 'blkio.throttle.write_iops_device',
} as const;

function blockSteps(host: CgroupHost, path: string, { weight, throttle }: BlockIo): CgroupStep[] {
  if (weight === undefined && throttle.length === 0) return [];
  const { version, directory } = binding(host, path, 'io');
  return [
    ...(weight === undefined
      ? []
      : [write(directory, version === 1 ? 'blkio.bfq.weight' : 'io.bfq.weight', weight)]),
    ...throttle.map(({ kind, major, minor, rate }) =>
      version === 1
        ? write(directory, V1_THROTTLE[kind], `${major}:${minor} ${rate}`)
        : write(directory, 'io.max', `${major}:${minor} ${kind}=${rate === 0 ? 'max' : rate}`),
    ),
  ];
}
