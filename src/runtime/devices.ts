/** Host devices as the specification and the device cgroup want them. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { NodeletError } from '../base/index.ts';
import type { Device } from '../cri/index.ts';
import { AT_FDCWD, AT_SYMLINK_NOFOLLOW, S_IF } from '../linux/constants.ts';
import type { DeviceRule } from '../linux/devices/index.ts';
import { native, type Statx } from '../linux/native.ts';
import { errnoName } from '../linux/syscall-error.ts';
import type { OciDevice } from './launch/spec.ts';

export interface ResolvedDevices {
  readonly devices: readonly OciDevice[];
  readonly rules: readonly DeviceRule[];
}

function deviceOf(path: string, st: Statx): OciDevice | undefined {
  const type = st.mode & S_IF.MT;
  if (type !== S_IF.CHR && type !== S_IF.BLK) return undefined;
  return {
    path,
    type: type === S_IF.CHR ? 'c' : 'b',
    major: st.rdevMajor,
    minor: st.rdevMinor,
    fileMode: st.mode & 0o7777,
    uid: st.uid,
    gid: st.gid,
  };
}

/** A device of this host by its path. Throws DEVICE_NOT_FOUND. */
export function hostDevice(hostPath: string, containerPath: string, field: string): OciDevice {
  const st = native().statx(AT_FDCWD, hostPath, 0);
  const device = typeof st === 'number' ? undefined : deviceOf(containerPath, st);
  if (device !== undefined) return hostPath === containerPath ? device : { ...device, hostPath };
  throw new NodeletError(
    'DEVICE_NOT_FOUND',
    `${field}: ${JSON.stringify(hostPath)} ${typeof st === 'number' ? `cannot be used: ${errnoName(-st)}` : 'is no device'}`,
  );
}

function walk(hostPath: string, containerPath: string, into: OciDevice[], skip: ReadonlySet<string>): void {
  for (const entry of readdirSync(hostPath, { withFileTypes: true })) {
    if (skip.has(entry.name)) continue;
    const path = join(hostPath, entry.name);
    const target = join(containerPath, entry.name);
    if (entry.isDirectory()) walk(path, target, into, skip);
    else if (entry.isCharacterDevice() || entry.isBlockDevice()) {
      const st = native().statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW);
      const device = typeof st === 'number' ? undefined : deviceOf(target, st);
      if (device !== undefined) into.push(path === target ? device : { ...device, hostPath: path });
    }
  }
}

const PERMISSIONS = /^[rwm]{1,3}$/;

/** The devices of a request; a directory stands for all devices in it. Throws DEVICE_NOT_FOUND, INVALID_ARGUMENT. */
export function requestedDevices(requested: readonly Device[]): ResolvedDevices {
  const devices: OciDevice[] = [];
  const rules: DeviceRule[] = [];
  for (const { hostPath = '', containerPath = '', permissions = '' } of requested) {
    const access = permissions === '' ? 'rwm' : permissions;
    if (!PERMISSIONS.test(access)) {
      throw new NodeletError(
        'INVALID_ARGUMENT',
        `devices: permissions ${JSON.stringify(permissions)} of ${JSON.stringify(hostPath)} are not of r, w and m`,
      );
    }
    const st = native().statx(AT_FDCWD, hostPath, 0);
    if (!hostPath.startsWith('/') || (containerPath !== '' && !containerPath.startsWith('/'))) {
      throw new NodeletError(
        'INVALID_ARGUMENT',
        `devices: ${JSON.stringify(hostPath)} in the container at ${JSON.stringify(containerPath)}: not an absolute path`,
      );
    }
    if (typeof st === 'number') {
      throw new NodeletError(
        'DEVICE_NOT_FOUND',
        `devices: cannot use ${JSON.stringify(hostPath)}: ${errnoName(-st)}`,
      );
    }
    const found: OciDevice[] = [];
    const target = containerPath === '' ? hostPath : containerPath;
    if ((st.mode & S_IF.MT) === S_IF.DIR) walk(hostPath, target, found, new Set());
    else {
      found.push(hostDevice(hostPath, target, 'devices'));
    }
    for (const device of found) {
      devices.push(device);
      rules.push({
        allow: true,
        type: device.type === 'b' ? 'b' : 'c',
        major: device.major,
        minor: device.minor,
        access,
      });
    }
  }
  return { devices, rules };
}

/** What a container mounts itself or must have of its own. */
const OWN = new Set(['pts', 'shm', 'fd', 'mqueue', '.lxc', '.lxd-mounts', '.udev', 'console']);

/** Every device of the host, for a privileged container. */
export function allHostDevices(): OciDevice[] {
  const devices: OciDevice[] = [];
  walk('/dev', '/dev', devices, OWN);
  return devices;
}
