import { type Command, Option } from 'commander';
import type { SettingName } from '../../agent/index.ts';
import { NodeletError } from '../../base/index.ts';
import { configOf, globalsOf, settingsOf } from '../context.ts';
import { Exit } from '../errors.ts';
import { parseDuration } from '../format/duration.ts';
import { addExamples, addSettings } from '../options.ts';
import { note } from '../output.ts';

interface Options {
  readonly detach?: boolean;
  readonly rm?: boolean;
  readonly timeout?: string;
  readonly validate: 'strict' | 'warn' | 'ignore';
  readonly keepTrying?: boolean;
  readonly quiet?: boolean;
  readonly config?: string;
}

/** Those that choose an agent rather than form one. */
const NOT_SETTINGS: ReadonlySet<string> = new Set(['root', 'state'] satisfies SettingName[]);

export function configure(command: Command): void {
  command
    .argument('<file...>', 'manifests (YAML or JSON) with Pods, ConfigMaps and Secrets; - is standard input')
    .option(
      '-d, --detach',
      'return once the pods are accepted; where no agent runs, start one in the background',
    )
    .option('--rm', 'remove the pods when they have ended')
    .option('--timeout <duration>', 'stop the pods after this time and exit with 124: 30s, 5m')
    .addOption(
      new Option('--validate <mode>', 'what to do about fields that do not exist')
        .choices(['strict', 'warn', 'ignore'])
        .default('strict'),
    )
    .option(
      '--keep-trying',
      'do not give up where an image or volume is missing: try again as a kubelet does',
    )
    .option('-q, --quiet', 'show what the containers write, and no events')
    .option('--config <path>', 'settings of the agent that this becomes; flags win over the file');
  addSettings(command, 'Settings, where no agent runs and this becomes one:', [
    'exitWhenEmpty',
    'podManifestPath',
  ]);
  command.addHelpText(
    'after',
    `
All files are read first: nothing starts where one of them is wrong. A running agent is used where its socket
answers; otherwise this process is the agent until the pods have ended, and then removes them.

The containers' output is shown as it is: standard output here, standard error there, with [container] before each line
where there are several. Events of the pods, and progress of pulls, are shown on standard error.

Ctrl-C stops the pods with their grace period, a second Ctrl-C kills them. With restartPolicy Always (the default of
Kubernetes) a pod runs until it is interrupted.`,
  );
  addExamples(command, [
    ['nodelet run pod.yaml', 'run a pod, watch it, end as it ends'],
    ['nodelet run --timeout 1m job.yaml > result.txt', 'its standard output in a file, a minute at most'],
    ['cat pod.yaml | nodelet run -d -', 'leave it running; nodelet pods shows it'],
  ]);
  command.action(async (files: readonly string[], options: Options) => {
    const timeout = options.timeout === undefined ? undefined : parseDuration(options.timeout, 'time limit');
    if (timeout !== undefined && options.detach === true)
      throw new NodeletError('INVALID_ARGUMENT', 'cannot use --timeout together with --detach', {
        hint: 'give the pod activeDeadlineSeconds instead',
      });
    const settings = settingsOf(command);
    const config = await configOf(command);
    const { readSources, parseSources } = await import('../run/manifests.ts');
    const manifests = await parseSources(await readSources(files), options.validate);
    for (const warning of manifests.warnings) note(`Warning: ${warning}`);
    const hasSettings =
      options.config !== undefined || Object.keys(settings).some((name) => !NOT_SETTINGS.has(name));
    const remove = options.rm === true;
    if (options.detach === true) {
      const { runDetached } = await import('../run/detached.ts');
      return await runDetached(config, manifests, {
        remove,
        settings,
        configFile: options.config,
        hasSettings,
      });
    }
    const { runForeground } = await import('../run/foreground.ts');
    throw new Exit(
      await runForeground(config, manifests, {
        quiet: options.quiet === true,
        keepTrying: options.keepTrying === true,
        remove,
        timeout,
        debug: globalsOf(command).debug === true,
        hasSettings,
      }),
    );
  });
}
