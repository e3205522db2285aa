/** Netlink and rtnetlink: links, addresses, routes and neighbours without the `ip` program. */
export * from './address.ts';
export { Conntrack, describeFlow, type Flow, type FlowTuple } from './conntrack.ts';
export * as netlinkConstants from './constants.ts';
export {
  type Acknowledgement,
  describeFailure,
  NetlinkError,
  type NetlinkFailure,
  readAcknowledgement,
} from './error.ts';
export * from './link.ts';
export type {
  BridgeOptions,
  BridgePortOptions,
  BridgePortState,
  BridgeState,
  LinkInfo,
  VethPeer,
  VxlanOptions,
} from './link-info.ts';
export { formatMac, macBytes } from './mac.ts';
export { NetlinkMonitor, type NetlinkMonitorOptions } from './monitor.ts';
export * from './neighbour.ts';
export * from './reader.ts';
export * from './route.ts';
export { applyInBackground, Rtnetlink } from './rtnetlink.ts';
export { type NetlinkRequest, NetlinkSocket, type NetlinkSocketOptions } from './socket.ts';
export { NetlinkWriter } from './writer.ts';
