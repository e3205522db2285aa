import type { Command } from 'commander';
import { exec } from '../../agent/index.ts';
import { NodeletError } from '../../base/index.ts';
import { clientOf } from '../context.ts';
import { Exit } from '../errors.ts';
import { addExamples, addNamespace } from '../options.ts';
import { findPod } from '../pods.ts';
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
    .argument('<command...>', 'the program and its arguments, after --')
    .option('-i, --stdin', 'pass standard input on')
    .option('-t, --tty', 'give it a terminal')
    .option('-c, --container <name>', 'which container; the first one by default');
  addNamespace(command);
  command.addHelpText(
    'after',
    "\nThe exit status is the program's; 127 where it is not found, 126 where it cannot be run, 125 where Nodelet fails.",
  );
  addExamples(command, [
    ['nodelet exec web -- cat /etc/hosts', 'one program, its output here'],
    ['nodelet exec -it web -c nginx -- sh', 'a shell to look around with'],
    ['tar -c . | nodelet exec -i web -- tar -x -C /data', 'with input'],
  ]);
  command.action(async (name: string, words: readonly string[], options: Options) => {
    const client = clientOf(command);
    const pod = await findPod(client, name, options.namespace);
    const container = chooseContainer(pod, options.container);
    const { namespace, name: podName } = pod.metadata;
    const terminal = wantsTerminal(options);
    throw new Exit(
      await run(
        client.socket,
        { namespace, pod: podName, container, command: words },
        terminal,
        options.stdin === true,
      ),
    );
  });
}

interface Target {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  readonly command: readonly string[];
}

async function run(socket: string, target: Target, terminal: boolean, stdin: boolean): Promise<number> {
  try {
    return await withTerminal(
      terminal,
      stdin,
      async (streams) => await exec(socket, { ...target, ...streams }),
    );
  } catch (error) {
    const code = programCode(error);
    if (code === undefined) throw error;
    const { reportError } = await import('../errors.ts');
    reportError(error, false);
    return code;
  }
}

/** 126 or 127 of an answer that names one. */
function programCode(error: unknown): number | undefined {
  if (!(error instanceof NodeletError) || error.code !== 'EXEC_FAILED') return undefined;
  const { exitCode } = error.details;
  return exitCode === 126 || exitCode === 127 ? exitCode : undefined;
}
