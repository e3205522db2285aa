/** Registry credentials of a pod's imagePullSecrets, by docker's matching rules. Pure. */
import type { AuthConfig } from '../cri/index.ts';
import type { BoundPod, Secret } from '../kube/index.ts';
import { type ObjectLookup, secretBytes } from './objects.ts';

export interface PullCredentials {
  /** Those that fit the image, the most specific first. */
  readonly auths: readonly AuthConfig[];
  /** Names of secrets that are not there. */
  readonly missing: readonly string[];
}

interface Entry {
  readonly username?: unknown;
  readonly password?: unknown;
  readonly auth?: unknown;
  readonly identitytoken?: unknown;
  readonly registrytoken?: unknown;
}

export function pullCredentials(pod: BoundPod, image: string, objects: ObjectLookup): PullCredentials {
  const missing: string[] = [];
  const found: { readonly key: string; readonly auth: AuthConfig }[] = [];
  for (const { name } of pod.spec.imagePullSecrets ?? []) {
    if (!name) continue;
    const secret = objects.secret(pod.metadata.namespace, name);
    if (secret === undefined) missing.push(name);
    else
      for (const [key, entry] of entriesOf(secret))
        if (fits(key, image)) found.push({ key, auth: authOf(key, entry) });
  }
  found.sort((a, b) => bare(b.key).length - bare(a.key).length);
  return { auths: found.map(({ auth }) => auth), missing };
}

function entriesOf(secret: Secret): [string, Entry][] {
  const data = secretBytes(secret);
  const json = data.get('.dockerconfigjson');
  const text = (json ?? data.get('.dockercfg'))?.toString() ?? '{}';
  try {
    const parsed = JSON.parse(text) as { auths?: Record<string, Entry> } & Record<string, Entry>;
    return Object.entries((json === undefined ? parsed : parsed.auths) ?? {});
  } catch {
    return [];
  }
}

function authOf(serverAddress: string, entry: Entry): AuthConfig {
  const text = (value: unknown) => (typeof value === 'string' && value !== '' ? value : undefined);
  const auth = text(entry.auth);
  const decoded = auth === undefined ? '' : Buffer.from(auth, 'base64').toString();
  const colon = decoded.indexOf(':');
  const username = text(entry.username) ?? (colon < 0 ? undefined : decoded.slice(0, colon));
  const password = text(entry.password) ?? (colon < 0 ? undefined : decoded.slice(colon + 1));
  const identityToken = text(entry.identitytoken);
  const registryToken = text(entry.registrytoken);
  return {
    serverAddress,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(identityToken === undefined ? {} : { identityToken }),
    ...(registryToken === undefined ? {} : { registryToken }),
  };
}

const DOCKER_HUB = new Set([
  'docker.io',
  'index.docker.io',
  'registry-1.docker.io',
  'registry.hub.docker.com',
]);

/** Without scheme, `/v1/` or `/v2/` and slashes at the end. */
function bare(key: string): string {
  return key
    .replace(/^https?:\/\//, '')
    .replace(/\/v[12]\/?$/, '')
    .replace(/\/+$/, '');
}

/** `host[:port][/path]` against an image's repository: host parts may hold `*`, the path is a prefix by parts. */
function fits(key: string, image: string): boolean {
  const [keyHost = '', ...keyPath] = bare(key).split('/');
  const [host, ...path] = repositoryOf(image).split('/');
  if (host === undefined || !hostFits(keyHost, host)) return false;
  return keyPath.every((part, i) => part === path[i]);
}

function hostFits(pattern: string, host: string): boolean {
  if (DOCKER_HUB.has(pattern) && DOCKER_HUB.has(host)) return true;
  const wanted = pattern.split('.');
  const given = host.split('.');
  if (wanted.length !== given.length) return false;
  return wanted.every((part, i) => {
    const expression = part.split('*').map(escapeExpression).join('.*');
    return new RegExp(`^${expression}$`).test(given[i] ?? '');
  });
}

function escapeExpression(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}

/** `registry/path` of an image as it is written; Docker Hub where it names no registry. */
function repositoryOf(image: string): string {
  const name = (image.split('@')[0] ?? '').replace(/:[^/:]+$/, '');
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  const hasRegistry = first.includes('.') || first.includes(':') || first === 'localhost';
  return hasRegistry ? name : `docker.io/${slash < 0 ? `library/${name}` : name}`;
}
