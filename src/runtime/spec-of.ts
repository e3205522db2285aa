/** A container's specification and launch plan, from its record and what the host is like now. */

import { NodeletError } from '../base/index.ts';
import type { ImageRecord, Snapshot } from '../image/index.ts';
import { buildSpec } from './build-spec.ts';
import type { RuntimeContext } from './context.ts';
import { allHostDevices, requestedDevices } from './devices.ts';
import { imageVolumes, volumeDirectory } from './image-volumes.ts';
import { compileContainer } from './launch/compile-container.ts';
import type { LaunchPlan } from './launch/encode.ts';
import type { OciSpec } from './launch/spec.ts';
import type { Container } from './model.ts';
import { sandboxFiles } from './sandbox-files.ts';
import { targetKinds } from './target-namespaces.ts';

/** What a specification depends on. */
type SpecContext = Pick<RuntimeContext, 'paths' | 'host' | 'cgroups' | 'store'>;

export function specOf(
  context: SpecContext,
  container: Container,
  image: ImageRecord,
  imageLayers: ReadonlyMap<string, readonly string[]>,
): OciSpec {
  const { sandbox, record } = container;
  const { config } = record;
  const security = config.linux?.securityContext ?? {};
  const volumes = new Map(
    imageVolumes(config, image).map((path, i) => [path, volumeDirectory(context, record.id, i)]),
  );
  return buildSpec({
    config,
    image: image.config,
    user: record.user,
    sandbox: {
      hostname: sandbox.record.hostname,
      ...sandbox.options,
      userNamespace: sandbox.record.uidMap.length > 0,
      uidMap: sandbox.record.uidMap,
      gidMap: sandbox.record.gidMap,
      files: sandboxFiles(context.store.sandboxDirectory(sandbox.id)),
    },
    cgroupsPath: context.cgroups.path(sandbox.record.config.linux?.cgroupParent ?? '', record.id),
    volumes,
    devices: requestedDevices(config.devices ?? []).devices,
    hostDevices: security.privileged === true ? allHostDevices() : [],
    namespaces: container.namespaceModes,
    imageLayers,
    edits: record.edits,
    apparmorProfile: record.apparmorProfile,
    availableCapabilities: context.host.capabilities,
    maxFiles: context.host.features.sysResource ? undefined : context.host.maxFiles,
  });
}

/**
 * The plan of a start. With it travel the device program, then, where `emptyMounts` says so, that namespace, then those of the
 * target.
 */
export function planOf(
  context: SpecContext & Pick<RuntimeContext, 'seccomp'>,
  container: Container,
  spec: OciSpec,
  snapshot: Snapshot,
  emptyMounts: boolean,
): LaunchPlan {
  const { sandbox, record } = container;
  const security = record.config.linux?.securityContext ?? {};
  const logDirectory = sandbox.record.config.logDirectory ?? '';
  const log = record.config.logPath ?? '';
  return compileContainer(spec, {
    id: record.id,
    staging: context.paths.staging,
    overlay: { lower: snapshot.lower, upper: snapshot.upper, work: snapshot.work },
    cgroup: context.cgroups.container(
      sandbox.record.config.linux?.cgroupParent ?? '',
      record.id,
      record.config.linux?.resources ?? {},
    ),
    cgroupView: context.cgroups.view,
    streams: {
      directory: logDirectory,
      log: logDirectory === '' ? '' : log,
      stdin: record.config.stdin === true,
    },
    terminal: record.config.tty === true,
    exitRecord: context.store.exitFile(sandbox.id, record.id),
    seccomp: context.seccomp.of(security, spec.process.capabilities?.bounding ?? []),
    deviceProgram: security.privileged !== true,
    emptyMounts,
    targets: targetKinds(container.namespaceModes),
    features: context.host.features,
  });
}

/** Throws IMAGE_NOT_FOUND: the image of a container must stay while it exists. */
export function imageOf(context: RuntimeContext, container: Container): ImageRecord {
  const image = context.images.resolve(container.record.imageId);
  if (image === undefined)
    throw new NodeletError(
      'IMAGE_NOT_FOUND',
      `the image "${container.record.imageId}" of container "${container.id.slice(0, 12)}" is gone`,
    );
  return image;
}
