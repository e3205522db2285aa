import { child, type FieldErrors, index } from '../field-error.ts';
import type { Container, ContainerPort, PodSpec } from '../gen/types.gen.ts';
import { isSidecar } from '../types.ts';
import { validateEnv, validateEnvFrom } from './env.ts';
import { type ProbeKind, validateLifecycle, validateProbe } from './handlers.ts';
import { dnsLabel, portName, portNumber } from './names.ts';
import { validateResources } from './resources.ts';
import { validateContainerSecurity } from './security.ts';
import { validateMounts } from './volumes.ts';

const PROBES: readonly ProbeKind[] = ['livenessProbe', 'readinessProbe', 'startupProbe'];
const PROTOCOLS = ['SCTP', 'TCP', 'UDP'];
const PULL_POLICIES = ['Always', 'IfNotPresent', 'Never'];
const MESSAGE_POLICIES = ['File', 'FallbackToLogsOnError'];
const RESTART_POLICIES = ['Always', 'Never', 'OnFailure'];

export function validateContainers(spec: PodSpec, volumes: ReadonlySet<string>, errors: FieldErrors): void {
  const names = new Set<string>();
  const containers = spec.containers ?? [];
  if (containers.length === 0) errors.required('spec.containers');
  for (const [i, container] of containers.entries()) {
    const path = index('spec.containers', i);
    validateContainer(container, spec, volumes, path, errors);
    validateName(container.name, names, path, errors);
    validateHandlers(container, spec, path, errors);
    if (container.restartPolicy !== undefined && !RESTART_POLICIES.includes(container.restartPolicy)) {
      errors.notSupported(child(path, 'restartPolicy'), container.restartPolicy, RESTART_POLICIES);
    }
  }
  validateHostPorts(containers, 'spec.containers', 0, errors);
  for (const [i, container] of (spec.initContainers ?? []).entries()) {
    const path = index('spec.initContainers', i);
    validateContainer(container, spec, volumes, path, errors);
    validateName(container.name, names, path, errors);
    if (container.restartPolicy !== undefined && !RESTART_POLICIES.includes(container.restartPolicy)) {
      errors.notSupported(child(path, 'restartPolicy'), container.restartPolicy, RESTART_POLICIES);
    }
    if (isSidecar(container)) validateHandlers(container, spec, path, errors);
    else {
      for (const field of ['lifecycle', ...PROBES] as const) {
        if (container[field] === undefined) continue;
        errors.forbidden(
          child(path, field),
          'may not be set for init containers without restartPolicy=Always',
        );
      }
    }
    // Init containers run one after another, so each conflicts only with itself.
    validateHostPorts([container], 'spec.initContainers', i, errors);
  }
}

function validateName(name: string, names: Set<string>, path: string, errors: FieldErrors): void {
  if (names.has(name)) errors.duplicate(child(path, 'name'), name);
  names.add(name);
}

function validateHandlers(container: Container, spec: PodSpec, path: string, errors: FieldErrors): void {
  const grace = spec.terminationGracePeriodSeconds ?? 0;
  if (container.lifecycle) {
    validateLifecycle(container.lifecycle, grace, spec.os?.name, child(path, 'lifecycle'), errors);
  }
  for (const kind of PROBES) validateProbe(kind, container[kind], grace, path, errors);
}

function validateContainer(
  container: Container,
  spec: PodSpec,
  volumes: ReadonlySet<string>,
  path: string,
  errors: FieldErrors,
): void {
  if (container.name === '') errors.required(child(path, 'name'));
  else errors.invalidEach(child(path, 'name'), container.name, dnsLabel(container.name));
  if (!container.image) errors.required(child(path, 'image'));
  else if (container.image !== container.image.trim()) {
    errors.invalid(child(path, 'image'), container.image, 'must not have leading or trailing whitespace');
  }
  oneOf(
    container.terminationMessagePolicy,
    MESSAGE_POLICIES,
    child(path, 'terminationMessagePolicy'),
    errors,
  );
  if (container.image)
    oneOf(container.imagePullPolicy, PULL_POLICIES, child(path, 'imagePullPolicy'), errors);
  validatePorts(container.ports ?? [], child(path, 'ports'), errors);
  validateEnv(container.env ?? [], child(path, 'env'), errors);
  validateEnvFrom(container.envFrom ?? [], child(path, 'envFrom'), errors);
  validateMounts(container, volumes, path, errors);
  validateResources(container.resources ?? {}, child(path, 'resources'), errors);
  if (container.securityContext) {
    const at = child(path, 'securityContext');
    validateContainerSecurity(container.securityContext, spec.hostUsers !== false, at, errors);
  }
}

export function oneOf(
  value: string | undefined,
  supported: readonly string[],
  path: string,
  errors: FieldErrors,
): void {
  if (!value) errors.required(path);
  else if (!supported.includes(value)) errors.notSupported(path, value, supported);
}

function validatePorts(ports: readonly ContainerPort[], path: string, errors: FieldErrors): void {
  const names = new Set<string>();
  for (const [i, port] of ports.entries()) {
    const at = index(path, i);
    if (port.name) {
      const reasons = portName(port.name);
      errors.invalidEach(child(at, 'name'), port.name, reasons);
      if (reasons.length === 0 && names.has(port.name)) errors.duplicate(child(at, 'name'), port.name);
      names.add(port.name);
    }
    if (port.containerPort === 0) errors.required(child(at, 'containerPort'));
    else errors.invalidEach(child(at, 'containerPort'), port.containerPort, portNumber(port.containerPort));
    if (port.hostPort) errors.invalidEach(child(at, 'hostPort'), port.hostPort, portNumber(port.hostPort));
    oneOf(port.protocol, PROTOCOLS, child(at, 'protocol'), errors);
  }
}

function validateHostPorts(
  containers: readonly Container[],
  path: string,
  from: number,
  errors: FieldErrors,
): void {
  const used = new Set<string>();
  for (const [i, container] of containers.entries()) {
    for (const [j, port] of (container.ports ?? []).entries()) {
      if (!port.hostPort) continue;
      const name = `${port.protocol}/${port.hostIP ?? ''}/${port.hostPort}`;
      if (used.has(name)) {
        errors.duplicate(child(index(child(index(path, from + i), 'ports'), j), 'hostPort'), name);
      }
      used.add(name);
    }
  }
}
