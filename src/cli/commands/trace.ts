import { type Command, Option } from 'commander';
import { clientOf } from '../context.ts';
import { addExamples, addNamespace } from '../options.ts';
import { writeLine, writeLines, writeStructured } from '../output.ts';
import { findPod } from '../pods.ts';
import { chromeTrace, timelineLines } from '../render/trace.ts';
import { styleFor } from '../terminal/style.ts';

interface Options {
  readonly output: 'table' | 'json' | 'yaml' | 'chrome';
  readonly all?: boolean;
  readonly namespace?: string;
}

/** Columns where there is no terminal. */
const WIDTH = 160;

export function configure(command: Command): void {
  command
    .argument('<pod>')
    .option('-a, --all', 'each operation in a line of its own, however short')
    .addOption(
      new Option('-o, --output <format>', 'what to print')
        .choices(['table', 'json', 'yaml', 'chrome'])
        .default('table'),
    );
  addNamespace(command);
  command.addHelpText(
    'after',
    `
Each line is a step of the pod's start: when it began, how long it took, and where in the whole time it lies. Steps
within a step are indented. Those of "shim" are the operations of a launch plan, timed by the shim itself between clone
and exec; nodelet plan shows them before they are done.`,
  );
  addExamples(command, [
    ['nodelet trace web', 'the start of a pod as a time line'],
    ['nodelet trace web -o chrome > web.json', 'for chrome://tracing or ui.perfetto.dev'],
  ]);
  command.action(async (name: string, options: Options) => {
    const client = clientOf(command);
    const { metadata } = await findPod(client, name, options.namespace);
    const trace = await client.trace(metadata.namespace, metadata.name);
    switch (options.output) {
      case 'json':
      case 'yaml':
        return await writeStructured(trace, options.output);
      case 'chrome':
        return writeLine(JSON.stringify(chromeTrace(trace)));
      case 'table':
        return writeLines(
          timelineLines(trace, {
            all: options.all === true,
            width: process.stdout.columns ?? WIDTH,
            style: styleFor(process.stdout),
          }),
        );
    }
  });
}
