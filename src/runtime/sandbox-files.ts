/** /etc/hostname, /etc/resolv.conf and /etc/hosts of a pod, unless the request mounts its own. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hasCode, NodeletError } from '../base/index.ts';
import type { DNSConfig } from '../cri/index.ts';

export interface SandboxFile {
  readonly destination: string;
  readonly path: string;
}

/** No DNSConfig: the host's own file, as containerd does. */
export function resolvConf(dns: DNSConfig | undefined, hostFile: string): string {
  if (dns === undefined) return hostFile;
  const lines: string[] = [];
  if ((dns.searches?.length ?? 0) > 0) lines.push(`search ${(dns.searches ?? []).join(' ')}`);
  for (const server of dns.servers ?? []) lines.push(`nameserver ${server}`);
  if ((dns.options?.length ?? 0) > 0) lines.push(`options ${(dns.options ?? []).join(' ')}`);
  return lines.map((line) => `${line}\n`).join('');
}

function hostText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return '';
    throw error;
  }
}

/** Writes the files; a line break in a name would forge lines (CVE-2022-4318 is of that kind). */
export function writeSandboxFiles(
  directory: string,
  hostname: string,
  dns: DNSConfig | undefined,
): SandboxFile[] {
  for (const value of [
    hostname,
    ...(dns?.servers ?? []),
    ...(dns?.searches ?? []),
    ...(dns?.options ?? []),
  ]) {
    if (/[\n\r\0]/.test(value))
      throw new NodeletError(
        'INVALID_ARGUMENT',
        `hostname and DNS settings must be single lines: ${JSON.stringify(value)}`,
      );
  }
  const contents = {
    hostname: `${hostname}\n`,
    'resolv.conf': resolvConf(dns, hostText('/etc/resolv.conf')),
    hosts: hostText('/etc/hosts'),
  };
  for (const [name, text] of Object.entries(contents))
    writeFileSync(join(directory, name), text, { mode: 0o644 });
  return sandboxFiles(directory);
}

export function sandboxFiles(directory: string): SandboxFile[] {
  return ['hostname', 'hosts', 'resolv.conf'].map((name) => ({
    destination: `/etc/${name}`,
    path: join(directory, name),
  }));
}
