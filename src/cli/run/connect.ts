/** The agent that `nodelet run` works with: the one that runs, or this process for as long as it does. */
import { join } from 'node:path';
import {
  AgentClient,
  type AgentConfig,
  RUN_BY,
  type RunningAgent,
  socketPath,
  startAgent,
} from '../../agent/index.ts';
import { hasCode, NodeletError } from '../../base/index.ts';
import { isAlive, processIdentity } from '../../linux/procfs.ts';
import { note } from '../output.ts';
import { allPods, shortName } from '../pods.ts';

export interface Connection {
  readonly client: AgentClient;
  /** Undefined where another process is the agent. */
  readonly embedded: RunningAgent | undefined;
}

/** The running agent's client; undefined where none answers. Throws ROOT_REQUIRED where it is out of reach. */
export async function runningAgent(config: AgentConfig): Promise<AgentClient | undefined> {
  const client = new AgentClient(socketPath(config));
  try {
    return (await client.isRunning()) ? client : undefined;
  } catch (error) {
    // Its directory is root's alone.
    if (hasCode(error, 'EACCES')) requireRoot();
    throw error;
  }
}

/** Throws ROOT_REQUIRED before anything is made. */
export function requireRoot(): void {
  if (process.getuid?.() === 0) return;
  throw new NodeletError(
    'ROOT_REQUIRED',
    'cannot run pods: root is needed to make namespaces, cgroups and mounts',
    { hint: 'run it with sudo' },
  );
}

/** Becomes the agent. Throws what the start throws. */
export async function embedAgent(config: AgentConfig, debug: boolean): Promise<Connection> {
  requireRoot();
  const { fileLog, stderrLog } = await import('../agent/log.ts');
  const log = debug ? stderrLog('debug', 'text') : fileLog('info', join(config.state, 'agent.log'));
  const embedded = await startAgent(config, log);
  try {
    const client = new AgentClient(socketPath(config));
    await removeAbandoned(client);
    return { client, embedded };
  } catch (error) {
    await embedded.close();
    throw error;
  }
}

/** Names this process in the pods that it is going to remove. */
export function ownMark(): string {
  const own = processIdentity(process.pid);
  return `${process.pid}.${own?.startTime ?? 0}`;
}

/** Pods of earlier runs that were killed before they could remove what they ran. */
async function removeAbandoned(client: AgentClient): Promise<void> {
  const abandoned = (await allPods(client)).filter((pod) => isAbandoned(pod.metadata.annotations?.[RUN_BY]));
  await Promise.all(
    abandoned.map(async (pod) => {
      note(`removing pod "${shortName(pod)}": the run that it belonged to was killed`);
      await client.remove(pod.metadata.namespace, pod.metadata.name, 0);
    }),
  );
}

function isAbandoned(mark: string | undefined): boolean {
  const match = /^(\d+)\.(\d+)$/.exec(mark ?? '');
  return match !== null && !isAlive({ pid: Number(match[1]), startTime: Number(match[2]) });
}
