import { setTimeout as sleep } from 'node:timers/promises';
import { readStats } from '../../../linux/cgroups/index.ts';
import type { ParsedArguments } from '../arguments.ts';
import type { OciContext } from '../context.ts';
import { usage } from '../errors.ts';
import { writeAll } from '../log.ts';
import { isRunning, statusOf } from '../state.ts';
import { runcStats } from '../stats.ts';
import { checkStatus } from '../transitions.ts';

const UNITS = { ms: 1, s: 1000, m: 60_000 } as const;

export async function run({ store, host }: OciContext, args: ParsedArguments): Promise<number> {
  const id = args.operands[0] ?? '';
  const interval = duration(args.text('interval') ?? '5s');
  const record = store.get(id);
  checkStatus('events', id, statusOf(store, host, record));
  let kills = 0;
  for (;;) {
    const stats = readStats(host, record.cgroup);
    const oom = stats.oom?.kills ?? 0;
    if (!args.has('stats') && oom > kills) writeAll(1, `${JSON.stringify({ type: 'oom', id })}\n`);
    kills = oom;
    writeAll(1, `${JSON.stringify({ type: 'stats', id, data: runcStats(stats) })}\n`);
    if (args.has('stats')) return 0;
    await sleep(interval);
    if (!isRunning(record)) return 0;
  }
}

function duration(text: string): number {
  const match = /^(\d{1,9})(ms|s|m)$/.exec(text);
  const unit = match?.[2] as keyof typeof UNITS | undefined;
  const ms = match === null || unit === undefined ? 0 : Number(match[1]) * UNITS[unit];
  if (ms <= 0)
    throw usage(`--interval: expected a duration such as 5s or 500ms, found ${JSON.stringify(text)}`);
  return ms;
}
