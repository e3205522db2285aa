export { Channels } from './channels.ts';
export type { ChannelCodec } from './protocols.ts';
