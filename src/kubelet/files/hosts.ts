/** /etc/hosts of a pod, byte for byte as upstream writes it. */
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import type { BoundPod, HostAlias } from '../../kube/index.ts';
import type { PodHostname } from '../translate/hostname.ts';

const HEADER = '# Kubernetes-managed hosts file.\n';
const HOST_NETWORK_HEADER = '# Kubernetes-managed hosts file (host network).\n';
const FIXED = [
  '127.0.0.1\tlocalhost',
  '::1\tlocalhost ip6-localhost ip6-loopback',
  'fe00::0\tip6-localnet',
  'fe00::0\tip6-mcastprefix',
  'fe00::1\tip6-allnodes',
  'fe00::2\tip6-allrouters',
];

export function hostsFile(
  podIps: readonly string[],
  name: PodHostname,
  aliases: readonly HostAlias[],
): string {
  const names = name.domain === '' ? name.hostname : `${name.hostname}.${name.domain}\t${name.hostname}`;
  const own = podIps.map((ip) => `${ip}\t${names}`);
  return `${HEADER}${[...FIXED, ...own].join('\n')}\n${aliasLines(aliases)}`;
}

/** For pods in the host's network: the host's own file, with the pod's aliases. */
export function hostNetworkHostsFile(nodeFile: string, aliases: readonly HostAlias[]): string {
  return `${HOST_NETWORK_HEADER}${nodeFile}${aliasLines(aliases)}`;
}

function aliasLines(aliases: readonly HostAlias[]): string {
  if (aliases.length === 0) return '';
  const lines = aliases.map(({ ip, hostnames = [] }) => `${ip}\t${hostnames.join('\t')}\n`);
  return `\n# Entries added by HostAliases.\n${lines.join('')}`;
}

/** Writes the pod's file in place: containers that run have it mounted. */
export function writeHosts(path: string, pod: BoundPod, podIps: readonly string[], name: PodHostname): void {
  const aliases = pod.spec.hostAliases ?? [];
  const text = pod.spec.hostNetwork
    ? hostNetworkHostsFile(readFileSync('/etc/hosts', 'utf8'), aliases)
    : hostsFile(podIps, name, aliases);
  writeFileSync(path, text, { mode: 0o644 });
  chmodSync(path, 0o644);
}
