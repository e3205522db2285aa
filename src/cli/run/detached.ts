/** `nodelet run --detach`: hands pods over and leaves. */
import {
  AgentClient,
  type AgentConfig,
  REMOVE_WHEN_ENDED,
  type SettingValues,
  socketPath,
} from '../../agent/index.ts';
import type { Manifests } from '../../kube/index.ts';
import { note, writeLine } from '../output.ts';
import { requireRoot, runningAgent } from './connect.ts';

export interface DetachOptions {
  readonly remove: boolean;
  readonly settings: SettingValues;
  readonly configFile: string | undefined;
  readonly hasSettings: boolean;
}

/** Prints `pod/NAME created` for each. Throws what the agent refuses, and what the start of one throws. */
export async function runDetached(
  config: AgentConfig,
  manifests: Manifests,
  options: DetachOptions,
): Promise<void> {
  let client = await runningAgent(config);
  if (client === undefined) {
    requireRoot();
    const { startInBackground } = await import('../agent/background.ts');
    const { settings, configFile } = options;
    await startInBackground({ config, settings, configFile });
    client = new AgentClient(socketPath(config));
  } else if (options.hasSettings)
    note('An agent runs already: its own settings count, not those given here.');
  const { pods, configMaps, secrets } = manifests;
  if (options.remove) {
    for (const { metadata } of pods)
      metadata.annotations = { ...metadata.annotations, [REMOVE_WHEN_ENDED]: 'true' };
  }
  const taken = await client.create({ pods, configMaps, secrets });
  for (const { namespace, name } of taken.pods)
    writeLine(`${namespace === 'default' ? 'pod' : namespace}/${name} created`);
}
