import { child, type FieldErrors, key } from '../field-error.ts';
import type { ObjectMeta } from '../gen/types.gen.ts';
import { dnsLabel, dnsSubdomain, labelValue, qualifiedName } from './names.ts';

const MAX_ANNOTATIONS = 256 * 1024;

/** Metadata of a namespaced object whose name is a DNS subdomain. */
export function validateMetadata(metadata: ObjectMeta, errors: FieldErrors): void {
  if (metadata.generateName) {
    // what follows the prefix is ours, so a trailing dash is good
    const masked = metadata.generateName.replace(/-$/, 'a');
    errors.invalidEach('metadata.generateName', metadata.generateName, dnsSubdomain(masked));
  }
  if (!metadata.name) errors.required('metadata.name', 'name or generateName is required');
  else errors.invalidEach('metadata.name', metadata.name, dnsSubdomain(metadata.name));
  const namespace = metadata.namespace ?? '';
  if (namespace === '') errors.required('metadata.namespace');
  else errors.invalidEach('metadata.namespace', namespace, dnsLabel(namespace));
  if ((metadata.generation ?? 0) < 0) {
    errors.invalid('metadata.generation', metadata.generation, 'must be greater than or equal to 0');
  }
  validateLabels(metadata.labels ?? {}, 'metadata.labels', errors);
  validateAnnotations(metadata.annotations ?? {}, 'metadata.annotations', errors);
  for (const finalizer of metadata.finalizers ?? []) {
    errors.invalidEach('metadata.finalizers', finalizer, qualifiedName(finalizer));
  }
}

export function validateLabels(
  labels: Readonly<Record<string, string>>,
  path: string,
  errors: FieldErrors,
): void {
  for (const [name, value] of Object.entries(labels)) {
    errors.invalidEach(path, name, qualifiedName(name));
    errors.invalidEach(key(path, name), value, labelValue(value));
  }
}

function validateAnnotations(
  annotations: Readonly<Record<string, string>>,
  path: string,
  errors: FieldErrors,
): void {
  let size = 0;
  for (const [name, value] of Object.entries(annotations)) {
    // keys are compared without regard to case, so upper case is good there
    errors.invalidEach(path, name, qualifiedName(name.toLowerCase()));
    size += Buffer.byteLength(name) + Buffer.byteLength(value);
  }
  if (size > MAX_ANNOTATIONS) errors.tooLong(path, MAX_ANNOTATIONS);
}

/** A reference to an object by name. */
export function validateObjectName(name: string | undefined, path: string, errors: FieldErrors): void {
  if (!name) errors.required(child(path, 'name'));
  else errors.invalidEach(child(path, 'name'), name, dnsSubdomain(name));
}
