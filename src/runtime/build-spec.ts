/** From a CRI request, an image and a sandbox to a specification. Pure: what has to be looked up is an argument. */
import { posix } from 'node:path';
import { NodeletError } from '../base/index.ts';
import {
  type IDMapping,
  type LinuxContainerSecurityContext,
  type LocalContainerConfig,
  type LocalMount,
  MountPropagation,
  NamespaceMode,
} from '../cri/index.ts';
import type { ImageConfig } from '../image/index.ts';
import { grantCapabilities, parseCapability } from '../linux/capabilities.ts';
import {
  DEFAULT_DEVICES,
  DEFAULT_MOUNTS,
  DEFAULT_PATH_ENV,
  MASKED_PATHS,
  NOFILE,
  READONLY_PATHS,
} from './defaults.ts';
import { POD_SHM } from './launch/compile-mounts.ts';
import {
  type OciDevice,
  type OciIdMap,
  type OciMount,
  type OciNamespace,
  type OciSpec,
  POD_NAMESPACE,
} from './launch/spec.ts';
import type { ResolvedUser } from './users.ts';

/** What the sandbox has, and lets its containers share. */
export interface SandboxFacts {
  readonly hostname: string;
  readonly hostNetwork: boolean;
  readonly hostIpc: boolean;
  readonly userNamespace: boolean;
  readonly uidMap: readonly OciIdMap[];
  readonly gidMap: readonly OciIdMap[];
  /** Files that the runtime wrote for the pod: destination in the container, path on the host. */
  readonly files: readonly { readonly destination: string; readonly path: string }[];
}

export interface SpecInput {
  readonly config: LocalContainerConfig;
  readonly image: ImageConfig;
  readonly user: ResolvedUser;
  readonly sandbox: SandboxFacts;
  readonly cgroupsPath: string;
  /** Directories for the image's VOLUMEs: destination → host path. */
  readonly volumes: ReadonlyMap<string, string>;
  /** Host devices that the request names, resolved. */
  readonly devices: readonly OciDevice[];
  /** All devices of the host, for a privileged container. */
  readonly hostDevices: readonly OciDevice[];
  /** /sys/devices/system/cpu/cpuN/thermal_throttle of this host. */
  readonly thermalPaths: readonly string[];
  /** The PID of the container whose PID namespace this one joins (NamespaceMode.TARGET). */
  readonly targetPid: number | undefined;
  /** The mask that this process can hand on. */
  readonly availableCapabilities: bigint;
  /** Hard limit of open files that this process may hand on; undefined where it may raise it. */
  readonly maxFiles: number | undefined;
}

/** Environment variable names: printable, without "=" (runtime-spec leaves it to us). */
const CONTROL = /[\0]/;

export function buildSpec(input: SpecInput): OciSpec {
  const { config, image, user, sandbox } = input;
  const security = config.linux?.securityContext ?? {};
  const resources = config.linux?.resources ?? {};
  const privileged = security.privileged === true;
  const args = commandOf(config, image);
  const { capabilities } = grantCapabilities(
    {
      add: security.capabilities?.addCapabilities ?? [],
      drop: security.capabilities?.dropCapabilities ?? [],
      privileged,
    },
    input.availableCapabilities,
  );
  const ambient = (security.capabilities?.addAmbientCapabilities ?? []).map(parseCapability);
  const hard = Math.min(NOFILE.hard, input.maxFiles ?? NOFILE.hard);
  return {
    ociVersion: '1.2.0',
    root: { path: 'rootfs', readonly: security.readonlyRootfs === true },
    hostname: sandbox.hostname,
    process: {
      terminal: config.tty === true,
      user: { uid: user.uid, gid: user.gid, additionalGids: user.groups },
      args,
      env: environmentOf(config, image, user, sandbox.hostname),
      cwd: workingDirectoryOf(config, image),
      capabilities: {
        bounding: capabilities,
        effective: capabilities,
        permitted: capabilities,
        inheritable: ambient,
        ambient,
      },
      rlimits: [{ type: 'RLIMIT_NOFILE', soft: Math.min(NOFILE.soft, hard), hard }],
      noNewPrivileges: security.noNewPrivs === true,
      ...(resources.oomScoreAdj === undefined ? {} : { oomScoreAdj: resources.oomScoreAdj }),
    },
    mounts: mountsOf(input, privileged, security),
    ...(config.annotations === undefined ? {} : { annotations: config.annotations }),
    linux: {
      namespaces: namespacesOf(security, sandbox, privileged, input.targetPid),
      uidMappings: sandbox.uidMap,
      gidMappings: sandbox.gidMap,
      devices: [...DEFAULT_DEVICES, ...(privileged ? input.hostDevices : []), ...input.devices].filter(
        firstOfPath,
      ),
      cgroupsPath: input.cgroupsPath,
      maskedPaths: privileged ? [] : maskedOf(security, input.thermalPaths),
      readonlyPaths: privileged ? [] : nonEmpty(security.readonlyPaths, READONLY_PATHS),
    },
  };
}

function firstOfPath(device: OciDevice, i: number, all: readonly OciDevice[]): boolean {
  return all.findIndex((other) => other.path === device.path) === i;
}

/**
 * CRI tells an absent list (the runtime's default) from an empty one only by the procMount that stands behind it; in
 * process the difference is kept.
 */
function nonEmpty(requested: readonly string[] | undefined, fallback: readonly string[]): readonly string[] {
  return requested ?? fallback;
}

function maskedOf(security: LinuxContainerSecurityContext, thermal: readonly string[]): readonly string[] {
  return security.maskedPaths ?? [...MASKED_PATHS, ...thermal];
}

/** command replaces ENTRYPOINT and, with it, CMD; args replaces CMD (reference: kubelet.md §1.7). */
export function commandOf(config: LocalContainerConfig, image: ImageConfig): string[] {
  const command = config.command ?? [];
  const args = config.args ?? [];
  const result =
    command.length > 0
      ? [...command, ...args]
      : [...(image.config?.Entrypoint ?? []), ...(args.length > 0 ? args : (image.config?.Cmd ?? []))];
  if (result.length === 0 || result[0] === '') {
    throw new NodeletError('NO_COMMAND', 'neither the container nor its image says what to run', {
      hint: 'set command, or use an image with an ENTRYPOINT or CMD',
    });
  }
  return result;
}

function workingDirectoryOf(config: LocalContainerConfig, image: ImageConfig): string {
  const path = config.workingDir || image.config?.WorkingDir || '/';
  if (!path.startsWith('/')) {
    throw new NodeletError(
      'INVALID_WORKING_DIRECTORY',
      `working directory ${JSON.stringify(path)} is not an absolute path`,
    );
  }
  return posix.normalize(path);
}

function environmentOf(
  config: LocalContainerConfig,
  image: ImageConfig,
  user: ResolvedUser,
  hostname: string,
): string[] {
  const env = new Map<string, string>();
  const add = (entry: string, where: string): void => {
    const equals = entry.indexOf('=');
    const name = equals < 0 ? entry : entry.slice(0, equals);
    if (name === '' || CONTROL.test(entry)) {
      throw new NodeletError(
        'INVALID_ENVIRONMENT',
        `${where}: ${JSON.stringify(entry.slice(0, 100))} is no environment variable`,
      );
    }
    env.set(name, equals < 0 ? '' : entry.slice(equals + 1));
  };
  add(DEFAULT_PATH_ENV, 'default');
  for (const entry of image.config?.Env ?? []) add(entry, 'ENV of the image');
  if (config.tty === true && !env.has('TERM')) env.set('TERM', 'xterm');
  env.set('HOSTNAME', hostname);
  for (const { key = '', value = '' } of config.envs ?? []) {
    if (key === '' || key.includes('=') || CONTROL.test(key) || CONTROL.test(value)) {
      throw new NodeletError(
        'INVALID_ENVIRONMENT',
        `envs: ${JSON.stringify(key.slice(0, 100))} is no name of an environment variable`,
      );
    }
    env.set(key, value);
  }
  if (!env.has('HOME')) env.set('HOME', user.home);
  return [...env].map(([name, value]) => `${name}=${value}`);
}

function namespacesOf(
  security: LinuxContainerSecurityContext,
  sandbox: SandboxFacts,
  privileged: boolean,
  targetPid: number | undefined,
): OciNamespace[] {
  const namespaces: OciNamespace[] = [{ type: 'mount' }];
  if (sandbox.userNamespace) namespaces.push({ type: 'user', path: POD_NAMESPACE });
  if (!sandbox.hostNetwork) {
    namespaces.push({ type: 'network', path: POD_NAMESPACE });
    namespaces.push({ type: 'uts', path: POD_NAMESPACE });
  }
  if (!sandbox.hostIpc) namespaces.push({ type: 'ipc', path: POD_NAMESPACE });
  const mode = security.namespaceOptions?.pid ?? NamespaceMode.POD;
  switch (mode) {
    case NamespaceMode.CONTAINER:
      namespaces.push({ type: 'pid' });
      break;
    case NamespaceMode.POD:
      namespaces.push({ type: 'pid', path: POD_NAMESPACE });
      break;
    case NamespaceMode.TARGET:
      if (targetPid === undefined)
        throw new NodeletError('INVALID_ARGUMENT', 'the target container does not run');
      namespaces.push({ type: 'pid', path: `/proc/${targetPid}/ns/pid` });
      break;
    case NamespaceMode.NODE:
      break;
  }
  if (!privileged) namespaces.push({ type: 'cgroup' });
  return namespaces;
}

function mountsOf(
  input: SpecInput,
  privileged: boolean,
  security: LinuxContainerSecurityContext,
): OciMount[] {
  const { config, sandbox } = input;
  const mounts: OciMount[] = [];
  const requested = new Map<string, LocalMount>();
  for (const mount of config.mounts ?? []) requested.set(cleanDestination(mount.containerPath ?? ''), mount);
  for (const mount of DEFAULT_MOUNTS) {
    if (!requested.has(mount.destination)) mounts.push(defaultMount(mount, sandbox, privileged, security));
  }
  if (!requested.has('/dev/shm')) {
    mounts.push(
      sandbox.hostIpc
        ? { destination: '/dev/shm', type: 'bind', source: '/dev/shm', options: ['rbind', 'rprivate'] }
        : { destination: '/dev/shm', type: 'bind', source: POD_SHM, options: ['bind', 'rprivate'] },
    );
  }
  for (const file of sandbox.files) {
    if (requested.has(file.destination)) continue;
    const mode = security.readonlyRootfs === true ? 'ro' : 'rw';
    mounts.push({
      destination: file.destination,
      type: 'bind',
      source: file.path,
      options: ['bind', 'rprivate', mode],
    });
  }
  for (const [destination, source] of input.volumes) {
    mounts.push({
      destination,
      type: 'bind',
      source,
      options: ['rbind', 'rprivate', 'rw'],
      ...idMappings(sandbox),
    });
  }
  for (const [destination, mount] of requested) mounts.push(requestedMount(destination, mount));
  // A mount that lies inside another comes after it, whatever the order of the request.
  return mounts
    .map((mount, i) => ({ mount, i, depth: mount.destination.split('/').length }))
    .sort((a, b) => a.depth - b.depth || a.i - b.i)
    .map(({ mount }) => mount);
}

function idMappings(sandbox: SandboxFacts): Pick<OciMount, 'uidMappings' | 'gidMappings'> {
  return sandbox.userNamespace ? { uidMappings: sandbox.uidMap, gidMappings: sandbox.gidMap } : {};
}

function defaultMount(
  mount: OciMount,
  sandbox: SandboxFacts,
  privileged: boolean,
  security: LinuxContainerSecurityContext,
): OciMount {
  const writable = (options: readonly string[] | undefined): string[] =>
    (options ?? []).filter((one) => one !== 'ro').concat('rw');
  switch (mount.destination) {
    case '/sys':
      // A user namespace cannot mount sysfs for a network namespace that it does not own.
      if (sandbox.userNamespace && sandbox.hostNetwork) {
        return {
          destination: '/sys',
          type: 'bind',
          source: '/sys',
          options: ['rbind', 'rslave', 'nosuid', 'noexec', 'nodev', 'rro'],
        };
      }
      return privileged ? { ...mount, options: writable(mount.options) } : mount;
    case '/sys/fs/cgroup':
      // Without a cgroup namespace the whole tree is what there is to see.
      if (privileged)
        return {
          destination: mount.destination,
          type: 'bind',
          source: '/sys/fs/cgroup',
          options: ['rbind', 'rslave', 'rw'],
        };
      return mount;
    case '/dev/mqueue':
      return sandbox.hostIpc && sandbox.userNamespace
        ? {
            destination: mount.destination,
            type: 'bind',
            source: '/dev/mqueue',
            options: ['rbind', 'rprivate', 'nosuid', 'noexec', 'nodev'],
          }
        : mount;
    case '/proc':
      return security.namespaceOptions?.pid === NamespaceMode.NODE && sandbox.userNamespace
        ? {
            destination: '/proc',
            type: 'bind',
            source: '/proc',
            options: ['rbind', 'rslave', 'nosuid', 'noexec', 'nodev'],
          }
        : mount;
    default:
      return mount;
  }
}

const PROPAGATION_OPTIONS = {
  [MountPropagation.PROPAGATION_PRIVATE]: 'rprivate',
  [MountPropagation.PROPAGATION_HOST_TO_CONTAINER]: 'rslave',
  [MountPropagation.PROPAGATION_BIDIRECTIONAL]: 'rshared',
} as const;

function requestedMount(destination: string, mount: LocalMount): OciMount {
  const propagation = mount.propagation ?? MountPropagation.PROPAGATION_PRIVATE;
  const options: string[] = ['rbind', PROPAGATION_OPTIONS[propagation]];
  if (mount.recursiveReadOnly === true) {
    if (mount.readonly !== true)
      throw new NodeletError(
        'INVALID_ARGUMENT',
        `mounts: ${JSON.stringify(destination)}: recursiveReadOnly needs readonly`,
      );
    if (propagation !== MountPropagation.PROPAGATION_PRIVATE) {
      throw new NodeletError(
        'INVALID_ARGUMENT',
        `mounts: ${JSON.stringify(destination)}: recursiveReadOnly needs private propagation`,
      );
    }
    options.push('rro');
  } else options.push(mount.readonly === true ? 'ro' : 'rw');
  return {
    destination,
    type: 'bind',
    source: mount.hostPath ?? '',
    options,
    ...(mount.subPath === undefined ? {} : { subPath: mount.subPath }),
    ...((mount.uidMappings?.length ?? 0) === 0
      ? {}
      : { uidMappings: ociIdMap(mount.uidMappings), gidMappings: ociIdMap(mount.gidMappings) }),
  };
}

export function ociIdMap(rows: readonly IDMapping[] | undefined): OciIdMap[] {
  return (rows ?? []).map((row) => ({
    containerID: row.containerId ?? 0,
    hostID: row.hostId ?? 0,
    size: row.length ?? 0,
  }));
}

function cleanDestination(path: string): string {
  if (!path.startsWith('/'))
    throw new NodeletError(
      'INVALID_ARGUMENT',
      `mounts: containerPath ${JSON.stringify(path)} is not an absolute path`,
    );
  const clean = posix.normalize(path).replace(/(.)\/$/, '$1');
  if (clean === '/')
    throw new NodeletError('INVALID_ARGUMENT', 'mounts: containerPath "/" would hide the whole image');
  return clean;
}
