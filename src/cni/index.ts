/** The pod network: the contract, and the built-in bridge network. */
export { BridgeNetwork, createBridgeNetwork } from './bridge-network.ts';
export {
  type BridgeNetworkConfig,
  type BridgeNetworkOptions,
  DEFAULT_BRIDGE,
  DEFAULT_DATA_DIR,
  DEFAULT_SUBNETS,
  type SubnetOptions,
} from './config.ts';
export { type LocalhostListener, localhostListeners } from './localhost/listeners.ts';
export { LocalhostPortProxy, type LocalhostPortProxyOptions } from './localhost/proxy.ts';
export { hostLinkName } from './names.ts';
export * from './types.ts';
