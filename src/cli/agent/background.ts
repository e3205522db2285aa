/** Starts an agent that outlives this command. */
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import {
  type AgentConfig,
  flagName,
  fromBody,
  SETTINGS,
  type SettingName,
  type SettingValues,
} from '../../agent/index.ts';
import { NodeletError } from '../../base/index.ts';
import { freshFile } from './log.ts';
import { READY_VARIABLE, type ReadyMessage } from './ready.ts';

/** Settings as the flags that give them. Pure. */
export function settingsAsFlags(values: SettingValues): string[] {
  return (Object.keys(SETTINGS) as SettingName[]).flatMap((name) => {
    const value = values[name];
    if (value === undefined) return [];
    const flag = `--${flagName(name)}`;
    if (name === 'exitWhenEmpty') return value === true ? [flag] : [];
    // Milliseconds since the flag was read.
    if (SETTINGS[name].kind === 'duration') return [flag, `${value as number}ms`];
    return [flag, Array.isArray(value) ? value.join(',') : `${value as string | number | boolean}`];
  });
}

export interface Background {
  readonly config: Pick<AgentConfig, 'state'>;
  readonly settings: SettingValues;
  readonly configFile: string | undefined;
}

/** Its PID, once its socket answers. Throws what its start threw, or AGENT_START_FAILED with the end of its log. */
export async function startInBackground({ config, settings, configFile }: Background): Promise<number> {
  const log = join(config.state, 'agent.log');
  freshFile(log);
  const fd = openSync(log, 'a', 0o600);
  const file = configFile === undefined ? [] : ['--config', configFile];
  const words = ['agent', ...file, ...settingsAsFlags({ ...settings, exitWhenEmpty: true })];
  const child = spawn(process.execPath, [...process.execArgv, process.argv[1] ?? '', ...words], {
    detached: true,
    cwd: '/',
    stdio: ['ignore', fd, fd, 'pipe'],
    env: { ...process.env, [READY_VARIABLE]: '3' },
  });
  closeSync(fd);
  child.unref();
  const failed = new Promise<never>((_, reject) => {
    child.once('error', (error) => reject(error));
  });
  const message = await Promise.race([readMessage(child.stdio[3] as Readable), failed]);
  if (message === undefined) {
    throw new NodeletError('AGENT_START_FAILED', 'the agent in the background ended before it was ready', {
      hint: `the end of its log "${log}": ${lastLine(log)}`,
    });
  }
  if ('error' in message) throw fromBody(message.error);
  return message.pid;
}

/** Undefined where the agent died without a word. */
async function readMessage(pipe: Readable): Promise<ReadyMessage | undefined> {
  let text = '';
  for await (const chunk of pipe as AsyncIterable<Buffer>) {
    text += chunk.toString('utf8');
    if (text.includes('\n')) break;
  }
  return text.includes('\n') ? (JSON.parse(text) as ReadyMessage) : undefined;
}

function lastLine(path: string): string {
  return readFileSync(path, 'utf8').trimEnd().split('\n').at(-1) ?? '';
}
