/** Looks at the host; changes nothing. */
import { type LinkAddress, netlinkConstants, type Rtnetlink } from '../linux/netlink/index.ts';
import { readNetSysctl } from '../linux/netns.ts';
import { type Nftables, observeTable } from '../linux/nftables/index.ts';
import type { BridgeNetworkConfig } from './config.ts';
import { tableOf } from './rules.ts';
import { type ObservedHost, setUpSysctls } from './setup.ts';

const { RTPROT, RT_TABLE } = netlinkConstants;

export function observeHost(config: BridgeNetworkConfig, rt: Rtnetlink, nft: Nftables): ObservedHost {
  const links = rt.links();
  const nameOf = new Map(links.map(({ index, name }) => [index, name]));
  const ipv6 = ipv6State(config.hostNetnsFd);
  const routes = [...rt.routes(4), ...(ipv6 === 'on' ? rt.routes(6) : [])].filter(
    ({ destination, table }) => destination.endsWith('/0') && table === RT_TABLE.MAIN,
  );
  const routerLinks = [
    ...new Set(
      routes.flatMap(({ protocol, linkIndex }) =>
        protocol === RTPROT.RA ? (nameOf.get(linkIndex ?? 0) ?? []) : [],
      ),
    ),
  ];
  const uplinks = links.filter(
    ({ index, name }) => name !== config.bridge && routes.some(({ linkIndex }) => linkIndex === index),
  );
  const sysctls: Record<string, string | undefined> = {};
  for (const name of setUpSysctls(config.bridge, routerLinks))
    sysctls[name] = readNetSysctl(config.hostNetnsFd, name);
  return {
    bridge: links.find(({ name }) => name === config.bridge),
    addresses: rt.addresses().map((address: LinkAddress) => ({
      ...address,
      linkName: nameOf.get(address.linkIndex) ?? String(address.linkIndex),
    })),
    ipv6,
    bridgeNetfilter: config.bridgeNetfilter && hasBridgeNetfilter(config.hostNetnsFd),
    sysctls,
    routerLinks,
    uplinkMtu: uplinks.length === 0 ? undefined : Math.min(...uplinks.map(({ mtu }) => mtu)),
    table: observeTable(nft, tableOf(config.bridge)),
  };
}

export function ipv6State(hostNetnsFd: number | undefined): ObservedHost['ipv6'] {
  const disabled = readNetSysctl(hostNetnsFd, 'ipv6/conf/all/disable_ipv6');
  if (disabled === undefined) return 'absent';
  return disabled === '0' ? 'on' : 'disabled';
}

export function hasBridgeNetfilter(hostNetnsFd: number | undefined): boolean {
  return readNetSysctl(hostNetnsFd, 'bridge/bridge-nf-call-iptables') !== undefined;
}
