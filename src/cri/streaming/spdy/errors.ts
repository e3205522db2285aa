import { NodeletError } from '../../../base/index.ts';

/** SPDY_PROTOCOL: the other end sent what is no SPDY/3.1, or more than we take; the connection ends. */
export function protocolError(what: string): NodeletError {
  return new NodeletError('SPDY_PROTOCOL', `cannot read the SPDY stream: ${what}`);
}
