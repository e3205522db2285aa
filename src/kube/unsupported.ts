/**
 * What a valid pod may ask for and this version cannot do. Each is named with its path, none is ignored. What has no
 * effect on a single machine (tolerations, topology spread, the scheduler's name) is accepted.
 */
import { child, type FieldError, index, key } from './field-error.ts';
import type { Container, PodSpec, Volume } from './gen/types.gen.ts';
import type { CheckedPod } from './types.ts';
import { isHugePages } from './validation/resources.ts';

const KIND = 'not supported by this version of Nodelet';

/** Fields of a pod's spec that are refused whenever they are set, with the reason where it is not obvious. */
const SPEC_FIELDS: Readonly<Record<string, string>> = {
  affinity: 'there is no scheduler; use nodeSelector',
  overhead: '',
  readinessGates: 'nothing here sets the conditions that they wait for',
  resourceClaims: '',
  resources: 'set resources of the containers',
  runtimeClassName: '',
  schedulingGates: 'there is no scheduler',
  schedulingGroup: 'there is no scheduler',
};

const SECURITY_FIELDS: Readonly<Record<string, string>> = {
  seLinuxOptions: '',
  seLinuxChangePolicy: '',
  windowsOptions: '',
};

const CONTAINER_FIELDS: Readonly<Record<string, string>> = {
  volumeDevices: '',
  restartPolicyRules: '',
};

const VOLUME_KINDS = new Set([
  'name',
  'emptyDir',
  'hostPath',
  'configMap',
  'secret',
  'downwardAPI',
  'projected',
]);
const PROJECTIONS = new Set(['configMap', 'secret', 'downwardAPI']);
const MEDIA = new Set([undefined, '', 'Memory']);
const PRIORITY_CLASSES = new Set(['', 'system-node-critical', 'system-cluster-critical']);

class Refusals {
  readonly list: FieldError[] = [];

  add(path: string, detail?: string): void {
    this.list.push({ path, kind: KIND, ...(detail ? { detail } : {}) });
  }

  /** Every field of `table` that `object` sets to something. */
  fields(object: object, table: Readonly<Record<string, string>>, path: string): void {
    for (const [field, value] of Object.entries(object)) {
      const detail = table[field];
      if (detail === undefined || isEmpty(value)) continue;
      this.add(child(path, field), detail);
    }
  }
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === '') return true;
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}

export function unsupported(pod: CheckedPod): FieldError[] {
  const refusals = new Refusals();
  for (const name of Object.keys(pod.metadata.annotations ?? {})) {
    if (name.startsWith('container.apparmor.security.beta.kubernetes.io/')) {
      refusals.add(key('metadata.annotations', name));
    }
  }
  refuseSpec(pod.spec, refusals);
  for (const list of ['initContainers', 'containers'] as const) {
    for (const [i, container] of (pod.spec[list] ?? []).entries()) {
      refuseContainer(container, index(child('spec', list), i), refusals);
    }
  }
  for (const [i, volume] of (pod.spec.volumes ?? []).entries()) {
    refuseVolume(volume, index('spec.volumes', i), refusals);
  }
  return refusals.list;
}

function refuseSpec(spec: PodSpec, refusals: Refusals): void {
  refusals.fields(spec, SPEC_FIELDS, 'spec');
  refusals.fields(spec.securityContext ?? {}, SECURITY_FIELDS, 'spec.securityContext');
  refuseAppArmor(spec.securityContext?.appArmorProfile?.type, 'spec.securityContext', refusals);
  if (spec.os?.name === 'windows') refusals.add('spec.os.name');
  if (spec.serviceAccountName && spec.automountServiceAccountToken !== false) {
    refusals.add(
      'spec.serviceAccountName',
      'there is no API server that gives a token; set automountServiceAccountToken to false to go without',
    );
  }
  if (!PRIORITY_CLASSES.has(spec.priorityClassName ?? '')) {
    refusals.add('spec.priorityClassName', 'only system-node-critical and system-cluster-critical are known');
  }
}

function refuseAppArmor(type: string | undefined, path: string, refusals: Refusals): void {
  if (type !== undefined && type !== 'Unconfined') refusals.add(child(path, 'appArmorProfile'));
}

function refuseContainer(container: Container, path: string, refusals: Refusals): void {
  refusals.fields(container, CONTAINER_FIELDS, path);
  const security = child(path, 'securityContext');
  refusals.fields(container.securityContext ?? {}, SECURITY_FIELDS, security);
  refuseAppArmor(container.securityContext?.appArmorProfile?.type, security, refusals);
  for (const [i, variable] of (container.env ?? []).entries()) {
    if (variable.valueFrom?.fileKeyRef === undefined) continue;
    refusals.add(child(child(index(child(path, 'env'), i), 'valueFrom'), 'fileKeyRef'));
  }
  for (const probe of ['livenessProbe', 'readinessProbe', 'startupProbe'] as const) {
    if (container[probe]?.grpc !== undefined) refusals.add(child(child(path, probe), 'grpc'));
  }
  for (const hook of ['postStart', 'preStop'] as const) {
    if (container.lifecycle?.[hook]?.tcpSocket === undefined) continue;
    refusals.add(
      child(child(child(path, 'lifecycle'), hook), 'tcpSocket'),
      'a hook of this kind does nothing in Kubernetes either',
    );
  }
  const resources = child(path, 'resources');
  if ((container.resources?.claims ?? []).length > 0) refusals.add(child(resources, 'claims'));
  for (const name of Object.keys(container.resources?.limits ?? {})) {
    if (name === 'cpu' || name === 'memory' || isHugePages(name)) continue;
    refusals.add(key(child(resources, 'limits'), name));
  }
}

function refuseVolume(volume: Volume, path: string, refusals: Refusals): void {
  for (const kind of Object.keys(volume)) if (!VOLUME_KINDS.has(kind)) refusals.add(child(path, kind));
  if (volume.emptyDir && !MEDIA.has(volume.emptyDir.medium)) {
    refusals.add(
      child(child(path, 'emptyDir'), 'medium'),
      `medium ${JSON.stringify(volume.emptyDir.medium)}`,
    );
  }
  for (const [i, source] of (volume.projected?.sources ?? []).entries()) {
    for (const kind of Object.keys(source)) {
      if (!PROJECTIONS.has(kind))
        refusals.add(child(index(child(child(path, 'projected'), 'sources'), i), kind));
    }
  }
}
