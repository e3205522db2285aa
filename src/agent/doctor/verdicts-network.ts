/** Verdicts on what the pod network uses. Pure. */
import type { Facts } from './facts.ts';
import type { Finding } from './types.ts';
import { finding, type Rule, tried } from './verdict.ts';

/** With --network host there are no links and rules of ours. */
const withBridge =
  (rule: Rule): Rule =>
  (facts) =>
    facts.network.bridge ? rule(facts) : undefined;

export const judgeNetwork: readonly Rule[] = [
  withBridge(links),
  withBridge(rules),
  withBridge(ruleFeatures),
  withBridge(plan),
  withBridge(forwarding),
  withBridge(bridgeNetfilter),
  withBridge(ipv6),
  uplink,
  conntrack,
  resolver,
];

function links({ network, rights }: Facts): Finding {
  return tried(finding('links', 'Network', 'bridge and veth'), network.links, {
    rights,
    good: 'were made in a network namespace, and went with it',
    bad: '',
    mend: 'modprobe bridge veth, or use a kernel with CONFIG_BRIDGE and CONFIG_VETH; or --network host',
  });
}

const KERNEL_MEND =
  'modprobe nf_tables nft_chain_nat nft_masq nft_fib_inet nft_ct, or use a kernel with them; or --network host';

function rules({ network, rights }: Facts): Finding {
  const about = finding('nftables', 'Network', 'nftables');
  const { nftables } = network;
  if (!nftables.ok) return tried(about, nftables, { rights, good: '', bad: '', mend: KERNEL_MEND });
  const { available, missing } = nftables.value;
  if (!available) return about.lacking(missing[0]?.reason ?? 'not available', KERNEL_MEND);
  const needed = missing.filter(({ feature }) => !FOR_SERVICES.has(feature));
  if (needed.length === 0) return about.ok('takes every kind of rule that the pod network has');
  const options = needed.map(({ option }) => option).join(', ');
  const found = needed.map(({ feature, reason }) => `${feature} (${reason})`).join(', ');
  return about.lacking(`without ${found}`, `use a kernel with ${options}`);
}

/** Not used by the pod network itself. */
const FOR_SERVICES: ReadonlySet<string> = new Set(['numgen', 'reject', 'counter']);

function ruleFeatures({ network }: Facts): Finding | undefined {
  if (!network.nftables.ok || !network.nftables.value.available) return undefined;
  const missing = network.nftables.value.missing.filter(({ feature }) => FOR_SERVICES.has(feature));
  if (missing.length === 0) return undefined;
  return finding('nftables-services', 'Network', 'nftables for Services')
    .recommended()
    .lacking(
      `without ${missing.map(({ feature }) => feature).join(', ')}`,
      `use a kernel with ${missing.map(({ option }) => option).join(', ')}`,
    );
}

function plan({ network, rights }: Facts): Finding {
  return tried(finding('pod-network', 'Network', 'pod network'), network.plan, {
    rights,
    good: "the bridge's name and the pods' addresses are free, or ours already",
    bad: '',
    mend: 'choose another --bridge or --pod-cidr',
  });
}

function forwarding({ network }: Facts): Finding {
  const about = finding('forwarding', 'Network', 'ip_forward');
  const { value, writable } = network.forward;
  if (value === '1') return about.ok('on');
  if (writable) return about.ok('off; the agent switches it on');
  return about.lacking(
    value === undefined ? 'not here' : 'off, and /proc/sys cannot be written',
    'sysctl -w net.ipv4.ip_forward=1 on the host; in a container, --sysctl net.ipv4.ip_forward=1',
  );
}

function bridgeNetfilter({ network }: Facts): Finding {
  const about = finding('br-netfilter', 'Network', 'br_netfilter').recommended();
  if (network.bridgeNetfilter) return about.ok('here: rules see packets between pods of this node too');
  return about.lacking(
    'not loaded: pods of this node that reach each other by a host port see the gateway as their client',
    'modprobe br_netfilter',
  );
}

function ipv6({ network }: Facts): Finding {
  const about = finding('ipv6', 'Network', 'IPv6').recommended();
  switch (network.ipv6) {
    case 'on':
      return about.ok('on: pods get addresses of both families');
    case 'disabled':
      return about.lacking(
        'switched off: pods get IPv4 addresses only',
        'sysctl -w net.ipv6.conf.all.disable_ipv6=0',
      );
    case 'absent':
      return about.lacking(
        'not in this kernel: pods get IPv4 addresses only',
        'use a kernel with CONFIG_IPV6',
      );
  }
}

function uplink({ network }: Facts): Finding {
  const about = finding('uplink', 'Network', 'default route').recommended();
  const { uplinks } = network;
  return uplinks.length > 0
    ? about.ok(`by ${uplinks.join(', ')}`)
    : about.lacking(
        'none: neither this machine nor its pods reach others',
        'connect it; without a network, nodelet image pack and nodelet image import bring images',
      );
}

function conntrack({ network }: Facts): Finding | undefined {
  if (network.conntrack === undefined) return undefined;
  const { count, max } = network.conntrack;
  const about = finding('conntrack', 'Network', 'connection table').recommended();
  const found = `${count} of ${max} entries are used`;
  return count < max * 0.8
    ? about.ok(found)
    : about.lacking(found, `sysctl -w net.netfilter.nf_conntrack_max=${max * 4}`);
}

const LOOPBACK = /^(127\.|::1$)/;

function resolver({ network }: Facts): Finding {
  const about = finding('resolver', 'Network', 'name servers').recommended();
  const { path, servers } = network.resolvConf;
  const mend = 'name a server there, or give pods another file by --resolv-conf';
  if (servers === undefined) return about.lacking(`"${path}" cannot be read`, mend);
  if (servers.length === 0) return about.lacking(`"${path}" names none: pods resolve no names`, mend);
  const found = `${servers.join(', ')} in ${path}`;
  if (!network.bridge || !servers.every((server) => LOOPBACK.test(server))) return about.ok(found);
  return about.lacking(`${found}: in a pod, a loopback address is the pod's own`, mend);
}
