/** From a CRI request, an image and a sandbox to a specification. Pure: what has to be looked up is an argument. */
import { posix } from 'node:path';
import { NodeletError } from '../base/index.ts';
import {
  type IDMapping,
  type LinuxContainerSecurityContext,
  type LocalContainerConfig,
  type LocalMount,
  MountPropagation,
} from '../cri/index.ts';
import type { ImageConfig } from '../image/index.ts';
import { type Capability, grantCapabilities, parseCapability } from '../linux/capabilities.ts';
import type { ContainerEdits } from './cdi-edits.ts';
import { DEFAULT_DEVICES, DEFAULT_MOUNTS, DEFAULT_PATH_ENV, NOFILE, SHM_SIZE } from './defaults.ts';
import { POD_SHM } from './launch/compile-mounts.ts';
import {
  type OciDevice,
  type OciIdMap,
  type OciMount,
  type OciNamespace,
  type OciSpec,
  POD_NAMESPACE,
  TARGET_NAMESPACE,
} from './launch/spec.ts';
import type { ContainerMode, ContainerNamespaces } from './namespaces.ts';
import type { ResolvedUser } from './users.ts';

/** What the sandbox has, and lets its containers share. */
export interface SandboxFacts {
  readonly hostname: string;
  readonly hostNetwork: boolean;
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
  readonly namespaces: ContainerNamespaces;
  /** Layers of the images that are mounted as volumes, topmost first: destination → directories. */
  readonly imageLayers: ReadonlyMap<string, readonly string[]>;
  /** What CDI devices add. */
  readonly edits: ContainerEdits | undefined;
  /** A loaded AppArmor profile. */
  readonly apparmorProfile: string | undefined;
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
  const ambient = ambientOf(security, capabilities);
  const hard = Math.min(NOFILE.hard, input.maxFiles ?? NOFILE.hard);
  return {
    ociVersion: '1.2.0',
    root: { path: 'rootfs', readonly: security.readonlyRootfs === true },
    hostname: sandbox.hostname,
    process: {
      terminal: config.tty === true,
      user: { uid: user.uid, gid: user.gid, additionalGids: groupsOf(user, input.edits) },
      args,
      env: environmentOf(config, image, user, sandbox.hostname, input.edits?.env ?? []),
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
      ...(input.apparmorProfile === undefined ? {} : { apparmorProfile: input.apparmorProfile }),
    },
    mounts: mountsOf(input, privileged, security),
    ...(config.annotations === undefined ? {} : { annotations: config.annotations }),
    linux: {
      namespaces: namespacesOf(input.namespaces, sandbox, privileged),
      uidMappings: sandbox.uidMap,
      gidMappings: sandbox.gidMap,
      devices: [
        ...(input.edits?.devices ?? []),
        ...DEFAULT_DEVICES,
        ...(privileged ? input.hostDevices : []),
        ...input.devices,
      ].filter(firstOfPath),
      cgroupsPath: input.cgroupsPath,
      maskedPaths: privileged ? [] : (security.maskedPaths ?? []),
      readonlyPaths: privileged ? [] : (security.readonlyPaths ?? []),
    },
  };
}

function firstOfPath(device: OciDevice, i: number, all: readonly OciDevice[]): boolean {
  return all.findIndex((other) => other.path === device.path) === i;
}

/** What stays through an execve of a program without file capabilities must be granted in the first place. */
function ambientOf(
  security: LinuxContainerSecurityContext,
  granted: readonly Capability[],
): readonly Capability[] {
  const ambient = (security.capabilities?.addAmbientCapabilities ?? []).map(parseCapability);
  const missing = ambient.find((one) => !granted.includes(one));
  if (missing !== undefined)
    throw new NodeletError(
      'INVALID_ARGUMENT',
      `capabilities.addAmbientCapabilities: ${missing} is not among the container's capabilities`,
      { hint: 'add it with addCapabilities, too' },
    );
  return ambient;
}

function groupsOf(user: ResolvedUser, edits: ContainerEdits | undefined): readonly number[] {
  if (edits === undefined || edits.groups.length === 0) return user.groups;
  return [...new Set([...user.groups, ...edits.groups])].sort((a, b) => a - b);
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
  edits: readonly string[],
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
  for (const entry of edits) add(entry, 'CDI device');
  if (!env.has('HOME')) env.set('HOME', user.home);
  return [...env].map(([name, value]) => `${name}=${value}`);
}

function namespacesOf(
  modes: ContainerNamespaces,
  sandbox: SandboxFacts,
  privileged: boolean,
): OciNamespace[] {
  const namespaces: OciNamespace[] = [{ type: 'mount' }];
  if (sandbox.userNamespace) namespaces.push({ type: 'user', path: POD_NAMESPACE });
  namespaces.push(...namespaceOf('network', modes.network));
  if (!sandbox.hostNetwork) namespaces.push({ type: 'uts', path: POD_NAMESPACE });
  namespaces.push(...namespaceOf('ipc', modes.ipc), ...namespaceOf('pid', modes.pid));
  if (!privileged) namespaces.push({ type: 'cgroup' });
  return namespaces;
}

function namespaceOf(type: 'network' | 'ipc' | 'pid', mode: ContainerMode): OciNamespace[] {
  switch (mode.from) {
    case 'pod':
      return [{ type, path: POD_NAMESPACE }];
    case 'own':
      return [{ type }];
    case 'target':
      return [{ type, path: TARGET_NAMESPACE }];
    case 'host':
      return [];
  }
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
    if (hides(requested, mount.destination)) continue;
    mounts.push(defaultMount(mount, input, privileged));
  }
  if (!hides(requested, '/dev/shm')) mounts.push(sharedMemory(input.namespaces.ipc));
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
    // What an image may not do is said before it is started (CVE-2019-16884).
    if (/^\/proc(\/|$)/.test(destination))
      throw new NodeletError(
        'INVALID_MOUNT',
        `VOLUME ${JSON.stringify(destination)} of the image would hide what the kernel shows there`,
        { hint: 'use an image whose VOLUMEs lie outside /proc' },
      );
    mounts.push({
      destination,
      type: 'bind',
      source,
      options: ['rbind', 'rprivate', 'rw'],
      ...idMappings(sandbox),
    });
  }
  for (const [destination, mount] of requested)
    mounts.push(requestedMount(destination, mount, input.imageLayers.get(destination)));
  // What a device brings takes the place of what is there already.
  const edited = input.edits?.mounts ?? [];
  for (const mount of edited) cleanDestination(mount.destination);
  const all = [
    ...mounts.filter((mount) => edited.every((one) => one.destination !== mount.destination)),
    ...edited,
  ];
  // A mount that lies inside another comes after it, whatever the order of the request.
  return all
    .map((mount, i) => ({ mount, i, depth: mount.destination.split('/').length }))
    .sort((a, b) => a.depth - b.depth || a.i - b.i)
    .map(({ mount }) => mount);
}

/** A mount of the request's takes the place of a default one; a /dev of its own comes with all that is in it. */
function hides(requested: ReadonlyMap<string, LocalMount>, destination: string): boolean {
  return requested.has(destination) || (requested.has('/dev') && destination.startsWith('/dev/'));
}

function sharedMemory(ipc: ContainerMode): OciMount {
  const destination = '/dev/shm';
  switch (ipc.from) {
    case 'host':
      return { destination, type: 'bind', source: destination, options: ['rbind', 'rprivate'] };
    case 'pod':
    case 'target':
      return { destination, type: 'bind', source: POD_SHM, options: ['bind', 'rprivate'] };
    case 'own':
      return {
        destination,
        type: 'tmpfs',
        source: 'shm',
        options: ['nosuid', 'noexec', 'nodev', 'mode=1777', `size=${SHM_SIZE}`],
      };
  }
}

function idMappings(sandbox: SandboxFacts): Pick<OciMount, 'uidMappings' | 'gidMappings'> {
  return sandbox.userNamespace ? { uidMappings: sandbox.uidMap, gidMappings: sandbox.gidMap } : {};
}

function defaultMount(mount: OciMount, input: SpecInput, privileged: boolean): OciMount {
  const { sandbox, namespaces } = input;
  const writable = (options: readonly string[] | undefined): string[] =>
    (options ?? []).filter((one) => one !== 'ro').concat('rw');
  switch (mount.destination) {
    case '/sys':
      // A user namespace cannot mount sysfs for a network namespace that it does not own.
      if (sandbox.userNamespace && namespaces.network.from === 'host') {
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
      return namespaces.ipc.from === 'host' && sandbox.userNamespace
        ? {
            destination: mount.destination,
            type: 'bind',
            source: '/dev/mqueue',
            options: ['rbind', 'rprivate', 'nosuid', 'noexec', 'nodev'],
          }
        : mount;
    case '/proc':
      return namespaces.pid.from === 'host' && sandbox.userNamespace
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

const PROPAGATION_OPTIONS: Readonly<Record<number, string>> = {
  [MountPropagation.PROPAGATION_PRIVATE]: 'rprivate',
  [MountPropagation.PROPAGATION_HOST_TO_CONTAINER]: 'rslave',
  [MountPropagation.PROPAGATION_BIDIRECTIONAL]: 'rshared',
};

function requestedMount(
  destination: string,
  mount: LocalMount,
  layers: readonly string[] | undefined,
): OciMount {
  if (layers !== undefined) {
    const subPath = mount.imageSubPath ?? '';
    return {
      destination,
      type: 'bind',
      options: ['bind', 'rprivate', 'ro'],
      layers,
      ...(subPath === '' ? {} : { subPath }),
    };
  }
  const propagation = mount.propagation ?? MountPropagation.PROPAGATION_PRIVATE;
  const spread = PROPAGATION_OPTIONS[propagation];
  if (spread === undefined)
    throw new NodeletError(
      'INVALID_ARGUMENT',
      `mounts: ${JSON.stringify(destination)}: ${propagation} is no propagation`,
      { hint: 'use 0 (private), 1 (host to container) or 2 (bidirectional)' },
    );
  const options: string[] = ['rbind', spread];
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
    ...(mount.sourceType === undefined ? {} : { sourceType: mount.sourceType }),
    // What has to be of a kind is not made up.
    ...(mount.subPath === undefined && mount.sourceType === undefined ? { makeSource: true } : {}),
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
