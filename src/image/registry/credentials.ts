/**
 * Credentials from docker's config.json and podman's auth.json: a helper that is named for the registry
 * (`credHelpers`), the one for all of them (`credsStore`), then the `auths` table.
 */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { hasCode, NodeletError } from '../../base/index.ts';
import type { Reference } from '../reference.ts';
import type { PullAuth } from '../types.ts';
import { askHelper } from './credential-helper.ts';

/** What credentials are for: a repository of a registry. */
export type CredentialScope = Pick<Reference, 'domain' | 'path'>;

/** $REGISTRY_AUTH_FILE, else $DOCKER_CONFIG/config.json, else ~/.docker/config.json. */
export function credentialFile(env: NodeJS.ProcessEnv = process.env): string {
  const own = env.REGISTRY_AUTH_FILE;
  if (own !== undefined && own !== '') return own;
  const folder = env.DOCKER_CONFIG;
  return join(folder !== undefined && folder !== '' ? folder : join(homedir(), '.docker'), 'config.json');
}

/** Largest file that is read. */
const maxFile = 4 * 1024 * 1024;

/**
 * What the file, and the helpers that it names, say for a repository; undefined where they say nothing or the file is
 * absent. Throws CREDENTIALS_INVALID and CREDENTIAL_HELPER_FAILED.
 */
export async function readCredentials(
  file: string,
  scope: CredentialScope,
  signal?: AbortSignal,
): Promise<PullAuth | undefined> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw new NodeletError('CREDENTIALS_INVALID', `cannot read credentials from "${file}"`, { cause: error });
  }
  if (text.length > maxFile) {
    throw new NodeletError(
      'CREDENTIALS_INVALID',
      `cannot read credentials from "${file}": it has more than ${maxFile} bytes`,
    );
  }
  const document = parseFile(text, file);
  for (const { name, server } of helpersFor(document, scope, file)) {
    const found = await askHelper(name, server, signal);
    if (found !== undefined) return found;
  }
  return findIn(document, scope, file);
}

/** Docker Hub's name in docker's own files. */
const hubServer = 'https://index.docker.io/v1/';

/** The helpers to ask for a repository, and by which name of the registry, in order. Pure. */
export function helpersFor(
  document: unknown,
  scope: CredentialScope,
  file: string,
): { readonly name: string; readonly server: string }[] {
  const fail = (reason: string): NodeletError =>
    new NodeletError('CREDENTIALS_INVALID', `cannot read credentials from "${file}": ${reason}`);
  const server = scope.domain === 'docker.io' ? hubServer : scope.domain;
  const helpers = field(document, 'credHelpers');
  const store = field(document, 'credsStore');
  const found: string[] = [];
  if (helpers !== undefined && helpers !== null) {
    if (typeof helpers !== 'object') throw fail('"credHelpers" is not an object');
    for (const [key, name] of Object.entries(helpers)) {
      if (normaliseKey(key) !== scope.domain) continue;
      if (typeof name !== 'string') throw fail(`"credHelpers" has a value for "${key}" that is not a string`);
      if (name !== '') found.push(name);
    }
  }
  if (store !== undefined && store !== null && store !== '') {
    if (typeof store !== 'string') throw fail('"credsStore" is not a string');
    found.push(store);
  }
  return [...new Set(found)].map((name) => ({ name, server }));
}

function parseFile(json: string, file: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    throw new NodeletError('CREDENTIALS_INVALID', `cannot read credentials from "${file}": it is not JSON`);
  }
}

/** The `auths` of a file's text. The most specific key wins: `host/a/b`, then `host/a`, then `host`. Pure. */
export function findCredentials(
  json: string,
  scope: CredentialScope,
  file = 'config.json',
): PullAuth | undefined {
  return findIn(parseFile(json, file), scope, file);
}

function findIn(parsed: unknown, scope: CredentialScope, file: string): PullAuth | undefined {
  const fail = (reason: string): NodeletError =>
    new NodeletError('CREDENTIALS_INVALID', `cannot read credentials from "${file}": ${reason}`);
  const auths = field(parsed, 'auths');
  if (auths === undefined || auths === null) return undefined;
  if (typeof auths !== 'object') throw fail('"auths" is not an object');
  const table = new Map<string, unknown>();
  for (const [key, value] of Object.entries(auths)) {
    const normal = normaliseKey(key);
    // An exact key beats one that only normalises to the same host.
    if (!table.has(normal) || normal === key) table.set(normal, value);
  }
  for (const key of candidates(scope)) {
    const entry = table.get(key);
    if (entry === undefined) continue;
    const auth = readEntry(entry, (reason) => fail(`the entry for "${key}" ${reason}`));
    if (auth !== undefined) return auth;
  }
  return undefined;
}

function candidates(scope: CredentialScope): string[] {
  const parts = scope.path.split('/');
  const keys = parts.map((_, i) => `${scope.domain}/${parts.slice(0, parts.length - i).join('/')}`);
  return [...keys, scope.domain];
}

/** `https://index.docker.io/v1/` is docker.io; scheme, API path and trailing slash do not count. */
function normaliseKey(key: string): string {
  const bare = key
    .replace(/^https?:\/\//i, '')
    .replace(/\/(v1|v2)\/?$/, '')
    .replace(/\/+$/, '');
  return /^(index|registry-1)\.docker\.io$/.test(bare) ? 'docker.io' : bare;
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined;
}

function readEntry(entry: unknown, fail: (reason: string) => NodeletError): PullAuth | undefined {
  const text = (name: string): string | undefined => {
    const value = field(entry, name);
    if (value === undefined || value === null || value === '') return undefined;
    if (typeof value !== 'string') throw fail(`has a "${name}" that is not a string`);
    return value;
  };
  const identityToken = text('identitytoken');
  if (identityToken !== undefined) return { identityToken };
  const registryToken = text('registrytoken');
  if (registryToken !== undefined) return { registryToken };
  const packed = text('auth');
  if (packed !== undefined) return decodeBasic(packed, fail);
  const username = text('username');
  const password = text('password');
  return username === undefined || password === undefined ? undefined : { username, password };
}

/** Undoes `base64(user:password)`. */
export function decodeBasic(packed: string, fail: (reason: string) => NodeletError): PullAuth {
  const plain = Buffer.from(packed, 'base64').toString('utf8').replace(/\0+$/, '');
  const colon = plain.indexOf(':');
  if (colon < 1) throw fail('has an "auth" that is not base64 of USER:PASSWORD');
  return { username: plain.slice(0, colon), password: plain.slice(colon + 1) };
}
