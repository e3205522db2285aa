import type { BoundPod } from '../../kube/index.ts';
import { PodError } from '../errors.ts';

/** The kernel's limit is 64 bytes; a DNS label has 63. */
const MAX_HOSTNAME = 63;
const MAX_NODENAME = 64;

export interface PodHostname {
  readonly hostname: string;
  /** `<subdomain>.<namespace>.svc.<domain>`, or empty. */
  readonly domain: string;
}

export function podHostname(pod: BoundPod, clusterDomain: string): PodHostname {
  const { hostnameOverride, hostname, subdomain } = pod.spec;
  if (hostnameOverride) return { hostname: truncate(hostnameOverride), domain: '' };
  const domain = subdomain ? `${subdomain}.${pod.metadata.namespace}.svc.${clusterDomain}` : '';
  return { hostname: truncate(hostname || pod.metadata.name), domain };
}

function truncate(name: string): string {
  return name.length <= MAX_HOSTNAME ? name : name.slice(0, MAX_HOSTNAME).replace(/[-.]+$/, '');
}

/** What uname(2) shows in the pod: its hostname, or its full name where `setHostnameAsFQDN` asks for that. */
export function kernelHostname(pod: BoundPod, { hostname, domain }: PodHostname): string {
  if (!pod.spec.setHostnameAsFQDN || domain === '') return hostname;
  const full = `${hostname}.${domain}`;
  if (full.length > MAX_NODENAME) {
    throw new PodError(
      'CreatePodSandboxError',
      `failed to construct FQDN from pod hostname and cluster domain, FQDN ${full} is too long (${MAX_NODENAME} characters is the max, ${full.length} characters requested)`,
    );
  }
  return full;
}
