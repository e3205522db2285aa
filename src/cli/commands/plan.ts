import { type Command, Option } from 'commander';
import { planManifests } from '../../agent/index.ts';
import { configOf } from '../context.ts';
import { addExamples, addOutput, addSettings } from '../options.ts';
import { note, writeLines, writeStructured } from '../output.ts';
import { planLines } from '../render/plan.ts';
import { parseSources, readSources } from '../run/manifests.ts';
import { styleFor } from '../terminal/style.ts';

interface Options {
  readonly output: 'table' | 'json' | 'yaml';
  readonly validate: 'strict' | 'warn' | 'ignore';
  readonly container?: string;
  readonly all?: boolean;
}

export function configure(command: Command): void {
  command
    .argument('<file...>', 'manifests (YAML or JSON) with Pods, ConfigMaps and Secrets; - is standard input')
    .option('-a, --all', 'each operation in a line of its own, names in full')
    .option('-c, --container <name>', 'the operations of one container only')
    .addOption(
      new Option('--validate <mode>', 'what to do about fields that do not exist')
        .choices(['strict', 'warn', 'ignore'])
        .default('strict'),
    );
  addOutput(command, ['table', 'json', 'yaml']);
  command.option('--config <path>', 'settings of the agent that would run it; flags win over the file');
  addSettings(command, 'Settings of the agent that would run it:', ['exitWhenEmpty', 'podManifestPath']);
  command.addHelpText(
    'after',
    `
Every step that nodelet run would take, computed by the code that takes it, on this machine as it is now; nothing is
done, made or asked of a registry. Ids that are drawn when a pod is made are shown as 0000…, 0101… and <uid>.

An image that is not here is said to be pulled; the operations of its containers can be told once it is here.`,
  );
  addExamples(command, [
    ['nodelet plan pod.yaml', 'images, cgroups, volumes, operations, addresses, rules'],
    ['nodelet plan pod.yaml -c web', 'with the operations of the container "web" only'],
    ['nodelet plan pod.yaml -o json | jq ".items[].containers[].spec"', "each container's config.json"],
  ]);
  command.action(async (files: readonly string[], options: Options) => {
    const config = await configOf(command);
    const manifests = await parseSources(await readSources(files), options.validate);
    for (const warning of manifests.warnings) note(`Warning: ${warning}`);
    if (process.getuid?.() !== 0)
      note(
        'Warning: without root parts of this machine cannot be looked at; as root the plan may be another',
      );
    const pods = await planManifests(config, manifests);
    const { container, all = false, output } = options;
    const lines = planLines(pods, { container, all, style: styleFor(process.stdout) });
    if (output !== 'table') return await writeStructured({ items: pods }, output);
    return writeLines(lines);
  });
}
