/** Security contexts of pod and container into CRI's. */
import { join } from 'node:path';
import {
  type LinuxContainerSecurityContext,
  NamespaceMode,
  type NamespaceOption,
  ProfileType,
  type SecurityProfile,
  SupplementalGroupsPolicy,
  type UserNamespace,
} from '../../cri/index.ts';
import { type BoundPod, type CheckedContainer, formatPod, type SecurityContext } from '../../kube/index.ts';
import { PodError } from '../errors.ts';

/** Who an image runs as: CRI's Image.uid and Image.username. Neither means root. */
export interface ImageUser {
  readonly uid?: number;
  readonly username?: string;
}

export interface SecurityInput {
  readonly pod: BoundPod;
  readonly container: CheckedContainer;
  readonly imageUser: ImageUser;
  readonly userNamespace: UserNamespace | undefined;
  /** Directory of Localhost profiles. */
  readonly seccompRoot: string;
  readonly seccompDefault: boolean;
  readonly thermalThrottlePaths: readonly string[];
}

export const MASKED_PATHS: readonly string[] = [
  '/proc/asound',
  '/proc/acpi',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
];
export const READ_ONLY_PATHS: readonly string[] = [
  '/proc/bus',
  '/proc/fs',
  '/proc/irq',
  '/proc/sys',
  '/proc/sysrq-trigger',
];

/** The container's settings, over the pod's where both may be set. */
export function effectiveSecurity(pod: BoundPod, container: CheckedContainer): SecurityContext {
  const { runAsUser, runAsGroup, runAsNonRoot } = pod.spec.securityContext;
  const own = Object.entries(container.securityContext ?? {}).filter(([, value]) => value !== undefined);
  return { runAsUser, runAsGroup, runAsNonRoot, ...Object.fromEntries(own) };
}

export function namespaceOptions(pod: BoundPod, userNamespace: UserNamespace | undefined): NamespaceOption {
  const { hostNetwork, hostPID, hostIPC, shareProcessNamespace } = pod.spec;
  return {
    network: hostNetwork ? NamespaceMode.NODE : NamespaceMode.POD,
    ipc: hostIPC ? NamespaceMode.NODE : NamespaceMode.POD,
    pid: hostPID ? NamespaceMode.NODE : shareProcessNamespace ? NamespaceMode.POD : NamespaceMode.CONTAINER,
    ...(userNamespace === undefined ? {} : { usernsOptions: userNamespace }),
  };
}

/** Groups beside the primary one: fsGroup, then the pod's own list. */
export function supplementalGroups(pod: BoundPod): number[] {
  const { fsGroup, supplementalGroups: groups = [] } = pod.spec.securityContext;
  return fsGroup === undefined ? [...groups] : [fsGroup, ...groups];
}

export function groupsPolicy(pod: BoundPod): SupplementalGroupsPolicy {
  const strict = pod.spec.securityContext.supplementalGroupsPolicy === 'Strict';
  return strict ? SupplementalGroupsPolicy.Strict : SupplementalGroupsPolicy.Merge;
}

/** Throws CreateContainerConfigError where runAsNonRoot does not hold, or a Localhost profile has no name. */
export function containerSecurity(input: SecurityInput): LinuxContainerSecurityContext {
  const { pod, container } = input;
  const effective = effectiveSecurity(pod, container);
  checkNonRoot(input, effective);
  const unmasked = effective.procMount === 'Unmasked';
  const context: LinuxContainerSecurityContext = {
    privileged: effective.privileged ?? false,
    readonlyRootfs: effective.readOnlyRootFilesystem ?? false,
    noNewPrivs: effective.allowPrivilegeEscalation === false,
    namespaceOptions: namespaceOptions(pod, input.userNamespace),
    supplementalGroups: supplementalGroups(pod),
    supplementalGroupsPolicy: groupsPolicy(pod),
    seccomp: seccompProfile(input),
    maskedPaths: unmasked ? [] : [...MASKED_PATHS, ...input.thermalThrottlePaths],
    readonlyPaths: unmasked ? [] : [...READ_ONLY_PATHS],
  };
  if (effective.capabilities !== undefined) {
    context.capabilities = {
      addCapabilities: effective.capabilities.add ?? [],
      dropCapabilities: effective.capabilities.drop ?? [],
    };
  }
  // Without a user of the pod's the image's own user counts, with its group: the runtime knows both.
  if (effective.runAsUser !== undefined) context.runAsUser = { value: effective.runAsUser };
  if (effective.runAsGroup !== undefined) context.runAsGroup = { value: effective.runAsGroup };
  return context;
}

function checkNonRoot({ pod, container, imageUser }: SecurityInput, effective: SecurityContext): void {
  if (!effective.runAsNonRoot) return;
  const where = `(pod: ${JSON.stringify(formatPod(pod))}, container: ${container.name})`;
  if (effective.runAsUser !== undefined) {
    if (effective.runAsUser !== 0) return;
    throw new PodError('CreateContainerConfigError', `container's runAsUser breaks non-root policy ${where}`);
  }
  const { uid, username } = imageUser;
  if (uid === undefined && username) {
    throw new PodError(
      'CreateContainerConfigError',
      `container has runAsNonRoot and image has non-numeric user (${username}), cannot verify user is non-root ${where}`,
    );
  }
  if ((uid ?? 0) === 0) {
    const message = `container has runAsNonRoot and image will run as root ${where}`;
    throw new PodError('CreateContainerConfigError', message);
  }
}

function seccompProfile({ pod, container, seccompRoot, seccompDefault }: SecurityInput): SecurityProfile {
  const profile = container.securityContext?.seccompProfile ?? pod.spec.securityContext.seccompProfile;
  if (profile === undefined) {
    return { profileType: seccompDefault ? ProfileType.RuntimeDefault : ProfileType.Unconfined };
  }
  if (profile.type === 'RuntimeDefault') return { profileType: ProfileType.RuntimeDefault };
  if (profile.type !== 'Localhost') return { profileType: ProfileType.Unconfined };
  if (!profile.localhostProfile) {
    const message = 'localhostProfile must be set if seccompProfile type is Localhost';
    throw new PodError('CreateContainerConfigError', message);
  }
  return { profileType: ProfileType.Localhost, localhostRef: join(seccompRoot, profile.localhostProfile) };
}
