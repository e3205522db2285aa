import { type Command, Option } from 'commander';
import type { Level } from '../agent/log.ts';
import { configOf } from '../context.ts';
import { Exit } from '../errors.ts';
import { addExamples, addSettings } from '../options.ts';

interface Options {
  readonly logLevel: Level;
  readonly logFormat: 'auto' | 'json' | 'text';
}

export function configure(command: Command): void {
  command
    .option('--config <path>', 'read settings from this file; flags win over it')
    .addOption(
      new Option('--log-level <level>', 'what to log')
        .choices(['debug', 'info', 'warn', 'error'])
        .default('info'),
    )
    .addOption(
      new Option('--log-format <format>', 'text on a terminal, else JSON lines')
        .choices(['auto', 'json', 'text'])
        .default('auto'),
    );
  addSettings(command, 'Settings:');
  command.addHelpText(
    'after',
    `
The file holds the same settings by their names in camel case:
  apiVersion: nodelet.dev/v1alpha1
  kind: NodeletConfiguration
  podManifestPath: /etc/kubernetes/manifests
  podCidr: [10.90.0.0/16]

SIGTERM and SIGINT end the agent. Its pods run on; the next agent with the same --state takes them up.
Agents live side by side where --root, --cgroup-root, --bridge and --pod-cidr differ.`,
  );
  addExamples(command, [
    ['nodelet agent --pod-manifest-path /etc/kubernetes/manifests', 'run the pods of a directory'],
    [
      'nodelet agent --root /srv/lab --cgroup-root /lab --bridge lab0 --pod-cidr 10.99.0.0/16',
      'a second agent beside the first',
    ],
  ]);
  command.action(async (options: Options) => {
    const config = await configOf(command);
    const [{ serve }, { stderrLog }] = await Promise.all([
      import('../agent/serve.ts'),
      import('../agent/log.ts'),
    ]);
    const text = options.logFormat === 'text' || (options.logFormat === 'auto' && process.stderr.isTTY);
    throw new Exit(await serve(config, stderrLog(options.logLevel, text ? 'text' : 'json')));
  });
}
