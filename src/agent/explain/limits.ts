/** The control files of a cgroup that say what is allowed, beside what is used: v2's and v1's, where each controller is. */
import { readFileSync } from 'node:fs';
import { type CgroupHost, type Controller, directoryOf } from '../../linux/cgroups/index.ts';
import type { ExplainedLimit } from './types.ts';

interface Row {
  readonly what: string;
  readonly controller: Controller;
  readonly v2: { readonly limit: string; readonly used?: string };
  readonly v1: { readonly limit: string; readonly used?: string };
  /** Turns a control file's text into what is shown. */
  readonly show?: (text: string) => string;
}

const NO_LIMIT = 2 ** 62;

function bytes(text: string): string {
  if (text === 'max' || Number(text) >= NO_LIMIT) return 'no limit';
  return text;
}

function quota(text: string): string {
  const [limit, period] = text.split(' ');
  if (limit === 'max' || limit === '-1') return 'no limit';
  return period === undefined ? `${limit} µs` : `${limit} µs of ${period} µs`;
}

const ROWS: readonly Row[] = [
  {
    what: 'memory',
    controller: 'memory',
    v2: { limit: 'memory.max', used: 'memory.current' },
    v1: { limit: 'memory.limit_in_bytes', used: 'memory.usage_in_bytes' },
    show: bytes,
  },
  {
    what: 'swap',
    controller: 'memory',
    v2: { limit: 'memory.swap.max', used: 'memory.swap.current' },
    v1: { limit: 'memory.memsw.limit_in_bytes' },
    show: bytes,
  },
  { what: 'CPU weight', controller: 'cpu', v2: { limit: 'cpu.weight' }, v1: { limit: 'cpu.shares' } },
  {
    what: 'CPU quota',
    controller: 'cpu',
    v2: { limit: 'cpu.max' },
    v1: { limit: 'cpu.cfs_quota_us' },
    show: quota,
  },
  {
    what: 'CPUs',
    controller: 'cpuset',
    v2: { limit: 'cpuset.cpus.effective' },
    v1: { limit: 'cpuset.effective_cpus' },
  },
  {
    what: 'processes',
    controller: 'pids',
    v2: { limit: 'pids.max', used: 'pids.current' },
    v1: { limit: 'pids.max', used: 'pids.current' },
    show: bytes,
  },
];

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined; // an older kernel, or a controller that is not handed down
  }
}

export function explainLimits(host: CgroupHost, path: string): ExplainedLimit[] {
  const rows: ExplainedLimit[] = [];
  for (const { what, controller, v1, v2, show = (text: string) => text } of ROWS) {
    const binding = host.controllers[controller];
    if (binding === undefined) continue;
    const files = binding.version === 1 ? v1 : v2;
    const directory = directoryOf(binding.root, path);
    const file = `${directory}/${files.limit}`;
    const limit = read(file);
    if (limit === undefined) continue;
    const used = files.used === undefined ? undefined : read(`${directory}/${files.used}`);
    rows.push({ what, file, limit: show(limit), used: used ?? '' });
  }
  const nanos = read(`${directoryOf(host.unified, path)}/cpu.stat`);
  const micros = /^usage_usec (\d+)$/m.exec(nanos ?? '')?.[1];
  if (micros !== undefined)
    rows.push({
      what: 'CPU time',
      file: `${directoryOf(host.unified, path)}/cpu.stat`,
      limit: '',
      used: `${micros} µs`,
    });
  return rows;
}
