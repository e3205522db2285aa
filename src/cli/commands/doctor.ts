import type { Command } from 'commander';
import { examine } from '../../agent/index.ts';
import { configOf } from '../context.ts';
import { Exit } from '../errors.ts';
import { EXIT } from '../exit-codes.ts';
import { addExamples, addOutput, addSettings } from '../options.ts';
import { writeLines, writeStructured } from '../output.ts';
import { diagnosisLines } from '../render/doctor.ts';
import { styleFor } from '../terminal/style.ts';

interface Options {
  readonly output: 'table' | 'json' | 'yaml';
}

/** Columns where there is no terminal. */
const WIDTH = 120;

export function configure(command: Command): void {
  addOutput(command, ['table', 'json', 'yaml']);
  command.option('--config <path>', 'settings of the agent that is to run here; flags win over the file');
  addSettings(command, 'Settings of the agent that is to run here:', ['exitWhenEmpty', 'podManifestPath']);
  command.addHelpText(
    'after',
    `
Each thing is tried rather than guessed from a version: namespaces are made, a control group with a process in it, an
overlay below --root, a bridge and rules in a network namespace. All of it is gone when the command ends.

  ok  there         NO  needed and lacking: exit status 1
   !  recommended    ?  could not be tried (as a rule: without root)`,
  );
  addExamples(command, [
    ['nodelet doctor', 'may pods run on this machine?'],
    ['nodelet --root /srv/lab doctor', 'with the files of containers below /srv/lab?'],
    [`nodelet doctor -o json | jq '.findings[] | select(.status != "ok")'`, 'only what is lacking'],
  ]);
  command.action(async ({ output }: Options) => {
    const diagnosis = await examine(await configOf(command));
    if (output !== 'table') await writeStructured(diagnosis, output);
    else {
      const width = process.stdout.columns ?? WIDTH;
      writeLines(diagnosisLines(diagnosis, { width, style: styleFor(process.stdout) }));
    }
    if (!diagnosis.ready) throw new Exit(EXIT.missing);
  });
}
