/** CDI edits in the words of a specification: device nodes looked up on this host, mounts, environment, groups. */
import { NodeletError } from '../base/index.ts';
import type { LocalContainerConfig } from '../cri/index.ts';
import type { DeviceRule } from '../linux/devices/index.ts';
import {
  type CdiContainerEdits,
  type CdiDeviceNode,
  cdiEdits,
  readCdiFiles,
  requestedCdiDevices,
} from './cdi/index.ts';
import { hostDevice } from './devices.ts';
import type { OciDevice, OciMount } from './launch/spec.ts';
import type { ResolvedUser } from './users.ts';

/** What CDI devices add to a container; kept in its record, so that an exec has it, too. */
export interface ContainerEdits {
  readonly env: readonly string[];
  readonly devices: readonly OciDevice[];
  readonly rules: readonly DeviceRule[];
  readonly mounts: readonly OciMount[];
  readonly groups: readonly number[];
}

/** Undefined where the request has no CDI devices. Throws the errors of cdi/ and DEVICE_NOT_FOUND. */
export async function containerEdits(
  config: LocalContainerConfig,
  user: ResolvedUser,
  directories: readonly string[],
): Promise<ContainerEdits | undefined> {
  const names = requestedCdiDevices(config.CDIDevices, config.annotations);
  if (names.length === 0) return undefined;
  return ociEdits(cdiEdits(names, await readCdiFiles(directories)), user);
}

function ociEdits(edits: readonly CdiContainerEdits[], user: ResolvedUser): ContainerEdits {
  const nodes = edits.flatMap((one) => one.deviceNodes).map((node) => deviceOf(node, user));
  return {
    env: edits.flatMap((one) => one.env),
    devices: nodes.map(({ device }) => device),
    rules: nodes.flatMap(({ rule }) => (rule === undefined ? [] : [rule])),
    mounts: edits
      .flatMap((one) => one.mounts)
      .map(({ hostPath, containerPath, type = '', options = [] }) => ({
        destination: containerPath,
        source: hostPath,
        options: options.length === 0 ? ['rbind', 'rprivate'] : [...options],
        ...(type === '' || type === 'none' ? { type: 'bind' } : { type }),
      })),
    // Group 0 is no gift of a device's (CDI specification, additionalGids).
    groups: edits.flatMap((one) => one.additionalGids).filter((gid) => gid !== 0),
  };
}

/** What a file leaves out is the host's; the owner is the container's user, where it is not root. */
function deviceOf(
  node: CdiDeviceNode,
  user: ResolvedUser,
): { readonly device: OciDevice; readonly rule: DeviceRule | undefined } {
  const { path, hostPath = path, permissions = 'rwm' } = node;
  const complete =
    node.type === 'p' || (node.type !== undefined && node.major !== undefined && node.minor !== undefined);
  const found = complete ? undefined : hostDevice(hostPath, path, 'CDI device');
  const type = (node.type ?? found?.type ?? 'c') as OciDevice['type'];
  const [major, minor] = [node.major ?? found?.major, node.minor ?? found?.minor];
  const fileMode = node.fileMode ?? found?.fileMode;
  if (type !== 'p' && (major === undefined || minor === undefined))
    throw new NodeletError('DEVICE_NOT_FOUND', `CDI device: ${JSON.stringify(hostPath)} has no number`);
  return {
    device: {
      path,
      hostPath,
      type,
      ...(major === undefined ? {} : { major }),
      ...(minor === undefined ? {} : { minor }),
      ...(fileMode === undefined ? {} : { fileMode: fileMode & 0o7777 }),
      uid: node.uid ?? user.uid,
      gid: node.gid ?? user.gid,
    },
    rule:
      type === 'p'
        ? undefined
        : {
            allow: true,
            type: type === 'b' ? 'b' : 'c',
            ...(major === undefined ? {} : { major }),
            ...(minor === undefined ? {} : { minor }),
            access: permissions,
          },
  };
}
