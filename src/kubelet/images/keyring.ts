/** Credentials by what they are for, with the rules of upstream's credentialprovider.DockerKeyring. Pure. */
import { createHash } from 'node:crypto';
import type { AuthConfig } from '../../cri/index.ts';

/** Where credentials come from, where not every pod of the node may use them. */
export interface SecretSource {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
}

export interface KeyringEntry {
  /** `[scheme://]host[:port][/path]`; the host may hold `*`, `?` and `[…]` between its dots. */
  readonly location: string;
  readonly auth: AuthConfig;
  /** Undefined for credentials of the node. */
  readonly source?: SecretSource | undefined;
}

export interface Credential {
  readonly auth: AuthConfig;
  /** Tells equal credentials from changed ones, without telling them. */
  readonly hash: string;
  readonly source: SecretSource | undefined;
}

/** Docker Hub's old name, under which everybody's credentials for it are kept. */
const defaultRegistry = 'index.docker.io';

/** The credentials that fit a repository (`host/path`, no tag), the most specific location first. */
export function lookup(entries: readonly KeyringEntry[], repository: string): Credential[] {
  const keyed = entries.flatMap((entry) => {
    const key = keyOf(entry.location);
    return key === undefined ? [] : [{ key, entry }];
  });
  const order = (a: { key: string }, b: { key: string }): number =>
    a.key < b.key ? 1 : a.key > b.key ? -1 : 0;
  const fitting = keyed.filter(({ key }) => locationMatches(key, repository)).sort(order);
  const found =
    fitting.length > 0 || !repository.startsWith('docker.io/')
      ? fitting
      : keyed.filter(({ key }) => key === defaultRegistry);
  return found.map(({ entry: { auth, source } }) => ({ auth, hash: hashOf(auth), source }));
}

function hashOf({ username, password, identityToken, registryToken }: AuthConfig): string {
  const parts = [username, password, identityToken, registryToken].map((part) => part ?? null);
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

/** Host and path: without scheme, `/v1` or `/v2`, and slashes at the end. */
function keyOf(location: string): string | undefined {
  const parts = split(location.replace(/^https?:\/\//, ''));
  if (parts === undefined) return undefined;
  const path = parts.path.replace(/^\/v[12]\//, '/').replace(/^\/v[12]$/, '');
  return parts.host + parts.port + (path === '/' ? '' : path);
}

interface Location {
  readonly host: string;
  /** With its colon. */
  readonly port: string;
  readonly path: string;
}

function split(location: string): Location | undefined {
  const match = /^(\[[^\]/]*\]|[^:/[\]]*(?:\[[^\]/]*\][^:/[\]]*)*)(:\d*)?(\/.*)?$/.exec(location);
  if (match === null || match[1] === '' || match[1] === undefined) return undefined;
  // an IPv6 address, not a pattern's class
  const host = match[1].replace(/^\[([0-9a-fA-F]*:[0-9a-fA-F:.]*)\]$/, '$1');
  return { host, port: match[2] ?? '', path: match[3] ?? '' };
}

/**
 * True where `target` (host, port and path) is within `glob`: the same port, as many parts of the host's name, each
 * fitting its pattern, and a path that begins with the glob's, letter by letter as upstream compares it.
 */
export function locationMatches(glob: string, target: string): boolean {
  const wanted = split(glob);
  const given = split(target);
  if (wanted === undefined || given === undefined || wanted.port !== given.port) return false;
  const patterns = wanted.host.split('.');
  const names = given.host.split('.');
  if (patterns.length !== names.length || !given.path.startsWith(wanted.path)) return false;
  return patterns.every((pattern, i) => partMatches(pattern, names[i] ?? ''));
}

/** Go's filepath.Match on one part: `*`, `?`, `[a-z]`, `[^a-z]`, `\`. What is malformed matches nothing. */
function partMatches(pattern: string, name: string): boolean {
  let expression = '';
  for (let i = 0; i < pattern.length; i += 1) {
    const char = pattern[i] ?? '';
    if (char === '*') {
      if (!expression.endsWith('.*')) expression += '.*';
    } else if (char === '?') expression += '.';
    else if (char === '[') {
      const end = pattern.indexOf(']', i + 2);
      if (end < 0) return false;
      expression += `[${pattern.slice(i + 1, end).replace(/[\\[]/g, '\\$&')}]`;
      i = end;
    } else {
      if (char === '\\') i += 1;
      expression += (pattern[i] ?? '').replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
    }
  }
  try {
    return new RegExp(`^${expression}$`).test(name);
  } catch {
    return false; // [z-a]
  }
}

/** `registry/path` of an image as it is written, without tag and digest; Docker Hub where it names no registry. */
export function repositoryOf(image: string): string {
  const name = withoutTag(image);
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  if (first === 'index.docker.io') return repositoryOf(`docker.io${name.slice(slash)}`);
  if (first === 'docker.io' && !name.slice(slash + 1).includes('/'))
    return `docker.io/library${name.slice(slash)}`;
  const hasRegistry = /[.:]/.test(first) || first === 'localhost';
  return hasRegistry ? name : `docker.io/${slash < 0 ? `library/${name}` : name}`;
}

/** An image as it is written, without tag and digest. */
export function withoutTag(image: string): string {
  return (image.split('@')[0] ?? '').replace(/:[^/:]+$/, '');
}
