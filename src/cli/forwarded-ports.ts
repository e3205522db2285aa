/** Ports and addresses of `port-forward` as kubectl writes them. Pure. */
import { isIP } from 'node:net';
import { NodeletError } from '../base/index.ts';

export interface ForwardedPort {
  /** 0: any free one. */
  readonly local: number;
  readonly remote: number;
}

function portOf(text: string, what: string, least: number): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (port >= least && port <= 65_535) return port;
  throw new NodeletError('INVALID_ARGUMENT', `error parsing ${what} port ${JSON.stringify(text)}`, {
    hint: `give a number from ${least} to 65535`,
  });
}

/** `8080:80`, `80` (both), `:80` and `0:80` (any local one). Throws INVALID_ARGUMENT. */
export function parsePorts(words: readonly string[]): ForwardedPort[] {
  return words.map((word) => {
    const parts = word.split(':');
    const [first = '', second = first] = parts;
    if (parts.length > 2)
      throw new NodeletError('INVALID_ARGUMENT', `invalid port format ${JSON.stringify(word)}`, {
        hint: 'write [LOCAL:]REMOTE, for example 8080:80',
      });
    return { local: portOf(first === '' ? '0' : first, 'local', 0), remote: portOf(second, 'remote', 1) };
  });
}

/** `localhost` is both loopback addresses. Throws INVALID_ARGUMENT. */
export function listenAddresses(text: string): string[] {
  const addresses = text.split(',').flatMap((one) => (one === 'localhost' ? ['127.0.0.1', '::1'] : [one]));
  for (const address of addresses)
    if (isIP(address) === 0)
      throw new NodeletError('INVALID_ARGUMENT', `${JSON.stringify(address)} is not a valid IP`, {
        hint: 'give IP addresses, or localhost',
      });
  return [...new Set(addresses)];
}

/** An address and port as URLs have them. */
export function shown(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
