/**
 * A pod's volumes on disk, at upstream's paths. Setting up is safe to repeat and repairs what is missing; tearing down
 * finds everything by path, so it needs no memory of what was set up.
 */
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { failpoint, NodeletError } from '../../base/index.ts';
import {
  type BoundPod,
  type EmptyDirVolumeSource,
  Quantity,
  resourcesOf,
  type Volume,
} from '../../kube/index.ts';
import { asPodError } from '../errors.ts';
import type { NodeFacts } from '../node.ts';
import type { ObjectLookup } from '../objects.ts';
import type { KubeletPaths } from '../paths.ts';
import type { MountedVolume } from '../translate/mounts.ts';
import { type Payload, writeAtomically } from './atomic-writer.ts';
import { hostPathType, prepareHostPath } from './host-path.ts';
import {
  configMapPayload,
  downwardPayload,
  type PayloadContext,
  projectedPayload,
  secretPayload,
} from './payload.ts';
import { hasMountBelow, mountTmpfs, unmountBelow } from './tmpfs.ts';

export interface VolumeFailure {
  readonly volume: string;
  readonly message: string;
}

/** Where each volume is; nothing is touched. */
export function volumePaths(pod: BoundPod, paths: KubeletPaths): Map<string, MountedVolume> {
  return new Map((pod.spec.volumes ?? []).map((volume) => [volume.name, volumePath(pod, volume, paths)]));
}

function volumePath(pod: BoundPod, volume: Volume, paths: KubeletPaths): MountedVolume {
  const { uid } = pod.metadata;
  if (volume.hostPath) {
    const type = hostPathType(volume.hostPath);
    return { path: volume.hostPath.path, readOnly: false, ...(type === undefined ? {} : { type }) };
  }
  if (volume.configMap) return { path: paths.volume(uid, 'configmap', volume.name), readOnly: true };
  if (volume.secret) return { path: paths.volume(uid, 'secret', volume.name), readOnly: true };
  if (volume.downwardAPI) return { path: paths.volume(uid, 'downward-api', volume.name), readOnly: true };
  if (volume.projected) return { path: paths.volume(uid, 'projected', volume.name), readOnly: true };
  return { path: paths.volume(uid, 'empty-dir', volume.name), readOnly: false };
}

/** True where the pod reads this object by a volume or its environment: a change of it concerns the pod. */
export function refersTo(pod: BoundPod, kind: 'ConfigMap' | 'Secret', name: string): boolean {
  return references(pod, kind).has(name);
}

function references(pod: BoundPod, kind: 'ConfigMap' | 'Secret'): Set<string | undefined> {
  const isMap = kind === 'ConfigMap';
  const names = new Set<string | undefined>();
  for (const volume of pod.spec.volumes ?? []) {
    names.add(isMap ? volume.configMap?.name : volume.secret?.secretName);
    for (const source of volume.projected?.sources ?? [])
      names.add(isMap ? source.configMap?.name : source.secret?.name);
  }
  for (const container of [...(pod.spec.initContainers ?? []), ...pod.spec.containers]) {
    for (const source of container.envFrom ?? [])
      names.add(isMap ? source.configMapRef?.name : source.secretRef?.name);
    for (const { valueFrom } of container.env ?? []) {
      names.add(isMap ? valueFrom?.configMapKeyRef?.name : valueFrom?.secretKeyRef?.name);
    }
  }
  if (!isMap) for (const { name } of pod.spec.imagePullSecrets ?? []) names.add(name);
  names.delete(undefined);
  return names;
}

export interface VolumeContext {
  readonly paths: KubeletPaths;
  readonly objects: ObjectLookup;
  readonly node: NodeFacts;
  readonly now: () => Date;
}

/** Sets up every volume. One that fails does not keep the others from it. */
export function setUpVolumes(pod: BoundPod, context: VolumeContext): VolumeFailure[] {
  const failures: VolumeFailure[] = [];
  for (const volume of pod.spec.volumes ?? []) {
    try {
      setUp(pod, volume, context);
    } catch (error) {
      failures.push({ volume: volume.name, message: asPodError(error, 'FailedMount').message });
    }
    failpoint('volumes:after-one');
  }
  return failures;
}

function setUp(pod: BoundPod, volume: Volume, context: VolumeContext): void {
  const { path } = volumePath(pod, volume, context.paths);
  if (volume.hostPath) return prepareHostPath(volume.hostPath);
  if (volume.emptyDir) return setUpEmptyDir(pod, volume.emptyDir, path, context.node);
  return setUpPayload(pod, volume, path, context);
}

function setUpEmptyDir(pod: BoundPod, source: EmptyDirVolumeSource, path: string, node: NodeFacts): void {
  const { fsGroup } = pod.spec.securityContext;
  const mode = fsGroup === undefined ? 0o777 : 0o2777;
  if (source.medium === 'Memory') {
    mkdirSync(path, { recursive: true, mode: 0o755 });
    const size = memorySize(pod, source, node);
    return mountTmpfs(path, { size, mode, ...(fsGroup === undefined ? {} : { gid: fsGroup }) });
  }
  if (existsSync(path)) return undefined;
  // Made beside its place and moved there whole: a directory that exists has its mode and group.
  const fresh = `${path}.new`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true, mode: 0o700 });
  if (fsGroup !== undefined) chownSync(fresh, 0, fsGroup);
  chmodSync(fresh, mode);
  failpoint('volumes:before-rename');
  return renameSync(fresh, path);
}

/** The smallest of what the volume may hold, what the pod may use and what there is. */
export function memorySize(
  pod: BoundPod,
  source: EmptyDirVolumeSource,
  node: Pick<NodeFacts, 'allocatable'>,
): number {
  let size = BigInt(node.allocatable.memory);
  const limits = pod.spec.containers.map(
    (container) => resourcesOf(container, 'limits').get('memory')?.value() ?? 0n,
  );
  const sum = limits.reduce((total, limit) => total + limit, 0n);
  if (limits.every((limit) => limit > 0n) && sum < size) size = sum;
  const own = source.sizeLimit === undefined ? 0n : Quantity.parse(source.sizeLimit).value();
  return Number(own > 0n && own < size ? own : size);
}

function setUpPayload(pod: BoundPod, volume: Volume, path: string, context: VolumeContext): void {
  const payload = payloadOf(volume, { pod, objects: context.objects, node: context.node });
  const { fsGroup } = pod.spec.securityContext;
  mkdirSync(path, { recursive: true, mode: 0o755 });
  // Only ConfigMaps may lie on a disk.
  const mode = fsGroup === undefined ? 0o755 : 0o2775;
  if (!volume.configMap) mountTmpfs(path, { mode, ...(fsGroup === undefined ? {} : { gid: fsGroup }) });
  else {
    if (fsGroup !== undefined) chownSync(path, 0, fsGroup);
    chmodSync(path, mode);
  }
  writeAtomically(path, payload, context.now(), fsGroup === undefined ? undefined : { gid: fsGroup });
}

function payloadOf(volume: Volume, context: PayloadContext): Payload {
  if (volume.configMap) return configMapPayload(volume.configMap, context);
  if (volume.secret) return secretPayload(volume.secret, context);
  if (volume.projected) return projectedPayload(volume.projected, context);
  return downwardPayload(volume.downwardAPI?.items ?? [], volume.downwardAPI?.defaultMode, context);
}

/** Unmounts and removes every volume of a pod, whoever set it up. */
export async function tearDownVolumes(uid: string, paths: KubeletPaths): Promise<void> {
  // The binds first: they hold what they show of a volume.
  for (const path of [paths.subPaths(uid), paths.volumes(uid)]) {
    if (!existsSync(path)) continue;
    unmountBelow(path);
    await removeTree(path);
  }
}

/**
 * Removes a directory tree that holds no mount: what is mounted below belongs to somebody else. An entry of it may be
 * kept, and the directory with it. Throws VOLUME_BUSY.
 */
export async function removeTree(path: string, keep?: string): Promise<void> {
  if (!existsSync(path)) return;
  if (hasMountBelow(path)) {
    throw new NodeletError('VOLUME_BUSY', `cannot remove "${path}": something is mounted below it`);
  }
  if (keep === undefined) return rm(path, { recursive: true, force: true });
  for (const name of readdirSync(path)) {
    if (name !== keep) await rm(join(path, name), { recursive: true, force: true });
  }
}

/** Names of directories in `path`; none where it does not exist. */
export function directoriesIn(path: string): string[] {
  if (!existsSync(path)) return [];
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name);
}
