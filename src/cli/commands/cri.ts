import type { Command } from 'commander';
import { readConfigFile, readFlags, resolveConfig, SETTINGS, type SettingName } from '../../agent/index.ts';
import { settingsOf } from '../context.ts';
import { Exit } from '../errors.ts';
import { addExamples, addLog, addSettings, type LogOptions, logOf } from '../options.ts';

/** Settings that are the runtime's; the others are a kubelet's. */
const RUNTIME: ReadonlySet<SettingName> = new Set([
  'cgroupRoot',
  'network',
  'bridge',
  'podCidr',
  'mtu',
  'cniDataDir',
  'spareSandboxes',
  'insecureRegistry',
  'registryHosts',
  'registryAuthFile',
  'imageDownloads',
  'imageBandwidth',
  'criSocket',
]);

interface Options extends LogOptions {
  readonly config?: string;
  readonly listen?: string;
}

export function configure(command: Command): void {
  command
    .option('--config <path>', 'read settings from this file; flags win over it')
    .option('--listen <address>', 'the same as --cri-socket, for unix:///run/nodelet/cri.sock');
  addLog(command);
  const others = (Object.keys(SETTINGS) as SettingName[]).filter((name) => !RUNTIME.has(name));
  addSettings(command, 'Settings:', others);
  command.addHelpText(
    'after',
    `
Serves CRI v1 (RuntimeService and ImageService) on a unix socket that only root may open: <state>/cri.sock where
none is named. SIGTERM and SIGINT end it; its pods run on, and the next one with the same --state takes them up.`,
  );
  addExamples(command, [
    ['nodelet cri', 'serve at unix:///run/nodelet/cri.sock'],
    ['crictl --runtime-endpoint unix:///run/nodelet/cri.sock pods', 'ask it'],
    ['kubelet --container-runtime-endpoint unix:///run/nodelet/cri.sock …', 'run a kubelet over it'],
  ]);
  command.action(async (options: Options) => {
    const file = options.config === undefined ? {} : await readConfigFile(options.config);
    const address = options.listen === undefined ? {} : readFlags({ criSocket: options.listen });
    const config = resolveConfig(address, settingsOf(command), file);
    const { serveRuntime } = await import('../agent/serve.ts');
    throw new Exit(await serveRuntime(config, await logOf(options)));
  });
}
