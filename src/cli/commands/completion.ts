import { type Command, Option } from 'commander';
import { addExamples } from '../options.ts';
import { writeLine } from '../output.ts';

export function configure(command: Command): void {
  command.addOption(new Option('--shell <name>', 'whose').choices(['bash']).default('bash'));
  addExamples(command, [
    ['source <(nodelet completion)', 'for this shell'],
    ['nodelet completion > /etc/bash_completion.d/nodelet', 'for every shell'],
  ]);
  command.action(async () => {
    const [{ createWholeProgram }, { bashCompletion }] = await Promise.all([
      import('../program.ts'),
      import('../render/completion.ts'),
    ]);
    writeLine(bashCompletion(await createWholeProgram()));
  });
}
