/** Name resolution of a pod: what its /etc/resolv.conf says. */
import type { DNSConfig } from '../../cri/index.ts';
import {
  type BoundPod,
  formatPod,
  MAX_NAMESERVERS,
  MAX_SEARCH_LENGTH,
  MAX_SEARCH_PATHS,
  type PodDNSConfigOption,
} from '../../kube/index.ts';
import type { KubeletSettings, ResolvConf } from '../node.ts';

export interface PodDns {
  readonly config: DNSConfig;
  /** Said as events: limits that cut something, a missing cluster DNS. */
  readonly warnings: readonly { readonly reason: string; readonly message: string }[];
}

/** glibc aborts on longer search paths. */
const MAX_SEARCH_PATH = 253;

type Base = 'none' | 'cluster' | 'host';

function baseOf(pod: BoundPod): Base {
  switch (pod.spec.dnsPolicy) {
    case 'None':
      return 'none';
    case 'ClusterFirstWithHostNet':
      return 'cluster';
    case 'ClusterFirst':
      return pod.spec.hostNetwork ? 'host' : 'cluster';
    default:
      return 'host';
  }
}

export function podDns(
  pod: BoundPod,
  settings: Pick<KubeletSettings, 'clusterDns' | 'clusterDomain'>,
  host: ResolvConf,
): PodDns {
  const warnings: { reason: string; message: string }[] = [];
  let base = baseOf(pod);
  if (base === 'cluster' && settings.clusterDns.length === 0) {
    base = 'host';
    // On a machine without a cluster that is the usual case for ClusterFirst, which is the default: nothing to warn of.
    if (pod.spec.dnsPolicy === 'ClusterFirstWithHostNet') {
      warnings.push({
        reason: 'MissingClusterDNS',
        message: `pod: ${JSON.stringify(formatPod(pod))}. kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. Falling back to "Default" policy.`,
      });
    }
  }
  const from = fromBase(base, pod, settings, host);
  const own = pod.spec.dnsConfig;
  const servers = unique([...from.servers, ...(own?.nameservers ?? [])]);
  const searches = unique([...from.searches, ...(own?.searches ?? [])]);
  const options = mergeOptions(from.options, own?.options ?? []);
  return {
    config: { servers: fitServers(servers, warnings), searches: fitSearches(searches, warnings), options },
    warnings,
  };
}

function fromBase(
  base: Base,
  pod: BoundPod,
  { clusterDns, clusterDomain }: Pick<KubeletSettings, 'clusterDns' | 'clusterDomain'>,
  host: ResolvConf,
): ResolvConf {
  if (base === 'none') return { servers: [], searches: [], options: [] };
  if (base === 'host') return host;
  const cluster =
    clusterDomain === ''
      ? []
      : [`${pod.metadata.namespace}.svc.${clusterDomain}`, `svc.${clusterDomain}`, clusterDomain];
  return { servers: clusterDns, searches: unique([...cluster, ...host.searches]), options: ['ndots:5'] };
}

function unique(values: readonly string[]): string[] {
  return [...new Set(values)];
}

function mergeOptions(base: readonly string[], own: readonly PodDNSConfigOption[]): string[] {
  const options = new Map<string, string>();
  for (const option of base) {
    const colon = option.indexOf(':');
    if (colon < 0) options.set(option, '');
    else options.set(option.slice(0, colon), option.slice(colon + 1));
  }
  for (const { name = '', value } of own) options.set(name, value ?? '');
  return [...options].map(([name, value]) => (value === '' ? name : `${name}:${value}`));
}

type Warnings = { reason: string; message: string }[];

function fitServers(servers: string[], warnings: Warnings): string[] {
  if (servers.length <= MAX_NAMESERVERS) return servers;
  const kept = servers.slice(0, MAX_NAMESERVERS);
  warnings.push({
    reason: 'DNSConfigForming',
    message: `Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: ${kept.join(' ')}`,
  });
  return kept;
}

function fitSearches(searches: string[], warnings: Warnings): string[] {
  let kept = searches.slice(0, MAX_SEARCH_PATHS).filter((path) => path.length <= MAX_SEARCH_PATH);
  while (kept.join(' ').length > MAX_SEARCH_LENGTH) kept = kept.slice(0, -1);
  if (kept.length < searches.length) {
    warnings.push({
      reason: 'DNSConfigForming',
      message: `Search Line limits were exceeded, some search paths have been omitted, the applied search line is: ${kept.join(' ')}`,
    });
  }
  return kept;
}

/** The host's resolv.conf as resolv.conf(5) reads it: name servers add up, the last search and options lines count. */
export function parseResolvConf(text: string): ResolvConf {
  const servers: string[] = [];
  let searches: string[] = [];
  const options = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [keyword, ...words] = line.trim().split(/\s+/);
    if (keyword === 'nameserver' && words[0] !== undefined) servers.push(words[0]);
    else if (keyword === 'search' || keyword === 'domain') {
      // With and without a dot at the end a path is the same one, and shall count once.
      searches = words.filter((word) => word !== '.').map((word) => word.replace(/\.$/, ''));
    } else if (keyword === 'options') for (const word of words) options.set(word.split(':')[0] ?? word, word);
  }
  return { servers, searches, options: [...options.values()] };
}
