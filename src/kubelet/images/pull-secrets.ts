/** Registry credentials of a pod's imagePullSecrets. Pure. */
import { messageOf } from '../../base/index.ts';
import type { BoundPod, Secret } from '../../kube/index.ts';
import { type ObjectLookup, secretBytes } from '../objects.ts';
import { dockerConfigEntries } from './docker-config.ts';
import type { KeyringEntry } from './keyring.ts';

export interface PullSecrets {
  readonly entries: readonly KeyringEntry[];
  /** Names of secrets that are not there. */
  readonly missing: readonly string[];
  /** Secrets that hold no credentials that can be read, and why. */
  readonly invalid: readonly { readonly name: string; readonly reason: string }[];
}

export function pullSecrets(pod: BoundPod, objects: ObjectLookup): PullSecrets {
  const entries: KeyringEntry[] = [];
  const missing: string[] = [];
  const invalid: { name: string; reason: string }[] = [];
  for (const { name } of pod.spec.imagePullSecrets ?? []) {
    if (!name) continue;
    const secret = objects.secret(pod.metadata.namespace, name);
    if (secret === undefined) {
      missing.push(name);
      continue;
    }
    try {
      entries.push(...entriesOf(secret, pod.metadata.namespace, name));
    } catch (error) {
      invalid.push({ name, reason: messageOf(error) });
    }
  }
  return { entries, missing, invalid };
}

/** A secret says by its type which key counts; one without a type is read by the key that it has. */
const KEYS = {
  'kubernetes.io/dockerconfigjson': '.dockerconfigjson',
  'kubernetes.io/dockercfg': '.dockercfg',
} as const;

function entriesOf(secret: Secret, namespace: string, name: string): KeyringEntry[] {
  const data = secretBytes(secret);
  const { type } = secret;
  const untyped = type === undefined || type === '' || type === 'Opaque';
  const key = untyped
    ? Object.values(KEYS).find((one) => data.has(one))
    : Object.hasOwn(KEYS, type)
      ? KEYS[type as keyof typeof KEYS]
      : undefined;
  if (key === undefined)
    throw new Error(
      `it is of type ${JSON.stringify(type ?? 'Opaque')}, which holds no registry's credentials`,
    );
  const text = data.get(key)?.toString('utf8') ?? '';
  if (text === '') throw new Error(`it has no "${key}"`);
  const source = { uid: secret.metadata?.uid ?? '', namespace, name };
  return dockerConfigEntries(text, key === '.dockercfg' ? 'dockercfg' : 'config.json', source);
}
