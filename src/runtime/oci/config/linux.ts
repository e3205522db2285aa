/** `linux` of config.json but for its resources. */
import { isAbsolute } from 'node:path';
import { exactJsonText } from '../../../linux/exact-json.ts';
import type { OciDevice, OciIdMap, OciLinux, OciNamespace, OciNamespaceType } from '../../launch/spec.ts';
import { checkSysctls } from '../../sysctls.ts';
import { invalidConfig, unsupported } from '../errors.ts';
import { Fields, type Known, show } from './fields.ts';
import { type OciResources, readResources } from './resources.ts';

export interface OciLinuxConfig extends Omit<OciLinux, 'cgroupsPath'> {
  /** Undefined: a path of our own choice. */
  readonly cgroupsPath: string | undefined;
  readonly resources: OciResources;
  /** The profile as it was written. */
  readonly seccomp: string | undefined;
  /** For personality(2). */
  readonly personality: number | undefined;
}

const LINUX: Known = {
  namespaces: true,
  uidMappings: true,
  gidMappings: true,
  devices: true,
  cgroupsPath: true,
  resources: true,
  sysctl: true,
  seccomp: true,
  maskedPaths: true,
  readonlyPaths: true,
  rootfsPropagation: true,
  personality: true,
  mountLabel: 'this runtime sets no SELinux labels',
  intelRdt: 'no resctrl groups are made',
  timeOffsets: 'time namespaces are not made',
  netDevices: 'it is a feature of runtime-spec 1.3',
  memoryPolicy: 'it is a feature of runtime-spec 1.3',
};

const TYPES: readonly OciNamespaceType[] = [
  'pid',
  'network',
  'ipc',
  'uts',
  'mount',
  'user',
  'cgroup',
  'time',
];

/** personality(2). */
const DOMAINS = { LINUX: 0, LINUX32: 8 } as const;

/** Throws OCI_CONFIG_INVALID, OCI_UNSUPPORTED. */
export function readLinux(value: unknown): OciLinuxConfig {
  const fields = new Fields(value ?? {}, 'linux', LINUX);
  const cgroupsPath = fields.text('cgroupsPath');
  const propagation = fields.oneOf('rootfsPropagation', [
    'shared',
    'slave',
    'private',
    'unbindable',
    'rshared',
    'rslave',
    'rprivate',
    'runbindable',
  ]);
  const uidMappings = fields.list('uidMappings', readIdMap);
  const gidMappings = fields.list('gidMappings', readIdMap);
  const namespaces = readNamespaces(fields, uidMappings.length > 0);
  return {
    namespaces,
    uidMappings,
    gidMappings,
    devices: fields.list('devices', readDevice),
    cgroupsPath: cgroupsPath === '' ? undefined : cgroupsPath,
    resources: readResources(fields.raw('resources') ?? {}, 'linux.resources'),
    sysctl: readSysctls(fields, namespaces),
    seccomp: fields.has('seccomp') ? exactJsonText(fields.raw('seccomp')) : undefined,
    maskedPaths: fields.list('maskedPaths', absolute),
    readonlyPaths: fields.list('readonlyPaths', absolute),
    ...(propagation === undefined
      ? {}
      : { rootfsPropagation: propagation.replace(/^r/, '') as NonNullable<OciLinux['rootfsPropagation']> }),
    personality: readPersonality(fields),
  };
}

function absolute(value: unknown, at: string): string {
  if (typeof value !== 'string' || !isAbsolute(value) || value.includes('\0'))
    throw invalidConfig(at, `expected an absolute path, found ${show(value)}`);
  return value;
}

function readNamespaces(fields: Fields, mapped: boolean): OciNamespace[] {
  const seen = new Set<string>();
  const namespaces = fields.list('namespaces', (value, at): OciNamespace => {
    const one = new Fields(value, at, { type: true, path: true });
    const type = one.oneOf('type', TYPES);
    if (type === undefined) throw invalidConfig(one.path('type'), 'is needed');
    if (seen.has(type)) throw invalidConfig(at, `a ${type} namespace is given twice`);
    seen.add(type);
    if (type === 'time') throw unsupported(`config.json: ${at}: a time namespace`, 'none is made');
    const path = one.text('path') ?? '';
    if (path === '') return { type };
    if (!isAbsolute(path)) throw invalidConfig(one.path('path'), `${show(path)} is no absolute path`);
    if (type === 'mount')
      throw unsupported(`config.json: ${one.path('path')}`, 'a mount namespace is always made anew');
    return { type, path };
  });
  const user = namespaces.find((one) => one.type === 'user');
  if (!seen.has('mount'))
    throw invalidConfig('linux.namespaces', 'a container needs a mount namespace of its own');
  if (user !== undefined && user.path === undefined && !mapped)
    throw invalidConfig('linux.uidMappings', 'a new user namespace needs mappings');
  if (user === undefined && mapped)
    throw invalidConfig('linux.uidMappings', 'mappings need a user namespace in linux.namespaces');
  return namespaces;
}

export function readIdMap(value: unknown, at: string): OciIdMap {
  const map = new Fields(value, at, { containerID: true, hostID: true, size: true });
  const number = (key: string, least: number) => {
    const found = map.integer(key, least, 0xffff_ffff);
    if (found === undefined) throw invalidConfig(map.path(key), 'is needed');
    return found;
  };
  return {
    containerID: number('containerID', 0),
    hostID: number('hostID', 0),
    size: number('size', 1),
  };
}

function readDevice(value: unknown, at: string): OciDevice {
  const device = new Fields(value, at, {
    type: true,
    path: true,
    major: true,
    minor: true,
    fileMode: true,
    uid: true,
    gid: true,
  });
  const type = device.oneOf('type', ['c', 'b', 'u', 'p']);
  if (type === undefined) throw invalidConfig(device.path('type'), 'is needed');
  const path = absolute(device.raw('path'), device.path('path'));
  const optional = (key: string, most: number) => {
    const found = device.integer(key, 0, most);
    return found === undefined ? {} : { [key]: found };
  };
  if (type !== 'p' && (!device.has('major') || !device.has('minor')))
    throw invalidConfig(at, `device ${show(path)} needs a major and a minor number`);
  return {
    type,
    path,
    ...optional('major', 0xfff),
    ...optional('minor', 0xf_ffff),
    ...optional('fileMode', 0o7777),
    ...optional('uid', 0xffff_fffe),
    ...optional('gid', 0xffff_fffe),
  };
}

/** Of the UTS namespace, beside what pods may set. */
const DOMAIN_NAME = /^kernel[./]domainname$/;

function readSysctls(fields: Fields, namespaces: readonly OciNamespace[]): Record<string, string> {
  const values = fields.map('sysctl', (value, at) => {
    if (typeof value !== 'string') throw invalidConfig(at, `expected a text, found ${show(value)}`);
    return value;
  });
  const has = (type: OciNamespaceType) => namespaces.some((one) => one.type === type);
  const rest: Record<string, string> = {};
  const names: Record<string, string> = {};
  for (const [key, value] of Object.entries(values)) {
    if (DOMAIN_NAME.test(key) && has('uts')) names[key] = value;
    else rest[key] = value;
  }
  return { ...names, ...checkSysctls(rest, { network: has('network'), ipc: has('ipc') }) };
}

function readPersonality(fields: Fields): number | undefined {
  const one = fields.object('personality', { domain: true, flags: 'runtime-spec defines none' });
  if (one === undefined) return undefined;
  const domain = one.oneOf('domain', ['LINUX', 'LINUX32']);
  if (domain === undefined) throw invalidConfig(one.path('domain'), 'is needed');
  return DOMAINS[domain];
}
