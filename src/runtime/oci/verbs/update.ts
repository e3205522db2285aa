import { readFileSync } from 'node:fs';
import { messageOf } from '../../../base/index.ts';
import { applySteps, type CgroupResources, planUpdate, readLimitsV1 } from '../../../linux/cgroups/index.ts';
import { parseExactJson } from '../../../linux/exact-json.ts';
import type { ParsedArguments } from '../arguments.ts';
import { type OciResources, readResources } from '../config/resources.ts';
import type { OciContext } from '../context.ts';
import { invalidConfig, unsupported, usage } from '../errors.ts';
import { extraSteps } from '../extra-resources.ts';
import { statusOf } from '../state.ts';
import { checkStatus } from '../transitions.ts';

export function run({ store, host }: OciContext, args: ParsedArguments): number {
  const id = args.operands[0] ?? '';
  using _lock = store.lock(id);
  const record = store.get(id);
  checkStatus('update', id, statusOf(store, host, record));
  const file = args.text('resources');
  const resources = file === undefined ? fromFlags(args) : fromFile(file);
  const { cgroup, devices } = resources;
  if (devices.length > 0)
    throw unsupported('update of linux.resources.devices', 'the device program stays as it was made');
  // All of it is checked before anything is written.
  const steps = [
    ...planUpdate(host, record.cgroup, cgroup, 'container', readLimitsV1(host, record.cgroup)),
    ...extraSteps(host, record.cgroup, resources),
  ];
  applySteps(steps);
  return 0;
}

function fromFile(file: string): OciResources {
  let value: unknown;
  try {
    value = parseExactJson(readFileSync(file === '-' ? 0 : file, 'utf8'));
  } catch (error) {
    throw invalidConfig('resources', `cannot read ${JSON.stringify(file)}: ${messageOf(error)}`);
  }
  return readResources(value, 'resources');
}

function fromFlags(args: ParsedArguments): OciResources {
  const text = (name: string) => args.text(name);
  const number = (name: string) => {
    const value = text(name);
    return value === undefined ? undefined : bytes(name, value);
  };
  const cgroup: CgroupResources = {
    memory: numbers({
      limit: number('memory'),
      reservation: number('memory-reservation'),
      swap: number('memory-swap'),
    }),
    cpu: {
      ...numbers({
        shares: args.integer('cpu-share', 0),
        quota: args.integer('cpu-quota', -1),
        period: args.integer('cpu-period', 0),
      }),
      cpus: text('cpuset-cpus') ?? '',
      mems: text('cpuset-mems') ?? '',
      ...(text('cpu-idle') === undefined ? {} : { idle: args.integer('cpu-idle', 0) === 1 }),
    },
    pids: numbers({ limit: args.integer('pids-limit', -1) }),
  };
  return {
    cgroup,
    devices: [],
    swappiness: undefined,
    disableOomKiller: false,
    burst: args.integer('cpu-burst', 0),
    realtimeRuntime: args.integer('cpu-rt-runtime', 0),
    realtimePeriod: args.integer('cpu-rt-period', 0),
    blockIo: { weight: args.integer('blkio-weight', 10), throttle: [] },
  };
}

function numbers<T extends Readonly<Record<string, number | undefined>>>(
  values: T,
): { [K in keyof T]?: number } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: number;
  };
}

const UNITS: Readonly<Record<string, number>> = { '': 1, b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 };

/** "64m" as docker and runc write sizes. */
function bytes(name: string, value: string): number {
  const match = /^(-1|\d{1,15})([bkmg]?)b?$/i.exec(value);
  const unit = UNITS[match?.[2]?.toLowerCase() ?? ''];
  if (match === null || unit === undefined)
    throw usage(`--${name}: expected bytes such as 1048576 or 64m, found ${JSON.stringify(value)}`);
  return match[1] === '-1' ? -1 : Number(match[1]) * unit;
}
