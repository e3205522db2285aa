import { child, type FieldErrors, index } from '../field-error.ts';
import type {
  ConfigMapKeySelector,
  EnvFromSource,
  EnvVar,
  ObjectFieldSelector,
  ResourceFieldSelector,
} from '../gen/types.gen.ts';
import { validateObjectName } from './metadata.ts';
import { configKey, dnsSubdomain, envName, qualifiedName } from './names.ts';
import { parseQuantity } from './resources.ts';

/** What `fieldRef` may name in a variable; labels and annotations with a key besides. */
const ENV_FIELDS = [
  'metadata.name',
  'metadata.namespace',
  'metadata.uid',
  'spec.nodeName',
  'spec.serviceAccountName',
  'status.hostIP',
  'status.hostIPs',
  'status.podIP',
  'status.podIPs',
];

/** What `fieldRef` may name in a downward API volume. */
export const VOLUME_FIELDS = [
  'metadata.annotations',
  'metadata.labels',
  'metadata.name',
  'metadata.namespace',
  'metadata.uid',
];

const RESOURCES = ['cpu', 'ephemeral-storage', 'memory']
  .flatMap((name) => [`limits.${name}`, `requests.${name}`])
  .sort();
const CPU_DIVISORS = new Set(['1m', '1']);
const BYTE_DIVISORS = ['1', '1k', '1M', '1G', '1T', '1P', '1E', '1Ki', '1Mi', '1Gi', '1Ti', '1Pi', '1Ei'];

export function validateEnv(env: readonly EnvVar[], path: string, errors: FieldErrors): void {
  for (const [i, variable] of env.entries()) {
    const at = index(path, i);
    if (variable.name === '') errors.required(child(at, 'name'));
    else errors.invalidEach(child(at, 'name'), variable.name, envName(variable.name));
    if (variable.valueFrom !== undefined) validateValueFrom(variable, child(at, 'valueFrom'), errors);
  }
}

function validateValueFrom(variable: EnvVar, path: string, errors: FieldErrors): void {
  const from = variable.valueFrom ?? {};
  if (from.fieldRef) validateFieldRef(from.fieldRef, ENV_FIELDS, child(path, 'fieldRef'), errors);
  if (from.resourceFieldRef) {
    validateResourceFieldRef(from.resourceFieldRef, false, child(path, 'resourceFieldRef'), errors);
  }
  if (from.configMapKeyRef) validateKeyRef(from.configMapKeyRef, child(path, 'configMapKeyRef'), errors);
  if (from.secretKeyRef) validateKeyRef(from.secretKeyRef, child(path, 'secretKeyRef'), errors);
  const sources = Object.keys(from).length;
  if (sources === 0) {
    errors.invalid(
      path,
      '',
      'must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`',
    );
  } else if (variable.value) {
    errors.invalid(path, '', 'may not be specified when `value` is not empty');
  } else if (sources > 1) {
    errors.invalid(path, '', 'may not have more than one field specified at a time');
  }
}

/** Splits `metadata.labels['key']` into its path and key; undefined where it has no key. */
export function splitSubscript(fieldPath: string): readonly [path: string, subscript: string] | undefined {
  const match = /^([^[]+)\['(.*)'\]$/s.exec(fieldPath);
  return match ? [match[1] ?? '', match[2] ?? ''] : undefined;
}

export function validateFieldRef(
  ref: ObjectFieldSelector,
  allowed: readonly string[],
  path: string,
  errors: FieldErrors,
): void {
  const at = child(path, 'fieldPath');
  if (ref.fieldPath === '') return errors.required(at);
  if (ref.apiVersion !== undefined && ref.apiVersion !== 'v1') {
    return errors.invalid(
      at,
      ref.fieldPath,
      `error converting fieldPath: unsupported pod version: ${ref.apiVersion}`,
    );
  }
  const [field, subscript] = splitSubscript(ref.fieldPath) ?? [ref.fieldPath];
  if (subscript === undefined) {
    if (!allowed.includes(field)) errors.notSupported(at, field, allowed);
  } else if (field === 'metadata.annotations') {
    errors.invalidEach(path, subscript, qualifiedName(subscript.toLowerCase()));
  } else if (field === 'metadata.labels') {
    errors.invalidEach(path, subscript, qualifiedName(subscript));
  } else {
    errors.invalid(path, field, 'does not support subscript');
  }
}

export function validateResourceFieldRef(
  ref: ResourceFieldSelector,
  needsContainer: boolean,
  path: string,
  errors: FieldErrors,
): void {
  const { resource } = ref;
  if (needsContainer && !ref.containerName) errors.required(child(path, 'containerName'));
  else if (resource === '') errors.required(child(path, 'resource'));
  else if (!RESOURCES.includes(resource) && !/^(limits|requests)\.hugepages-/.test(resource)) {
    errors.notSupported(child(path, 'resource'), resource, RESOURCES);
  }
  if (ref.divisor === undefined) return;
  const at = child(path, 'divisor');
  const divisor = parseQuantity(ref.divisor, at, errors);
  if (divisor === undefined || divisor.isZero) return;
  if (resource.endsWith('.cpu')) {
    if (!CPU_DIVISORS.has(divisor.toString())) {
      errors.invalid(at, resource, "only divisor's values 1m and 1 are supported with the cpu resource");
    }
  } else if (!BYTE_DIVISORS.includes(divisor.toString())) {
    const kind = resource.includes('memory')
      ? 'memory'
      : resource.includes('hugepages')
        ? 'hugepages'
        : 'local ephemeral storage';
    errors.invalid(
      at,
      resource,
      `only divisor's values ${BYTE_DIVISORS.join(', ')} are supported with the ${kind} resource`,
    );
  }
}

function validateKeyRef(ref: ConfigMapKeySelector, path: string, errors: FieldErrors): void {
  errors.invalidEach(child(path, 'name'), ref.name ?? '', dnsSubdomain(ref.name ?? ''));
  if (ref.key === '') errors.required(child(path, 'key'));
  else errors.invalidEach(child(path, 'key'), ref.key, configKey(ref.key));
}

export function validateEnvFrom(sources: readonly EnvFromSource[], path: string, errors: FieldErrors): void {
  for (const [i, source] of sources.entries()) {
    const at = index(path, i);
    if (source.prefix) errors.invalidEach(child(at, 'prefix'), source.prefix, envName(source.prefix));
    if (source.configMapRef) validateObjectName(source.configMapRef.name, child(at, 'configMapRef'), errors);
    if (source.secretRef) validateObjectName(source.secretRef.name, child(at, 'secretRef'), errors);
    const count = (source.configMapRef ? 1 : 0) + (source.secretRef ? 1 : 0);
    if (count === 0) errors.invalid(at, '', 'must specify one of: `configMapRef` or `secretRef`');
    if (count > 1) errors.invalid(at, '', 'may not have more than one field specified at a time');
  }
}
