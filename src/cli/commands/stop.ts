import type { Command } from 'commander';
import { clientOf } from '../context.ts';
import { endPods } from '../end-pods.ts';
import { addExamples, addNamespace, wholeNumber } from '../options.ts';

interface Options {
  readonly all?: boolean;
  readonly time?: number;
  readonly namespace?: string;
}

export function configure(command: Command): void {
  command
    .argument('[pod...]')
    .option('-a, --all', 'every pod')
    .option(
      '-t, --time <seconds>',
      "before they are killed, in place of the pod's own grace period",
      wholeNumber,
    );
  addNamespace(command);
  addExamples(command, [
    ['nodelet stop web', 'send the stop signal, wait, kill what is left'],
    ['nodelet stop -t 0 --all', 'kill everything'],
  ]);
  command.action(async (names: readonly string[], options: Options) => {
    const { time, ...rest } = options;
    await endPods(clientOf(command), names, rest, 'stopped', async (client, { namespace, name }) => {
      await client.stop(namespace, name, time);
    });
  });
}
