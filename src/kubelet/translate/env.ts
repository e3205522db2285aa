/** A container's environment: envFrom first, then env, in the order they stand; what comes later wins. */
import {
  type BoundPod,
  type CheckedContainer,
  type EnvFromSource,
  type EnvVar,
  type ObjectFieldSelector,
  Quantity,
  type ResourceFieldSelector,
  resourcesOf,
  splitSubscript,
} from '../../kube/index.ts';
import { PodError } from '../errors.ts';
import type { NodeFacts } from '../node.ts';
import { configMapBytes, type ObjectLookup, secretBytes } from '../objects.ts';
import { expand } from './expand.ts';

export interface EnvInput {
  readonly pod: BoundPod;
  readonly container: CheckedContainer;
  readonly objects: ObjectLookup;
  readonly node: Pick<NodeFacts, 'ips' | 'allocatable'>;
  /** The pod's addresses, the first one preferred. */
  readonly podIps: readonly string[];
}

/** Throws CreateContainerConfigError where something that is not optional is missing. */
export function resolveEnv(input: EnvInput): Map<string, string> {
  const values = new Map<string, string>();
  for (const source of input.container.envFrom ?? []) addAll(values, source, input);
  for (const variable of input.container.env ?? []) {
    const value = variable.value
      ? expand(variable.value, (name) => values.get(name))
      : variable.valueFrom === undefined
        ? ''
        : fromSource(variable, input);
    if (value === undefined) continue;
    // a variable that is set again takes its new place
    values.delete(variable.name);
    values.set(variable.name, value);
  }
  return values;
}

function configError(message: string): PodError {
  return new PodError('CreateContainerConfigError', message);
}

function addAll(values: Map<string, string>, source: EnvFromSource, { pod, objects }: EnvInput): void {
  const { namespace } = pod.metadata;
  const reference = source.configMapRef ?? source.secretRef;
  const name = reference?.name ?? '';
  const found = source.configMapRef
    ? stringsOf(objects.configMap(namespace, name)?.data)
    : secretStrings(objects, namespace, name);
  if (found === undefined) {
    if (reference?.optional) return;
    throw configError(`${source.configMapRef ? 'configmap' : 'secret'} ${JSON.stringify(name)} not found`);
  }
  for (const [key, value] of found) values.set(`${source.prefix ?? ''}${key}`, value);
}

function stringsOf(data: Readonly<Record<string, string>> | undefined): Map<string, string> | undefined {
  return data === undefined ? undefined : new Map(Object.entries(data));
}

function secretStrings(
  objects: ObjectLookup,
  namespace: string,
  name: string,
): Map<string, string> | undefined {
  const secret = objects.secret(namespace, name);
  if (secret === undefined) return undefined;
  return new Map([...secretBytes(secret)].map(([key, bytes]) => [key, bytes.toString()]));
}

/** Undefined where an optional key is missing: the variable is then not set at all. */
function fromSource(variable: EnvVar, input: EnvInput): string | undefined {
  const { pod, objects } = input;
  const { namespace } = pod.metadata;
  const from = variable.valueFrom ?? {};
  if (from.fieldRef) return fieldValue(from.fieldRef, input);
  if (from.resourceFieldRef) return resourceValue(from.resourceFieldRef, input);
  if (from.configMapKeyRef) {
    const { name = '', key, optional } = from.configMapKeyRef;
    const configMap = objects.configMap(namespace, name);
    return keyValue('ConfigMap', namespace, name, key, optional, configMap && configMapBytes(configMap));
  }
  if (from.secretKeyRef) {
    const { name = '', key, optional } = from.secretKeyRef;
    const secret = objects.secret(namespace, name);
    return keyValue('Secret', namespace, name, key, optional, secret && secretBytes(secret));
  }
  throw configError(`environment variable ${JSON.stringify(variable.name)} has no source that can be used`);
}

function keyValue(
  kind: 'ConfigMap' | 'Secret',
  namespace: string,
  name: string,
  key: string,
  optional: boolean | undefined,
  values: ReadonlyMap<string, Buffer> | undefined,
): string | undefined {
  const value = values?.get(key);
  if (value !== undefined) return value.toString();
  if (optional) return undefined;
  if (values === undefined) throw configError(`${kind.toLowerCase()} ${JSON.stringify(name)} not found`);
  throw configError(`couldn't find key ${key} in ${kind} ${namespace}/${name}`);
}

/** The value of a field of the pod, as a variable or a file of a downward API volume shows it. */
export function fieldValue(
  ref: ObjectFieldSelector,
  { pod, node, podIps }: Pick<EnvInput, 'pod' | 'node' | 'podIps'>,
): string {
  const { metadata, spec } = pod;
  const [path, subscript] = splitSubscript(ref.fieldPath) ?? [ref.fieldPath];
  if (subscript !== undefined) {
    const map = path === 'metadata.labels' ? metadata.labels : metadata.annotations;
    return map?.[subscript] ?? '';
  }
  switch (path) {
    case 'metadata.name':
      return metadata.name;
    case 'metadata.namespace':
      return metadata.namespace;
    case 'metadata.uid':
      return metadata.uid;
    case 'metadata.labels':
      return formatMap(metadata.labels ?? {});
    case 'metadata.annotations':
      return formatMap(metadata.annotations ?? {});
    case 'spec.nodeName':
      return spec.nodeName ?? '';
    case 'spec.serviceAccountName':
      return spec.serviceAccountName ?? '';
    case 'status.hostIP':
      return node.ips[0] ?? '';
    case 'status.hostIPs':
      return node.ips.join(',');
    case 'status.podIP':
      return podIps[0] ?? '';
    case 'status.podIPs':
      return podIps.join(',');
    default:
      throw configError(`unsupported fieldPath: ${ref.fieldPath}`);
  }
}

/** `key="value"` a line, sorted by key. */
function formatMap(map: Readonly<Record<string, string>>): string {
  return Object.entries(map)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join('\n');
}

/** A resource of a container in units of the divisor, rounded up; a limit that is not set is what the node has. */
export function resourceValue(
  ref: ResourceFieldSelector,
  { pod, container, node }: Pick<EnvInput, 'pod' | 'node'> & { readonly container?: CheckedContainer },
): string {
  const all = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
  const target = ref.containerName ? all.find((each) => each.name === ref.containerName) : container;
  if (target === undefined) throw configError(`container ${ref.containerName ?? ''} not found`);
  const dot = ref.resource.indexOf('.');
  const list = ref.resource.slice(0, dot);
  const name = ref.resource.slice(dot + 1);
  const value = resourcesOf(target, list === 'limits' ? 'limits' : 'requests').get(name) ?? Quantity.zero;
  const effective = list === 'limits' && value.isZero ? nodeResource(name, node) : value;
  const divisor = Quantity.parse(ref.divisor ?? '0');
  const by = divisor.isZero ? Quantity.units(1) : divisor;
  // cpu counts in thousandths, the rest in whole units; both round up
  const [amount, unit] =
    name === 'cpu' ? [effective.milliValue(), by.milliValue()] : [effective.value(), by.value()];
  return String((amount + unit - 1n) / unit);
}

function nodeResource(name: string, node: Pick<NodeFacts, 'allocatable'>): Quantity {
  if (name === 'cpu') return Quantity.milli(node.allocatable.milliCpu);
  if (name === 'memory') return Quantity.units(node.allocatable.memory);
  if (name === 'ephemeral-storage') return Quantity.units(node.allocatable.ephemeralStorage);
  return Quantity.zero;
}
