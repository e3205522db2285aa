import type { Command } from 'commander';
import type { StatsRow } from '../../agent/index.ts';
import { sleep } from '../../base/index.ts';
import { clientOf } from '../context.ts';
import { formatMemory, formatSize } from '../format/size.ts';
import type { Column } from '../format/table.ts';
import { renderTable } from '../format/table.ts';
import { addExamples, addNamespace, addOutput } from '../options.ts';
import { type OutputFormat, printList } from '../output.ts';
import { allPods, choosePod } from '../pods.ts';
import { styleFor } from '../terminal/style.ts';

interface Options {
  readonly watch?: boolean;
  readonly stream: boolean;
  readonly namespace?: string;
  readonly output: OutputFormat;
}

/** Milliseconds between two readings: CPU use is what happened between them. */
const INTERVAL = 1000;

export function configure(command: Command): void {
  command
    .argument('[pod...]', 'of these pods; of all where none is named')
    .option('-w, --watch', 'show new readings every second until interrupted')
    .option('--no-stream', 'one reading, at once: CPU since the reading before, where there was one');
  addNamespace(command);
  addOutput(command, ['table', 'json', 'yaml']);
  addExamples(command, [
    ['nodelet stats', 'two readings, a second apart'],
    ['nodelet stats -w web', 'one pod, again and again'],
  ]);
  command.action(async (names: readonly string[], options: Options) => {
    const client = clientOf(command);
    const pods = names.length === 0 ? [] : await allPods(client);
    const chosen = names.map((name) => choosePod(pods, name, options.namespace));
    const keys = new Set(chosen.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`));
    const read = async (): Promise<StatsRow[]> =>
      (await client.stats())
        .filter((row) => options.namespace === undefined || row.namespace === options.namespace)
        .filter((row) => keys.size === 0 || keys.has(`${row.namespace}/${row.pod}`))
        .sort((a, b) => compare(`${a.namespace}/${a.pod}/${a.name}`, `${b.namespace}/${b.pod}/${b.name}`));
    if (options.watch === true) return await watch(read);
    let rows = await read();
    if (options.stream) {
      await sleep(INTERVAL);
      rows = await read();
    }
    return await printList({
      format: options.output,
      rows,
      columns,
      structured: () => ({ stats: rows }),
      name: (row) => row.id,
      none: 'No running containers found.',
    });
  });
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

const columns: readonly Column<StatsRow>[] = [
  { head: 'POD', cell: (row) => (row.namespace === 'default' ? row.pod : `${row.namespace}/${row.pod}`) },
  { head: 'NAME', cell: (row) => row.name },
  {
    head: 'CPU %',
    right: true,
    cell: (row) => (row.cpuPercent === undefined ? '-' : row.cpuPercent.toFixed(2)),
  },
  {
    head: 'MEM / LIMIT',
    cell: (row) =>
      `${formatMemory(row.memoryBytes)} / ${row.memoryLimit > 0 ? formatMemory(row.memoryLimit) : '-'}`,
  },
  {
    head: 'MEM %',
    right: true,
    cell: (row) => (row.memoryLimit > 0 ? ((row.memoryBytes / row.memoryLimit) * 100).toFixed(2) : '-'),
  },
  { head: 'DISK', right: true, cell: (row) => formatSize(row.diskBytes) },
  { head: 'PIDS', right: true, cell: (row) => String(row.pids) },
];

/** On a terminal each table takes the place of the one before; elsewhere they follow each other. */
async function watch(read: () => Promise<readonly StatsRow[]>): Promise<never> {
  const { isTTY } = process.stdout;
  const style = styleFor(process.stdout);
  for (;;) {
    const text = renderTable(columns, await read(), { paintHead: style.bold }).join('\n');
    process.stdout.write(isTTY ? `\u001b[H\u001b[2J${text}\n` : `${text}\n\n`);
    await sleep(INTERVAL);
  }
}
