/** What this machine is, for the translation of pods. Read once, when the agent starts. */
import { existsSync, readdirSync, readFileSync, statfsSync } from 'node:fs';
import { arch, availableParallelism, hostname, type NetworkInterfaceInfo, networkInterfaces } from 'node:os';
import { hasCode } from '../base/index.ts';
import { readMeminfo } from '../linux/procfs.ts';
import type { LinuxPodCgroups } from './cgroups-linux.ts';
import type { NodeFacts } from './node.ts';
import { parseResolvConf } from './translate/dns.ts';
import { hugePageUnit } from './translate/resources.ts';

export interface ProbeNodeOptions {
  /** Whose storage is shared out: the kubelet's root directory, which exists. */
  readonly root: string;
  readonly cgroups: Pick<LinuxPodCgroups, 'memory'>;
  /** The host's name in lower case by default. */
  readonly name?: string;
  /** Addresses of the interfaces that the default routes leave by, by default. */
  readonly ips?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  /** Kept for the system, out of reach of pods. Thousandths of a core and bytes. */
  readonly reserved?: { readonly milliCpu?: number; readonly memory?: number };
  /** 110 by default. */
  readonly maxPods?: number;
  readonly resolvConf?: string;
}

/** The eviction thresholds of upstream's kubelet: what is below is no room for pods. */
const KEPT_MEMORY = 100 * 2 ** 20;
const KEPT_STORAGE = 0.1;

/** As the platform labels of nodes have it: Go's names of architectures. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le' };

export function probeNode(options: ProbeNodeOptions): NodeFacts {
  const name = options.name ?? hostname().trim().toLowerCase();
  const memoryCapacity = readMeminfo().get('MemTotal') ?? 0;
  const hugePages = readHugePages();
  const huge = Object.values(hugePages).reduce((sum, bytes) => sum + bytes, 0);
  const { milliCpu: reservedCpu = 0, memory: reservedMemory = 0 } = options.reserved ?? {};
  const milliCpu = Math.max(0, availableParallelism() * 1000 - reservedCpu);
  const memory = Math.max(0, memoryCapacity - reservedMemory - huge);
  const disk = statfsSync(options.root);
  return {
    name,
    ips: options.ips ?? hostAddresses(),
    labels: {
      'kubernetes.io/hostname': name,
      'kubernetes.io/os': 'linux',
      'kubernetes.io/arch': ARCHITECTURES[arch()] ?? arch(),
      ...options.labels,
    },
    memoryCapacity,
    allocatable: {
      milliCpu,
      memory: Math.max(0, memory - KEPT_MEMORY),
      ephemeralStorage: Math.floor(disk.bsize * disk.blocks * (1 - KEPT_STORAGE)),
      pods: options.maxPods ?? 110,
    },
    podsLimit: { milliCpu, memory: memoryCapacity - reservedMemory },
    hugePages,
    thermalThrottlePaths: thermalThrottlePaths(),
    cgroupV2Memory: options.cgroups.memory.v2,
    cgroupV2Swap: options.cgroups.memory.swap,
    resolvConf: parseResolvConf(readResolvConf(options.resolvConf)),
  };
}

const CPUS = '/sys/devices/system/cpu';

export function thermalThrottlePaths(): string[] {
  const cpus = listNames(CPUS).filter((name) => /^cpu\d+$/.test(name));
  return cpus.map((cpu) => `${CPUS}/${cpu}/thermal_throttle`).filter((path) => existsSync(path));
}

const HUGE_PAGES = '/sys/kernel/mm/hugepages';

function readHugePages(): Record<string, number> {
  const pages: Record<string, number> = {};
  for (const name of listNames(HUGE_PAGES)) {
    const kilobytes = /^hugepages-(\d+)kB$/.exec(name)?.[1];
    if (kilobytes === undefined) continue;
    const size = BigInt(kilobytes) * 1024n;
    pages[hugePageUnit(size)] = Number(readText(`${HUGE_PAGES}/${name}/nr_hugepages`)) * Number(size);
  }
  return pages;
}

const RESOLVED = '/run/systemd/resolve/resolv.conf';

/** A stub resolver on the loopback is none for pods: systemd-resolved writes the real servers beside it. */
function readResolvConf(path: string | undefined): string {
  if (path !== undefined) return readFileSync(path, 'utf8');
  const usual = readText('/etc/resolv.conf');
  const { servers } = parseResolvConf(usual);
  const stub = servers.length > 0 && servers.every((server) => server.startsWith('127.') || server === '::1');
  return stub && existsSync(RESOLVED) ? readFileSync(RESOLVED, 'utf8') : usual;
}

function hostAddresses(): string[] {
  const tables = { ipv4: readText('/proc/net/route'), ipv6: readText('/proc/net/ipv6_route') };
  return addressesOf(tables, networkInterfaces());
}

/** One address of each family: of the interface of the default route, or of any that leads out. IPv4 first. Pure. */
export function addressesOf(
  tables: { readonly ipv4: string; readonly ipv6: string },
  interfaces: Readonly<Record<string, readonly NetworkInterfaceInfo[] | undefined>>,
): string[] {
  const pick = (family: 'IPv4' | 'IPv6', preferred: string | undefined) => {
    const usable = Object.entries(interfaces).flatMap(([name, all]) =>
      (all ?? [])
        .filter((each) => each.family === family && !each.internal && !isLinkLocal(each.address))
        .map(({ address }) => ({ name, address })),
    );
    return (usable.find(({ name }) => name === preferred) ?? usable[0])?.address;
  };
  return [pick('IPv4', defaultRoute4(tables.ipv4)), pick('IPv6', defaultRoute6(tables.ipv6))].filter(
    (address) => address !== undefined,
  );
}

function isLinkLocal(address: string): boolean {
  return address.startsWith('169.254.') || /^fe[89ab]/i.test(address);
}

/** Columns: interface, destination, gateway, flags, references, uses, metric, mask (hexadecimal, little endian). */
function defaultRoute4(table: string): string | undefined {
  const rows = table.split('\n').map((line) => line.trim().split(/\s+/));
  const routes = rows.filter((row) => row[1] === '00000000' && row[7] === '00000000');
  return routes.toSorted((a, b) => Number(a[6]) - Number(b[6]))[0]?.[0];
}

/** Columns: destination, its prefix, source, its prefix, next hop, metric, references, uses, flags, interface. */
function defaultRoute6(table: string): string | undefined {
  const rows = table.split('\n').map((line) => line.trim().split(/\s+/));
  const routes = rows.filter((row) => /^0{32}$/.test(row[0] ?? '') && row[1] === '00' && row[9] !== 'lo');
  return routes.toSorted((a, b) => Number.parseInt(a[5] ?? '', 16) - Number.parseInt(b[5] ?? '', 16))[0]?.[9];
}

function listNames(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return '';
    throw error;
  }
}
