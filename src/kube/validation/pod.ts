/** The API server's validation of a pod that is created, on the defaulted object. */
import { isIP } from 'node:net';
import { child, type FieldError, FieldErrors, index } from '../field-error.ts';
import type { Pod, PodDNSConfig, PodSpec, Toleration } from '../gen/types.gen.ts';
import { oneOf, validateContainers } from './containers.ts';
import { validateLabels, validateMetadata } from './metadata.ts';
import { dnsLabel, dnsSearchPath, dnsSubdomain, inRange, labelValue, qualifiedName } from './names.ts';
import { validatePodSecurity } from './security.ts';
import { validateVolumes } from './volumes.ts';

const RESTART_POLICIES = ['Always', 'OnFailure', 'Never'];
const DNS_POLICIES = ['ClusterFirstWithHostNet', 'ClusterFirst', 'Default', 'None'];

export const MAX_NAMESERVERS = 3;
export const MAX_SEARCH_PATHS = 32;
export const MAX_SEARCH_LENGTH = 2048;
const MAX_INT32 = 2 ** 31 - 1;
const BAD_IP = 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)';

export function validatePod(pod: Pod): FieldError[] {
  const errors = new FieldErrors();
  validateMetadata(pod.metadata ?? {}, errors);
  if (pod.spec === undefined) errors.required('spec');
  else validateSpec(pod.spec, errors);
  return errors.list;
}

function validateSpec(spec: PodSpec, errors: FieldErrors): void {
  const volumes = validateVolumes(spec.volumes ?? [], errors);
  validateContainers(spec, volumes, errors);
  if ((spec.ephemeralContainers ?? []).length > 0) {
    errors.forbidden('spec.ephemeralContainers', 'cannot be set on create');
  }
  validateHostNetwork(spec, errors);
  oneOf(spec.restartPolicy, RESTART_POLICIES, 'spec.restartPolicy', errors);
  oneOf(spec.dnsPolicy, DNS_POLICIES, 'spec.dnsPolicy', errors);
  validateLabels(spec.nodeSelector ?? {}, 'spec.nodeSelector', errors);
  validatePodSecurity(spec, spec.securityContext ?? {}, errors);
  validateDns(spec.dnsConfig, spec.dnsPolicy, errors);
  for (const [i, gate] of (spec.readinessGates ?? []).entries()) {
    const at = child(index('spec.readinessGates', i), 'conditionType');
    errors.invalidEach(at, gate.conditionType, qualifiedName(gate.conditionType));
  }
  validateHostUsers(spec, errors);
  validateHostnames(spec, errors);
  for (const field of ['serviceAccountName', 'nodeName', 'priorityClassName', 'runtimeClassName'] as const) {
    const name = spec[field];
    if (name) errors.invalidEach(child('spec', field), name, dnsSubdomain(name));
  }
  const grace = spec.terminationGracePeriodSeconds;
  if (grace !== undefined && grace < 0) {
    errors.invalid('spec.terminationGracePeriodSeconds', grace, 'must be greater than or equal to 0');
  }
  const deadline = spec.activeDeadlineSeconds;
  if (deadline !== undefined) {
    errors.invalidEach('spec.activeDeadlineSeconds', deadline, inRange(deadline, 1, MAX_INT32));
  }
  for (const [i, alias] of (spec.hostAliases ?? []).entries()) {
    const at = index('spec.hostAliases', i);
    if (isIP(alias.ip) === 0) errors.invalid(child(at, 'ip'), alias.ip, BAD_IP);
    for (const [j, hostname] of (alias.hostnames ?? []).entries()) {
      errors.invalidEach(index(child(at, 'hostnames'), j), hostname, dnsSubdomain(hostname));
    }
  }
  for (const [i, toleration] of (spec.tolerations ?? []).entries()) {
    validateToleration(toleration, index('spec.tolerations', i), errors);
  }
  if (spec.os !== undefined) oneOf(spec.os.name, ['linux', 'windows'], 'spec.os', errors);
}

function validateHostNetwork(spec: PodSpec, errors: FieldErrors): void {
  if (!spec.hostNetwork) return;
  for (const [i, container] of (spec.containers ?? []).entries()) {
    for (const [j, port] of (container.ports ?? []).entries()) {
      if (port.hostPort === port.containerPort) continue;
      const at = child(index(child(index('spec.containers', i), 'ports'), j), 'hostPort');
      errors.invalid(at, port.hostPort ?? 0, 'must match `containerPort` when `hostNetwork` is true');
    }
  }
}

function validateDns(
  config: PodDNSConfig | undefined,
  policy: string | undefined,
  errors: FieldErrors,
): void {
  const path = 'spec.dnsConfig';
  if (policy === 'None') {
    if (config === undefined)
      return errors.required(path, 'must provide `dnsConfig` when `dnsPolicy` is None');
    if ((config.nameservers ?? []).length === 0) {
      const rule = 'must provide at least one DNS nameserver when `dnsPolicy` is None';
      return errors.required(child(path, 'nameservers'), rule);
    }
  }
  if (config === undefined) return undefined;
  const nameservers = config.nameservers ?? [];
  if (nameservers.length > MAX_NAMESERVERS) {
    errors.invalid(
      child(path, 'nameservers'),
      nameservers,
      `must not have more than ${MAX_NAMESERVERS} nameservers`,
    );
  }
  for (const [i, server] of nameservers.entries()) {
    if (isIP(server) === 0) errors.invalid(index(child(path, 'nameservers'), i), server, BAD_IP);
  }
  const searches = config.searches ?? [];
  if (searches.length > MAX_SEARCH_PATHS) {
    errors.invalid(
      child(path, 'searches'),
      searches,
      `must not have more than ${MAX_SEARCH_PATHS} search paths`,
    );
  }
  if (searches.join(' ').length > MAX_SEARCH_LENGTH) {
    const rule = `must not have more than ${MAX_SEARCH_LENGTH} characters (including spaces) in the search list`;
    errors.invalid(child(path, 'searches'), searches, rule);
  }
  for (const [i, search] of searches.entries()) {
    if (search === '.') continue;
    const name = search.replace(/\.$/, '');
    errors.invalidEach(index(child(path, 'searches'), i), name, dnsSearchPath(name));
  }
  for (const [i, option] of (config.options ?? []).entries()) {
    if (!option.name) errors.required(index(child(path, 'options'), i), 'must not be empty');
  }
  return undefined;
}

function validateHostUsers(spec: PodSpec, errors: FieldErrors): void {
  if (spec.hostUsers !== false) return;
  for (const field of ['hostNetwork', 'hostPID', 'hostIPC'] as const) {
    if (spec[field]) errors.forbidden(child('spec', field), 'when `hostUsers` is false');
  }
}

function validateHostnames(spec: PodSpec, errors: FieldErrors): void {
  for (const field of ['hostname', 'subdomain'] as const) {
    const name = spec[field];
    if (name) errors.invalidEach(child('spec', field), name, dnsLabel(name));
  }
  const override = spec.hostnameOverride;
  if (override === undefined) return;
  const path = 'spec.hostnameOverride';
  if (spec.setHostnameAsFQDN) errors.forbidden(path, 'may not be specified when setHostnameAsFQDN is true');
  if (spec.hostNetwork) errors.forbidden(path, 'may not be specified when hostNetwork is true');
  if (override.length > 64) errors.tooLong(path, 64);
  errors.invalidEach(path, override, dnsSubdomain(override));
}

const TOLERATION_OPERATORS = ['Equal', 'Exists'];
const TAINT_EFFECTS = ['NoSchedule', 'PreferNoSchedule', 'NoExecute'];

function validateToleration(toleration: Toleration, path: string, errors: FieldErrors): void {
  const { key, operator = 'Equal', value = '', effect } = toleration;
  if (key) errors.invalidEach(child(path, 'key'), key, qualifiedName(key));
  else if (operator !== 'Exists') {
    const rule = 'operator must be Exists when `key` is empty, which means "match all values and all keys"';
    errors.invalid(child(path, 'operator'), operator, rule);
  }
  if (toleration.tolerationSeconds !== undefined && effect !== 'NoExecute') {
    const rule = "effect must be 'NoExecute' when `tolerationSeconds` is set";
    errors.invalid(child(path, 'effect'), effect ?? '', rule);
  }
  if (operator === 'Equal') errors.invalidEach(child(path, 'operator'), value, labelValue(value));
  else if (operator !== 'Exists')
    errors.notSupported(child(path, 'operator'), operator, TOLERATION_OPERATORS);
  else if (value !== '') {
    errors.invalid(child(path, 'operator'), value, "value must be empty when `operator` is 'Exists'");
  }
  if (effect && !TAINT_EFFECTS.includes(effect))
    errors.notSupported(child(path, 'effect'), effect, TAINT_EFFECTS);
}
