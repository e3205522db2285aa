import { child, type FieldErrors, index } from '../field-error.ts';
import type {
  Container,
  DownwardAPIVolumeFile,
  HostPathVolumeSource,
  KeyToPath,
  Volume,
  VolumeMount,
  VolumeProjection,
} from '../gen/types.gen.ts';
import { VOLUME_FIELDS, validateFieldRef, validateResourceFieldRef } from './env.ts';
import { dnsLabel } from './names.ts';
import { validateDescendingPath, validateLocalPath, validateNoBacksteps } from './paths.ts';
import { parseQuantity } from './resources.ts';

export const HOST_PATH_TYPES = [
  '',
  'BlockDevice',
  'CharDevice',
  'Directory',
  'DirectoryOrCreate',
  'File',
  'FileOrCreate',
  'Socket',
];

/** The names of the volumes that are sound, for the mounts that refer to them. */
export function validateVolumes(volumes: readonly Volume[], errors: FieldErrors): Set<string> {
  const names = new Set<string>();
  for (const [i, volume] of volumes.entries()) {
    const path = index('spec.volumes', i);
    validateSource(volume, path, errors);
    if (volume.name === '') errors.required(child(path, 'name'));
    else errors.invalidEach(child(path, 'name'), volume.name, dnsLabel(volume.name));
    if (names.has(volume.name)) errors.duplicate(child(path, 'name'), volume.name);
    // Also where its source is wrong: a second complaint about each mount would only hide the first.
    names.add(volume.name);
  }
  return names;
}

function validateSource(volume: Volume, path: string, errors: FieldErrors): void {
  const kinds = Object.keys(volume).filter((field) => field !== 'name');
  for (const kind of kinds.slice(1))
    errors.forbidden(child(path, kind), 'may not specify more than 1 volume type');
  const at = child(path, kinds[0] ?? '');
  if (volume.emptyDir?.sizeLimit !== undefined) {
    const limit = parseQuantity(volume.emptyDir.sizeLimit, child(at, 'sizeLimit'), errors);
    if (limit !== undefined && limit.nanos < 0n) {
      errors.forbidden(child(at, 'sizeLimit'), 'SizeLimit field must be a valid resource quantity');
    }
  }
  if (volume.hostPath) validateHostPath(volume.hostPath, at, errors);
  if (volume.configMap) {
    if (!volume.configMap.name) errors.required(child(at, 'name'));
    validateKeys(volume.configMap.items, volume.configMap.defaultMode, at, errors);
  }
  if (volume.secret) {
    if (!volume.secret.secretName) errors.required(child(at, 'secretName'));
    validateKeys(volume.secret.items, volume.secret.defaultMode, at, errors);
  }
  if (volume.downwardAPI) {
    validateMode(volume.downwardAPI.defaultMode, child(at, 'defaultMode'), errors);
    for (const [i, file] of (volume.downwardAPI.items ?? []).entries()) {
      validateDownwardFile(file, index(child(at, 'items'), i), errors);
    }
  }
  if (volume.projected) {
    validateMode(volume.projected.defaultMode, child(at, 'defaultMode'), errors);
    validateProjection(volume.projected.sources ?? [], at, errors);
  }
}

function validateHostPath(source: HostPathVolumeSource, path: string, errors: FieldErrors): void {
  if (source.path === '') return errors.required(child(path, 'path'));
  validateNoBacksteps(source.path, child(path, 'path'), errors);
  if (!HOST_PATH_TYPES.includes(source.type ?? '')) {
    errors.notSupported(child(path, 'type'), source.type, HOST_PATH_TYPES);
  }
  return undefined;
}

function validateMode(mode: number | undefined, path: string, errors: FieldErrors): void {
  if (mode !== undefined && (mode < 0 || mode > 0o777)) {
    errors.invalid(path, mode, 'must be a number between 0 and 0777 (octal), both inclusive');
  }
}

function validateKeys(
  items: readonly KeyToPath[] | undefined,
  defaultMode: number | undefined,
  path: string,
  errors: FieldErrors,
): void {
  validateMode(defaultMode, child(path, 'defaultMode'), errors);
  for (const [i, item] of (items ?? []).entries()) {
    const at = index(child(path, 'items'), i);
    if (item.key === '') errors.required(child(at, 'key'));
    if (item.path === '') errors.required(child(at, 'path'));
    validateLocalPath(item.path, child(at, 'path'), errors);
    validateMode(item.mode, child(at, 'mode'), errors);
  }
}

function validateDownwardFile(file: DownwardAPIVolumeFile, path: string, errors: FieldErrors): void {
  if (file.path === '') errors.required(child(path, 'path'));
  validateLocalPath(file.path, child(path, 'path'), errors);
  validateMode(file.mode, child(path, 'mode'), errors);
  if (file.fieldRef) {
    validateFieldRef(file.fieldRef, VOLUME_FIELDS, child(path, 'fieldRef'), errors);
    if (file.resourceFieldRef) {
      errors.invalid(path, 'resource', 'fieldRef and resourceFieldRef can not be specified simultaneously');
    }
  } else if (file.resourceFieldRef) {
    validateResourceFieldRef(file.resourceFieldRef, true, child(path, 'resourceFieldRef'), errors);
  } else errors.required(path, 'one of fieldRef and resourceFieldRef is required');
}

function validateProjection(sources: readonly VolumeProjection[], path: string, errors: FieldErrors): void {
  const paths = new Set<string>();
  for (const [i, source] of sources.entries()) {
    const at = index(child(path, 'sources'), i);
    const kinds = Object.keys(source);
    for (const kind of kinds.slice(1))
      errors.forbidden(child(at, kind), 'may not specify more than 1 volume type');
    const kind = kinds[0];
    if (kind === undefined) errors.required(at, 'must specify a volume type');
    const from = child(at, kind ?? '');
    for (const reference of [source.configMap, source.secret]) {
      if (reference === undefined) continue;
      if (!reference.name) errors.required(child(from, 'name'));
      validateKeys(reference.items, undefined, from, errors);
    }
    for (const [j, file] of (source.downwardAPI?.items ?? []).entries()) {
      validateDownwardFile(file, index(child(from, 'items'), j), errors);
    }
    const items = source.configMap?.items ?? source.secret?.items ?? source.downwardAPI?.items ?? [];
    for (const { path: file } of items) {
      if (paths.has(file)) errors.invalid(path, file, 'conflicting duplicate paths');
      paths.add(file);
    }
  }
}

const PROPAGATIONS = ['Bidirectional', 'HostToContainer', 'None'];
const RECURSIVE_READ_ONLY = ['Disabled', 'Enabled', 'IfPossible'];

export function validateMounts(
  container: Container,
  volumes: ReadonlySet<string>,
  path: string,
  errors: FieldErrors,
): void {
  const points = new Set<string>();
  for (const [i, mount] of (container.volumeMounts ?? []).entries()) {
    const at = index(child(path, 'volumeMounts'), i);
    if (mount.name === '') errors.required(child(at, 'name'));
    if (!volumes.has(mount.name)) errors.notFound(child(at, 'name'), mount.name);
    if (mount.mountPath === '') errors.required(child(at, 'mountPath'));
    if (points.has(mount.mountPath))
      errors.invalid(child(at, 'mountPath'), mount.mountPath, 'must be unique');
    points.add(mount.mountPath);
    if (mount.subPath) validateDescendingPath(mount.subPath, child(at, 'subPath'), errors);
    if (mount.subPathExpr) {
      if (mount.subPath) {
        const rule = 'subPathExpr and subPath are mutually exclusive';
        errors.invalid(child(at, 'subPathExpr'), mount.subPathExpr, rule);
      }
      validateDescendingPath(mount.subPathExpr, child(at, 'subPathExpr'), errors);
    }
    validatePropagation(mount, container.securityContext?.privileged === true, at, errors);
  }
}

function validatePropagation(
  mount: VolumeMount,
  privileged: boolean,
  path: string,
  errors: FieldErrors,
): void {
  const { mountPropagation: propagation, recursiveReadOnly: recursive } = mount;
  if (propagation !== undefined) {
    const at = child(path, 'mountPropagation');
    if (!PROPAGATIONS.includes(propagation)) errors.notSupported(at, propagation, PROPAGATIONS);
    if (propagation === 'Bidirectional' && !privileged) {
      errors.forbidden(at, 'Bidirectional mount propagation is available only to privileged containers');
    }
  }
  if (recursive === undefined || recursive === 'Disabled') return;
  const at = child(path, 'recursiveReadOnly');
  if (!RECURSIVE_READ_ONLY.includes(recursive))
    return errors.notSupported(at, recursive, RECURSIVE_READ_ONLY);
  if (!mount.readOnly) errors.forbidden(at, 'may only be specified when readOnly is true');
  if (propagation !== undefined && propagation !== 'None') {
    errors.forbidden(at, 'may only be specified when mountPropagation is None or not specified');
  }
  return undefined;
}
