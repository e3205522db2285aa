/** The API server's validation of ConfigMap and Secret, on the defaulted object. */
import { type FieldError, FieldErrors, key } from '../field-error.ts';
import type { ConfigMap, Secret } from '../gen/types.gen.ts';
import { validateMetadata } from './metadata.ts';
import { configKey } from './names.ts';

/** Bytes of all values together. */
const MAX_SIZE = 1024 * 1024;

export function validateConfigMap(configMap: ConfigMap): FieldError[] {
  const errors = new FieldErrors();
  validateMetadata(configMap.metadata ?? {}, errors);
  const binary = configMap.binaryData ?? {};
  let size = 0;
  for (const [name, value] of Object.entries(configMap.data ?? {})) {
    const at = key('data', name);
    errors.invalidEach(at, name, configKey(name));
    if (Object.hasOwn(binary, name)) errors.invalid(at, name, 'duplicate of key present in binaryData');
    size += Buffer.byteLength(value);
  }
  size += validateBinary(binary, 'binaryData', errors);
  if (size > MAX_SIZE) errors.tooLong('data', MAX_SIZE);
  return errors.list;
}

/** Keys that a secret of a type has to hold. */
const REQUIRED_KEYS: Readonly<Record<string, readonly string[]>> = {
  'kubernetes.io/dockercfg': ['.dockercfg'],
  'kubernetes.io/dockerconfigjson': ['.dockerconfigjson'],
  'kubernetes.io/ssh-auth': ['ssh-privatekey'],
  'kubernetes.io/tls': ['tls.crt', 'tls.key'],
};

export function validateSecret(secret: Secret): FieldError[] {
  const errors = new FieldErrors();
  validateMetadata(secret.metadata ?? {}, errors);
  const data = secret.data ?? {};
  if (validateBinary(data, 'data', errors) > MAX_SIZE) errors.tooLong('data', MAX_SIZE);
  const type = secret.type ?? '';
  for (const name of REQUIRED_KEYS[type] ?? []) {
    if (!Object.hasOwn(data, name)) errors.required(key('data', name));
    else if (type.startsWith('kubernetes.io/docker') && !isJsonObject(data[name])) {
      errors.invalid(key('data', name), '<secret contents redacted>', 'must be a JSON object');
    }
  }
  if (
    type === 'kubernetes.io/basic-auth' &&
    !Object.hasOwn(data, 'username') &&
    !Object.hasOwn(data, 'password')
  ) {
    errors.required(key('data', 'username'));
    errors.required(key('data', 'password'));
  }
  if (type === 'kubernetes.io/service-account-token') {
    const annotation = 'kubernetes.io/service-account.name';
    if (!secret.metadata?.annotations?.[annotation]) errors.required(key('metadata.annotations', annotation));
  }
  return errors.list;
}

function validateBinary(data: Readonly<Record<string, string>>, path: string, errors: FieldErrors): number {
  let size = 0;
  for (const [name, value] of Object.entries(data)) {
    const at = key(path, name);
    errors.invalidEach(at, name, configKey(name));
    const bytes = decodeBase64(value);
    // The value itself is not shown: it may be a secret that was not encoded.
    if (bytes === undefined) errors.invalid(at, '<redacted>', 'must be base64');
    else size += bytes.length;
  }
  return size;
}

/** Standard base64 with its padding, line breaks ignored; undefined where it is something else. */
export function decodeBase64(text: string): Buffer | undefined {
  const compact = text.replace(/[\r\n]/g, '');
  if (compact.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(compact)) return undefined;
  return Buffer.from(compact, 'base64');
}

function isJsonObject(base64: string | undefined): boolean {
  const bytes = decodeBase64(base64 ?? '');
  if (bytes === undefined) return false;
  try {
    const value: unknown = JSON.parse(bytes.toString());
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}
