/**
 * Capabilities (capabilities(7)): their names and bits, sets as masks, and what a container gets.
 *
 * A set is a bigint mask, bit n for capability n, as /proc/<pid>/status prints it in hexadecimal. Names carry `CAP_`,
 * as in the OCI runtime specification; Kubernetes writes them without it, and users write either.
 */
import { readFileSync } from 'node:fs';
import { NodeletError } from '../base/index.ts';

/** Index = bit number (linux/capability.h). All 41 of Linux 5.9 and later. */
export const CAPABILITIES = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_DAC_READ_SEARCH',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETPCAP',
  'CAP_LINUX_IMMUTABLE',
  'CAP_NET_BIND_SERVICE',
  'CAP_NET_BROADCAST',
  'CAP_NET_ADMIN',
  'CAP_NET_RAW',
  'CAP_IPC_LOCK',
  'CAP_IPC_OWNER',
  'CAP_SYS_MODULE',
  'CAP_SYS_RAWIO',
  'CAP_SYS_CHROOT',
  'CAP_SYS_PTRACE',
  'CAP_SYS_PACCT',
  'CAP_SYS_ADMIN',
  'CAP_SYS_BOOT',
  'CAP_SYS_NICE',
  'CAP_SYS_RESOURCE',
  'CAP_SYS_TIME',
  'CAP_SYS_TTY_CONFIG',
  'CAP_MKNOD',
  'CAP_LEASE',
  'CAP_AUDIT_WRITE',
  'CAP_AUDIT_CONTROL',
  'CAP_SETFCAP',
  'CAP_MAC_OVERRIDE',
  'CAP_MAC_ADMIN',
  'CAP_SYSLOG',
  'CAP_WAKE_ALARM',
  'CAP_BLOCK_SUSPEND',
  'CAP_AUDIT_READ',
  'CAP_PERFMON',
  'CAP_BPF',
  'CAP_CHECKPOINT_RESTORE',
] as const;
export type Capability = (typeof CAPABILITIES)[number];

/** What a container has where nothing is said: containerd's and Docker's 14. */
export const defaultCapabilities: readonly Capability[] = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FSETID',
  'CAP_FOWNER',
  'CAP_MKNOD',
  'CAP_NET_RAW',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETFCAP',
  'CAP_SETPCAP',
  'CAP_NET_BIND_SERVICE',
  'CAP_SYS_CHROOT',
  'CAP_KILL',
  'CAP_AUDIT_WRITE',
];

/** `NET_ADMIN`, `net_admin` and `CAP_NET_ADMIN` as `CAP_NET_ADMIN`. Throws CAPABILITY_UNKNOWN. */
export function parseCapability(text: string): Capability {
  const upper = text.toUpperCase();
  const name = upper.startsWith('CAP_') ? upper : `CAP_${upper}`;
  const known = CAPABILITIES.find((capability) => capability === name);
  if (known === undefined) {
    throw new NodeletError(
      'CAPABILITY_UNKNOWN',
      `cannot use capability ${JSON.stringify(text)}: no such capability`,
      {
        hint: 'the names are those of capabilities(7), with or without CAP_; ALL stands for all of them',
        details: { capability: text },
      },
    );
  }
  return known;
}

/** Bit n for every capability n in the list. */
export function capabilityMask(capabilities: Iterable<Capability>): bigint {
  let mask = 0n;
  for (const capability of capabilities) mask |= 1n << BigInt(CAPABILITIES.indexOf(capability));
  return mask;
}

/** The capabilities of a mask in the order of their bits. Bits that have no name yet are left out. */
export function capabilityNames(mask: bigint): Capability[] {
  return CAPABILITIES.filter((_, bit) => (mask & (1n << BigInt(bit))) !== 0n);
}

/** The mask as /proc/<pid>/status prints it: 16 hexadecimal digits. Undefined where the text is none. */
export function parseCapabilityMask(text: string): bigint | undefined {
  return /^[0-9a-f]{1,16}$/i.test(text) ? BigInt(`0x${text}`) : undefined;
}

export interface CapabilityRequest {
  /** Names with or without `CAP_`, in any case; `ALL` for all that the host has. */
  readonly add?: readonly string[];
  readonly drop?: readonly string[];
  /** Everything that the host has; `add` and `drop` do not count then. */
  readonly privileged?: boolean;
}

export interface CapabilityGrant {
  /** For the bounding, permitted and effective sets, in the order of their bits. */
  readonly capabilities: readonly Capability[];
  /** Asked for by name, but the host cannot give them: not in its own bounding set. */
  readonly unavailable: readonly Capability[];
}

/**
 * What a container gets, in containerd's order: `ALL` in `add` replaces the default set by everything, `ALL` in `drop`
 * then by nothing; after that single names are added, then dropped. So add ALL, drop NET_RAW is everything but one,
 * and drop ALL, add NET_BIND_SERVICE is that one alone.
 *
 * `available` is the mask that the runtime's own process can give (its bounding set). Throws CAPABILITY_UNKNOWN.
 */
export function grantCapabilities(request: CapabilityRequest, available: bigint): CapabilityGrant {
  if (request.privileged === true) return { capabilities: capabilityNames(available), unavailable: [] };
  const [addAll, add] = split(request.add ?? []);
  const [dropAll, drop] = split(request.drop ?? []);
  const base = dropAll ? 0n : addAll ? available : capabilityMask(defaultCapabilities);
  const mask = (base | capabilityMask(add)) & ~capabilityMask(drop);
  return {
    capabilities: capabilityNames(mask & available),
    unavailable: capabilityNames(capabilityMask(add) & mask & ~available),
  };
}

function split(names: readonly string[]): readonly [all: boolean, rest: Capability[]] {
  const all = (name: string) => /^(cap_)?all$/i.test(name);
  return [names.some(all), names.filter((name) => !all(name)).map(parseCapability)];
}

/** The highest capability number of the running kernel. */
export function lastCapability(): number {
  return Number(readFileSync('/proc/sys/kernel/cap_last_cap', 'utf8'));
}
