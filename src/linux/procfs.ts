/** Files of /proc (proc(5)) as data: pure parsers, and readers that answer undefined for a process that is gone. */
import { readFileSync } from 'node:fs';
import { hasCode, NodeletError } from '../base/index.ts';
import { parseCapabilityMask } from './capabilities.ts';

/** /proc/<pid>/status, the fields that nodelet uses. Memory in bytes; kernel threads have none. */
export interface ProcessStatus {
  readonly name: string;
  /** One letter: R, S, D, Z, T, t, X, I. */
  readonly state: string;
  readonly tgid: number;
  readonly pid: number;
  readonly ppid: number;
  readonly tracerPid: number;
  /** Real, effective, saved, file system. */
  readonly uids: readonly [number, number, number, number];
  readonly gids: readonly [number, number, number, number];
  /** Supplementary groups. */
  readonly groups: readonly number[];
  /** The process's id in every PID namespace that it is in, from ours inwards. */
  readonly namespacePids: readonly number[];
  readonly threads: number;
  readonly umask: number;
  readonly residentBytes: number | undefined;
  readonly peakResidentBytes: number | undefined;
  readonly swapBytes: number | undefined;
  readonly capabilities: {
    readonly inheritable: bigint;
    readonly permitted: bigint;
    readonly effective: bigint;
    readonly bounding: bigint;
    readonly ambient: bigint;
  };
  readonly noNewPrivileges: boolean;
  /** 0 none, 1 strict, 2 filter. */
  readonly seccompMode: number;
  readonly seccompFilters: number;
  readonly cpusAllowed: string;
  readonly memsAllowed: string;
}

/** Throws PROC_FORMAT where a field that every kernel since 5.10 has is missing. */
export function parseStatus(text: string): ProcessStatus {
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':');
    if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  const field = (name: string) => {
    const value = fields.get(name);
    if (value === undefined) throw malformed('status', `no field "${name}"`);
    return value;
  };
  const numbers = (name: string) => field(name).split(/\s+/).filter(Boolean).map(Number);
  const number = (name: string) => integer(field(name), 'status', name);
  const kilobytes = (name: string) => {
    const value = /^(\d+) kB$/.exec(fields.get(name) ?? '');
    return value ? Number(value[1]) * 1024 : undefined;
  };
  const mask = (name: string) => parseCapabilityMask(field(name)) ?? 0n;
  const four = (name: string) => {
    const [real, effective, saved, filesystem] = numbers(name);
    return [real!, effective!, saved!, filesystem!] as const;
  };
  return {
    name: unescapeName(field('Name')),
    state: field('State').slice(0, 1),
    tgid: number('Tgid'),
    pid: number('Pid'),
    ppid: number('PPid'),
    tracerPid: number('TracerPid'),
    uids: four('Uid'),
    gids: four('Gid'),
    groups: numbers('Groups'),
    namespacePids: fields.has('NSpid') ? numbers('NSpid') : [number('Pid')],
    threads: number('Threads'),
    umask: Number.parseInt(fields.get('Umask') ?? '0', 8),
    residentBytes: kilobytes('VmRSS'),
    peakResidentBytes: kilobytes('VmHWM'),
    swapBytes: kilobytes('VmSwap'),
    capabilities: {
      inheritable: mask('CapInh'),
      permitted: mask('CapPrm'),
      effective: mask('CapEff'),
      bounding: mask('CapBnd'),
      ambient: mask('CapAmb'),
    },
    noNewPrivileges: number('NoNewPrivs') === 1,
    seccompMode: fields.has('Seccomp') ? number('Seccomp') : 0,
    seccompFilters: fields.has('Seccomp_filters') ? number('Seccomp_filters') : 0,
    cpusAllowed: field('Cpus_allowed_list'),
    memsAllowed: field('Mems_allowed_list'),
  };
}

/** In `Name:` newlines and backslashes are escaped, nothing else. */
function unescapeName(text: string): string {
  return text.replaceAll(/\\(n|\\)/g, (_, c: string) => (c === 'n' ? '\n' : '\\'));
}

/** /proc/<pid>/stat, the fields that nodelet uses. */
export interface ProcessStat {
  readonly pid: number;
  /** At most 15 bytes, whatever the process chose: also spaces, parentheses and newlines. */
  readonly command: string;
  readonly state: string;
  readonly ppid: number;
  readonly processGroup: number;
  readonly session: number;
  /** Ticks of 1/100 s in user and kernel mode. */
  readonly userTicks: number;
  readonly systemTicks: number;
  readonly threads: number;
  /** Ticks of 1/100 s since boot: with the PID, the identity of a process. */
  readonly startTime: number;
}

/** Throws PROC_FORMAT. */
export function parseStat(text: string): ProcessStat {
  // The name can hold anything, but nothing after it holds a parenthesis.
  const open = text.indexOf('(');
  const close = text.lastIndexOf(')');
  const rest = text
    .slice(close + 2)
    .trim()
    .split(' ');
  if (open < 0 || close < open || rest.length < 20)
    throw malformed('stat', JSON.stringify(text.slice(0, 80)));
  const at = (field: number) => integer(rest[field - 3] ?? '', 'stat', `field ${field}`);
  return {
    pid: integer(text.slice(0, open).trim(), 'stat', 'field 1'),
    command: text.slice(open + 1, close),
    state: rest[0]!,
    ppid: at(4),
    processGroup: at(5),
    session: at(6),
    userTicks: at(14),
    systemTicks: at(15),
    threads: at(20),
    startTime: at(22),
  };
}

/** One line of /proc/<pid>/cgroup. */
export interface CgroupMembership {
  /** 0 for the v2 hierarchy. */
  readonly hierarchy: number;
  /** v1 controllers, or `name=systemd`; empty for v2. */
  readonly controllers: readonly string[];
  /** As seen from the reader's cgroup namespace. */
  readonly path: string;
}

/** Throws PROC_FORMAT. */
export function parseCgroup(text: string): CgroupMembership[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      // The path may hold colons; a removed cgroup has " (deleted)" behind it.
      const match = /^(\d+):([^:]*):(\/.*)$/.exec(line);
      if (!match) throw malformed('cgroup', JSON.stringify(line));
      const [, hierarchy, controllers, path] = match;
      return {
        hierarchy: Number(hierarchy),
        controllers: controllers === '' ? [] : controllers!.split(','),
        path: path!,
      };
    });
}

export interface ResourceLimit {
  readonly soft: number | 'unlimited';
  readonly hard: number | 'unlimited';
  /** bytes, seconds, files, processes, and so on; empty for priorities. */
  readonly unit: string;
}

/** /proc/<pid>/limits by name: "Max open files" and so on. Throws PROC_FORMAT. */
export function parseLimits(text: string): Map<string, ResourceLimit> {
  const limits = new Map<string, ResourceLimit>();
  const value = (word: string) => (word === 'unlimited' ? word : Number(word));
  for (const line of text.split('\n').slice(1)) {
    if (line === '') continue;
    // Names hold single spaces, columns are at least two apart.
    const match = /^(\S+(?: \S+)*?) {2,}(unlimited|\d+) +(unlimited|\d+)(?: +(\S+))? *$/.exec(line);
    if (!match) throw malformed('limits', JSON.stringify(line));
    const [, name = '', soft = '', hard = '', unit = ''] = match;
    limits.set(name, { soft: value(soft), hard: value(hard), unit });
  }
  return limits;
}

/** One line of uid_map or gid_map. */
export interface IdMapEntry {
  readonly inside: number;
  readonly outside: number;
  readonly count: number;
}

/** Throws PROC_FORMAT. An empty map is a user namespace whose maps were not written yet. */
export function parseIdMap(text: string): IdMapEntry[] {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const match = /^\s*(\d+)\s+(\d+)\s+(\d+)\s*$/.exec(line);
      if (!match) throw malformed('id map', JSON.stringify(line));
      return { inside: Number(match[1]), outside: Number(match[2]), count: Number(match[3]) };
    });
}

/** /proc/meminfo in bytes (counts of huge pages as they are), by the kernel's names. */
export function parseMeminfo(text: string): Map<string, number> {
  const values = new Map<string, number>();
  for (const line of text.split('\n')) {
    const match = /^([^:]+):\s+(\d+)( kB)?$/.exec(line);
    if (match) values.set(match[1]!, Number(match[2]) * (match[3] === undefined ? 1 : 1024));
  }
  return values;
}

export interface KernelVersion {
  readonly major: number;
  readonly minor: number;
  /** As uname -r has it. */
  readonly release: string;
}

/** `6.18.44-cloud` → 6, 18. Throws PROC_FORMAT. */
export function parseKernelVersion(release: string): KernelVersion {
  const match = /^(\d+)\.(\d+)/.exec(release);
  if (!match) throw malformed('osrelease', JSON.stringify(release));
  return { major: Number(match[1]), minor: Number(match[2]), release: release.trim() };
}

type Pid = number | 'self';

/** The text of /proc/<pid>/<file>, or undefined where there is no such process. */
export function readProcessFile(pid: Pid, file: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch (error) {
    // ESRCH comes when the process dies between open and read.
    if (hasCode(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}

function read<T>(pid: Pid, file: string, parse: (text: string) => T): T | undefined {
  const text = readProcessFile(pid, file);
  return text === undefined || text === '' ? undefined : parse(text);
}

export const readStatus = (pid: Pid): ProcessStatus | undefined => read(pid, 'status', parseStatus);
export const readStat = (pid: Pid): ProcessStat | undefined => read(pid, 'stat', parseStat);
export const readCgroup = (pid: Pid): CgroupMembership[] | undefined => read(pid, 'cgroup', parseCgroup);
export const readLimits = (pid: Pid): Map<string, ResourceLimit> | undefined =>
  read(pid, 'limits', parseLimits);
export const readUidMap = (pid: Pid): IdMapEntry[] | undefined => read(pid, 'uid_map', parseIdMap);
export const readGidMap = (pid: Pid): IdMapEntry[] | undefined => read(pid, 'gid_map', parseIdMap);
export const readOomScoreAdj = (pid: Pid): number | undefined => read(pid, 'oom_score_adj', Number);
export const readMeminfo = (): Map<string, number> => parseMeminfo(readFileSync('/proc/meminfo', 'utf8'));
export const kernelVersion = (): KernelVersion =>
  parseKernelVersion(readFileSync('/proc/sys/kernel/osrelease', 'utf8'));

/** A UUID that changes with every boot. */
export const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

/** What tells a process from a later one with the same PID. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTime: number;
}

/** Undefined where there is no such process. A zombie still is one. */
export function processIdentity(pid: number): ProcessIdentity | undefined {
  const stat = readStat(pid);
  return stat === undefined ? undefined : { pid, startTime: stat.startTime };
}

/** True while that very process exists and is not dead (a zombie is). */
export function isAlive(identity: ProcessIdentity): boolean {
  const stat = readStat(identity.pid);
  return stat !== undefined && stat.startTime === identity.startTime && !'ZX'.includes(stat.state);
}

function integer(text: string, file: string, field: string): number {
  if (!/^-?\d+$/.test(text)) throw malformed(file, `${field} is ${JSON.stringify(text)}`);
  return Number(text);
}

function malformed(file: string, problem: string): NodeletError {
  return new NodeletError('PROC_FORMAT', `cannot parse /proc's ${file}: ${problem}`);
}
