/** `linux.resources` of config.json, which is also what `update --resources` reads. */
import type { CgroupResources } from '../../../linux/cgroups/index.ts';
import type { DeviceRule } from '../../../linux/devices/index.ts';
import { invalidConfig } from '../errors.ts';
import { Fields, type Known } from './fields.ts';

export interface BlockIo {
  /** 10 to 1000. */
  readonly weight: number | undefined;
  readonly throttle: readonly {
    readonly kind: 'rbps' | 'wbps' | 'riops' | 'wiops';
    readonly major: number;
    readonly minor: number;
    /** Bytes or operations per second; 0 for no limit. */
    readonly rate: number;
  }[];
}

export interface OciResources {
  readonly cgroup: CgroupResources;
  /** Undefined: what every container may use. */
  readonly devices: readonly DeviceRule[];
  readonly swappiness: number | undefined;
  readonly disableOomKiller: boolean;
  /** CPU time that may be saved up, in microseconds. */
  readonly burst: number | undefined;
  readonly realtimeRuntime: number | undefined;
  readonly realtimePeriod: number | undefined;
  readonly blockIo: BlockIo;
}

const RESOURCES: Known = {
  devices: true,
  memory: true,
  cpu: true,
  pids: true,
  blockIO: true,
  hugepageLimits: true,
  unified: true,
  network: 'the net_cls and net_prio controllers are not used',
  rdma: 'the rdma controller is not used',
};

const MEMORY: Known = {
  limit: true,
  reservation: true,
  swap: true,
  swappiness: true,
  disableOOMKiller: true,
  // What every kernel since 5.11 does.
  useHierarchy: true,
  checkBeforeUpdate: true,
  kernel: 'limits of kernel memory are gone from the kernel (Linux 5.16)',
  kernelTCP: 'limits of kernel TCP memory are gone from cgroup v2',
};

const CPU: Known = {
  shares: true,
  quota: true,
  period: true,
  burst: true,
  realtimeRuntime: true,
  realtimePeriod: true,
  cpus: true,
  mems: true,
  idle: true,
};

/** Throws OCI_CONFIG_INVALID, OCI_UNSUPPORTED. Values are checked against the host where they are used. */
export function readResources(value: unknown, at: string): OciResources {
  const fields = new Fields(value, at, RESOURCES);
  const memory = fields.object('memory', MEMORY);
  const cpu = fields.object('cpu', CPU);
  const pids = fields.object('pids', { limit: true });
  const swappiness = memory?.integer('swappiness', 0, 100);
  return {
    cgroup: {
      memory: defined({
        limit: memory?.integer('limit', -1),
        reservation: memory?.integer('reservation', -1),
        swap: memory?.integer('swap', -1),
      }),
      cpu: {
        ...defined({
          shares: cpu?.integer('shares', 0),
          quota: cpu?.integer('quota', Number.MIN_SAFE_INTEGER),
          period: cpu?.integer('period', 0),
        }),
        cpus: cpu?.text('cpus') ?? '',
        mems: cpu?.text('mems') ?? '',
        ...(cpu?.has('idle') === true ? { idle: cpu.integer('idle', 0, 1) === 1 } : {}),
      },
      pids: defined({ limit: pids?.integer('limit', Number.MIN_SAFE_INTEGER) }),
      hugepageLimits: fields.list('hugepageLimits', (item, path) => {
        const one = new Fields(item, path, { pageSize: true, limit: true });
        return { pageSize: one.required('pageSize'), limit: one.integer('limit', 0) ?? 0 };
      }),
      unified: fields.map('unified', (item, path) => {
        if (typeof item !== 'string') throw invalidConfig(path, 'expected a text');
        return item;
      }),
    },
    devices: fields.list('devices', readRule),
    swappiness,
    disableOomKiller: memory?.flag('disableOOMKiller') ?? false,
    burst: cpu?.integer('burst', 0),
    realtimeRuntime: cpu?.integer('realtimeRuntime', 0),
    realtimePeriod: cpu?.integer('realtimePeriod', 0),
    blockIo: readBlockIo(fields),
  };
}

function defined<T extends Readonly<Record<string, number | undefined>>>(
  values: T,
): { [K in keyof T]?: number } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: number;
  };
}

function readRule(value: unknown, at: string): DeviceRule {
  const rule = new Fields(value, at, {
    allow: true,
    type: true,
    major: true,
    minor: true,
    access: true,
  });
  const major = rule.integer('major', -1, 0xfff);
  const minor = rule.integer('minor', -1, 0xf_ffff);
  const access = rule.text('access') ?? '';
  return {
    allow: rule.flag('allow') ?? false,
    type: rule.oneOf('type', ['a', 'b', 'c']) ?? 'a',
    ...(major === undefined ? {} : { major }),
    ...(minor === undefined ? {} : { minor }),
    ...(access === '' ? {} : { access }),
  };
}

const THROTTLES = {
  throttleReadBpsDevice: 'rbps',
  throttleWriteBpsDevice: 'wbps',
  throttleReadIOPSDevice: 'riops',
  throttleWriteIOPSDevice: 'wiops',
} as const;

function readBlockIo(resources: Fields): BlockIo {
  const fields = resources.object('blockIO', {
    weight: true,
    leafWeight: 'the CFQ scheduler is gone from the kernel (Linux 5.0)',
    weightDevice: 'weights of single devices are not set',
    ...Object.fromEntries(Object.keys(THROTTLES).map((key) => [key, true as const])),
  });
  if (fields === undefined) return { weight: undefined, throttle: [] };
  const weight = fields.integer('weight', 0, 1000);
  if (weight !== undefined && weight !== 0 && weight < 10)
    throw invalidConfig(fields.path('weight'), `expected 10 to 1000, found ${weight}`);
  return {
    weight: weight === 0 ? undefined : weight,
    throttle: Object.entries(THROTTLES).flatMap(([key, kind]) =>
      fields.list(key, (value, at) => {
        const one = new Fields(value, at, { major: true, minor: true, rate: true });
        return {
          kind,
          major: one.integer('major', 0, 0xfff) ?? 0,
          minor: one.integer('minor', 0, 0xf_ffff) ?? 0,
          rate: one.integer('rate', 0) ?? 0,
        };
      }),
    ),
  };
}
