import type { Command } from 'commander';
import { clientOf } from '../context.ts';
import { endPods } from '../end-pods.ts';
import { addExamples, addNamespace, wholeNumber } from '../options.ts';

interface Options {
  readonly all?: boolean;
  readonly force?: boolean;
  readonly time?: number;
  readonly ignoreNotFound?: boolean;
  readonly namespace?: string;
}

export function configure(command: Command): void {
  command
    .argument('[pod...]')
    .option('-a, --all', 'every pod')
    .option('-f, --force', 'kill at once, and do not mind pods that are not there')
    .option(
      '-t, --time <seconds>',
      "before they are killed, in place of the pod's own grace period",
      wholeNumber,
    )
    .option('--ignore-not-found', 'a pod that is not there is no failure');
  addNamespace(command);
  addExamples(command, [
    ['nodelet rm web', 'stop it and remove its containers, volumes, address and logs'],
    ['nodelet rm --all', 'every pod of this agent'],
  ]);
  command.action(async (names: readonly string[], options: Options) => {
    const { force = false, time = force ? 0 : undefined } = options;
    const ignoreNotFound = force || options.ignoreNotFound === true;
    await endPods(
      clientOf(command),
      names,
      { ...options, ignoreNotFound },
      'removed',
      async (client, pod) => {
        await client.remove(pod.namespace, pod.name, time);
      },
    );
  });
}
