import { child, type FieldErrors, index } from '../field-error.ts';
import type { PodSecurityContext, PodSpec, SeccompProfile, SecurityContext } from '../gen/types.gen.ts';
import { SYSCTL_PATTERN, unixId } from './names.ts';
import { validateDescendingPath } from './paths.ts';

const PROC_MOUNTS = ['Default', 'Unmasked'];
const SECCOMP_TYPES = ['Localhost', 'RuntimeDefault', 'Unconfined'];
const MAX_SYSCTL = 253;

/** Sysctls by the namespace that holds them; a name ending in a dot is a prefix. */
const NAMESPACED_SYSCTLS: readonly (readonly [prefix: string, namespace: 'ipc' | 'net'])[] = [
  ['kernel.shm', 'ipc'],
  ['kernel.msg', 'ipc'],
  ['kernel.sem', 'ipc'],
  ['fs.mqueue.', 'ipc'],
  ['net.', 'net'],
];

/** `net/ipv4/conf/eth0.1/x` written with dots, as sysctl(8) converts it. */
export function dottedSysctl(name: string): string {
  const separator = /[./]/.exec(name)?.[0];
  if (separator !== '/') return name;
  return name.replace(/[./]/g, (found) => (found === '/' ? '.' : '/'));
}

export function sysctlNamespace(name: string): 'ipc' | 'net' | undefined {
  const dotted = dottedSysctl(name);
  return NAMESPACED_SYSCTLS.find(([prefix]) => dotted.startsWith(prefix))?.[1];
}

export function validatePodSecurity(spec: PodSpec, context: PodSecurityContext, errors: FieldErrors): void {
  const path = 'spec.securityContext';
  for (const field of ['fsGroup', 'runAsUser', 'runAsGroup'] as const) {
    const id = context[field];
    if (id !== undefined) errors.invalidEach(child(path, field), id, unixId(id));
  }
  for (const [i, id] of (context.supplementalGroups ?? []).entries()) {
    errors.invalidEach(index(child(path, 'supplementalGroups'), i), id, unixId(id));
  }
  if (spec.shareProcessNamespace && spec.hostPID) {
    errors.invalid(
      'spec.shareProcessNamespace',
      true,
      'ShareProcessNamespace and HostPID cannot both be enabled',
    );
  }
  validateSysctls(spec, context, errors);
  const changePolicy = context.fsGroupChangePolicy;
  if (changePolicy !== undefined && changePolicy !== 'Always' && changePolicy !== 'OnRootMismatch') {
    errors.notSupported(child(path, 'fsGroupChangePolicy'), changePolicy, ['Always', 'OnRootMismatch']);
  }
  const groupsPolicy = context.supplementalGroupsPolicy;
  if (groupsPolicy !== undefined && groupsPolicy !== 'Merge' && groupsPolicy !== 'Strict') {
    errors.notSupported(child(path, 'supplementalGroupsPolicy'), groupsPolicy, ['Merge', 'Strict']);
  }
  validateSeccomp(context.seccompProfile, child(path, 'seccompProfile'), errors);
}

function validateSysctls(spec: PodSpec, context: PodSecurityContext, errors: FieldErrors): void {
  const seen = new Set<string>();
  for (const [i, sysctl] of (context.sysctls ?? []).entries()) {
    const at = child(index('spec.securityContext.sysctls', i), 'name');
    if (sysctl.name === '') errors.required(at);
    else if (sysctl.name.length > MAX_SYSCTL || !SYSCTL_PATTERN.test(sysctl.name)) {
      const rule = `must have at most ${MAX_SYSCTL} characters and match regex ${SYSCTL_PATTERN.source}`;
      errors.invalid(at, sysctl.name, rule);
    } else if (seen.has(sysctl.name)) errors.duplicate(at, sysctl.name);
    seen.add(sysctl.name);
    const namespace = sysctlNamespace(sysctl.name);
    if (spec.hostNetwork && namespace === 'net') {
      errors.invalid(at, sysctl.name, "may not be specified when 'hostNetwork' is true");
    }
    if (spec.hostIPC && namespace === 'ipc') {
      errors.invalid(at, sysctl.name, "may not be specified when 'hostIPC' is true");
    }
  }
}

function validateSeccomp(profile: SeccompProfile | undefined, path: string, errors: FieldErrors): void {
  if (profile === undefined) return;
  if (profile.type === '')
    errors.required(child(path, 'type'), 'type is required when seccompProfile is set');
  else if (!SECCOMP_TYPES.includes(profile.type))
    errors.notSupported(child(path, 'type'), profile.type, SECCOMP_TYPES);
  const at = child(path, 'localhostProfile');
  if (profile.type === 'Localhost') {
    // An empty name would be the whole directory, hence no profile at all (CVE-2023-2431).
    if (!profile.localhostProfile) errors.required(at, 'must be set when seccomp type is Localhost');
    else validateDescendingPath(profile.localhostProfile, at, errors);
  } else if (profile.localhostProfile !== undefined) {
    errors.invalid(at, profile.localhostProfile, 'can only be set when seccomp type is Localhost');
  }
}

export function validateContainerSecurity(
  context: SecurityContext,
  hostUsers: boolean,
  path: string,
  errors: FieldErrors,
): void {
  for (const field of ['runAsUser', 'runAsGroup'] as const) {
    const id = context[field];
    if (id !== undefined) errors.invalidEach(child(path, field), id, unixId(id));
  }
  if (context.procMount !== undefined) {
    const at = child(path, 'procMount');
    if (!PROC_MOUNTS.includes(context.procMount)) errors.notSupported(at, context.procMount, PROC_MOUNTS);
    else if (hostUsers && context.procMount === 'Unmasked') {
      errors.invalid(at, context.procMount, '`hostUsers` must be false to use `Unmasked`');
    }
  }
  validateSeccomp(context.seccompProfile, child(path, 'seccompProfile'), errors);
  if (context.allowPrivilegeEscalation === false) {
    if (context.privileged) {
      errors.invalid(
        path,
        context,
        'cannot set `allowPrivilegeEscalation` to false and `privileged` to true',
      );
    }
    if ((context.capabilities?.add ?? []).some((name) => name === 'CAP_SYS_ADMIN' || name === 'SYS_ADMIN')) {
      errors.invalid(
        path,
        context,
        'cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN',
      );
    }
  }
}
