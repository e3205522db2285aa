/** The stages that connect a pod: pure. */
import {
  addAddress,
  addLink,
  addRoute,
  type Link,
  type LinkAddress,
  setLink,
} from '../linux/netlink/index.ts';
import { NftTransaction } from '../linux/nftables/index.ts';
import { POD_LINK } from './config.ts';
import type { SetElements } from './host-ports.ts';
import type { PodAddress } from './ipam/host-local.ts';
import { hostLinkMac, hostLinkName, macOfIp, ownerAlias } from './names.ts';
import type { Stage, Sysctl } from './stages.ts';
import type { NetworkResult } from './types.ts';

export interface AttachInput {
  readonly network: string;
  readonly id: string;
  /** The descriptor that the peer of the pair is made through; of no meaning to a plan that is only printed. */
  readonly netnsFd: number;
  readonly addresses: readonly PodAddress[];
  readonly mtu: number;
  readonly isGateway: boolean;
  readonly hairpin: boolean;
  /** The kernel has IPv6, whether the network uses it or not. */
  readonly ipv6: boolean;
  readonly ports: readonly SetElements[];
}

const withPrefix = ({ subnet, address }: PodAddress): string => `${address}/${subnet.subnet.prefix}`;

/** The pod's hardware address follows from its first address. */
export function podMac(addresses: readonly PodAddress[]): string {
  return macOfIp(addresses[0]?.address ?? '');
}

export function attachStages(input: AttachInput): Stage[] {
  const { id, addresses, mtu, netnsFd } = input;
  const name = hostLinkName(id);
  const stages: Stage[] = [];
  // Before the link is there: it starts with these, and cannot hear a router meanwhile (CVE-2020-10749).
  if (input.ipv6)
    stages.push({ kind: 'sysctls', name: 'pod-sysctls', where: 'pod', settings: podSysctls(addresses) });
  stages.push({
    kind: 'links',
    name: 'veth',
    where: 'host',
    requests: ({ bridge }) => [
      addLink({
        name,
        mac: hostLinkMac(id),
        mtu,
        master: bridge,
        info: { kind: 'veth', peer: { name: POD_LINK, mac: podMac(addresses), mtu, netnsFd } },
      }),
      // A new link takes no alias; in the same call, so that no link of ours is ever without its owner for long.
      setLink(
        { name },
        {
          alias: ownerAlias(input.network, id),
          port: { hairpin: input.hairpin },
          ...(input.ipv6 ? { addrGenMode: 'none' } : {}),
        },
      ),
    ],
  });
  if (input.ipv6) {
    stages.push({
      kind: 'sysctls',
      name: 'veth-sysctls',
      where: 'host',
      settings: [{ name: `ipv6/conf/${name}/accept_ra`, value: '0' }],
    });
  }
  stages.push({
    kind: 'links',
    name: 'veth-up',
    where: 'host',
    requests: () => [setLink({ name }, { up: true })],
  });
  stages.push({
    kind: 'links',
    name: 'pod-links',
    where: 'pod',
    requests: ({ pod }) => [
      setLink({ name: 'lo' }, { up: true }),
      setLink(pod, { up: true }),
      ...addresses.map((address) => addAddress({ link: pod, address: withPrefix(address), noDad: true })),
      ...(input.isGateway
        ? addresses.map(({ subnet }) =>
            addRoute({
              destination: subnet.family === 4 ? '0.0.0.0/0' : '::/0',
              gateway: subnet.gateway,
              link: pod,
            }),
          )
        : []),
    ],
  });
  if (input.ports.length > 0) {
    stages.push({
      kind: 'rules',
      name: 'host-ports',
      where: 'host',
      transaction: portTransaction(input.ports),
    });
  }
  return stages;
}

function podSysctls(addresses: readonly PodAddress[]): Sysctl[] {
  const settings: Sysctl[] = [
    { name: 'ipv6/conf/default/accept_ra', value: '0' },
    // No waiting for an answer that nobody can give: addresses are unique by allocation.
    { name: 'ipv6/conf/default/accept_dad', value: '0' },
  ];
  if (addresses.some(({ subnet }) => subnet.family === 6)) {
    settings.push(
      { name: 'ipv6/conf/all/disable_ipv6', value: '0' },
      { name: 'ipv6/conf/default/disable_ipv6', value: '0' },
      // The pod may take its link down and up without losing its address.
      { name: 'ipv6/conf/default/keep_addr_on_down', value: '1' },
    );
  }
  return settings;
}

export function portTransaction(ports: readonly SetElements[]): NftTransaction {
  const tx = new NftTransaction();
  for (const { set, elements } of ports) tx.addElements(set, elements);
  return tx;
}

/** What a pod's links have to look like for it to count as connected. */
export function isAttached(
  input: Pick<AttachInput, 'network' | 'id' | 'addresses'>,
  bridge: Link,
  host: Link,
  pod: Link | undefined,
  podAddresses: readonly LinkAddress[],
): boolean {
  return (
    host.alias === ownerAlias(input.network, input.id) &&
    host.master === bridge.index &&
    host.up &&
    pod !== undefined &&
    pod.kind === 'veth' &&
    pod.up &&
    host.peer === pod.index &&
    input.addresses.every((address) => podAddresses.some((found) => found.address === withPrefix(address)))
  );
}

export function attachResult(input: AttachInput, bridge: Link): NetworkResult {
  const { addresses, mtu, isGateway } = input;
  return {
    interfaces: [
      { name: bridge.name, mac: bridge.mac, mtu: bridge.mtu, side: 'host' },
      { name: hostLinkName(input.id), mac: hostLinkMac(input.id), mtu, side: 'host' },
      { name: POD_LINK, mac: podMac(addresses), mtu, side: 'pod' },
    ],
    ips: addresses.map((address) => ({
      address: withPrefix(address),
      gateway: isGateway ? address.subnet.gateway : '',
    })),
    routes: isGateway
      ? addresses.map(({ subnet }) => ({
          dst: subnet.family === 4 ? '0.0.0.0/0' : '::/0',
          gw: subnet.gateway,
        }))
      : [],
  };
}
