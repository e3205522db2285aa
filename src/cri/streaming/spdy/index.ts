export type { Headers } from './headers.ts';
export { type SessionOptions, SpdySession } from './session.ts';
export type { SpdyStream } from './stream.ts';
