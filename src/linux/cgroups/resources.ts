/** What a cgroup can be given: `LinuxResources` of the OCI runtime specification, the part that Kubernetes uses. */
import { NodeletError } from '../../base/index.ts';
import type { CgroupHost } from './host.ts';

/** Absent fields are left as they are. */
export interface CgroupResources {
  /** Bytes; -1 for no limit, 0 as if absent. */
  readonly memory?: {
    readonly limit?: number;
    /** What reclaim spares: memory.low, or v1's soft limit. */
    readonly reservation?: number;
    /** Memory and swap together, at least `limit`; equal to it: no swap. */
    readonly swap?: number;
  };
  readonly cpu?: {
    /** 2 to 262144, 0 as if absent. */
    readonly shares?: number;
    /** Microseconds of CPU time in a period, at least 1000; 0 or less for no limit. */
    readonly quota?: number;
    /** Microseconds, 1000 to 1000000; default 100000. */
    readonly period?: number;
    /** Lists such as `0-3,8`; empty as if absent. */
    readonly cpus?: string;
    readonly mems?: string;
    /** Runs only when nobody else wants the CPU (Linux 5.15). */
    readonly idle?: boolean;
  };
  /** Processes and threads; -1 for no limit, 0 as if absent. */
  readonly pids?: { readonly limit?: number };
  readonly hugepageLimits?: readonly { readonly pageSize: string; readonly limit: number }[];
  /** Files of cgroup v2 and what is written to them, last. */
  readonly unified?: Readonly<Record<string, string>>;
  /** An OOM kill takes all processes of the cgroup (v2 only: v1 has no such thing). */
  readonly oomGroup?: boolean;
}

const MAX_SAFE = Number.MAX_SAFE_INTEGER;
/** Microseconds; the kernel keeps a runtime in 44 bits of them. */
const MAX_QUOTA = 2 ** 44 - 1;

/**
 * Throws CGROUP_VALUE_INVALID, naming the field, for what the kernel would refuse, and CGROUP_CONTROLLER_MISSING for
 * what this host cannot hold to.
 */
export function checkResources(host: CgroupHost, resources: CgroupResources): void {
  const { memory, cpu, pids } = resources;
  whole(memory?.limit, -1, MAX_SAFE, 'memory.limit');
  whole(memory?.reservation, -1, MAX_SAFE, 'memory.reservation');
  whole(memory?.swap, -1, MAX_SAFE, 'memory.swap');
  if (isSet(memory?.swap) && memory.swap > 0) {
    if (memory.limit === undefined || memory.limit === 0) {
      throw invalid('memory.swap', 'swap counts memory and swap together: memory.limit is needed with it');
    }
    if (memory.limit > memory.swap) {
      throw invalid('memory.swap', `${memory.swap} is below memory.limit ${memory.limit}, which it includes`);
    }
  }
  whole(cpu?.shares, 0, MAX_SAFE, 'cpu.shares');
  whole(cpu?.quota, -MAX_SAFE, MAX_QUOTA, 'cpu.quota');
  if (cpu?.quota !== undefined && cpu.quota > 0 && cpu.quota < 1000) {
    throw invalid('cpu.quota', `the least is 1000 microseconds, found ${cpu.quota}`);
  }
  if (cpu?.period !== undefined && cpu.period !== 0) whole(cpu.period, 1000, 1_000_000, 'cpu.period');
  subset(cpu?.cpus, host.cpus, 'cpu.cpus');
  subset(cpu?.mems, host.mems, 'cpu.mems');
  whole(pids?.limit, -1, 4_194_304, 'pids.limit');
  for (const [i, { pageSize, limit }] of (resources.hugepageLimits ?? []).entries()) {
    whole(limit, 0, MAX_SAFE, `hugepageLimits[${i}].limit`);
    if (limit > 0 && !host.hugepageSizes.includes(pageSize)) {
      const known = host.hugepageSizes.length === 0 ? 'none' : host.hugepageSizes.join(', ');
      throw invalid(
        `hugepageLimits[${i}].pageSize`,
        `this machine has ${known}, found ${JSON.stringify(pageSize)}`,
      );
    }
  }
  for (const [key, value] of Object.entries(resources.unified ?? {})) checkUnified(host, key, value);

  const needs: readonly (readonly [keyof CgroupHost['controllers'], boolean])[] = [
    ['memory', [memory?.limit, memory?.swap, memory?.reservation].some(isSet)],
    ['cpu', [cpu?.shares, cpu?.quota, cpu?.period].some(isSet) || cpu?.idle === true],
    ['cpuset', [cpu?.cpus, cpu?.mems].some((list) => list !== undefined && list !== '')],
    ['pids', isSet(pids?.limit)],
    ['hugetlb', (resources.hugepageLimits ?? []).some(({ limit }) => limit > 0)],
  ];
  for (const [controller, needed] of needs) {
    if (!needed || host.controllers[controller] !== undefined) continue;
    throw new NodeletError(
      'CGROUP_CONTROLLER_MISSING',
      `cannot limit ${controller}: this host has no ${controller} controller`,
      {
        hint: host.missing.find((one) => one.controller === controller)?.mend,
        details: { controller },
      },
    );
  }
}

/** 0 and absent both mean: leave it. */
export function isSet(value: number | undefined): value is number {
  return value !== undefined && value !== 0;
}

function checkUnified(host: CgroupHost, key: string, value: string): void {
  const field = `unified[${JSON.stringify(key)}]`;
  if (!/^[a-z]+(\.[A-Za-z0-9_]+)+$/.test(key)) throw invalid(field, 'no file name of cgroup v2');
  if (key.startsWith('cgroup.') && !key.startsWith('cgroup.max.')) {
    throw invalid(field, 'files of the cgroup itself (membership, freezing, killing) are not for limits');
  }
  if (value === '' || /[\0\n]/.test(value)) throw invalid(field, `no single line: ${JSON.stringify(value)}`);
  const controller = key.slice(0, key.indexOf('.')) as keyof CgroupHost['controllers'];
  const binding = host.controllers[controller];
  if (binding?.version === 1) {
    throw invalid(field, `the ${controller} controller of this host is bound to cgroup v1`);
  }
}

function whole(value: number | undefined, least: number, most: number, field: string): void {
  if (value === undefined) return;
  if (!Number.isInteger(value) || value < least || value > most) {
    throw invalid(field, `expected an integer from ${least} to ${most}, found ${value}`);
  }
}

function subset(list: string | undefined, all: string, field: string): void {
  if (list === undefined || list === '') return;
  const wanted = parseIdList(list);
  if (wanted === undefined)
    throw invalid(field, `expected a list such as "0-3,8", found ${JSON.stringify(list)}`);
  const known = parseIdList(all) ?? new Set<number>();
  for (const id of wanted) {
    if (!known.has(id)) throw invalid(field, `${id} is not among this machine's ${all}`);
  }
}

/** `0-3,8` as a set (cpuset(7), "List format"); undefined where the text is none or names more than 65536 ids. */
export function parseIdList(text: string): Set<number> | undefined {
  const ids = new Set<number>();
  for (const part of text.trim().split(',')) {
    const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part);
    if (!match) return undefined;
    const [from, to] = [Number(match[1]), Number(match[2] ?? match[1])];
    if (to < from) return undefined;
    for (let id = from; id <= to; id++) ids.add(id);
  }
  return ids;
}

function invalid(field: string, problem: string): NodeletError {
  return new NodeletError('CGROUP_VALUE_INVALID', `cannot set ${field}: ${problem}`, { details: { field } });
}
