/** What a cgroup uses. Parsers are pure; a part whose files are missing is absent. */
import { readFileSync } from 'node:fs';
import { hasCode } from '../../base/index.ts';
import { type CgroupHost, type Controller, directoryOf } from './host.ts';

export interface CpuStats {
  readonly usageNanos: number;
  readonly userNanos: number;
  readonly systemNanos: number;
  /** CFS bandwidth: enforcement periods, how many of them were cut short, and for how long. */
  readonly periods: number;
  readonly throttledPeriods: number;
  readonly throttledNanos: number;
}

/** Bytes. */
export interface MemoryStats {
  readonly usage: number;
  /** Usage without file pages that nobody used lately: what reclaim cannot take easily. */
  readonly workingSet: number;
  /** Anonymous memory. */
  readonly rss: number;
  readonly fileCache: number;
  readonly inactiveFile: number;
  /** The most ever used; undefined before Linux 5.19 on v2. */
  readonly peak: number | undefined;
  /** Undefined: no limit. */
  readonly limit: number | undefined;
  readonly swapUsage: number | undefined;
  /** Swap alone; undefined: no limit, or no swap accounting. */
  readonly swapLimit: number | undefined;
  readonly pageFaults: number;
  readonly majorPageFaults: number;
}

export interface PidsStats {
  /** Processes and threads. */
  readonly current: number;
  readonly limit: number | undefined;
  /** Forks that the limit refused. */
  readonly refused: number;
}

/** Processes that the OOM killer ended. v2 counts the cgroup with everything below it, v1 the cgroup alone. */
export interface OomStats {
  readonly kills: number;
  /** Times that the limit was reached and reclaim failed; v1 does not count them. */
  readonly events: number | undefined;
}

export interface IoStats {
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly reads: number;
  readonly writes: number;
}

/** Pressure stall information: share of time in percent over 10, 60 and 300 seconds, and the total. */
export interface PressureLine {
  readonly avg10: number;
  readonly avg60: number;
  readonly avg300: number;
  readonly totalMicros: number;
}

export interface Pressure {
  /** At least one task waited. */
  readonly some: PressureLine;
  /** All tasks waited at once. */
  readonly full: PressureLine | undefined;
}

export interface CgroupStats {
  readonly cpu: CpuStats | undefined;
  readonly memory: MemoryStats | undefined;
  readonly pids: PidsStats | undefined;
  readonly oom: OomStats | undefined;
  readonly io: IoStats | undefined;
  readonly pressure: {
    readonly cpu: Pressure | undefined;
    readonly memory: Pressure | undefined;
    readonly io: Pressure | undefined;
  };
}

/** `key value` lines; anything that is no number is left out. */
export function parseFlatKeyed(text: string): Map<string, number> {
  const values = new Map<string, number>();
  for (const line of text.split('\n')) {
    const space = line.lastIndexOf(' ');
    if (space > 0 && /^\d+$/.test(line.slice(space + 1))) {
      values.set(line.slice(0, space), Number(line.slice(space + 1)));
    }
  }
  return values;
}

/** A limit file: `max`, and v1's largest page-aligned number, are undefined. */
export function parseLimit(text: string): number | undefined {
  const word = text.trim();
  if (!/^\d+$/.test(word)) return undefined;
  const value = Number(word);
  return value >= 2 ** 62 ? undefined : value;
}

/** Documentation/accounting/psi.rst. Undefined where the text is none (PSI can be switched off: EOPNOTSUPP). */
export function parsePressure(text: string): Pressure | undefined {
  const line = (kind: string): PressureLine | undefined => {
    const found = text.split('\n').find((one) => one.startsWith(`${kind} `));
    if (found === undefined) return undefined;
    const fields = new Map(
      found
        .split(' ')
        .slice(1)
        .map((pair) => pair.split('=') as [string, string]),
    );
    const number = (name: string) => Number(fields.get(name) ?? 0);
    return {
      avg10: number('avg10'),
      avg60: number('avg60'),
      avg300: number('avg300'),
      totalMicros: number('total'),
    };
  };
  const some = line('some');
  return some === undefined ? undefined : { some, full: line('full') };
}

/** io.stat of v2: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`, one line a device, summed. */
export function parseIoStat(text: string): IoStats {
  const sums = { rbytes: 0, wbytes: 0, rios: 0, wios: 0 };
  for (const [, key, value] of text.matchAll(/\b(rbytes|wbytes|rios|wios)=(\d+)/g)) {
    sums[key as keyof typeof sums] += Number(value);
  }
  return { readBytes: sums.rbytes, writtenBytes: sums.wbytes, reads: sums.rios, writes: sums.wios };
}

/** blkio.throttle.io_service*_recursive of v1: `8:0 Read 1`, `8:0 Write 2`, …, `Total 3`. */
export function parseBlkio(text: string): { readonly read: number; readonly write: number } {
  const sums = { Read: 0, Write: 0 };
  for (const [, key, value] of text.matchAll(/^\d+:\d+ (Read|Write) (\d+)$/gm)) {
    sums[key as keyof typeof sums] += Number(value);
  }
  return { read: sums.Read, write: sums.Write };
}

/** Reads everything that this host counts for a cgroup. A cgroup that is gone has no parts. */
export function readStats(host: CgroupHost, path: string): CgroupStats {
  const reader = new StatReader(host, path);
  return {
    cpu: cpuStats(reader),
    memory: reader.version('memory') === 1 ? memoryV1(reader) : memoryV2(reader),
    pids: pidsStats(reader),
    oom: oomStats(reader),
    io: ioStats(reader),
    // Pressure belongs to v2 cgroups, whatever hierarchy the controller is in.
    pressure: {
      cpu: reader.pressure('cpu'),
      memory: reader.pressure('memory'),
      io: reader.pressure('io'),
    },
  };
}

/** How many processes of the cgroup the OOM killer ended, or undefined where the cgroup is gone. */
export function readOomKills(host: CgroupHost, path: string): number | undefined {
  return oomStats(new StatReader(host, path))?.kills;
}

class StatReader {
  readonly #host: CgroupHost;
  readonly #path: string;

  constructor(host: CgroupHost, path: string) {
    this.#host = host;
    this.#path = path;
  }

  version(controller: Controller): 1 | 2 | undefined {
    return this.#host.controllers[controller]?.version;
  }

  text(controller: Controller, file: string): string | undefined {
    const root = this.#host.controllers[controller]?.root;
    return root === undefined ? undefined : readIfThere(`${directoryOf(root, this.#path)}/${file}`);
  }

  keyed(controller: Controller, file: string): Map<string, number> | undefined {
    const text = this.text(controller, file);
    return text === undefined ? undefined : parseFlatKeyed(text);
  }

  number(controller: Controller, file: string): number | undefined {
    const text = this.text(controller, file);
    return text === undefined ? undefined : parseLimit(text);
  }

  pressure(resource: 'cpu' | 'memory' | 'io'): Pressure | undefined {
    const text = readIfThere(`${directoryOf(this.#host.unified, this.#path)}/${resource}.pressure`);
    return text === undefined ? undefined : parsePressure(text);
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    // ENODEV: the cgroup was removed after the file was opened. EOPNOTSUPP: pressure is switched off.
    if (hasCode(error, 'ENOENT', 'ENODEV', 'EOPNOTSUPP', 'ENOTSUP')) return undefined;
    throw error;
  }
}

function cpuStats(reader: StatReader): CpuStats | undefined {
  // Times are v2's own accounting, also on a hybrid host; bandwidth is the controller's.
  const times = reader.keyed('cpuacct', 'cpu.stat');
  if (times === undefined) return undefined;
  const bandwidth = reader.keyed('cpu', 'cpu.stat') ?? new Map<string, number>();
  const v1 = reader.version('cpu') === 1;
  const nanos = (name: string) => (times.get(name) ?? 0) * 1000;
  return {
    usageNanos: nanos('usage_usec'),
    userNanos: nanos('user_usec'),
    systemNanos: nanos('system_usec'),
    periods: bandwidth.get('nr_periods') ?? 0,
    throttledPeriods: bandwidth.get('nr_throttled') ?? 0,
    throttledNanos: v1
      ? (bandwidth.get('throttled_time') ?? 0)
      : (bandwidth.get('throttled_usec') ?? 0) * 1000,
  };
}

function memoryV2(reader: StatReader): MemoryStats | undefined {
  const usage = reader.number('memory', 'memory.current');
  const stat = reader.keyed('memory', 'memory.stat');
  if (usage === undefined || stat === undefined) return undefined;
  const inactiveFile = stat.get('inactive_file') ?? 0;
  return {
    usage,
    workingSet: Math.max(0, usage - inactiveFile),
    rss: stat.get('anon') ?? 0,
    fileCache: stat.get('file') ?? 0,
    inactiveFile,
    peak: reader.number('memory', 'memory.peak'),
    limit: reader.number('memory', 'memory.max'),
    swapUsage: reader.number('memory', 'memory.swap.current'),
    swapLimit: reader.number('memory', 'memory.swap.max'),
    pageFaults: stat.get('pgfault') ?? 0,
    majorPageFaults: stat.get('pgmajfault') ?? 0,
  };
}

function memoryV1(reader: StatReader): MemoryStats | undefined {
  const usage = reader.number('memory', 'memory.usage_in_bytes');
  const stat = reader.keyed('memory', 'memory.stat');
  if (usage === undefined || stat === undefined) return undefined;
  // total_ counts everything below, as v2 does.
  const total = (name: string) => stat.get(`total_${name}`) ?? stat.get(name) ?? 0;
  const limit = reader.number('memory', 'memory.limit_in_bytes');
  const both = reader.number('memory', 'memory.memsw.limit_in_bytes');
  const usedBoth = reader.number('memory', 'memory.memsw.usage_in_bytes');
  return {
    usage,
    workingSet: Math.max(0, usage - total('inactive_file')),
    rss: total('rss'),
    fileCache: total('cache'),
    inactiveFile: total('inactive_file'),
    peak: reader.number('memory', 'memory.max_usage_in_bytes'),
    limit,
    swapUsage: usedBoth === undefined ? undefined : Math.max(0, usedBoth - usage),
    swapLimit: both === undefined || limit === undefined ? undefined : Math.max(0, both - limit),
    pageFaults: total('pgfault'),
    majorPageFaults: total('pgmajfault'),
  };
}

function pidsStats(reader: StatReader): PidsStats | undefined {
  const current = reader.number('pids', 'pids.current');
  if (current === undefined) return undefined;
  return {
    current,
    limit: reader.number('pids', 'pids.max'),
    refused: reader.keyed('pids', 'pids.events')?.get('max') ?? 0,
  };
}

function oomStats(reader: StatReader): OomStats | undefined {
  if (reader.version('memory') === 1) {
    const control = reader.keyed('memory', 'memory.oom_control');
    return control === undefined ? undefined : { kills: control.get('oom_kill') ?? 0, events: undefined };
  }
  const events = reader.keyed('memory', 'memory.events');
  return events === undefined ? undefined : { kills: events.get('oom_kill') ?? 0, events: events.get('oom') };
}

function ioStats(reader: StatReader): IoStats | undefined {
  if (reader.version('io') === 2) {
    const text = reader.text('io', 'io.stat');
    return text === undefined ? undefined : parseIoStat(text);
  }
  const bytes = reader.text('io', 'blkio.throttle.io_service_bytes_recursive');
  const operations = reader.text('io', 'blkio.throttle.io_serviced_recursive');
  if (bytes === undefined || operations === undefined) return undefined;
  const [moved, done] = [parseBlkio(bytes), parseBlkio(operations)];
  return { readBytes: moved.read, writtenBytes: moved.write, reads: done.read, writes: done.write };
}
