/**
 * What a CRI request may say, as a table: one rule a field, by `Message.field` or by `*.field` for all messages. A rule
 * returns what is wrong, as the rest of a sentence that begins with the value, or undefined. Pure.
 */
import { isIP } from 'node:net';
import { TextEncoder } from 'node:util';

export type Rule = (value: never) => string | undefined;

/** Highest uid and gid, as Kubernetes and containerd have it. */
const MAX_ID = 0x7fff_ffff;
const MAX_UINT32 = 0xffff_ffff;

/** Bytes of a text where no rule says more; of one argument or variable (the kernel's MAX_ARG_STRLEN). */
export const TEXT_LIMIT = 64 * 1024;
const ARGUMENT_LIMIT = 128 * 1024;
/** Items of a list. */
export const LIST_LIMIT = 10_000;
/** Bytes of one label with its key, as containerd; of all labels; of all annotations (Kubernetes: 256 KiB in a pod). */
const LABEL_LIMIT = 4096;
const LABELS_LIMIT = 256 * 1024;
const ANNOTATIONS_LIMIT = 512 * 1024;

const encoder = new TextEncoder();

/** Exact where it matters: three bytes a unit at most. */
export function longerThan(text: string, limit: number): boolean {
  if (text.length > limit) return true;
  return text.length * 3 > limit && encoder.encode(text).length > limit;
}

const between =
  (low: number, high: number): Rule =>
  (value: number) =>
    Number.isSafeInteger(value) && value >= low && value <= high
      ? undefined
      : `is not between ${low} and ${high}`;

const atLeast =
  (low: number): Rule =>
  (value: number) =>
    value >= low ? undefined : `is less than ${low}`;

const matches =
  (pattern: RegExp, what: string, limit = 253): Rule =>
  (value: string) =>
    value === '' || (value.length <= limit && pattern.test(value)) ? undefined : `is no ${what}`;

const oneOf =
  (count: number, what: string): Rule =>
  (value: number) =>
    value >= 0 && value < count ? undefined : `is no ${what}`;

const CONTROL = /\p{Cc}/u;

/** A name that stands in paths, cgroups and records: no separators, no control characters. */
const name: Rule = (value: string) => {
  if (value === '') return 'is empty';
  if (value.length > 253) return 'is longer than 253 characters';
  return CONTROL.test(value) || value.includes('/') || value === '.' || value === '..'
    ? 'is no valid name'
    : undefined;
};

/** Ids are 64 hex digits or the beginning of them; other runtimes' may have other letters. */
const id: Rule = (value: string) =>
  /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/.test(value)
    ? undefined
    : 'is no id: letters, digits, "_", "." and "-" only';
const idOrNone: Rule = (value: string) =>
  value === '' ? undefined : (id as (value: string) => string | undefined)(value);

const climbs = (value: string): boolean => value.split('/').includes('..');

const absolutePath: Rule = (value: string) => {
  if (value === '') return undefined;
  if (value.length >= 4096) return 'is longer than a path may be';
  if (!value.startsWith('/')) return 'is no absolute path';
  return climbs(value) ? 'holds ".."' : undefined;
};
const relativePath: Rule = (value: string) => {
  if (value.length >= 4096) return 'is longer than a path may be';
  if (value.startsWith('/')) return 'is no relative path';
  return climbs(value) ? 'holds ".."' : undefined;
};
const containerPath: Rule = (value: string) =>
  value === '' ? 'is empty' : (absolutePath as (value: string) => string | undefined)(value);

/** In a line of resolv.conf. */
const word: Rule = (value: string) =>
  value.length > 253 ? 'is longer than 253 characters' : /\s/.test(value) ? 'holds white space' : undefined;
const argument: Rule = (value: string) =>
  longerThan(value, ARGUMENT_LIMIT - 1)
    ? `is longer than the ${ARGUMENT_LIMIT} bytes that the kernel takes`
    : undefined;

const groups = between(0, MAX_ID);
const plain: Rule = (value: string) => (CONTROL.test(value) ? 'holds a control character' : undefined);

type Entries = Readonly<Record<string, string>>;

function entriesOver(entries: Entries, limit: number): boolean {
  let size = 0;
  for (const [key, value] of Object.entries(entries)) {
    size += key.length + value.length;
    if (size > limit) return true;
  }
  return false;
}

const labels: Rule = (value: Entries) => {
  for (const [key, text] of Object.entries(value))
    if (key.length + text.length > LABEL_LIMIT)
      return `has a label ${JSON.stringify(key.slice(0, 60))} of more than ${LABEL_LIMIT} bytes`;
  return entriesOver(value, LABELS_LIMIT) ? `has more than ${LABELS_LIMIT} bytes` : undefined;
};
const annotations: Rule = (value: Entries) =>
  entriesOver(value, ANNOTATIONS_LIMIT) ? `has more than ${ANNOTATIONS_LIMIT} bytes` : undefined;

const keysMatch =
  (pattern: RegExp, what: string): Rule =>
  (value: Entries) => {
    for (const key of Object.keys(value))
      if (key.length > 253 || !pattern.test(key) || climbs(key))
        return `has a key ${JSON.stringify(key.slice(0, 60))} that is no ${what}`;
    return entriesOver(value, TEXT_LIMIT) ? `has more than ${TEXT_LIMIT} bytes` : undefined;
  };

const cidrs: Rule = (value: string) => {
  for (const one of value === '' ? [] : value.split(',')) {
    const [address = '', prefix = ''] = one.split('/');
    const bits = isIP(address) === 6 ? 128 : 32;
    if (isIP(address) === 0 || !/^\d{1,3}$/.test(prefix) || Number(prefix) > bits)
      return 'is no subnet, as 10.88.0.0/16, nor a list of them';
  }
  return undefined;
};

const CAPABILITY = matches(/^[A-Za-z0-9_]+$/, 'name of a capability', 64);

export const RULES: Readonly<Record<string, Rule>> = {
  '*.podSandboxId': id,
  '*.containerId': id,
  'IDMapping.containerId': between(0, MAX_UINT32),
  'ContainerFilter.podSandboxId': idOrNone,
  'ContainerStatsFilter.podSandboxId': idOrNone,
  'ContainerFilter.id': idOrNone,
  'ContainerStatsFilter.id': idOrNone,
  'PodSandboxFilter.id': idOrNone,
  'PodSandboxStatsFilter.id': idOrNone,
  'PodSandboxStateValue.state': oneOf(2, 'state of a sandbox'),
  'ContainerStateValue.state': oneOf(4, 'state of a container'),
  '*.labelSelector': labels,
  '*.labels': labels,
  '*.annotations': annotations,

  'PodSandboxMetadata.name': name,
  'PodSandboxMetadata.namespace': name,
  'PodSandboxMetadata.uid': name,
  'ContainerMetadata.name': name,
  'RunPodSandboxRequest.runtimeHandler': matches(
    /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/,
    'name of a runtime handler',
  ),
  'PodSandboxConfig.hostname': matches(
    /^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$/,
    'host name of at most 64 characters',
    64,
  ),
  'PodSandboxConfig.logDirectory': absolutePath,
  'DNSConfig.servers': word,
  'DNSConfig.searches': word,
  'DNSConfig.options': word,
  'PortMapping.protocol': oneOf(3, 'protocol (TCP, UDP, SCTP)'),
  'PortMapping.containerPort': between(0, 65535),
  'PortMapping.hostPort': between(0, 65535),
  'PortMapping.hostIp': (value: string) =>
    value === '' || isIP(value) !== 0 ? undefined : 'is no IP address',
  'LinuxPodSandboxConfig.cgroupParent': absolutePath,
  'LinuxPodSandboxConfig.sysctls': keysMatch(/^[A-Za-z0-9_][A-Za-z0-9_.\-/]*$/, 'name of a sysctl'),

  '*.runAsUser': between(0, MAX_ID),
  '*.runAsGroup': between(0, MAX_ID),
  '*.supplementalGroups': groups,
  '*.supplementalGroupsPolicy': oneOf(2, 'policy (Merge, Strict)'),
  '*.runAsUsername': matches(/^[^\s:/]+$/, 'name of a user', 256),
  '*.maskedPaths': absolutePath,
  '*.readonlyPaths': absolutePath,
  'SecurityProfile.profileType': oneOf(3, 'type of a profile (RuntimeDefault, Unconfined, Localhost)'),
  'SecurityProfile.localhostRef': (value: string) =>
    climbs(value) ? 'holds ".."' : (plain as (v: string) => string | undefined)(value),
  'NamespaceOption.network': oneOf(4, 'namespace mode'),
  'NamespaceOption.pid': oneOf(4, 'namespace mode'),
  'NamespaceOption.ipc': oneOf(4, 'namespace mode'),
  'NamespaceOption.targetId': idOrNone,
  'UserNamespace.mode': oneOf(4, 'namespace mode'),
  'Capability.addCapabilities': CAPABILITY,
  'Capability.dropCapabilities': CAPABILITY,
  'Capability.addAmbientCapabilities': CAPABILITY,
  'SELinuxOption.user': plain,
  'SELinuxOption.role': plain,
  'SELinuxOption.type': plain,
  'SELinuxOption.level': plain,

  'LinuxContainerResources.cpuPeriod': (value: number) =>
    value === 0 || (value >= 1000 && value <= 1_000_000)
      ? undefined
      : 'is neither 0 nor between 1000 and 1000000',
  'LinuxContainerResources.cpuQuota': (value: number) =>
    value === -1 || value === 0 || value >= 1000 ? undefined : 'is neither -1, 0 nor 1000 and more',
  'LinuxContainerResources.cpuShares': atLeast(0),
  'LinuxContainerResources.memoryLimitInBytes': atLeast(-1),
  'LinuxContainerResources.memorySwapLimitInBytes': atLeast(-1),
  'LinuxContainerResources.oomScoreAdj': between(-1000, 1000),
  'LinuxContainerResources.cpusetCpus': matches(/^[0-9,\- ]+$/, 'list of CPUs, as 0-3,7', 4096),
  'LinuxContainerResources.cpusetMems': matches(/^[0-9,\- ]+$/, 'list of memory nodes, as 0-1', 4096),
  'LinuxContainerResources.unified': keysMatch(/^[a-z0-9_]+(\.[A-Za-z0-9_]+)+$/, 'file of cgroup v2'),
  'HugepageLimit.pageSize': matches(/^\d+[KMGT]?i?B?$/, 'size of a page, as 2MB', 16),

  'ContainerConfig.command': argument,
  'ContainerConfig.args': argument,
  'ContainerConfig.workingDir': absolutePath,
  'ContainerConfig.logPath': relativePath,
  'ContainerConfig.stopSignal': oneOf(66, 'signal'),
  'KeyValue.key': (value: string) =>
    value === ''
      ? 'is empty'
      : value.includes('=') || value.length > 4096
        ? 'is no name of a variable'
        : undefined,
  'KeyValue.value': argument,
  'Mount.containerPath': containerPath,
  'Mount.hostPath': absolutePath,
  'Mount.propagation': oneOf(3, 'propagation'),
  'Mount.imageSubPath': relativePath,
  'Device.containerPath': absolutePath,
  'Device.hostPath': absolutePath,
  'Device.permissions': matches(/^[rwm]{1,3}$/, 'combination of r, w and m', 3),
  'CDIDevice.name': matches(
    /^[A-Za-z0-9][A-Za-z0-9_./=:@-]*$/,
    'name of a CDI device, as vendor.com/class=name',
  ),
  'ImageSpec.image': (value: string) =>
    value.length > 1024
      ? 'is longer than 1024 characters'
      : (plain as (v: string) => string | undefined)(value),

  'StopContainerRequest.timeout': atLeast(0),
  'ExecSyncRequest.timeout': atLeast(0),
  'ExecSyncRequest.cmd': argument,
  'ExecRequest.cmd': argument,
  'PortForwardRequest.port': between(1, 65535),
  'CheckpointContainerRequest.timeout': atLeast(0),
  'CheckpointContainerRequest.location': absolutePath,
  'NetworkConfig.podCidr': cidrs,
};

/** Fields that have to be there: by their message, or by the path from the request. Ids are added to them. */
export const REQUIRED: ReadonlySet<string> = new Set([
  'RunPodSandboxRequest.config',
  'RunPodSandboxRequest.config.metadata',
  'CreateContainerRequest.config',
  'CreateContainerRequest.config.metadata',
  'CreateContainerRequest.config.image',
  'PodSandboxMetadata.name',
  'PodSandboxMetadata.namespace',
  'PodSandboxMetadata.uid',
  'ContainerMetadata.name',
  'ExecSyncRequest.cmd',
  'ExecRequest.cmd',
  'PullImageRequest.image',
  'ImageStatusRequest.image',
  'RemoveImageRequest.image',
  'Mount.containerPath',
  'KeyValue.key',
]);

/** Messages as a whole. */
export const MESSAGE_RULES: Readonly<
  Record<string, (message: Readonly<Record<string, unknown>>) => string | undefined>
> = {
  IDMapping: ({ hostId = 0, containerId = 0, length = 0 }) =>
    (hostId as number) + (length as number) > MAX_UINT32 + 1 ||
    (containerId as number) + (length as number) > MAX_UINT32 + 1
      ? 'reaches beyond the highest id'
      : undefined,
  SecurityProfile: ({ profileType, localhostRef = '' }) =>
    profileType === 2 && localhostRef === ''
      ? 'is of type Localhost and names no profile (localhostRef)'
      : undefined,
};
