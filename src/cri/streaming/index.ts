export {
  type DialOptions,
  openRemoteAttach,
  openRemoteExec,
  openRemotePortForward,
  type RemoteCommandOptions,
  type RemoteConnection,
  RemotePortForward,
} from './client/index.ts';
export { acceptCommand, type CommandStreams, type WantedStreams } from './command-streams.ts';
export { type PortForwardTarget, servePortForward } from './port-forward.ts';
export { StreamingServer, type StreamingServerOptions } from './server.ts';
export { type ExecTarget, serveAttach, serveAttachSession, serveExec, serveExecSession } from './session.ts';
export { refuse, TIMEOUTS, type Timeouts, UpgradeRefused, type UpgradeRequest } from './upgrade.ts';
