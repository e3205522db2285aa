import type { Command } from 'commander';
import { attach } from '../../agent/index.ts';
import { clientOf } from '../context.ts';
import { addExamples, addNamespace } from '../options.ts';
import { note } from '../output.ts';
import { findPod, type KnownPod } from '../pods.ts';
import { wantsTerminal, withTerminal } from '../terminal/session.ts';
import { chooseContainer } from './logs.ts';

interface Options {
  readonly stdin?: boolean;
  readonly tty?: boolean;
  readonly container?: string;
  readonly namespace?: string;
}

export function configure(command: Command): void {
  command
    .argument('<pod>')
    .option('-i, --stdin', 'pass standard input on, where the container has "stdin: true"')
    .option('-t, --tty', 'use a terminal, where the container has "tty: true"')
    .option('-c, --container <name>', 'which container; the first one by default');
  addNamespace(command);
  command.addHelpText(
    'after',
    '\nShows what the container writes from now on; `logs` has what it wrote before. Ctrl-C leaves it alone.\nThe end of the input ends the container\'s where it has "stdinOnce: true", else the session.',
  );
  addExamples(command, [
    ['nodelet attach web', 'what it writes from now on'],
    ['nodelet attach -it shell', 'its terminal'],
    ['echo reload | nodelet attach -i web', 'a line of input'],
  ]);
  command.action(async (name: string, options: Options) => {
    const client = clientOf(command);
    const pod = await findPod(client, name, options.namespace);
    const container = chooseContainer(pod, options.container);
    const { namespace, name: podName } = pod.metadata;
    const terminal = wantsTerminal(options) && hasTerminal(pod, container);
    const stdin = options.stdin === true;
    if (terminal && stdin) note("If you don't see a command prompt, try pressing enter.");
    await withTerminal(
      terminal,
      stdin,
      async (streams) => await attach(client.socket, { namespace, pod: podName, container, ...streams }),
    );
  });
}

/** As kubectl: a container that has no terminal is joined without one. */
function hasTerminal(pod: KnownPod, container: string): boolean {
  const all = [...(pod.spec?.initContainers ?? []), ...(pod.spec?.containers ?? [])];
  if (all.find((one) => one.name === container)?.tty === true) return true;
  note(`Unable to use a TTY - container ${container} did not allocate one`);
  return false;
}
