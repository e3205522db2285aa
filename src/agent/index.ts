/**
 * The agent's door. What a command needs to talk to an agent is here at once; the agent itself, and with it every other
 * room, is loaded by the functions that need it, so that `nodelet ps` does not pay for a container runtime.
 */
import type { Log } from '../base/index.ts';
import type { Agent } from './agent.ts';
import type { ExecRequest } from './api/exec-client.ts';
import type { AgentConfig } from './config.ts';

export type { Agent, Taken } from './agent.ts';
export { AgentClient, type PodChange, unreachable } from './api/client.ts';
export type { ExecRequest } from './api/exec-client.ts';
export type * from './api/types.ts';
export {
  type AgentConfig,
  CONFIG_API_VERSION,
  CONFIG_KIND,
  DEFAULT_CGROUP_ROOT,
  DEFAULT_ROOT,
  DEFAULT_STATE,
  flagName,
  readConfigFile,
  readFlags,
  resolveConfig,
  SETTINGS,
  type SettingName,
  type SettingValues,
  socketPath,
} from './config.ts';
export type * from './explain/types.ts';
export type { OutputChunk } from './output.ts';

/** An agent with its local API. */
export interface RunningAgent {
  readonly agent: Agent;
  /** Ends the API, then lets go of the pods, which run on. Twice is safe. */
  close(): Promise<void>;
}

/** Starts an agent in this process and opens its socket. Throws what `Agent.start` throws. */
export async function startAgent(config: AgentConfig, log: Log): Promise<RunningAgent> {
  const [{ Agent }, { ApiServer }] = await Promise.all([import('./agent.ts'), import('./api/server.ts')]);
  const agent = await Agent.start(config, log);
  let server: Awaited<ReturnType<typeof ApiServer.listen>>;
  try {
    server = await ApiServer.listen(agent);
  } catch (error) {
    await agent.close();
    throw error;
  }
  let closing: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    await server.close();
    await agent.close();
  };
  return {
    agent,
    close() {
      closing ??= close();
      return closing;
    },
  };
}

/** Runs a program in a container; see ExecRequest. Returns its exit code. */
export async function exec(socket: string, request: ExecRequest): Promise<number> {
  return await (await import('./api/exec-client.ts')).exec(socket, request);
}
