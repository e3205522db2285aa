import { describe, expect, it } from 'vitest';
import { attachStages } from '../../../src/cni/attach.ts';
import { type BridgeNetworkOptions, resolveConfig } from '../../../src/cni/config.ts';
import {
  checkId,
  hostLinkMac,
  hostLinkName,
  macOfIp,
  ownerAlias,
  parseOwnerAlias,
} from '../../../src/cni/names.ts';
import { ownerOfLink, strayLinks } from '../../../src/cni/owned.ts';
import { type ObservedHost, planSetUp } from '../../../src/cni/setup.ts';
import { describeStage } from '../../../src/cni/stages.ts';
import type { Link } from '../../../src/linux/netlink/index.ts';

const id = '0123abcd'.repeat(8);

describe('names', () => {
  it('of a link follow from the id', () => {
    expect(hostLinkName(id)).toBe('veth0123abcd');
    expect(hostLinkName('my-pod')).toMatch(/^veth[0-9a-f]{8}$/);
    expect(hostLinkName('my-pod')).not.toBe(hostLinkName('my-pod2'));
  });

  it('of an owner are read back', () => {
    expect(parseOwnerAlias(ownerAlias('pods', id))).toEqual({ network: 'pods', id });
    expect(parseOwnerAlias(ownerAlias('pods'))).toEqual({ network: 'pods', id: '' });
    for (const alias of ['', 'eth0', 'nodelet:pods', 'x:pods:a', 'nodelet:a:b:c'])
      expect(parseOwnerAlias(alias)).toBeUndefined();
  });

  it('of hardware are local, single, and follow from the address', () => {
    expect(macOfIp('10.88.0.5')).toBe('0a:58:0a:58:00:05');
    expect(macOfIp('fd00:88::5')).toMatch(/^0a:58(:[0-9a-f]{2}){4}$/);
    expect(macOfIp('fd00:88::5')).not.toBe(macOfIp('fd00:88::6'));
    expect(hostLinkMac(id)).toMatch(/^0e(:[0-9a-f]{2}){5}$/);
  });

  it.each(['', '../x', 'a b', 'a\nb', 'a"', 'x'.repeat(128)])('an id of %j is refused', (bad) => {
    expect(() => checkId(bad)).toThrow(expect.objectContaining({ code: 'NETWORK_INVALID_CONFIG' }));
  });
});

describe('settings', () => {
  it.each<[string, Partial<BridgeNetworkOptions>, string]>([
    ['a name that is a path', { name: '../x' }, 'NETWORK_INVALID_CONFIG'],
    ['a bridge name of 16 letters', { bridge: 'abcdefghijklmnop' }, 'NETWORK_INVALID_CONFIG'],
    ['a bridge name that would be a rule', { bridge: 'a;b' }, 'NETWORK_INVALID_CONFIG'],
    ['an MTU of 100', { mtu: 100 }, 'NETWORK_INVALID_CONFIG'],
    ['no subnet', { subnets: [] }, 'NETWORK_INVALID_CONFIG'],
    ['two IPv4 subnets', { subnets: ['10.1.0.0/16', '10.2.0.0/16'] }, 'NETWORK_INVALID_CONFIG'],
    ['a subnet without its prefix', { subnets: ['10.1.0.0'] }, 'INVALID_SUBNET'],
    [
      'a gateway that is no address',
      { subnets: [{ subnet: '10.1.0.0/16', gateway: 'x' }] },
      'INVALID_ADDRESS',
    ],
  ])('%s are refused', (_name, options, code) => {
    expect(() => resolveConfig({ name: 'pods', ...options })).toThrow(expect.objectContaining({ code }));
  });

  it('have defaults', () => {
    const config = resolveConfig({ name: 'pods' });
    expect(config).toMatchObject({
      bridge: 'nodelet0',
      dataDir: '/var/lib/cni/networks',
      isGateway: true,
      ipMasq: true,
      hairpin: true,
      defaultSubnets: true,
    });
    expect(config.subnets.map(({ text, gateway }) => [text, gateway])).toEqual([
      ['10.88.0.0/16', '10.88.0.1'],
      ['fd4e:6f64:656c::/64', 'fd4e:6f64:656c::1'],
    ]);
  });
});

const config = resolveConfig({ name: 'pods', subnets: ['10.88.0.0/16', 'fd00:88::/64'] });
const bareHost: ObservedHost = {
  bridge: undefined,
  addresses: [],
  ipv6: 'on',
  bridgeNetfilter: true,
  sysctls: { 'ipv4/ip_forward': '0', 'ipv6/conf/all/forwarding': '0' },
  routerLinks: [],
  uplinkMtu: 1450,
  table: undefined,
};

const lines = (host: ObservedHost, options: Partial<BridgeNetworkOptions> = {}): string[] =>
  planSetUp(
    resolveConfig({ name: 'pods', subnets: ['10.88.0.0/16', 'fd00:88::/64'], ...options }),
    host,
  ).stages.flatMap((stage) => describeStage(stage, 'nodelet0', 'eth0').map(({ action }) => action));

describe('the set-up of a bare host', () => {
  it('is this, in this order', () => {
    expect(lines(bareHost)).toEqual([
      'ip link add nodelet0 address 0a:58:0a:58:00:01 mtu 1450 type bridge stp_state 0 forward_delay 0 nf_call_iptables 1 nf_call_ip6tables 1',
      'ip link set nodelet0 alias "nodelet:pods:" addrgenmode none',
      'sysctl -w net/ipv6/conf/nodelet0/accept_ra=0',
      'sysctl -w net/ipv6/conf/nodelet0/accept_dad=0',
      'sysctl -w net/ipv6/conf/nodelet0/disable_ipv6=0',
      'sysctl -w net/ipv4/ip_forward=1',
      'sysctl -w net/ipv6/conf/all/forwarding=1',
      'ip link set nodelet0 up',
      'ip address add 10.88.0.1/16 dev nodelet0',
      'ip address add fd00:88::1/64 dev nodelet0 nodad',
      'ip address add fe80::1/64 dev nodelet0 nodad',
      'nft add table inet nodelet-nodelet0 { comment "pods of network pods on bridge nodelet0"; }',
      'nft add map inet nodelet-nodelet0 hostports4 { type inet_proto . inet_service : ipv4_addr . inet_service; }',
      'nft add map inet nodelet-nodelet0 hostips4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }',
      'nft add set inet nodelet-nodelet0 hairpin4 { type ipv4_addr . ipv4_addr; }',
      'nft add map inet nodelet-nodelet0 hostports6 { type inet_proto . inet_service : ipv6_addr . inet_service; }',
      'nft add map inet nodelet-nodelet0 hostips6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }',
      'nft add set inet nodelet-nodelet0 hairpin6 { type ipv6_addr . ipv6_addr; }',
      'nft add chain inet nodelet-nodelet0 hostports',
      'nft add chain inet nodelet-nodelet0 prerouting { type nat hook prerouting priority -100; policy accept; }',
      'nft add chain inet nodelet-nodelet0 output { type nat hook output priority -100; policy accept; }',
      'nft add chain inet nodelet-nodelet0 postrouting { type nat hook postrouting priority 100; policy accept; }',
      'nft add rule inet nodelet-nodelet0 hostports ip daddr 127.0.0.0/8 return',
      'nft add rule inet nodelet-nodelet0 hostports dnat ip addr . port to ip daddr . meta l4proto . th dport map @hostips4',
      'nft add rule inet nodelet-nodelet0 hostports meta nfproto ipv4 dnat ip addr . port to meta l4proto . th dport map @hostports4',
      'nft add rule inet nodelet-nodelet0 hostports ip6 daddr ::1 return',
      'nft add rule inet nodelet-nodelet0 hostports dnat ip6 addr . port to ip6 daddr . meta l4proto . th dport map @hostips6',
      'nft add rule inet nodelet-nodelet0 hostports meta nfproto ipv6 dnat ip6 addr . port to meta l4proto . th dport map @hostports6',
      'nft add rule inet nodelet-nodelet0 prerouting fib daddr type local jump hostports',
      'nft add rule inet nodelet-nodelet0 output fib daddr type local jump hostports',
      'nft add rule inet nodelet-nodelet0 postrouting oifname != "nodelet0" ip saddr 10.88.0.0/16 ip daddr != 10.88.0.0/16 masquerade fully-random',
      'nft add rule inet nodelet-nodelet0 postrouting ct status dnat ip saddr . ip daddr @hairpin4 masquerade fully-random',
      'nft add rule inet nodelet-nodelet0 postrouting oifname != "nodelet0" ip6 saddr fd00:88::/64 ip6 daddr != fd00:88::/64 masquerade fully-random',
      'nft add rule inet nodelet-nodelet0 postrouting ct status dnat ip6 saddr . ip6 daddr @hairpin6 masquerade fully-random',
    ]);
  });

  it('without br_netfilter masquerades what goes from pod to pod by a host port', () => {
    const text = lines({ ...bareHost, bridgeNetfilter: false });
    expect(text).toContain(
      'nft add rule inet nodelet-nodelet0 postrouting ct status dnat ip saddr 10.88.0.0/16 ip daddr 10.88.0.0/16 masquerade fully-random',
    );
    expect(text.join()).toContain('nf_call_iptables 0');
    expect(text.join()).not.toContain('@hairpin4');
  });

  it('without a gateway neither forwards nor has an address', () => {
    const text = lines(bareHost, { isGateway: false, ipMasq: false }).join('\n');
    expect(text).not.toMatch(/ip_forward|forwarding|address add|oifname/);
  });

  it('never opens the loopback of the host: no route_localnet, anywhere', () => {
    expect(lines(bareHost).join()).not.toContain('route_localnet');
  });

  it('lets a link that listens to routers go on doing so', () => {
    const sysctls = { ...bareHost.sysctls, 'ipv6/conf/eth0/accept_ra': '1', 'ipv6/conf/eth1/accept_ra': '2' };
    const text = lines({ ...bareHost, sysctls, routerLinks: ['eth0', 'eth1'] });
    expect(text.indexOf('sysctl -w net/ipv6/conf/eth0/accept_ra=2')).toBeLessThan(
      text.indexOf('sysctl -w net/ipv6/conf/all/forwarding=1'),
    );
    expect(text).toContain('sysctl -w net/ipv6/conf/eth0/accept_ra=2');
    expect(text.join()).not.toContain('eth1');
  });

  it.each(['disabled', 'absent'] as const)(
    'with IPv6 %s leaves the default subnet of it out, and refuses a chosen one',
    (ipv6) => {
      const text = lines({ ...bareHost, ipv6 }, { subnets: undefined }).join('\n');
      expect(text).not.toMatch(/fd4e|hostports6|all\/forwarding|fe80/);
      expect(text).toContain('10.88.0.1/16');
      expect(() => lines({ ...bareHost, ipv6 })).toThrow(expect.objectContaining({ code: 'IPV6_DISABLED' }));
    },
  );
});

describe('the stages of a pod', () => {
  const [v4, v6] = config.subnets;
  const input = {
    network: 'pods',
    id,
    netnsFd: 9,
    addresses: [
      { subnet: v4!, address: '10.88.0.5' },
      { subnet: v6!, address: 'fd00:88::5' },
    ],
    mtu: 1450,
    isGateway: true,
    hairpin: true,
    ipv6: true,
    ports: [],
  };
  const text = (change: Partial<typeof input> = {}): string[] =>
    attachStages({ ...input, ...change }).flatMap((stage) =>
      describeStage(stage, 'nodelet0', 'eth0').map(({ where, action }) => `${where} ${action}`),
    );

  it('are these; accept_ra is off before a link is up', () => {
    expect(text()).toEqual([
      'pod sysctl -w net/ipv6/conf/default/accept_ra=0',
      'pod sysctl -w net/ipv6/conf/default/accept_dad=0',
      'pod sysctl -w net/ipv6/conf/all/disable_ipv6=0',
      'pod sysctl -w net/ipv6/conf/default/disable_ipv6=0',
      'pod sysctl -w net/ipv6/conf/default/keep_addr_on_down=1',
      `host ip link add veth0123abcd address ${hostLinkMac(id)} mtu 1450 master nodelet0 type veth peer name eth0 address 0a:58:0a:58:00:05 mtu 1450 netns POD`,
      `host ip link set veth0123abcd alias "nodelet:pods:${id}" addrgenmode none type bridge_slave hairpin on`,
      'host sysctl -w net/ipv6/conf/veth0123abcd/accept_ra=0',
      'host ip link set veth0123abcd up',
      'pod ip link set lo up',
      'pod ip link set eth0 up',
      'pod ip address add 10.88.0.5/16 dev eth0',
      'pod ip address add fd00:88::5/64 dev eth0 nodad',
      'pod ip route add default via 10.88.0.1 dev eth0',
      'pod ip -6 route add default via fd00:88::1 dev eth0',
    ]);
  });

  it('have no word of IPv6 where the kernel has none', () => {
    expect(text({ ipv6: false, addresses: [input.addresses[0]!] }).join()).not.toMatch(/ipv6|addrgenmode/);
  });
});

describe('the owner of a link', () => {
  const link = (change: Partial<Link>): Link => ({
    index: 5,
    name: 'veth0123abcd',
    up: true,
    flags: 1,
    operState: 'up',
    mtu: 1500,
    mac: '',
    alias: '',
    master: 3,
    peer: 2,
    peerNetnsId: 0,
    kind: 'veth',
    bridge: undefined,
    port: undefined,
    promiscuity: 0,
    ...change,
  });
  const bridge = { index: 3, name: 'nodelet0' };

  it.each<[string, Partial<Link>, string | undefined]>([
    ['is in its alias', { alias: `nodelet:pods:${id}`, name: 'x' }, id],
    ['of another network is none', { alias: `nodelet:other:${id}` }, undefined],
    ['with a foreign alias is none', { alias: 'docker' }, undefined],
    ['of a half-made link on our bridge is unknown', {}, ''],
    ['of such a link elsewhere is none', { master: 4 }, undefined],
    ['with another name is none', { name: 'veth0' }, undefined],
    ['of another kind is none', { kind: 'vxlan', alias: `nodelet:pods:${id}` }, undefined],
  ])('%s', (_name, change, owner) => {
    expect(ownerOfLink(link(change), 'pods', bridge)).toBe(owner);
  });

  it('that is valid keeps it, half-made or not', () => {
    const all = [
      link({ alias: `nodelet:pods:${id}` }),
      link({ name: 'vethffffffff', alias: 'nodelet:pods:gone' }),
      link({}),
      link({ name: 'vetheeeeeeee' }),
    ];
    expect(strayLinks(all, 'pods', bridge, new Set([id])).map(({ owner }) => owner)).toEqual(['gone', '']);
  });
});
