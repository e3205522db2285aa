/** The two notations of registry credentials: docker's config.json of today, and .dockercfg of before 2014. Pure. */
import type { AuthConfig } from '../../cri/index.ts';
import type { KeyringEntry, SecretSource } from './keyring.ts';

/** Throws an Error that says what is wrong, and nothing of the content. */
export function dockerConfigEntries(
  text: string,
  kind: 'config.json' | 'dockercfg',
  source?: SecretSource,
): KeyringEntry[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new Error('it is not JSON');
  }
  const table = kind === 'config.json' ? field(parsed, 'auths') : parsed;
  if (table === undefined || table === null) return [];
  if (typeof table !== 'object' || Array.isArray(table)) throw new Error('it has no table of registries');
  return Object.entries(table).map(([location, entry]) => ({
    location,
    auth: authOf(location, entry),
    source,
  }));
}

function authOf(location: string, entry: unknown): AuthConfig {
  const text = (name: string): string | undefined => {
    const value = field(entry, name);
    if (value === undefined || value === null || value === '') return undefined;
    if (typeof value !== 'string')
      throw new Error(`"${name}" of ${JSON.stringify(location)} is not a string`);
    return value;
  };
  const packed = text('auth');
  const decoded = packed === undefined ? undefined : Buffer.from(packed, 'base64').toString('utf8');
  const colon = decoded?.indexOf(':') ?? -1;
  if (decoded !== undefined && colon < 0)
    throw new Error(`"auth" of ${JSON.stringify(location)} is not base64 of USER:PASSWORD`);
  const username = decoded?.slice(0, colon) ?? text('username');
  const password = decoded?.slice(colon + 1) ?? text('password');
  const identityToken = text('identitytoken');
  const registryToken = text('registrytoken');
  return {
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(identityToken === undefined ? {} : { identityToken }),
    ...(registryToken === undefined ? {} : { registryToken }),
  };
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined;
}
