/**
 * Reads containerd's `hosts.toml` (docs/hosts.md of containerd): where the images of one registry may come from, in
 * which order, and how each of these hosts is spoken to. Pure: files that it names are not opened here. An unknown key
 * is refused: a misspelt `skip_verify` or `capabilities` would otherwise be obeyed as its default.
 */
import { messageOf, NodeletError, parseGoDuration } from '../../base/index.ts';
import { quote } from '../digest.ts';

export type Capability = 'pull' | 'resolve' | 'push';
export const allCapabilities: ReadonlySet<Capability> = new Set(['pull', 'resolve', 'push']);

export interface HostEntry {
  /** Scheme, host and port; the path is in `path`. */
  readonly url: URL;
  /** The API's root: `/v2`, or what the URL says with `override_path`. */
  readonly path: string;
  readonly capabilities: ReadonlySet<Capability>;
  /** Files, relative ones to the directory of hosts.toml. */
  readonly authorities: readonly string[];
  readonly clients: readonly { readonly certificate: string; readonly key: string }[];
  readonly skipVerify: boolean;
  readonly headers: Readonly<Record<string, string>>;
  /** Milliseconds; undefined for the default. */
  readonly dialTimeout: number | undefined;
}

export interface HostsFile {
  /** In the order of the file. */
  readonly hosts: readonly HostEntry[];
  /** Asked after all others; undefined where the registry itself is meant, as it is configured on the top level. */
  readonly server: HostEntry | undefined;
  /** The top level's settings, for the registry itself. */
  readonly defaults: Omit<HostEntry, 'url' | 'path'> & { readonly overridePath: boolean };
}

type Fail = (reason: string) => NodeletError;
type Json = Readonly<Record<string, unknown>>;

const hostKeys = new Set([
  'capabilities',
  'ca',
  'client',
  'skip_verify',
  'header',
  'override_path',
  'dial_timeout',
]);
const topKeys = new Set([...hostKeys, 'server', 'host']);
/** Headers that would break the request or that are the client's own to say. */
const ownHeaders = new Set(['host', 'content-length', 'transfer-encoding', 'connection', 'range', 'accept']);
/** No node has more mirrors of one registry. */
const maxHosts = 64;

/** `document` is the parsed TOML. Throws REGISTRY_CONFIG_INVALID naming `file` and the key. */
export function readHosts(document: unknown, file: string): HostsFile {
  const fail: Fail = (reason) =>
    new NodeletError('REGISTRY_CONFIG_INVALID', `cannot use ${quote(file)}: ${reason}`, {
      hint: 'the format is containerd’s: docs/images.md has examples',
    });
  if (!isTable(document)) throw fail('it is no table');
  checkKeys(document, topKeys, '', fail);
  const { server, host } = document;
  if (server !== undefined && typeof server !== 'string') throw fail('"server" is not a string');
  if (host !== undefined && !isTable(host)) throw fail('"host" is not a table');
  const tables = Object.entries(host ?? {});
  if (tables.length > maxHosts) throw fail(`it names ${tables.length} hosts, more than ${maxHosts}`);
  const hosts = tables.map(([name, table]) => {
    const where = `host.${quote(name)}`;
    if (!isTable(table)) throw fail(`${where} is not a table`);
    checkKeys(table, hostKeys, `${where}.`, fail);
    return { ...hostUrl(name, table.override_path === true, fail), ...settings(table, `${where}.`, fail) };
  });
  const own = settings(document, '', fail);
  const overridePath = document.override_path === true;
  return {
    hosts,
    server:
      server === undefined || server === '' ? undefined : { ...hostUrl(server, overridePath, fail), ...own },
    defaults: { ...own, overridePath },
  };
}

/** The same from the file's text. */
export async function parseHosts(text: string, file: string): Promise<HostsFile> {
  const { parse } = await import('smol-toml');
  let document: unknown;
  try {
    document = parse(text);
  } catch (error) {
    const [reason = ''] = messageOf(error).split('\n', 1);
    throw new NodeletError('REGISTRY_CONFIG_INVALID', `cannot use ${quote(file)}: it is no TOML (${reason})`);
  }
  return readHosts(document, file);
}

function isTable(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

function checkKeys(table: Json, known: ReadonlySet<string>, where: string, fail: Fail): void {
  for (const key of Object.keys(table)) {
    if (!known.has(key)) throw fail(`unknown key ${quote(where + key)}; known are ${[...known].join(', ')}`);
  }
}

/** `https://host[:port][/path]`; without a scheme https. `/v2` is appended to the path unless it is overridden. */
function hostUrl(text: string, override: boolean, fail: Fail): Pick<HostEntry, 'url' | 'path'> {
  let url: URL;
  try {
    url = new URL(/^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `https://${text}`);
  } catch {
    throw fail(`${quote(text)} is no URL`);
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw fail(`${quote(text)} is not http or https`);
  if (url.username !== '' || url.password !== '')
    throw fail(`${quote(url.host)} has a user or password in its URL; use "header"`);
  if (url.search !== '' || url.hash !== '') throw fail(`${quote(text)} has a query or a fragment`);
  const bare = url.pathname.replace(/\/+$/, '');
  return { url: new URL(url.origin), path: override || bare.endsWith('/v2') ? bare : `${bare}/v2` };
}

function settings(table: Json, where: string, fail: Fail): Omit<HostEntry, 'url' | 'path'> {
  const flag = (key: string): boolean => {
    const value = table[key];
    if (value !== undefined && typeof value !== 'boolean')
      throw fail(`"${where}${key}" is not true or false`);
    return value === true;
  };
  flag('override_path');
  return {
    capabilities: capabilities(table.capabilities, `${where}capabilities`, fail),
    authorities: strings(table.ca, `${where}ca`, fail),
    clients: clients(table.client, `${where}client`, fail),
    skipVerify: flag('skip_verify'),
    headers: headers(table.header, `${where}header`, fail),
    dialTimeout: duration(table.dial_timeout, `${where}dial_timeout`, fail),
  };
}

function capabilities(value: unknown, where: string, fail: Fail): ReadonlySet<Capability> {
  if (value === undefined) return allCapabilities;
  const found = strings(value, where, fail);
  for (const one of found) {
    if (!(allCapabilities as ReadonlySet<string>).has(one))
      throw fail(`"${where}" has ${quote(one)}, which is none of pull, resolve and push`);
  }
  return new Set(found as Capability[]);
}

function strings(value: unknown, where: string, fail: Fail): string[] {
  if (value === undefined) return [];
  const list: unknown[] = Array.isArray(value) ? value : [value];
  return list.map((item) => {
    if (typeof item !== 'string' || item === '')
      throw fail(`"${where}" is not a string or a list of strings`);
    return item;
  });
}

/** `"both.pem"`, `["a.pem", "b.pem"]`, or `[["cert.pem", "key.pem"], …]`. */
function clients(value: unknown, where: string, fail: Fail): HostEntry['clients'] {
  if (value === undefined) return [];
  const list: unknown[] = Array.isArray(value) ? value : [value];
  return list.map((item) => {
    const [certificate, key, ...more] = strings(item, where, fail);
    if (certificate === undefined || more.length > 0)
      throw fail(`"${where}" has an entry that is not a certificate, or a certificate and its key`);
    return { certificate, key: key === undefined || key === '' ? certificate : key };
  });
}

function headers(value: unknown, where: string, fail: Fail): Readonly<Record<string, string>> {
  if (value === undefined) return {};
  if (!isTable(value)) throw fail(`"${where}" is not a table`);
  return Object.fromEntries(
    Object.entries(value).map(([name, content]) => {
      const lower = name.toLowerCase();
      if (!/^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(lower))
        throw fail(`"${where}" has the impossible name ${quote(name)}`);
      if (ownHeaders.has(lower)) throw fail(`"${where}" may not set ${quote(name)}`);
      const text = strings(content, `${where}.${name}`, fail).join(', ');
      if (!/^[\t\x20-\x7e\x80-\xff]*$/.test(text))
        throw fail(`"${where}.${name}" has characters that no header has`);
      return [lower, text];
    }),
  );
}

/** Milliseconds. */
function duration(value: unknown, where: string, fail: Fail): number | undefined {
  if (value === undefined) return undefined;
  const total = typeof value === 'string' ? parseGoDuration(value) : undefined;
  if (total === undefined) throw fail(`"${where}" is no duration such as "5s"`);
  if (total < 1 || total > 3_600_000) throw fail(`"${where}" is not between 1 ms and 1 h`);
  return total;
}
