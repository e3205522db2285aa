import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BridgeNetwork } from '../../../src/cni/index.ts';
import { Rtnetlink } from '../../../src/linux/netlink/index.ts';
import type { TestNetns } from '../netlink/netns.ts';
import { World } from './world.ts';

let world: World;
beforeEach(async () => {
  world = await World.make();
});
afterEach(async () => {
  await world[Symbol.asyncDispose]();
});

const links = (ns: TestNetns): string[] => {
  using rt = new Rtnetlink(ns.fd);
  return rt.links().map(({ name }) => name);
};
const files = (name = 'pods'): string[] => {
  const dir = join(world.dataDir, name);
  return existsSync(dir)
    ? readdirSync(dir)
        .filter((file) => /^[0-9a-f]+[.:]/.test(file))
        .sort()
    : [];
};
const rules = (): string => world.host.run('nft', 'list', 'ruleset');
const sysctl = (ns: TestNetns, name: string): string => ns.run('sysctl', '-n', name).trim();

describe('setting up', () => {
  it('makes bridge, addresses, sysctls and rules, once', async () => {
    const network = world.network();
    expect(await network.status()).toMatchObject({ ready: false, reason: 'NetworkNotSetUp' });
    await network.setUp();
    expect(await network.status()).toEqual({ ready: true });
    const before = [rules(), world.host.run('ip', 'addr'), world.host.run('nft', '-a', 'list', 'ruleset')];
    await network.setUp();
    expect([rules(), world.host.run('ip', 'addr'), world.host.run('nft', '-a', 'list', 'ruleset')]).toEqual(
      before,
    );
    const [bridge] = JSON.parse(world.host.run('ip', '-d', '-j', 'link', 'show', 'nodelet0')) as Record<
      string,
      unknown
    >[];
    expect(bridge).toMatchObject({
      promiscuity: 0,
      linkinfo: { info_data: { stp_state: 0, forward_delay: 0, nf_call_iptables: 1, nf_call_ip6tables: 1 } },
    });
    expect(world.host.run('ip', '-br', 'addr', 'show', 'nodelet0')).toMatch(
      /10\.88\.0\.1\/16 fd00:88::1\/64 fe80::1\/64/,
    );
    expect([
      sysctl(world.host, 'net.ipv4.ip_forward'),
      sysctl(world.host, 'net.ipv6.conf.all.forwarding'),
    ]).toEqual(['1', '1']);
    expect(sysctl(world.host, 'net.ipv6.conf.nodelet0.accept_ra')).toBe('0');
  });

  it('writes rules that nft lists, saves and loads again unchanged', async () => {
    await world.pod(world.network(), [{}, { hostPort: 53, protocol: 'udp', hostIP: '192.0.2.1' }]);
    using again = world.namespace('again');
    world.host.feed(rules(), 'nft', '--check', '--file', '-');
    again.feed(rules(), 'nft', '--file', '-');
    expect(again.run('nft', 'list', 'ruleset')).toBe(rules());
  });

  it('takes the MTU of the uplink, and passes it on to the pods', async () => {
    world.host.run('ip', 'link', 'set', 'up0', 'mtu', '1442');
    const pod = await world.pod(world.network());
    expect(pod.result.interfaces.map(({ mtu }) => mtu)).toEqual([1442, 1442, 1442]);
    expect(pod.ns.run('cat', '/proc/net/dev_mcast')).toContain('eth0');
    expect(pod.ns.run('ip', 'link', 'show', 'eth0')).toContain('mtu 1442');
  });

  it('mends what somebody changed', async () => {
    const network = world.network();
    await network.setUp();
    const right = rules();
    world.host.run('nft', 'insert', 'rule', 'inet', 'nodelet-nodelet0', 'postrouting', 'accept');
    world.host.run('nft', 'add', 'chain', 'inet', 'nodelet-nodelet0', 'foreign');
    world.host.run('ip', 'addr', 'del', '10.88.0.1/16', 'dev', 'nodelet0');
    world.host.run('ip', 'addr', 'add', '10.77.0.1/16', 'dev', 'nodelet0');
    world.host.run('ip', 'link', 'set', 'nodelet0', 'down', 'type', 'bridge', 'stp_state', '1');
    world.host.run('sysctl', '-qw', 'net.ipv4.ip_forward=0');
    const { message } = await network.status();
    for (const part of [
      'stp_state 0',
      'ip link set nodelet0 up',
      'ip address add 10.88.0.1/16',
      'ip address delete 10.77.0.1/16',
      'ipv4/ip_forward=1',
      'nft flush chain inet nodelet-nodelet0 postrouting',
    ]) {
      expect(message).toContain(part);
    }
    await network.setUp();
    expect(await network.status()).toEqual({ ready: true });
    expect(rules()).toBe(right);
  });

  it('adopts a bridge that is there, and leaves it at the end', async () => {
    world.host.run('ip', 'link', 'add', 'br7', 'type', 'bridge');
    world.host.run('ip', 'addr', 'add', '10.66.0.1/24', 'dev', 'br7');
    const network = world.network({ bridge: 'br7' });
    const pod = await world.pod(network);
    await world.serveTcp(pod.ns, 80);
    expect(await world.tcp(world.host, pod.ipv4, 80)).toBe('10.88.0.1');
    await network.remove(pod.attachment);
    await network.tearDown();
    expect(links(world.host)).toContain('br7');
    expect(world.host.run('ip', 'addr', 'show', 'br7')).toContain('10.66.0.1/24');
    expect(rules()).toBe('');
  });

  it('refuses a link of the name that is no bridge', async () => {
    world.host.run('ip', 'link', 'add', 'nodelet0', 'type', 'veth', 'peer', 'name', 'other');
    const network = world.network();
    await expect(network.setUp()).rejects.toMatchObject({ code: 'BRIDGE_NAME_TAKEN' });
    expect(await network.status()).toMatchObject({ ready: false, reason: 'BRIDGE_NAME_TAKEN' });
    expect(rules()).toBe('');
  });

  it('refuses a subnet in which another link has an address', async () => {
    await expect(world.network({ subnets: ['192.0.0.0/16'] }).setUp()).rejects.toMatchObject({
      code: 'SUBNET_IN_USE',
      message: 'cannot use subnet "192.0.0.0/16": link "up0" has the address "192.0.2.1/24" in it',
    });
    expect(links(world.host)).not.toContain('nodelet0');
  });

  it('keeps the default route that the host learnt from a router when it begins to forward', async () => {
    world.host.run('sysctl', '-qw', 'net.ipv6.conf.up0.accept_ra=1');
    world.host.run('ip', '-6', 'route', 'add', 'default', 'via', 'fd00:2::2', 'dev', 'up0', 'proto', 'ra');
    await world.network().setUp();
    expect(sysctl(world.host, 'net.ipv6.conf.up0.accept_ra')).toBe('2');
    expect(sysctl(world.host, 'net.ipv6.conf.all.forwarding')).toBe('1');
  });

  it('says what on the host stands in the way but is not its own', async () => {
    world.host.feed(
      'table ip fw {\n chain forwarding {\n type filter hook forward priority 0; policy drop;\n }\n}\n',
      'nft',
      '--file',
      '-',
    );
    const network = world.network();
    await network.setUp();
    expect(await network.status()).toMatchObject({
      ready: true,
      message: expect.stringContaining(
        'chain "forwarding" of nftables table "ip fw" drops forwarded packets',
      ) as string,
    });
    expect(world.host.run('nft', 'list', 'table', 'ip', 'fw')).toContain('policy drop');
  });

  it('lives beside another network with another bridge', async () => {
    const one = world.network();
    const two = world.network({ name: 'other', bridge: 'nodelet1', subnets: ['10.89.0.0/16'] });
    const a = await world.pod(one, [{}]);
    const b = await world.pod(two, [{ hostPort: 8081 }]);
    await world.serveTcp(a.ns, 80);
    await world.serveTcp(b.ns, 80);
    expect(await world.tcp(world.outside, '192.0.2.1', 8080)).toBe('192.0.2.2');
    expect(await world.tcp(world.outside, '192.0.2.1', 8081)).toBe('192.0.2.2');
    expect(await world.tcp(b.ns, a.ipv4, 80)).toBe('10.88.0.1');
    expect(await two.collect(new Set())).toEqual([b.attachment.id]);
    expect(await world.tcp(world.outside, '192.0.2.1', 8080)).toBe('192.0.2.2');
    await two.tearDown();
    expect(links(world.host)).not.toContain('nodelet1');
    expect(rules()).not.toContain('nodelet1');
    expect((await one.status()).ready).toBe(true);
  });
});

describe('on a host without IPv6', () => {
  beforeEach(() => {
    world.host.run('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1');
  });

  it('the default subnet of IPv6 is left out', async () => {
    const network = world.network({ subnets: undefined });
    const pod = await world.pod(network, [{}]);
    expect(pod.result.ips.map(({ address }) => address)).toEqual(['10.88.0.2/16']);
    await world.serveTcp(pod.ns, 80);
    expect(await world.tcp(world.outside, '192.0.2.1', 8080)).toBe('192.0.2.2');
    expect(await network.status()).toEqual({ ready: true });
  });

  it('one that was asked for is refused, with the mend', async () => {
    const network = world.network();
    await expect(network.setUp()).rejects.toMatchObject({
      code: 'IPV6_DISABLED',
      hint: expect.stringContaining('net.ipv6.conf.all.disable_ipv6=0') as string,
    });
    expect(await network.status()).toMatchObject({ ready: false, reason: 'IPV6_DISABLED' });
    expect(links(world.host)).not.toContain('nodelet0');
  });
});

describe('attaching', () => {
  it('gives the pod its links, addresses, routes and hardware address, and says so', async () => {
    const pod = await world.pod(world.network());
    const id = pod.attachment.id;
    const veth = `veth${id.slice(0, 8)}`;
    expect(pod.result).toEqual({
      interfaces: [
        { name: 'nodelet0', mac: '0a:58:0a:58:00:01', mtu: 1500, side: 'host' },
        { name: veth, mac: expect.stringMatching(/^0e:/) as string, mtu: 1500, side: 'host' },
        { name: 'eth0', mac: '0a:58:0a:58:00:02', mtu: 1500, side: 'pod' },
      ],
      ips: [
        { address: '10.88.0.2/16', gateway: '10.88.0.1' },
        { address: 'fd00:88::2/64', gateway: 'fd00:88::1' },
      ],
      routes: [
        { dst: '0.0.0.0/0', gw: '10.88.0.1' },
        { dst: '::/0', gw: 'fd00:88::1' },
      ],
    });
    expect(pod.ns.run('ip', 'route')).toContain('default via 10.88.0.1 dev eth0');
    expect(pod.ns.run('ip', '-6', 'route')).toContain('default via fd00:88::1 dev eth0');
    expect(pod.ns.run('ip', '-6', 'addr', 'show', 'eth0')).not.toContain('tentative');
    expect(pod.ns.run('ip', 'link', 'show', 'lo')).toContain('UP');
    const [shown] = JSON.parse(world.host.run('ip', '-d', '-j', 'link', 'show', veth)) as Record<
      string,
      unknown
    >[];
    expect(shown).toMatchObject({
      ifalias: `nodelet:pods:${id}`,
      master: 'nodelet0',
      linkinfo: { info_slave_data: { hairpin: true } },
    });
    expect(world.host.run('ip', '-6', 'addr', 'show', veth)).toBe('');
    expect(readFileSync(join(world.dataDir, 'pods', '10.88.0.2'), 'utf8')).toBe(`${id}\r\neth0`);
    expect(readFileSync(join(world.dataDir, 'pods', 'fd00:88::2'), 'utf8')).toBe(`${id}\r\neth0`);
    expect(readFileSync(join(world.dataDir, 'pods', 'last_reserved_ip.0'), 'utf8')).toBe('10.88.0.2');
  });

  it('twice gives the same, and touches nothing', async () => {
    const network = world.network();
    const pod = await world.pod(network, [{}]);
    const index = world.host.run('ip', '-j', 'link', 'show', 'type', 'veth');
    expect(await network.add(pod.attachment)).toEqual(pod.result);
    expect(world.host.run('ip', '-j', 'link', 'show', 'type', 'veth')).toBe(index);
    const restarted = world.network();
    expect(await restarted.add(pod.attachment)).toEqual(pod.result);
    expect(files()).toEqual(['10.88.0.2', 'fd00:88::2']);
  });

  it('again mends a pod whose link was taken away, with the same addresses', async () => {
    const network = world.network();
    const pod = await world.pod(network, [{}]);
    world.host.run('ip', 'link', 'delete', `veth${pod.attachment.id.slice(0, 8)}`);
    expect(await network.add(pod.attachment)).toEqual(pod.result);
    pod.ns.run('ip', 'addr', 'flush', 'dev', 'eth0');
    expect(await network.add(pod.attachment)).toEqual(pod.result);
    await world.serveTcp(pod.ns, 80);
    expect(await world.tcp(world.outside, '192.0.2.1', 8080)).toBe('192.0.2.2');
  });

  it('makes the bridge and the rules again when somebody deleted them', async () => {
    const network = world.network();
    await network.setUp();
    world.host.run('ip', 'link', 'delete', 'nodelet0');
    const a = await world.pod(network);
    await world.serveTcp(a.ns, 80);
    expect(await world.tcp(world.host, a.ipv4, 80)).toBe('10.88.0.1');
    world.host.run('nft', 'flush', 'ruleset');
    await world.serveTcp(world.outside, 81);
    const masqueraded = await world.pod(network);
    expect(await world.tcp(masqueraded.ns, '192.0.2.2', 81)).toBe('192.0.2.1');
    const b = await world.pod(network, [{}]);
    await world.serveTcp(b.ns, 80);
    expect(await world.tcp(world.outside, '192.0.2.1', 8080)).toBe('192.0.2.2');
  });

  it('twenty pods at once gives twenty addresses, from two agents on one folder too', async () => {
    const networks = [world.network(), world.network()] as const;
    const pods = await Promise.all(
      Array.from({ length: 20 }, async (_, i) => await world.pod(networks[i % 2] as BridgeNetwork)),
    );
    expect(new Set(pods.map(({ ipv4 }) => ipv4)).size).toBe(20);
    expect(files().length).toBe(40);
    await Promise.all(pods.map(async ({ attachment }, i) => await networks[i % 2]?.remove(attachment)));
    expect(files()).toEqual([]);
    expect(links(world.host).filter((name) => name.startsWith('veth'))).toEqual([]);
  });

  it("refuses the host's own namespace, and none", async () => {
    const network = world.network();
    await expect(network.add(world.attachment(world.host))).rejects.toMatchObject({
      code: 'POD_NETNS_INVALID',
    });
    await expect(network.add(world.attachment(undefined))).rejects.toMatchObject({
      code: 'POD_NETNS_INVALID',
    });
    await expect(network.add(world.attachment(world.outside, [], '../../etc/passwd'))).rejects.toMatchObject({
      code: 'NETWORK_INVALID_CONFIG',
    });
    expect(files()).toEqual([]);
  });

  it('refuses a namespace that has an eth0, and leaves nothing', async () => {
    const network = world.network();
    await network.setUp();
    const ns = world.namespace('pod');
    ns.run('ip', 'link', 'add', 'eth0', 'type', 'bridge');
    await expect(network.add(world.attachment(ns, [{}]))).rejects.toMatchObject({ code: 'EEXIST' });
    expect(files()).toEqual([]);
    expect(links(world.host).filter((name) => name.startsWith('veth'))).toEqual([]);
    expect(rules()).not.toContain('elements');
  });

  it("leaves alone somebody's link of the same name", async () => {
    const network = world.network();
    const id = 'ab'.repeat(32);
    world.host.run('ip', 'link', 'add', 'vethabababab', 'type', 'veth', 'peer', 'name', 'theirs');
    await expect(network.add(world.attachment(world.namespace('pod'), [], id))).rejects.toMatchObject({
      code: 'LINK_NAME_TAKEN',
    });
    await network.remove(world.attachment(undefined, [], id));
    await network.collect(new Set());
    expect(links(world.host)).toContain('vethabababab');
    expect(files()).toEqual([]);
  });
});

describe('addresses', () => {
  it('run out by name, and nothing is left of the pod that got none', async () => {
    const network = world.network({ subnets: ['10.88.0.0/29', 'fd00:88::/64'] });
    const pods = [];
    for (let i = 0; i < 5; i++) pods.push(await world.pod(network));
    expect(pods.map(({ ipv4 }) => ipv4)).toEqual([
      '10.88.0.2',
      '10.88.0.3',
      '10.88.0.4',
      '10.88.0.5',
      '10.88.0.6',
    ]);
    const late = world.attachment(world.namespace('pod'));
    await expect(network.add(late)).rejects.toMatchObject({
      code: 'ADDRESS_RANGE_EXHAUSTED',
      message:
        'cannot give the pod an address: all of "10.88.0.1-10.88.0.6" in subnet "10.88.0.0/29" are taken, 5 of 5',
      details: { inUse: 5, size: 5 },
    });
    expect(files().length).toBe(10);
    expect(links(world.host).filter((name) => name.startsWith('veth')).length).toBe(5);
    await network.remove(pods[2]!.attachment);
    expect((await network.add(late)).ips[0]?.address).toBe('10.88.0.4/29');
  });

  it('that run out in the second family give back the first', async () => {
    const network = world.network({
      subnets: ['10.88.0.0/16', { subnet: 'fd00:88::/64', rangeEnd: 'fd00:88::2' }],
    });
    await world.pod(network);
    await expect(network.add(world.attachment(world.namespace('pod')))).rejects.toMatchObject({
      code: 'ADDRESS_RANGE_EXHAUSTED',
    });
    expect(files()).toEqual(['10.88.0.2', 'fd00:88::2']);
  });

  it('go round: the one released last is the last to come again', async () => {
    const network = world.network({ subnets: ['10.88.0.0/29'] });
    const a = await world.pod(network);
    await network.remove(a.attachment);
    const b = await world.pod(network);
    expect([a.ipv4, b.ipv4]).toEqual(['10.88.0.2', '10.88.0.3']);
  });

  it('survive what a power cut leaves: empty files are free, unreadable ones are not until they are collected', async () => {
    const network = world.network({ subnets: ['10.88.0.0/29'] });
    await network.setUp();
    writeFileSync(join(world.dataDir, 'pods', '10.88.0.2'), '');
    writeFileSync(join(world.dataDir, 'pods', '10.88.0.3'), '\0\0\0\0');
    writeFileSync(join(world.dataDir, 'pods', 'last_reserved_ip.0'), '10.');
    expect((await world.pod(network)).ipv4).toBe('10.88.0.2');
    expect((await world.pod(network)).ipv4).toBe('10.88.0.4');
    expect(files()).toContain('10.88.0.3');
    expect((await network.collect(new Set())).length).toBe(2);
    expect(files()).toEqual([]);
  });
});

describe('host ports', () => {
  it.each([
    ['the same port', {}, {}, '8080/tcp'],
    ['an address against all', {}, { hostIP: '192.0.2.1' }, '192.0.2.1:8080/tcp'],
    ['all against an address', { hostIP: '192.0.2.1' }, {}, '8080/tcp'],
    ['the same address', { hostIP: '192.0.2.1' }, { hostIP: '192.0.2.1' }, '192.0.2.1:8080/tcp'],
    ['0.0.0.0, which is all of IPv4', { hostIP: '192.0.2.1' }, { hostIP: '0.0.0.0' }, '8080/tcp'],
    [
      'an IPv6 address, another way to write it',
      { hostIP: 'fd00:2::1' },
      { hostIP: 'FD00:2:0::1' },
      '[fd00:2::1]:8080/tcp',
    ],
  ])('belong to one pod: %s', async (_name, first, second, port) => {
    const network = world.network();
    const a = await world.pod(network, [first]);
    const before = rules();
    await expect(network.add(world.attachment(world.namespace('pod'), [second]))).rejects.toMatchObject({
      code: 'HOST_PORT_IN_USE',
      message: `cannot map host port ${port}: it belongs to the pod with sandbox "${a.attachment.id}"`,
    });
    expect(rules()).toBe(before);
    expect(files()).toEqual(['10.88.0.2', 'fd00:88::2']);
    expect(links(world.host).filter((name) => name.startsWith('veth')).length).toBe(1);
  });

  it.each([
    ['another protocol', {}, { protocol: 'udp' as const }],
    ['another address', { hostIP: '192.0.2.1' }, { hostIP: '192.0.2.9' }],
    ['another family', { hostIP: '0.0.0.0' }, { hostIP: '::' }],
  ])('are no conflict: %s', async (_name, first, second) => {
    const network = world.network();
    await world.pod(network, [first]);
    await world.pod(network, [second]);
    expect((await network.status()).ready).toBe(true);
  });
});

describe('removing', () => {
  it('leaves nothing, twice, with the namespace gone, by another agent', async () => {
    const network = world.network();
    const pod = await world.pod(network, [{}]);
    pod.ns[Symbol.dispose]();
    const restarted = world.network();
    const attachment = { ...pod.attachment, netnsFd: undefined };
    await restarted.remove(attachment);
    await restarted.remove(attachment);
    expect(files()).toEqual([]);
    expect(links(world.host).filter((name) => name.startsWith('veth'))).toEqual([]);
    expect(rules()).not.toContain(pod.attachment.id);
  });

  it('works when IPv6 was switched off since', async () => {
    const network = world.network();
    const pod = await world.pod(network, [{}]);
    const other = await world.pod(network, [{ hostPort: 8081 }]);
    world.host.run('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1');
    await network.remove(pod.attachment);
    expect(await network.collect(new Set())).toEqual([other.attachment.id]);
    expect(files()).toEqual([]);
    expect(rules()).not.toContain('elements');
    await network.tearDown();
    expect(rules()).toBe('');
  });

  it('works before anything was set up', async () => {
    await world.network().remove(world.attachment(undefined));
  });

  it('lets go of every descriptor', async () => {
    const network = world.network();
    const pod = await world.pod(network, [{}, { hostPort: 53, protocol: 'udp' }]);
    await network.remove(pod.attachment);
    const before = readdirSync('/proc/self/fd').length;
    for (let i = 0; i < 20; i++) {
      await network.add(pod.attachment);
      await network.status();
      network.plan(pod.attachment);
      await network.remove(pod.attachment);
      await network.collect(new Set());
    }
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });

  it('does not hold up the event loop', async () => {
    const network = world.network();
    const pods = [];
    for (let i = 0; i < 8; i++) pods.push(await world.pod(network, [{ hostPort: 9000 + i }]));
    let ticks = 0;
    const timer = setInterval(() => (ticks += 1), 1);
    await Promise.all(pods.map(async ({ attachment }) => await network.remove(attachment)));
    clearInterval(timer);
    // Deleting a link is some 15 ms of waiting in the kernel. Waited for on this thread no timer would run meanwhile.
    expect(ticks).toBeGreaterThan(5);
  });
});

describe('collecting', () => {
  it('removes links, addresses and rules of pods that are not valid, and nothing else', async () => {
    const network = world.network();
    const kept = await world.pod(network, [{}]);
    const gone = await world.pod(network, [{ hostPort: 8081 }, { hostPort: 8082, hostIP: '192.0.2.1' }]);
    world.host.run(
      'ip',
      'link',
      'add',
      'foreign',
      'master',
      'nodelet0',
      'type',
      'veth',
      'peer',
      'name',
      'foreign1',
    );
    expect(await world.network().collect(new Set([kept.attachment.id]))).toEqual([gone.attachment.id]);
    expect(files()).toEqual(['10.88.0.2', 'fd00:88::2']);
    expect(links(world.host)).toContain('foreign');
    expect(links(world.host).filter((name) => name.startsWith('veth'))).toEqual([
      `veth${kept.attachment.id.slice(0, 8)}`,
    ]);
    expect(rules()).not.toContain(gone.attachment.id);
    await world.serveTcp(kept.ns, 80);
    expect(await world.tcp(world.outside, '192.0.2.1', 8080)).toBe('192.0.2.2');
    expect(await network.collect(new Set([kept.attachment.id]))).toEqual([]);
  });

  it('does not take a pod that is being added for a stray', async () => {
    const network = world.network();
    const [pod, collected] = await Promise.all([world.pod(network, [{}]), network.collect(new Set())]);
    expect(collected).toEqual([]);
    expect(files()).toEqual(['10.88.0.2', 'fd00:88::2']);
    expect(rules()).toContain(pod.attachment.id);
  });
});

describe('the plan', () => {
  it('says every step, with the addresses that the pod then gets, and changes nothing', async () => {
    const network = world.network();
    const ns = world.namespace('pod');
    const attachment = world.attachment(ns, [{}], 'cd'.repeat(32));
    const before = [links(world.host), rules(), world.host.run('ip', 'addr'), readdirSync(world.dataDir)];
    const steps = network.plan(attachment);
    expect([links(world.host), rules(), world.host.run('ip', 'addr'), readdirSync(world.dataDir)]).toEqual(
      before,
    );
    const text = steps.map(({ where, action }) => `${where}: ${action}`);
    expect(text).toEqual(
      expect.arrayContaining([
        'host: ip link add nodelet0 address 0a:58:0a:58:00:01 mtu 1500 type bridge stp_state 0 forward_delay 0 nf_call_iptables 1 nf_call_ip6tables 1',
        'host: sysctl -w net/ipv4/ip_forward=1',
        'host: ip address add 10.88.0.1/16 dev nodelet0',
        'host: nft add rule inet nodelet-nodelet0 postrouting oifname != "nodelet0" ip saddr 10.88.0.0/16 ip daddr != 10.88.0.0/16 masquerade fully-random',
        `host: reserve 10.88.0.2 in ${world.dataDir}/pods`,
        'pod: sysctl -w net/ipv6/conf/default/accept_ra=0',
        'pod: ip link set lo up',
        'pod: ip address add fd00:88::2/64 dev eth0 nodad',
        'pod: ip route add default via 10.88.0.1 dev eth0',
        `host: nft add element inet nodelet-nodelet0 hostports4 { tcp . 8080 comment "${'cd'.repeat(32)}" : 10.88.0.2 . 80 }`,
      ]),
    );
    const result = await network.add(attachment);
    expect(result.ips.map(({ address }) => address)).toEqual(['10.88.0.2/16', 'fd00:88::2/64']);
    // Set up by now: only the pod's own steps are left.
    expect(
      network.plan(world.attachment(undefined)).some(({ action }) => action.includes('type bridge ')),
    ).toBe(false);
  });
});

describe('tearing down', () => {
  it('is refused while pods are attached, then leaves nothing', async () => {
    const network = world.network();
    const pod = await world.pod(network, [{}]);
    await expect(network.tearDown()).rejects.toMatchObject({
      code: 'NETWORK_IN_USE',
      details: { owners: [pod.attachment.id] },
    });
    await network.remove(pod.attachment);
    await network.tearDown();
    expect(links(world.host)).toEqual(['lo', 'up0']);
    expect(rules()).toBe('');
    expect(readdirSync(world.dataDir)).toEqual([]);
    await network.tearDown();
    expect(readdirSync(world.dataDir)).toEqual([]);
  });
});
