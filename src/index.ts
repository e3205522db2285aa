/**
 * Nodelet as a library: an agent in this process, and a client of one's local API.
 *
 *     const config = resolveConfig({ root: '/tmp/node', cgroupRoot: '/my-test', bridge: 'test0', podCidr: ['10.99.0.0/24'] });
 *     const running = await startAgent(config, silentLog);
 *     const client = new AgentClient(socketPath(config));
 */
export {
  AgentClient,
  type AgentConfig,
  type RunningAgent,
  readConfigFile,
  resolveConfig,
  type SettingValues,
  socketPath,
  startAgent,
} from './agent/index.ts';
export { hasCode, type Log, NodeletError, silentLog } from './base/index.ts';
