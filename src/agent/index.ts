/**
 * The agent's door. What a command needs to talk to an agent is here at once; the agent itself, and with it every other
 * room, is loaded by the functions that need it, so that `nodelet ps` does not pay for a container runtime.
 */
import { join } from 'node:path';
import { hasCode, type Log } from '../base/index.ts';
import type { RemotePortForward } from '../cri/streaming/index.ts';
import type { Manifests } from '../kube/index.ts';
import type { Agent } from './agent.ts';
import type { AttachRequest, ExecRequest } from './api/streams-client.ts';
import type { AgentConfig } from './config.ts';
import type { Diagnosis } from './doctor/types.ts';
import type { PlannedPod } from './plan/types.ts';

export type { Agent, Taken } from './agent.ts';
export { REMOVE_WHEN_ENDED, RUN_BY } from './annotations.ts';
export { AgentClient, type PodChange, unreachable } from './api/client.ts';
export { errorBody, fromBody } from './api/errors.ts';
export type { AttachRequest, ExecRequest, SessionStreams } from './api/streams-client.ts';
export type * from './api/types.ts';
export {
  type AgentConfig,
  CONFIG_API_VERSION,
  CONFIG_KIND,
  DEFAULT_CGROUP_ROOT,
  DEFAULT_ROOT,
  DEFAULT_STATE,
  flagName,
  NETWORK_DEFAULTS,
  readConfigFile,
  readFlags,
  resolveConfig,
  SETTINGS,
  type SettingName,
  type SettingValues,
  socketPath,
} from './config.ts';
export type * from './doctor/types.ts';
export type * from './explain/types.ts';
export type { OutputChunk } from './output.ts';
export type * from './plan/types.ts';

export interface CloseOptions {
  /** Where no pod is left, what all pods share goes as well: bridge, rules, cgroups. */
  readonly dismantle?: boolean;
}

/** An agent with its local API. */
export interface RunningAgent {
  readonly agent: Agent;
  /** Ends the API, then lets go of the pods, which run on. Twice is safe. */
  close(options?: CloseOptions): Promise<void>;
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
  const close = async ({ dismantle = false }: CloseOptions): Promise<void> => {
    await server.close();
    const free = dismantle && agent.kubelet.list().length === 0;
    if (free) await dismantleNetwork(agent);
    await agent.close();
    if (free) await (await import('./dismantle.ts')).removeCgroups(agent);
  };
  return {
    agent,
    close(options = {}) {
      closing ??= close(options);
      return closing;
    },
  };
}

/** A runtime behind its socket, without a kubelet. */
export interface RunningCri {
  readonly path: string;
  /** Lets go of the pods, which run on. Twice is safe. */
  close(): Promise<void>;
}

/** The socket of `nodelet cri` where none is named. */
export function criSocketPath(config: Pick<AgentConfig, 'criSocket' | 'state'>): string {
  return config.criSocket === '' ? join(config.state, 'cri.sock') : config.criSocket;
}

/** Serves the runtime alone. Throws what `CriNode.start` throws. */
export async function startCri(config: AgentConfig, log: Log): Promise<RunningCri> {
  const { CriNode } = await import('./cri.ts');
  return await CriNode.start({ ...config, criSocket: criSocketPath(config) }, log);
}

async function dismantleNetwork(agent: Agent): Promise<void> {
  try {
    await agent.local?.network?.tearDown();
  } catch (error) {
    // A sandbox that nobody knows yet, of another program on the same network: it stays then.
    if (!hasCode(error, 'NETWORK_IN_USE')) throw error;
  }
}

/** What running a manifest would do; see plan/index.ts. */
export async function planManifests(config: AgentConfig, manifests: Manifests): Promise<PlannedPod[]> {
  return (await import('./plan/index.ts')).planManifests(config, manifests);
}

/** What this machine has and lacks; see doctor/index.ts. */
export async function examine(config: AgentConfig): Promise<Diagnosis> {
  return await (await import('./doctor/index.ts')).examine(config);
}

/** Runs a program in a container; see ExecRequest. Returns its exit code. */
export async function exec(socket: string, request: ExecRequest): Promise<number> {
  return await (await import('./api/streams-client.ts')).exec(socket, request);
}

/** Joins a running container's own streams; see AttachRequest. */
export async function attach(socket: string, request: AttachRequest): Promise<void> {
  await (await import('./api/streams-client.ts')).attach(socket, request);
}

/** Connections to ports of a pod. */
export async function portForward(
  socket: string,
  namespace: string,
  pod: string,
): Promise<RemotePortForward> {
  return await (await import('./api/streams-client.ts')).portForward(socket, namespace, pod);
}
export { runOci } from '../runtime/index.ts';
