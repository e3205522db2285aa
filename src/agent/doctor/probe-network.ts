/** Links and rules in a network namespace made for it; of the host's own network only what is there to read. */
import { accessSync, constants, readFileSync } from 'node:fs';
import { silentLog } from '../../base/index.ts';
import { addLink, netlinkConstants, Rtnetlink } from '../../linux/netlink/index.ts';
import { probeNftables } from '../../linux/nftables/index.ts';
import type { AgentConfig } from '../config.ts';
import { networkOf } from '../local-node.ts';
import type { NetworkFacts, Outcome } from './facts.ts';
import { readIf, readNumberIf } from './probe-kernel.ts';
import { attempt, Held, works } from './tools.ts';

const FORWARD = '/proc/sys/net/ipv4/ip_forward';

export async function probeNetwork(config: AgentConfig): Promise<NetworkFacts> {
  const uplinks = await attempt(defaultLinks);
  const disabled = readIf('/proc/sys/net/ipv6/conf/all/disable_ipv6');
  const [count, max] = ['count', 'max'].map((name) =>
    readNumberIf(`/proc/sys/net/netfilter/nf_conntrack_${name}`),
  );
  return {
    bridge: config.network === 'bridge',
    ...(await inScratch()),
    plan: await works(() => planPod(config)),
    forward: { value: readIf(FORWARD), writable: isWritable(FORWARD) },
    bridgeNetfilter: readIf('/proc/sys/net/bridge/bridge-nf-call-iptables') !== undefined,
    ipv6: disabled === undefined ? 'absent' : disabled === '0' ? 'on' : 'disabled',
    uplinks: uplinks.ok ? uplinks.value : [],
    conntrack: count === undefined || max === undefined ? undefined : { count, max },
    resolvConf: { path: config.resolvConf, servers: nameServers(config.resolvConf) },
  };
}

async function inScratch(): Promise<Pick<NetworkFacts, 'links' | 'nftables'>> {
  const both = await attempt(async () => {
    await using held = await Held.make(['--net']);
    using namespace = held.namespace('net');
    return {
      links: await works(() => tryLinks(namespace.number)),
      nftables: await attempt(() => probeNftables(namespace.number)),
    };
  });
  return both.ok ? both.value : { links: both as Outcome, nftables: both };
}

/** They go with the namespace. */
function tryLinks(netns: number): void {
  using rt = new Rtnetlink(netns);
  rt.apply([addLink({ name: 'bridge0', info: { kind: 'bridge', stp: false } })]);
  const bridge = rt.link({ name: 'bridge0' });
  if (bridge === undefined) throw new Error('a bridge was made and is not there');
  const info = { kind: 'veth', peer: { name: 'veth1' } } as const;
  rt.apply([addLink({ name: 'veth0', info, master: bridge, up: true })]);
}

function planPod(config: AgentConfig): void {
  const network = networkOf(config, silentLog);
  try {
    const pod = { podNamespace: '', podName: '', podUid: '', portMappings: [] };
    network?.plan({ id: '0'.repeat(64), netnsFd: undefined, ...pod });
  } finally {
    network?.close();
  }
}

function defaultLinks(): string[] {
  using rt = new Rtnetlink();
  const names = new Map(rt.links().map(({ index, name }) => [index, name]));
  const { RT_TABLE } = netlinkConstants;
  const routes = rt
    .routes(4)
    .filter(({ destination, table }) => destination.endsWith('/0') && table === RT_TABLE.MAIN);
  return [...new Set(routes.flatMap(({ linkIndex }) => names.get(linkIndex ?? 0) ?? []))];
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Undefined where the file cannot be read. */
function nameServers(path: string): string[] | undefined {
  try {
    const lines = readFileSync(path, 'utf8').split('\n');
    return lines.flatMap((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1] ?? []);
  } catch {
    return undefined;
  }
}
