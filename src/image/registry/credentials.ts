/**
 * Credentials from docker's config.json and podman's auth.json: the `auths` table. Credential helpers are programs
 * and not started here; where one would be needed, that is said.
 */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { hasCode, NodeletError } from '../../base/index.ts';
import type { Reference } from '../reference.ts';
import type { PullAuth } from '../types.ts';

/** $REGISTRY_AUTH_FILE, else $DOCKER_CONFIG/config.json, else ~/.docker/config.json. */
export function credentialFile(env: NodeJS.ProcessEnv = process.env): string {
  const own = env.REGISTRY_AUTH_FILE;
  if (own !== undefined && own !== '') return own;
  const folder = env.DOCKER_CONFIG;
  return join(folder !== undefined && folder !== '' ? folder : join(homedir(), '.docker'), 'config.json');
}

/** What the file says for the reference; undefined where it says nothing or is absent. */
export function readCredentials(file: string, reference: Reference): PullAuth | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw new NodeletError('CREDENTIALS_INVALID', `cannot read credentials from "${file}"`, { cause: error });
  }
  return findCredentials(text, reference, file);
}

/** Pure part of `readCredentials`. The most specific key wins: `host/a/b`, then `host/a`, then `host`. */
export function findCredentials(
  json: string,
  reference: Reference,
  file = 'config.json',
): PullAuth | undefined {
  const fail = (reason: string): NodeletError =>
    new NodeletError('CREDENTIALS_INVALID', `cannot read credentials from "${file}": ${reason}`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    throw fail('it is not JSON');
  }
  const auths = field(parsed, 'auths');
  if (auths === undefined || auths === null) return undefined;
  if (typeof auths !== 'object') throw fail('"auths" is not an object');
  const table = new Map<string, unknown>();
  for (const [key, value] of Object.entries(auths)) {
    const normal = normaliseKey(key);
    // An exact key beats one that only normalises to the same host.
    if (!table.has(normal) || normal === key) table.set(normal, value);
  }
  for (const key of candidates(reference)) {
    const entry = table.get(key);
    if (entry === undefined) continue;
    const auth = readEntry(entry, (reason) => fail(`the entry for "${key}" ${reason}`));
    if (auth !== undefined) return auth;
  }
  return undefined;
}

function candidates(reference: Reference): string[] {
  const parts = reference.path.split('/');
  const keys = parts.map((_, i) => `${reference.domain}/${parts.slice(0, parts.length - i).join('/')}`);
  return [...keys, reference.domain];
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
