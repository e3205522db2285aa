import type { Command } from 'commander';
import type { ContainerRow } from '../../agent/index.ts';
import { clientOf } from '../context.ts';
import { formatAgo } from '../format/duration.ts';
import type { Column } from '../format/table.ts';
import { addExamples, addNamespace, addOutput } from '../options.ts';
import { type OutputFormat, printList } from '../output.ts';
import { allPods, choosePod } from '../pods.ts';
import { styleFor } from '../terminal/style.ts';

interface Options {
  readonly all?: boolean;
  readonly quiet?: boolean;
  readonly pod?: string;
  readonly namespace?: string;
  readonly output: OutputFormat;
}

export function configure(command: Command): void {
  command
    .option('-a, --all', 'also those that do not run')
    .option('-p, --pod <pod>', 'of one pod')
    .option('-q, --quiet', 'print ids only');
  addNamespace(command);
  addOutput(command, ['table', 'wide', 'json', 'yaml', 'name']);
  addExamples(command, [
    ['nodelet ps', 'running containers, in the columns of crictl ps'],
    ['nodelet ps -a -o wide', 'also those that have ended, with PID, exit code and reason'],
  ]);
  command.action(async (options: Options) => {
    const client = clientOf(command);
    const wanted = await podFilter(options, client);
    const rows = (await client.containers()).filter(
      (row) => (options.all === true || row.state === 'running') && wanted(row),
    );
    await printList({
      format: options.quiet === true ? 'name' : options.output,
      rows,
      columns: columns(Date.now()),
      structured: () => ({ containers: rows }),
      name: (row) => row.id,
      none:
        options.all === true
          ? 'No containers found.'
          : 'No running containers found (-a shows those that have ended).',
    });
  });
}

async function podFilter(
  { pod, namespace }: Options,
  client: ReturnType<typeof clientOf>,
): Promise<(row: ContainerRow) => boolean> {
  if (pod === undefined) return (row) => namespace === undefined || row.namespace === namespace;
  const { uid } = choosePod(await allPods(client), pod, namespace).metadata;
  return (row) => row.podUid === uid;
}

/** As much of an id as crictl shows. */
const SHORT = 13;

function columns(now: number): Column<ContainerRow>[] {
  const style = styleFor(process.stdout);
  const state = (text: string): string => `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`;
  return [
    { head: 'CONTAINER', cell: (row) => row.id.slice(0, SHORT) },
    { head: 'IMAGE', cell: (row) => row.image },
    { head: 'CREATED', cell: (row) => formatAgo(now - row.createdAt) },
    {
      head: 'STATE',
      cell: (row) => state(row.state),
      paint: (text, row) =>
        row.state === 'running' ? style.green(text) : row.exitCode === 0 ? style.dim(text) : style.red(text),
    },
    { head: 'NAME', cell: (row) => row.name },
    { head: 'ATTEMPT', cell: (row) => String(row.attempt) },
    { head: 'POD ID', cell: (row) => row.podSandboxId.slice(0, SHORT) },
    { head: 'POD', cell: (row) => row.pod },
    { head: 'NAMESPACE', cell: (row) => row.namespace },
    { head: 'PID', wide: true, cell: (row) => (row.pid > 0 ? String(row.pid) : '-') },
    { head: 'EXIT', wide: true, cell: (row) => (row.state === 'exited' ? String(row.exitCode) : '-') },
    { head: 'REASON', wide: true, cell: (row) => row.reason },
  ];
}
