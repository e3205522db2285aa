import type { Command } from 'commander';
import { configOf } from '../context.ts';
import { Exit } from '../errors.ts';
import { addExamples, addLog, addSettings, type LogOptions, logOf } from '../options.ts';

export function configure(command: Command): void {
  command.option('--config <path>', 'read settings from this file; flags win over it');
  addLog(command);
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
  command.action(async (options: LogOptions) => {
    const config = await configOf(command);
    const { serve } = await import('../agent/serve.ts');
    throw new Exit(await serve(config, await logOf(options)));
  });
}
