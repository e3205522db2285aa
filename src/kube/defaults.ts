/** The API server's defaulting of Pod, ConfigMap and Secret. Changes the object that it is given. */
import type {
  ConfigMap,
  Container,
  EnvVar,
  LifecycleHandler,
  Pod,
  PodSpec,
  Probe,
  ResourceRequirements,
  Secret,
  Volume,
} from './gen/types.gen.ts';
import { Quantity } from './quantity.ts';

const DEFAULT_MODE = 0o644;

export function defaultPod(pod: Pod): void {
  pod.metadata ??= {};
  // What only the system says of a pod; a manifest that was read back from a cluster has it.
  delete pod.status;
  for (const field of [
    'creationTimestamp',
    'deletionTimestamp',
    'deletionGracePeriodSeconds',
    'managedFields',
  ] as const)
    delete pod.metadata[field];
  if (!pod.metadata.namespace) pod.metadata.namespace = 'default';
  const { spec } = pod;
  if (spec === undefined) return;
  spec.restartPolicy ||= 'Always';
  spec.dnsPolicy ||= 'ClusterFirst';
  spec.securityContext ??= {};
  spec.terminationGracePeriodSeconds ??= 30;
  spec.schedulerName ||= 'default-scheduler';
  spec.enableServiceLinks ??= true;
  if (spec.serviceAccount && !spec.serviceAccountName) spec.serviceAccountName = spec.serviceAccount;
  for (const volume of spec.volumes ?? []) defaultVolume(volume);
  for (const container of allContainers(spec)) defaultContainer(container, spec.hostNetwork === true);
}

function allContainers(spec: PodSpec): Container[] {
  return [...(spec.initContainers ?? []), ...(spec.containers ?? [])];
}

function defaultContainer(container: Container, hostNetwork: boolean): void {
  if (container.image) container.imagePullPolicy ||= defaultPullPolicy(container.image);
  container.terminationMessagePath ||= '/dev/termination-log';
  container.terminationMessagePolicy ||= 'File';
  for (const port of container.ports ?? []) {
    port.protocol ||= 'TCP';
    if (hostNetwork && !port.hostPort) port.hostPort = port.containerPort;
  }
  for (const variable of container.env ?? []) defaultEnv(variable);
  for (const probe of [container.livenessProbe, container.readinessProbe, container.startupProbe]) {
    if (probe !== undefined) defaultProbe(probe);
  }
  for (const handler of [container.lifecycle?.postStart, container.lifecycle?.preStop]) {
    if (handler !== undefined) defaultHandler(handler);
  }
  container.resources ??= {};
  defaultResources(container.resources);
}

/** Always for the tag `latest`, spoken or not, else IfNotPresent. */
export function defaultPullPolicy(image: string): 'Always' | 'IfNotPresent' {
  const [name = '', digest] = image.split('@', 2);
  const tag = /:([^/:]+)$/.exec(name)?.[1];
  return tag === 'latest' || (tag === undefined && digest === undefined) ? 'Always' : 'IfNotPresent';
}

function defaultEnv(variable: EnvVar): void {
  const fieldRef = variable.valueFrom?.fieldRef;
  if (fieldRef !== undefined) fieldRef.apiVersion ||= 'v1';
}

function defaultProbe(probe: Probe): void {
  probe.timeoutSeconds ||= 1;
  probe.periodSeconds ||= 10;
  probe.successThreshold ||= 1;
  probe.failureThreshold ||= 3;
  defaultHandler(probe);
}

function defaultHandler(handler: LifecycleHandler | Probe): void {
  if (handler.httpGet === undefined) return;
  handler.httpGet.path ||= '/';
  handler.httpGet.scheme ||= 'HTTP';
}

/** Requests that are absent become the limits; nothing is finer than a thousandth. Unparsable values are left alone. */
function defaultResources(resources: ResourceRequirements): void {
  for (const list of [resources.limits, resources.requests]) {
    for (const [name, value] of Object.entries(list ?? {})) {
      try {
        if (list !== undefined) list[name] = Quantity.parse(value).roundUpToMilli().toString();
      } catch {
        // reported by validation, with its path
      }
    }
  }
  if (resources.limits === undefined) return;
  resources.requests = { ...resources.limits, ...resources.requests };
}

const VOLUME_SOURCES_WITH_MODE = ['configMap', 'secret', 'downwardAPI', 'projected'] as const;

function defaultVolume(volume: Volume): void {
  const sources = Object.keys(volume).filter((key) => key !== 'name');
  if (sources.length === 0) volume.emptyDir = {};
  for (const kind of VOLUME_SOURCES_WITH_MODE) {
    const source = volume[kind];
    if (source !== undefined) source.defaultMode ??= DEFAULT_MODE;
  }
  if (volume.hostPath !== undefined) volume.hostPath.type ??= '';
  const items = [
    ...(volume.downwardAPI?.items ?? []),
    ...(volume.projected?.sources ?? []).flatMap((source) => source.downwardAPI?.items ?? []),
  ];
  for (const item of items) if (item.fieldRef !== undefined) item.fieldRef.apiVersion ||= 'v1';
}

export function defaultConfigMap(configMap: ConfigMap): void {
  configMap.metadata ??= {};
  if (!configMap.metadata.namespace) configMap.metadata.namespace = 'default';
  configMap.data ??= {};
}

/** `stringData` is moved into `data`, where it wins. */
export function defaultSecret(secret: Secret): void {
  secret.metadata ??= {};
  if (!secret.metadata.namespace) secret.metadata.namespace = 'default';
  secret.type ||= 'Opaque';
  secret.data = Object.fromEntries([
    ...Object.entries(secret.data ?? {}),
    ...Object.entries(secret.stringData ?? {}).map(([key, value]) => [
      key,
      Buffer.from(value).toString('base64'),
    ]),
  ]);
  delete secret.stringData;
}
