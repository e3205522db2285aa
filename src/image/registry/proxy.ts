/**
 * Which HTTP proxy a request goes through: $HTTPS_PROXY, $HTTP_PROXY and $NO_PROXY (also in lower case), read as Go's
 * programs read them, so that what works for containerd works here. Pure.
 */
import { isIP } from 'node:net';
import { isLoopback } from './names.ts';

export interface ProxyEnvironment {
  readonly http: string | undefined;
  readonly https: string | undefined;
  readonly none: string;
}

/** Lower case is looked at first, as curl does: it cannot come from a CGI header. */
export function proxyEnvironment(env: NodeJS.ProcessEnv): ProxyEnvironment {
  const of = (name: string): string | undefined => {
    const value = env[name.toLowerCase()] ?? env[name];
    return value === undefined || value.trim() === '' ? undefined : value.trim();
  };
  return { http: of('HTTP_PROXY'), https: of('HTTPS_PROXY'), none: of('NO_PROXY') ?? '' };
}

/** The proxy for `url`, as the environment has it (`host:port` means http), or undefined for none. */
export function proxyFor(url: URL, env: ProxyEnvironment): string | undefined {
  const proxy = url.protocol === 'https:' ? env.https : env.http;
  if (proxy === undefined || isLoopback(url.host) || isExempt(url, env.none)) return undefined;
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(proxy) ? proxy : `http://${proxy}`;
}

/** `*`, a host with its subdomains (`.host`: these only), an address or a network in CIDR notation; each with a port or without. */
function isExempt(url: URL, none: string): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '').toLowerCase();
  const port = url.port === '' ? (url.protocol === 'https:' ? '443' : '80') : url.port;
  return none
    .split(/[,\s]+/)
    .map((item) => item.trim().toLowerCase())
    .filter((item) => item !== '')
    .some((item) => item === '*' || fits(item, host, port));
}

function fits(item: string, host: string, port: string): boolean {
  if (item.includes('/')) return inNetwork(host, item);
  if (isIP(item) !== 0) return sameAddress(item, host);
  const match = /^(\[[^\]]+\]|[^:]+)(?::(\d+))?$/.exec(item);
  if (match === null || (match[2] !== undefined && match[2] !== port)) return false;
  const name = (match[1] ?? '').replace(/^\[|\]$/g, '');
  if (isIP(name) !== 0) return sameAddress(name, host);
  const bare = name.replace(/^\*?\./, '');
  return (host === bare && bare === name) || host.endsWith(`.${bare}`);
}

function sameAddress(a: string, b: string): boolean {
  const left = addressBits(a);
  return left !== undefined && left === addressBits(b);
}

function inNetwork(host: string, network: string): boolean {
  const [address = '', length = ''] = network.split('/', 2);
  const bits = addressBits(host);
  const wanted = addressBits(address);
  if (
    bits === undefined ||
    wanted === undefined ||
    bits.length !== wanted.length ||
    !/^\d{1,3}$/.test(length)
  )
    return false;
  return Number(length) <= bits.length && bits.startsWith(wanted.slice(0, Number(length)));
}

/** An address as 32 or 128 binary digits. */
function addressBits(text: string): string | undefined {
  const binary = (value: number, width: number): string => value.toString(2).padStart(width, '0');
  if (isIP(text) === 4) {
    return text
      .split('.')
      .map((part) => binary(Number(part), 8))
      .join('');
  }
  if (isIP(text) !== 6) return undefined;
  // the URL parser writes an embedded IPv4 address as two groups
  const plain = new URL(`http://[${text}]`).hostname.slice(1, -1);
  const [head = '', tail] = plain.split('::', 2);
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const left = groups(head);
  const right = groups(tail ?? '');
  const middle = tail === undefined ? [] : Array.from({ length: 8 - left.length - right.length }, () => '0');
  return [...left, ...middle, ...right].map((group) => binary(Number.parseInt(group, 16), 16)).join('');
}
