/** The files of ConfigMap, Secret, downward API and projected volumes. Pure. */
import type {
  BoundPod,
  ConfigMapVolumeSource,
  DownwardAPIVolumeFile,
  KeyToPath,
  ProjectedVolumeSource,
  SecretVolumeSource,
} from '../../kube/index.ts';
import { PodError } from '../errors.ts';
import type { NodeFacts } from '../node.ts';
import { configMapBytes, type ObjectLookup, secretBytes } from '../objects.ts';
import { fieldValue, resourceValue } from '../translate/env.ts';
import type { ProjectedFile } from './atomic-writer.ts';

const DEFAULT_MODE = 0o644;

export interface PayloadContext {
  readonly pod: BoundPod;
  readonly objects: ObjectLookup;
  readonly node: Pick<NodeFacts, 'ips' | 'allocatable'>;
}

type Files = Map<string, ProjectedFile>;

export function configMapPayload(source: ConfigMapVolumeSource, context: PayloadContext): Files {
  const configMap = context.objects.configMap(context.pod.metadata.namespace, source.name ?? '');
  return select('configmap', source, source.name ?? '', configMap && configMapBytes(configMap));
}

export function secretPayload(source: SecretVolumeSource, context: PayloadContext): Files {
  const name = source.secretName ?? '';
  const secret = context.objects.secret(context.pod.metadata.namespace, name);
  return select('secret', source, name, secret && secretBytes(secret));
}

interface Selection {
  readonly items?: readonly KeyToPath[];
  readonly optional?: boolean;
  readonly defaultMode?: number;
}

/** All keys, or those that `items` name; a missing object or key is an error unless the source is optional. */
function select(
  kind: 'configmap' | 'secret',
  source: Selection,
  name: string,
  values: ReadonlyMap<string, Buffer> | undefined,
): Files {
  const files: Files = new Map();
  if (values === undefined) {
    if (source.optional) return files;
    throw mountError(`${kind} ${JSON.stringify(name)} not found`);
  }
  const mode = source.defaultMode ?? DEFAULT_MODE;
  if ((source.items ?? []).length === 0) {
    for (const [key, data] of values) files.set(key, { data, mode });
    return files;
  }
  for (const item of source.items ?? []) {
    const data = values.get(item.key);
    if (data !== undefined) files.set(item.path, { data, mode: item.mode ?? mode });
    else if (!source.optional) {
      const missing = `references non-existent ${kind === 'configmap' ? 'config' : 'secret'} key: ${item.key}`;
      throw mountError(kind === 'configmap' ? `configmap ${missing}` : missing);
    }
  }
  return files;
}

function mountError(message: string): PodError {
  return new PodError('FailedMount', message);
}

export function downwardPayload(
  items: readonly DownwardAPIVolumeFile[],
  defaultMode: number | undefined,
  context: PayloadContext,
): Files {
  const files: Files = new Map();
  for (const item of items) {
    const text =
      item.fieldRef === undefined
        ? resourceValue(item.resourceFieldRef ?? { resource: '' }, context)
        : fieldValue(item.fieldRef, { ...context, podIps: [] });
    files.set(item.path, { data: Buffer.from(text), mode: item.mode ?? defaultMode ?? DEFAULT_MODE });
  }
  return files;
}

export function projectedPayload(source: ProjectedVolumeSource, context: PayloadContext): Files {
  const { defaultMode } = source;
  const files: Files = new Map();
  for (const { configMap, secret, downwardAPI } of source.sources ?? []) {
    const part = configMap
      ? configMapPayload({ ...configMap, defaultMode }, context)
      : secret
        ? secretPayload({ ...secret, secretName: secret.name, defaultMode }, context)
        : downwardPayload(downwardAPI?.items ?? [], defaultMode, context);
    for (const [path, file] of part) files.set(path, file);
  }
  return files;
}
