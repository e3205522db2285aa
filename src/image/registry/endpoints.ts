/**
 * The hosts that a registry's images may come from, as `certs.d` has them now: the configuration is read again for each
 * pull, so a change needs no restart.
 */
import { isAbsolute, join } from 'node:path';
import { readTextIfExists } from '../../base/index.ts';
import { allCapabilities, type Capability, type HostEntry, parseHosts } from './hosts-file.ts';
import { apiHost, isLoopback } from './names.ts';
import { readCertDirectory, readPem, type TlsProfile, tlsProfile } from './tls.ts';

export interface Endpoint {
  /** Scheme, host and port. */
  readonly url: URL;
  /** Root of the API below it: `/v2`. */
  readonly path: string;
  readonly capabilities: ReadonlySet<Capability>;
  readonly tls: TlsProfile | undefined;
  /** Sent to this origin and to no other. */
  readonly headers: Readonly<Record<string, string>>;
  /** Milliseconds; undefined for the default. */
  readonly dialTimeout: number | undefined;
  /** True for the registry itself: credentials of the image are for it, and for no mirror. */
  readonly upstream: boolean;
  /** True where plain HTTP may be tried when there is no TLS. */
  readonly plainFallback: boolean;
}

export interface EndpointOptions {
  /** Directories like containerd's certs.d; the first that has something for a registry counts. */
  readonly directories: readonly string[];
  /** True for `host[:port]` that is spoken to in plain HTTP. */
  readonly plain: (host: string) => boolean;
}

/** What one pull says about its registry, in place of the configuration. */
export interface EndpointOverride {
  /** False: certificates are not checked, and plain HTTP is taken where there is no TLS. */
  readonly tlsVerify?: boolean;
  /** Docker's directory of certificates. */
  readonly certDirectory?: string;
}

export const defaultHostDirectories = [
  '/etc/nodelet/certs.d',
  '/etc/containerd/certs.d',
  '/etc/docker/certs.d',
] as const;

/** Throws REGISTRY_CONFIG_INVALID. */
export async function findEndpoints(
  registry: string,
  options: EndpointOptions,
  override: EndpointOverride = {},
): Promise<readonly Endpoint[]> {
  const found = await configured(registry, options);
  if (override.tlsVerify === undefined && override.certDirectory === undefined) return found;
  const given = override.certDirectory === undefined ? undefined : readCertDirectory(override.certDirectory);
  const skipVerify = override.tlsVerify === false;
  return found.map((endpoint) =>
    endpoint.upstream
      ? {
          ...endpoint,
          plainFallback: endpoint.plainFallback || skipVerify,
          tls: tlsProfile({
            authorities: [...(endpoint.tls?.authorities ?? []), ...(given?.authorities ?? [])],
            clients: given === undefined ? (endpoint.tls?.clients ?? []) : given.clients,
            skipVerify: skipVerify || (override.tlsVerify === undefined && endpoint.tls?.skipVerify === true),
          }),
        }
      : endpoint,
  );
}

async function configured(registry: string, options: EndpointOptions): Promise<readonly Endpoint[]> {
  for (const folder of options.directories.flatMap((root) => candidates(root, registry))) {
    const file = join(folder, 'hosts.toml');
    const text = readTextIfExists(file);
    if (text !== undefined) return await fromFile(text, file, folder, registry, options);
    const tls = readCertDirectory(folder);
    if (tls !== undefined) return [itself(registry, options, tls)];
  }
  return [itself(registry, options, undefined)];
}

/** containerd's names for the directory of `host:port`: `host_port_`, the name itself, and the one for all. */
export function candidates(root: string, registry: string): string[] {
  const port = /^(.*):(\d+)$/.exec(registry);
  const own = port === null ? [registry] : [`${port[1]}_${port[2]}_`, registry];
  return [...own, '_default'].map((name) => join(root, name));
}

async function fromFile(
  text: string,
  file: string,
  folder: string,
  registry: string,
  options: EndpointOptions,
): Promise<readonly Endpoint[]> {
  const { hosts, server, defaults } = await parseHosts(text, file);
  const fallback = itself(registry, options, undefined);
  const last: HostEntry = server ?? {
    ...defaults,
    url: fallback.url,
    path: defaults.overridePath ? '' : '/v2',
  };
  const convert = (entry: HostEntry, upstream: boolean): Endpoint => ({
    url: entry.url,
    path: entry.path,
    capabilities: entry.capabilities,
    tls: profileOf(entry, file, folder),
    headers: entry.headers,
    dialTimeout: entry.dialTimeout,
    upstream: upstream || entry.url.host === apiHost(registry),
    plainFallback: upstream && server === undefined && fallback.plainFallback,
  });
  const all = [...hosts.map((entry) => convert(entry, false)), convert(last, true)];
  // The registry itself may be listed among the hosts, to be asked earlier: not twice then.
  const key = ({ url, path }: Endpoint): string => url.origin + path;
  return all.filter((one, i) => all.findIndex((other) => key(other) === key(one)) === i);
}

function profileOf(entry: HostEntry, file: string, folder: string): TlsProfile | undefined {
  const { authorities, clients, skipVerify } = entry;
  if (authorities.length + clients.length === 0 && !skipVerify) return undefined;
  const where = `the files that "${file}" names`;
  const at = (path: string): string => (isAbsolute(path) ? path : join(folder, path));
  return tlsProfile({
    authorities: authorities.map((path) => readPem(at(path), where, 'CERTIFICATE')),
    clients: clients.map(({ certificate, key }) => ({
      certificate: readPem(at(certificate), where, 'CERTIFICATE'),
      key: readPem(at(key), where, 'PRIVATE KEY'),
    })),
    skipVerify,
  });
}

/** The registry without any configuration. */
function itself(registry: string, options: EndpointOptions, tls: TlsProfile | undefined): Endpoint {
  const host = apiHost(registry);
  const plain = options.plain(registry);
  return {
    url: new URL(`${plain ? 'http' : 'https'}://${host}`),
    path: '/v2',
    capabilities: allCapabilities,
    tls,
    headers: {},
    dialTimeout: undefined,
    upstream: true,
    plainFallback: !plain && tls === undefined && isLoopback(registry),
  };
}
