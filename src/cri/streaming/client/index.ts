export { openRemoteAttach, openRemoteExec, type RemoteCommandOptions } from './command.ts';
export type { DialOptions } from './dial.ts';
export { openRemotePortForward, type RemoteConnection, RemotePortForward } from './port-forward.ts';
