/** Volume mounts of a container into CRI's mounts. Pure: the volumes stand already. */
import {
  type LocalMount,
  MountPropagation,
  type MountSourceType,
  type UserNamespace,
} from '../../cri/index.ts';
import type { CheckedContainer, VolumeMount } from '../../kube/index.ts';
import { PodError } from '../errors.ts';
import { isRecursive } from '../status/containers.ts';
import { expandStrictly } from './expand.ts';

/** A volume that stands on the host. */
export interface MountedVolume {
  readonly path: string;
  /** True for what the kubelet itself writes: ConfigMaps, Secrets and the like. */
  readonly readOnly: boolean;
  /** What it has to be when it is mounted. */
  readonly type?: MountSourceType;
}

export interface MountInput {
  readonly container: CheckedContainer;
  readonly volumes: ReadonlyMap<string, MountedVolume>;
  readonly env: ReadonlyMap<string, string>;
  /** Undefined where the pod has no address and is not in the host's network. */
  readonly etcHosts: string | undefined;
  readonly terminationLog: string | undefined;
  readonly userNamespace: UserNamespace | undefined;
}

const ETC_HOSTS = '/etc/hosts';

const PROPAGATION: Readonly<Record<string, MountPropagation>> = {
  None: MountPropagation.PROPAGATION_PRIVATE,
  HostToContainer: MountPropagation.PROPAGATION_HOST_TO_CONTAINER,
  Bidirectional: MountPropagation.PROPAGATION_BIDIRECTIONAL,
};

/** Throws CreateContainerConfigError where a volume or a variable of a subPathExpr is missing. */
export function containerMounts(input: MountInput): LocalMount[] {
  const { container, etcHosts, terminationLog, userNamespace } = input;
  const mounts = (container.volumeMounts ?? []).map((mount) => volumeMount(mount, input));
  const taken = (path: string) => (container.volumeMounts ?? []).some((mount) => mount.mountPath === path);
  if (etcHosts !== undefined && !taken(ETC_HOSTS))
    mounts.push({ containerPath: ETC_HOSTS, hostPath: etcHosts });
  if (terminationLog !== undefined) {
    mounts.push({ containerPath: absolute(container.terminationMessagePath), hostPath: terminationLog });
  }
  if (userNamespace === undefined) return mounts;
  const { uids = [], gids = [] } = userNamespace;
  return mounts.map((mount) => ({ ...mount, uidMappings: uids, gidMappings: gids }));
}

function absolute(path: string): string {
  return path.startsWith('/') ? path : `/${path}`;
}

function volumeMount(mount: VolumeMount, { container, volumes, env }: MountInput): LocalMount {
  const volume = volumes.get(mount.name);
  if (volume === undefined) {
    const message = `cannot find volume ${JSON.stringify(mount.name)} to mount into container ${JSON.stringify(container.name)}`;
    throw new PodError('CreateContainerConfigError', message);
  }
  const subPath = subPathOf(mount, env);
  return {
    containerPath: absolute(mount.mountPath),
    hostPath: volume.path,
    readonly: mount.readOnly === true || volume.readOnly,
    recursiveReadOnly: isRecursive(mount.recursiveReadOnly),
    propagation: PROPAGATION[mount.mountPropagation ?? 'None'] ?? MountPropagation.PROPAGATION_PRIVATE,
    ...(subPath === '' ? {} : { subPath }),
    ...(volume.type === undefined ? {} : { sourceType: volume.type }),
  };
}

function subPathOf(mount: VolumeMount, env: ReadonlyMap<string, string>): string {
  let path = mount.subPath ?? '';
  if (mount.subPathExpr) {
    const expanded = expandStrictly(mount.subPathExpr, (name) => env.get(name));
    if ('missing' in expanded) {
      const message = `missing value for ${JSON.stringify(expanded.missing)} in subPathExpr ${JSON.stringify(mount.subPathExpr)}`;
      throw new PodError('CreateContainerConfigError', message);
    }
    path = expanded.value;
  }
  // Checked again: a variable may have brought in what the manifest must not say.
  if (path.startsWith('/') || path.split('/').includes('..')) {
    throw new PodError(
      'CreateContainerConfigError',
      `unable to provision SubPath \`${path}\`: must stay inside its volume`,
    );
  }
  return path;
}
