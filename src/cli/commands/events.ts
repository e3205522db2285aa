import type { Command } from 'commander';
import type { Event } from '../../kube/index.ts';
import { clientOf } from '../context.ts';
import { renderTable } from '../format/table.ts';
import { addExamples, addNamespace, addOutput } from '../options.ts';
import { listOf, type OutputFormat, printList, writeLine, writeLines } from '../output.ts';
import { findPod } from '../pods.ts';
import { eventColumns } from '../render/events.ts';
import { styleFor } from '../terminal/style.ts';

interface Options {
  readonly watch?: boolean;
  readonly namespace?: string;
  readonly output: OutputFormat;
}

export function configure(command: Command): void {
  command.argument('[pod]', 'of one pod').option('-w, --watch', 'go on with what happens from now on');
  addNamespace(command);
  addOutput(command, ['table', 'json', 'yaml']);
  addExamples(command, [
    ['nodelet events', 'everything that the agent remembers, in the columns of kubectl get events'],
    ['nodelet events -w web', 'one pod, and go on'],
  ]);
  command.action(async (name: string | undefined, options: Options) => {
    const client = clientOf(command);
    const uid =
      name === undefined ? undefined : (await findPod(client, name, options.namespace)).metadata.uid;
    const wanted = (event: Event): boolean =>
      options.namespace === undefined || event.involvedObject.namespace === options.namespace;
    if (options.watch === true) {
      await watch(client.watchEvents(uid === undefined ? {} : { uid }), wanted, options.output);
      return;
    }
    const events = (await client.events(uid)).filter(wanted);
    const style = styleFor(process.stdout);
    await printList({
      format: options.output,
      rows: events,
      columns: eventColumns(Date.now(), style, isForeign(events)),
      structured: () => listOf(events),
      name: (event) => `event/${event.metadata?.name ?? ''}`,
      none: 'No events found.',
    });
  });
}

function isForeign(events: readonly Event[]): boolean {
  return events.some((event) => event.involvedObject.namespace !== 'default');
}

/** Each event is a row of its own: columns are as wide as those seen so far need. */
async function watch(
  events: AsyncIterable<Event>,
  wanted: (event: Event) => boolean,
  format: OutputFormat,
): Promise<void> {
  const style = styleFor(process.stdout);
  const seen: Event[] = [];
  for await (const event of events) {
    if (!wanted(event)) continue;
    if (format === 'json') {
      writeLine(JSON.stringify(event));
      continue;
    }
    if (format === 'yaml') {
      const { writeStructured } = await import('../output.ts');
      writeLine('---');
      await writeStructured(event, 'yaml');
      continue;
    }
    seen.push(event);
    if (seen.length > WINDOW) seen.shift();
    const [head = '', ...rows] = renderTable(eventColumns(Date.now(), style, true), seen, {
      paintHead: style.bold,
    });
    if (seen.length === 1) writeLine(head);
    writeLines(rows.slice(-1));
  }
}

/** Events whose widths count. */
const WINDOW = 20;
