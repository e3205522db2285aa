import { spawnSync } from 'node:child_process';
import { NodeletError } from '../../../base/index.ts';
import { processesIn } from '../../../linux/cgroups/index.ts';
import type { ParsedArguments } from '../arguments.ts';
import type { OciContext } from '../context.ts';
import { usage } from '../errors.ts';
import { writeAll } from '../log.ts';
import { statusOf } from '../state.ts';
import { checkStatus } from '../transitions.ts';

export function run({ store, host }: OciContext, args: ParsedArguments): number {
  const [id = '', ...options] = args.operands;
  const format = args.text('format') ?? 'table';
  if (format !== 'table' && format !== 'json')
    throw usage(`--format: expected table or json, found ${JSON.stringify(format)}`);
  const record = store.get(id);
  checkStatus('ps', id, statusOf(store, host, record));
  const pids = processesIn(host, record.cgroup);
  if (format === 'json') writeAll(1, `${JSON.stringify(pids)}\n`);
  else writeAll(1, table(pids, options.length === 0 ? ['-ef'] : options));
  return 0;
}

/** The lines of ps(1) about these processes. */
function table(pids: readonly number[], options: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync('ps', options, { encoding: 'utf8' });
  if (error !== undefined || status !== 0)
    throw new NodeletError(
      'OCI_PS_FAILED',
      `cannot run ps ${options.join(' ')}: ${error?.message ?? stderr.trim()}`,
      { hint: 'install ps (package procps), or use --format json' },
    );
  const [head = '', ...lines] = stdout.trimEnd().split('\n');
  const column = head.trim().split(/\s+/).indexOf('PID');
  if (column < 0) throw usage('ps: the output has no PID column');
  const wanted = new Set(pids);
  const kept = lines.filter((line) => wanted.has(Number(line.trim().split(/\s+/)[column])));
  return [head, ...kept].map((line) => `${line}\n`).join('');
}
