/**
 * What an agent is told: built-in defaults, then a configuration file, then flags. Several agents live side by side when
 * root, state, cgroup root, bridge and subnets differ; everything else follows from root and state.
 */
import { existsSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { NodeletError } from '../base/index.ts';
import type { PullVerification } from '../kubelet/index.ts';

export interface AgentConfig {
  /** Durable state of the runtime: images, snapshots, volumes. */
  readonly root: string;
  /** State that a reboot ends: records, sockets. */
  readonly state: string;
  /** The kubelet's directory: volumes of pods, seccomp profiles. */
  readonly kubeletRoot: string;
  readonly podLogs: string;
  /** Links for log collectors; empty for none. */
  readonly containerLogs: string;
  readonly cgroupRoot: string;
  /** Directory of static pods; empty for none. */
  readonly podManifestPath: string;
  readonly nodeName: string;
  readonly nodeIps: readonly string[];
  /** `bridge` or `host`: with `host` pods can only use the host's network. */
  readonly network: 'bridge' | 'host';
  readonly bridge: string;
  readonly subnets: readonly string[];
  /** True where the subnets are the built-in ones: the IPv6 one is left out on a host without IPv6. */
  readonly defaultSubnets: boolean;
  readonly mtu: number;
  readonly cniDataDir: string;
  readonly clusterDns: readonly string[];
  readonly clusterDomain: string;
  readonly resolvConf: string;
  readonly maxPods: number;
  /** Sandboxes made ahead of pods. */
  readonly spareSandboxes: number;
  /** Processes of a pod; 0 for no limit. */
  readonly podPidsLimit: number;
  readonly seccompDefault: boolean;
  readonly allowedUnsafeSysctls: readonly string[];
  readonly insecureRegistries: readonly string[];
  /** Directories with `HOST/hosts.toml`; empty for the built-in ones. */
  readonly registryHosts: readonly string[];
  /** docker's config.json or podman's auth.json; empty for the built-in places. */
  readonly registryAuthFile: string;
  /** Blobs downloaded at a time, and bytes a second of all of them; 0 for the built-in number, and no limit. */
  readonly imageDownloads: number;
  readonly imageBandwidth: number;
  /** A CredentialProviderConfig (file or directory) and the directory of its programs; empty for none. */
  readonly imageCredentialProviderConfig: string;
  readonly imageCredentialProviderBinDir: string;
  readonly imagePullVerification: PullVerification;
  /** When images go by themselves; see the image room's gc-policy.ts. Ages in milliseconds. */
  readonly imageGc: {
    readonly highThresholdPercent: number;
    readonly lowThresholdPercent: number;
    readonly minimumAge: number;
    readonly maximumAge: number;
  };
  /** False: compressed layers of images are removed when they are unpacked. */
  readonly keepImageBlobs: boolean;
  /** Where the runtime is served to others; empty for nowhere. */
  readonly criSocket: string;
  /** The socket of another runtime, which the kubelet uses in the place of ours; empty for ours. */
  readonly runtimeEndpoint: string;
  /** That of another image service; the runtime's where none is named. */
  readonly imageEndpoint: string;
  /** Ends the agent when its last pod is gone. */
  readonly exitWhenEmpty: boolean;
}

/**
 * The defaults of the cni room, written out: its door would bring the whole room into every command that asks for a socket.
 * A test holds them equal.
 */
export const NETWORK_DEFAULTS = {
  bridge: 'nodelet0',
  dataDir: '/var/lib/cni/networks',
  subnets: ['10.88.0.0/16', 'fd4e:6f64:656c::/64'],
} as const;

export const DEFAULT_ROOT = '/var/lib/nodelet';
export const DEFAULT_STATE = '/run/nodelet';
export const DEFAULT_CGROUP_ROOT = '/nodelet';

type Kind = 'path' | 'socket' | 'text' | 'list' | 'number' | 'duration' | 'boolean';

interface Setting {
  readonly kind: Kind;
  readonly doc: string;
  readonly check?: (value: never) => string | undefined;
}

const positive = (value: number): string | undefined =>
  Number.isInteger(value) && value >= 0 ? undefined : 'must be a whole number, 0 or more';

const VERIFICATION_POLICIES = [
  'NeverVerify',
  'NeverVerifyPreloadedImages',
  'NeverVerifyAllowlistedImages',
  'AlwaysVerify',
] as const;

const percent = (value: number): string | undefined =>
  Number.isInteger(value) && value >= 0 && value <= 100 ? undefined : 'must be a whole number from 0 to 100';

/** Every setting, by its name in the file; its flag is the same in kebab case. */
export const SETTINGS = {
  root: { kind: 'path', doc: `images, snapshots and volumes (default ${DEFAULT_ROOT})` },
  state: { kind: 'path', doc: `records and sockets, gone after a reboot (default ${DEFAULT_STATE})` },
  rootDir: {
    kind: 'path',
    doc: "the kubelet's directory: pods' volumes (default /var/lib/kubelet, or <root>/kubelet where root is set)",
  },
  podLogsDir: {
    kind: 'path',
    doc: 'logs of pods (default /var/log/pods, or <root>/log/pods where root is set)',
  },
  cgroupRoot: {
    kind: 'text',
    doc: `nodelet's own cgroup in every hierarchy (default ${DEFAULT_CGROUP_ROOT})`,
  },
  podManifestPath: { kind: 'path', doc: 'directory of static pods' },
  hostnameOverride: { kind: 'text', doc: "the node's name (default: the host's)" },
  nodeIp: { kind: 'list', doc: "the node's addresses (default: those of the default route)" },
  network: { kind: 'text', doc: 'bridge, or host: pods may only use the network of the host' },
  bridge: { kind: 'text', doc: `name of the bridge (default ${NETWORK_DEFAULTS.bridge})` },
  podCidr: {
    kind: 'list',
    doc: `subnets of pods, one of each family at most (default ${NETWORK_DEFAULTS.subnets.join(',')})`,
  },
  mtu: { kind: 'number', doc: "of pods' links (default: as the host's default route)", check: positive },
  cniDataDir: {
    kind: 'path',
    doc: `where addresses are kept (default ${NETWORK_DEFAULTS.dataDir}, or <root>/cni/networks where root is set)`,
  },
  clusterDns: { kind: 'list', doc: 'name servers for dnsPolicy ClusterFirst' },
  clusterDomain: { kind: 'text', doc: 'default cluster.local' },
  resolvConf: { kind: 'path', doc: "the host's resolver configuration (default /etc/resolv.conf)" },
  maxPods: { kind: 'number', doc: 'default 110', check: positive },
  spareSandboxes: { kind: 'number', doc: 'sandboxes made ahead of pods (default 1)', check: positive },
  podMaxPids: { kind: 'number', doc: 'processes of a pod, 0 for no limit (default 0)', check: positive },
  seccompDefault: {
    kind: 'boolean',
    doc: 'RuntimeDefault for containers that name no profile (default true)',
  },
  allowedUnsafeSysctls: { kind: 'list', doc: 'sysctls beyond the safe ones; a * at the end is allowed' },
  insecureRegistry: { kind: 'list', doc: 'registries to speak plain HTTP with; loopback always may' },
  criSocket: { kind: 'socket', doc: 'serve the runtime to other CRI clients at this unix socket' },
  registryHosts: {
    kind: 'list',
    doc: "directories like containerd's certs.d, with HOST/hosts.toml (default those of nodelet, containerd and docker in /etc)",
  },
  registryAuthFile: {
    kind: 'path',
    doc: "credentials of registries for all pods (default $REGISTRY_AUTH_FILE, else docker's config.json)",
  },
  imageDownloads: { kind: 'number', doc: 'blobs that are downloaded at a time (default 6)', check: positive },
  imageBandwidth: {
    kind: 'number',
    doc: 'bytes a second of all downloads of images together, 0 for no limit (default 0)',
    check: positive,
  },
  imageCredentialProviderConfig: {
    kind: 'path',
    doc: 'a CredentialProviderConfig, or a directory of some: programs that know credentials of registries',
  },
  imageCredentialProviderBinDir: { kind: 'path', doc: 'where these programs are' },
  imagePullCredentialsVerificationPolicy: {
    kind: 'text',
    doc: `when a pod has to show credentials for an image that is here: ${VERIFICATION_POLICIES.join(', ')} (default NeverVerifyPreloadedImages)`,
  },
  preloadedImagesVerificationAllowlist: {
    kind: 'list',
    doc: 'images for NeverVerifyAllowlistedImages: names without tag; a /* at the end is allowed',
  },
  containerRuntimeEndpoint: {
    kind: 'socket',
    doc: 'run pods over the CRI runtime at this unix socket (containerd, CRI-O, nodelet cri)',
  },
  imageServiceEndpoint: { kind: 'socket', doc: "its image service, where that is not the runtime's own" },
  imageGCHighThresholdPercent: {
    kind: 'number',
    doc: 'per cent of the disk in use from which on unused images are removed; 100 for never (default 85)',
    check: percent,
  },
  imageGCLowThresholdPercent: {
    kind: 'number',
    doc: 'per cent of the disk in use down to which they are removed (default 80)',
    check: percent,
  },
  imageMinimumGCAge: { kind: 'duration', doc: 'how long an image is kept at least (default 2m)' },
  imageMaximumGCAge: {
    kind: 'duration',
    doc: 'how long an unused image is kept at most, 0s for ever (default 0s)',
  },
  keepImageBlobs: {
    kind: 'boolean',
    doc: 'keep the compressed layers of images, for export and push (default true)',
  },
  exitWhenEmpty: { kind: 'boolean', doc: 'end when the last pod is gone' },
} as const satisfies Record<string, Setting>;

export type SettingName = keyof typeof SETTINGS;
export type SettingValues = Partial<Record<SettingName, unknown>>;

function invalid(where: string, message: string, hint?: string): NodeletError {
  return new NodeletError(
    'INVALID_CONFIGURATION',
    `${where}: ${message}`,
    hint === undefined ? {} : { hint },
  );
}

/** A path, also as `unix:///path` (as kubelets and crictl write it). */
function socketOf(value: unknown, where: string): string {
  const text = typeof value === 'string' ? value.replace(/^unix:(\/\/)?(?=\/)/, '') : '';
  if (/^[a-z]+:/i.test(text))
    throw invalid(
      where,
      `${JSON.stringify(value)} is no unix socket`,
      'write it as unix:///run/nodelet/cri.sock',
    );
  if (text === '') throw invalid(where, `${JSON.stringify(value)} is no path`);
  return resolve(text);
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds of a Go duration of whole numbers, or undefined. */
function parseDuration(text: string): number | undefined {
  if (text === '0') return 0;
  if (!/^(\d{1,9}(ms|s|m|h))+$/.test(text)) return undefined;
  let sum = 0;
  for (const [, number, unit] of text.matchAll(/(\d+)(ms|s|m|h)/g))
    sum += Number(number) * (UNITS[unit ?? ''] ?? 0);
  return sum;
}

/** Checks one value's shape. Lists may be comma-separated texts, numbers and booleans their texts (flags). */
function convert(name: SettingName, value: unknown, where: string): unknown {
  const { kind } = SETTINGS[name];
  const check = (SETTINGS[name] as Setting).check;
  switch (kind) {
    case 'path':
      if (typeof value !== 'string' || value === '')
        throw invalid(where, `${JSON.stringify(value)} is no path`);
      return resolve(value);
    case 'socket':
      return socketOf(value, where);
    case 'text':
      if (typeof value !== 'string' || value === '')
        throw invalid(where, `${JSON.stringify(value)} is no text`);
      return value;
    case 'list': {
      const list = typeof value === 'string' ? value.split(',') : value;
      if (!Array.isArray(list) || list.some((item) => typeof item !== 'string'))
        throw invalid(where, `${JSON.stringify(value)} is no list of texts`);
      return list.map((item: string) => item.trim()).filter((item) => item !== '');
    }
    case 'number': {
      const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
      const problem = typeof number === 'number' ? check?.(number as never) : 'is no number';
      if (problem !== undefined) throw invalid(where, `${JSON.stringify(value)} ${problem}`);
      return number;
    }
    case 'duration': {
      const milliseconds = typeof value === 'string' ? parseDuration(value) : undefined;
      if (milliseconds === undefined)
        throw invalid(where, `${JSON.stringify(value)} is no duration`, 'write it as 90s, 2m or 1h30m');
      return milliseconds;
    }
    case 'boolean':
      if (value === true || value === 'true') return true;
      if (value === false || value === 'false') return false;
      throw invalid(where, `${JSON.stringify(value)} is neither true nor false`);
  }
}

export const CONFIG_API_VERSION = 'nodelet.dev/v1alpha1';
export const CONFIG_KIND = 'NodeletConfiguration';

/** Reads a configuration file. Throws INVALID_CONFIGURATION naming file and field. */
export async function readConfigFile(path: string): Promise<SettingValues> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new NodeletError('INVALID_CONFIGURATION', `cannot read the configuration ${JSON.stringify(path)}`, {
      cause: error,
    });
  }
  const { parse } = await import('./yaml.ts');
  let document: unknown;
  try {
    document = parse(text, { version: '1.1' });
  } catch (error) {
    throw new NodeletError(
      'INVALID_CONFIGURATION',
      `cannot read the configuration ${JSON.stringify(path)}: it is no YAML`,
      { cause: error },
    );
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document))
    throw invalid(path, 'expected an object');
  const { apiVersion, kind, ...fields } = document as Record<string, unknown>;
  if (apiVersion !== CONFIG_API_VERSION || kind !== CONFIG_KIND) {
    throw invalid(
      path,
      `expected kind "${CONFIG_KIND}" of "${CONFIG_API_VERSION}", found ${JSON.stringify(kind)} of ${JSON.stringify(apiVersion)}`,
    );
  }
  const values: SettingValues = {};
  for (const [name, value] of Object.entries(fields)) {
    if (!Object.hasOwn(SETTINGS, name))
      throw invalid(path, `unknown field "${name}"`, `known are ${Object.keys(SETTINGS).join(', ')}`);
    values[name as SettingName] = convert(name as SettingName, value, `${path}: ${name}`);
  }
  return values;
}

/** Values of flags, as texts. */
export function readFlags(flags: Readonly<Record<string, unknown>>): SettingValues {
  const values: SettingValues = {};
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const value = flags[name] ?? flags[optionKey(name)];
    if (value !== undefined) values[name] = convert(name, value, `--${flagName(name)}`);
  }
  return values;
}

/** podManifestPath → pod-manifest-path, imageMinimumGCAge → image-minimum-gc-age */
export function flagName(setting: string): string {
  return setting
    .replace(/([a-z0-9])([A-Z])/g, '$1-$2')
    .replace(/([A-Z])([A-Z][a-z])/g, '$1-$2')
    .toLowerCase();
}

/** What commander calls the value of a setting's flag: imageMinimumGcAge. */
function optionKey(setting: string): string {
  return flagName(setting).replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}

/** Flags win over the file, the file over defaults. */
export function resolveConfig(...sources: readonly SettingValues[]): AgentConfig {
  const values = Object.assign({}, ...sources.toReversed()) as SettingValues;
  const text = (name: SettingName, fallback: string): string =>
    (values[name] as string | undefined) ?? fallback;
  const list = (name: SettingName): readonly string[] =>
    (values[name] as readonly string[] | undefined) ?? [];
  const number = (name: SettingName, fallback: number): number =>
    (values[name] as number | undefined) ?? fallback;
  const root = text('root', DEFAULT_ROOT);
  const own = root !== DEFAULT_ROOT;
  const network = text('network', 'bridge');
  if (network !== 'bridge' && network !== 'host')
    throw invalid('network', `${JSON.stringify(network)} is neither "bridge" nor "host"`);
  const cgroupRoot = text('cgroupRoot', DEFAULT_CGROUP_ROOT);
  if (!isAbsolute(cgroupRoot) || cgroupRoot === '/')
    throw invalid('cgroupRoot', `${JSON.stringify(cgroupRoot)} is no absolute path below "/"`);
  const subnets = list('podCidr');
  const runtimeEndpoint = text('containerRuntimeEndpoint', '');
  for (const name of ['criSocket', 'imageServiceEndpoint'] as const)
    if ((name === 'criSocket') === (runtimeEndpoint !== '') && values[name] !== undefined)
      throw invalid(
        name,
        name === 'criSocket'
          ? 'there is no runtime of our own to serve where containerRuntimeEndpoint names another'
          : 'it means something only beside containerRuntimeEndpoint',
      );
  const imageGc = {
    highThresholdPercent: number('imageGCHighThresholdPercent', 85),
    lowThresholdPercent: number('imageGCLowThresholdPercent', 80),
    minimumAge: number('imageMinimumGCAge', 120_000),
    maximumAge: number('imageMaximumGCAge', 0),
  };
  if (imageGc.lowThresholdPercent >= imageGc.highThresholdPercent)
    throw invalid(
      'imageGCLowThresholdPercent',
      `${imageGc.lowThresholdPercent} is not less than imageGCHighThresholdPercent ${imageGc.highThresholdPercent}`,
    );
  if (imageGc.maximumAge !== 0 && imageGc.maximumAge <= imageGc.minimumAge)
    throw invalid('imageMaximumGCAge', 'it is not more than imageMinimumGCAge');
  return {
    root,
    state: text('state', own ? join(root, 'state') : DEFAULT_STATE),
    kubeletRoot: text('rootDir', own ? join(root, 'kubelet') : '/var/lib/kubelet'),
    podLogs: text('podLogsDir', own ? join(root, 'log', 'pods') : '/var/log/pods'),
    containerLogs: own ? join(root, 'log', 'containers') : '/var/log/containers',
    cgroupRoot: cgroupRoot.replace(/\/+$/, ''),
    podManifestPath: text('podManifestPath', ''),
    nodeName: text('hostnameOverride', hostname().trim().toLowerCase()),
    nodeIps: list('nodeIp'),
    network,
    bridge: text('bridge', NETWORK_DEFAULTS.bridge),
    subnets: subnets.length > 0 ? subnets : NETWORK_DEFAULTS.subnets,
    defaultSubnets: subnets.length === 0,
    mtu: number('mtu', 0),
    cniDataDir: text('cniDataDir', own ? join(root, 'cni', 'networks') : NETWORK_DEFAULTS.dataDir),
    clusterDns: list('clusterDns'),
    clusterDomain: text('clusterDomain', 'cluster.local'),
    resolvConf: text(
      'resolvConf',
      existsSync('/run/systemd/resolve/resolv.conf')
        ? '/run/systemd/resolve/resolv.conf'
        : '/etc/resolv.conf',
    ),
    maxPods: number('maxPods', 110),
    spareSandboxes: number('spareSandboxes', 1),
    podPidsLimit: number('podMaxPids', 0),
    seccompDefault: (values.seccompDefault as boolean | undefined) ?? true,
    allowedUnsafeSysctls: list('allowedUnsafeSysctls'),
    insecureRegistries: list('insecureRegistry'),
    registryHosts: list('registryHosts').map((path) => resolve(path)),
    registryAuthFile: text('registryAuthFile', ''),
    imageDownloads: number('imageDownloads', 0),
    imageBandwidth: number('imageBandwidth', 0),
    imageCredentialProviderConfig: text('imageCredentialProviderConfig', ''),
    imageCredentialProviderBinDir: text('imageCredentialProviderBinDir', ''),
    imagePullVerification: verification(
      text('imagePullCredentialsVerificationPolicy', 'NeverVerifyPreloadedImages'),
      list('preloadedImagesVerificationAllowlist'),
    ),
    imageGc,
    keepImageBlobs: (values.keepImageBlobs as boolean | undefined) ?? true,
    criSocket: text('criSocket', ''),
    runtimeEndpoint,
    imageEndpoint: text('imageServiceEndpoint', runtimeEndpoint),
    exitWhenEmpty: (values.exitWhenEmpty as boolean | undefined) ?? false,
  };
}

function verification(policy: string, allowlist: readonly string[]): PullVerification {
  const known = VERIFICATION_POLICIES.find((name) => name === policy);
  if (known === undefined) {
    throw invalid(
      'imagePullCredentialsVerificationPolicy',
      `${JSON.stringify(policy)} is none of ${VERIFICATION_POLICIES.join(', ')}`,
    );
  }
  return { policy: known, allowlist };
}

/** The socket of the local API. */
export function socketPath(config: Pick<AgentConfig, 'state'>): string {
  return join(config.state, 'nodelet.sock');
}
