import type { Command } from 'commander';
import { clientOf } from '../context.ts';
import { addExamples, addNamespace, addOutput } from '../options.ts';
import { writeLines, writeStructured } from '../output.ts';
import { findPod } from '../pods.ts';
import { explanationLines } from '../render/explain.ts';
import { styleFor } from '../terminal/style.ts';

interface Options {
  readonly output: 'table' | 'json' | 'yaml';
  readonly container?: string;
  readonly namespace?: string;
}

export function configure(command: Command): void {
  command.argument('<pod>').option('-c, --container <name>', 'one container only');
  addNamespace(command);
  addOutput(command, ['table', 'json', 'yaml']);
  command.addHelpText(
    'after',
    `
Read from the kernel at this moment, not from records: what isolates the pod's processes from the host and from each
other, what they may use and do use, and how they are connected.`,
  );
  addExamples(command, [
    ['nodelet explain web', 'namespaces, cgroups, capabilities, mounts, devices, network'],
    ['nodelet explain web -c nginx', 'of one container'],
  ]);
  command.action(async (name: string, options: Options) => {
    const client = clientOf(command);
    const { metadata } = await findPod(client, name, options.namespace);
    const explanation = await client.explain(metadata.namespace, metadata.name);
    if (options.output !== 'table') return await writeStructured(explanation, options.output);
    return writeLines(
      explanationLines(explanation, { container: options.container, style: styleFor(process.stdout) }),
    );
  });
}
