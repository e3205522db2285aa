/** What every command gets from the global options: which agent is meant, and how much to say about errors. */
import type { Command } from 'commander';
import {
  AgentClient,
  type AgentConfig,
  readConfigFile,
  readFlags,
  resolveConfig,
  type SettingValues,
  socketPath,
} from '../agent/index.ts';

export interface Globals {
  readonly root?: string;
  readonly state?: string;
  readonly debug?: boolean;
}

export function globalsOf(command: Command): Globals {
  return command.optsWithGlobals<Globals>();
}

/** The settings given as flags of this command and as global ones. Throws INVALID_CONFIGURATION. */
export function settingsOf(command: Command): SettingValues {
  return readFlags(command.optsWithGlobals());
}

/** Flags over the file that `--config` names, where the command has that option. Throws INVALID_CONFIGURATION. */
export async function configOf(command: Command): Promise<AgentConfig> {
  const { config } = command.optsWithGlobals<{ readonly config?: string }>();
  const file = config === undefined ? {} : await readConfigFile(config);
  return resolveConfig(settingsOf(command), file);
}

/** The agent that `--root` and `--state` mean. */
export function clientOf(command: Command): AgentClient {
  const { root, state } = globalsOf(command);
  return new AgentClient(socketPath(resolveConfig(readFlags({ root, state }))));
}
