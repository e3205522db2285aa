import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BridgeNetwork } from '../../../src/cni/index.ts';
import { World } from './world.ts';

let world: World;
beforeEach(async () => {
  world = await World.make();
});
afterEach(async () => {
  await world[Symbol.asyncDispose]();
});

describe('pods on the bridge', () => {
  it('reach each other by TCP and UDP, IPv4 and IPv6, with their own addresses', async () => {
    const network = world.network();
    const a = await world.pod(network);
    const b = await world.pod(network);
    await world.serveTcp(a.ns, 80);
    await world.serveTcp(a.ns, 80, '::');
    await world.serveUdp(a.ns, 53);
    await world.serveUdp(a.ns, 53, '::');
    expect(await world.tcp(b.ns, a.ipv4, 80)).toBe(b.ipv4);
    expect(await world.tcp(b.ns, a.ipv6, 80)).toBe(b.ipv6);
    expect(await world.udp(b.ns, a.ipv4, 53)).toBe(b.ipv4);
    expect(await world.udp(b.ns, a.ipv6, 53)).toBe(b.ipv6);
  });

  it('reach themselves, loopback too', async () => {
    const network = world.network();
    const a = await world.pod(network);
    await world.serveTcp(a.ns, 80);
    expect(await world.tcp(a.ns, a.ipv4, 80)).toBe(a.ipv4);
    expect(await world.tcp(a.ns, '127.0.0.1', 80)).toBe('127.0.0.1');
  });

  it('reach the host, and the host reaches them', async () => {
    const network = world.network();
    const a = await world.pod(network);
    await world.serveTcp(a.ns, 80);
    await world.serveTcp(world.host, 8000);
    expect(await world.tcp(a.ns, '10.88.0.1', 8000)).toBe(a.ipv4);
    expect(await world.tcp(a.ns, '192.0.2.1', 8000)).toBe(a.ipv4);
    expect(await world.tcp(world.host, a.ipv4, 80)).toBe('10.88.0.1');
  });

  it('reach the outside with the address of the host', async () => {
    const network = world.network();
    const a = await world.pod(network);
    await world.serveTcp(world.outside, 80);
    await world.serveTcp(world.outside, 80, '::');
    await world.serveUdp(world.outside, 53);
    expect(await world.tcp(a.ns, '192.0.2.2', 80)).toBe('192.0.2.1');
    expect(await world.tcp(a.ns, 'fd00:2::2', 80)).toBe('fd00:2::1');
    expect(await world.udp(a.ns, '192.0.2.2', 53)).toBe('192.0.2.1');
  });

  it('keep their address towards the outside without ipMasq', async () => {
    const network = world.network({ ipMasq: false });
    const a = await world.pod(network);
    await world.serveTcp(world.outside, 80);
    expect(await world.tcp(a.ns, '192.0.2.2', 80, 300)).toBe('ETIMEDOUT');
    world.outside.run('ip', 'route', 'add', '10.88.0.0/16', 'via', '192.0.2.1');
    expect(await world.tcp(a.ns, '192.0.2.2', 80)).toBe(a.ipv4);
  });

  it('are alone without a gateway: no address on the bridge, no default route', async () => {
    const network = world.network({ isGateway: false });
    const a = await world.pod(network);
    const b = await world.pod(network);
    await world.serveTcp(a.ns, 80);
    expect(await world.tcp(b.ns, a.ipv4, 80)).toBe(b.ipv4);
    expect(a.ns.run('ip', 'route')).not.toContain('default');
    expect(world.host.run('ip', '-4', 'addr', 'show', 'nodelet0')).toBe('');
    expect(a.result.routes).toEqual([]);
  });
});

/** br_netfilter: on by the host's default; on for our bridge alone; off, as where the module is not loaded. */
describe.each(['everywhere', 'bridge', 'nowhere'] as const)('host ports, br_netfilter %s', (where) => {
  const network = (): BridgeNetwork => world.network({ bridgeNetfilter: where !== 'nowhere' });
  const settle = (): void => {
    const value = where === 'everywhere' ? 1 : 0;
    for (const table of ['iptables', 'ip6tables'])
      world.host.run('sysctl', '-qw', `net.bridge.bridge-nf-call-${table}=${value}`);
  };

  it('lead from the outside to the pod, with the address of the client', async () => {
    settle();
    const a = await world.pod(network(), [
      { hostPort: 8080, containerPort: 80 },
      { hostPort: 5353, containerPort: 53, protocol: 'udp' },
    ]);
    await world.serveTcp(a.ns, 80);
    await world.serveTcp(a.ns, 80, '::');
    await world.serveUdp(a.ns, 53);
    await world.serveUdp(a.ns, 53, '::');
    expect(await world.tcp(world.outside, '192.0.2.1', 8080)).toBe('192.0.2.2');
    expect(await world.tcp(world.outside, 'fd00:2::1', 8080)).toBe('fd00:2::2');
    expect(await world.udp(world.outside, '192.0.2.1', 5353)).toBe('192.0.2.2');
    expect(await world.udp(world.outside, 'fd00:2::1', 5353)).toBe('fd00:2::2');
    expect(await world.tcp(world.outside, '192.0.2.1', 8081, 300)).toBe('ECONNREFUSED');
  });

  it('lead from the host itself to the pod, not from its loopback address', async () => {
    settle();
    const a = await world.pod(network(), [{}]);
    await world.serveTcp(a.ns, 80);
    await world.serveTcp(a.ns, 80, '::');
    expect(await world.tcp(world.host, '192.0.2.1', 8080)).toBe('192.0.2.1');
    expect(await world.tcp(world.host, 'fd00:2::1', 8080)).toBe('fd00:2::1');
    expect(await world.tcp(world.host, '127.0.0.1', 8080, 300)).toBe('ECONNREFUSED');
    expect(await world.tcp(world.host, '::1', 8080, 300)).toBe('ECONNREFUSED');
  });

  it('lead another pod of the node to the pod, and the pod to itself', async () => {
    settle();
    const shared = network();
    const a = await world.pod(shared, [{}, { hostPort: 5353, containerPort: 53, protocol: 'udp' }]);
    const b = await world.pod(shared);
    await world.serveTcp(a.ns, 80);
    await world.serveTcp(a.ns, 80, '::');
    await world.serveUdp(a.ns, 53);
    // With br_netfilter the other pod keeps its address; without, its packets come by the gateway.
    const seen = (own: string, gateway: string): string => (where === 'nowhere' ? gateway : own);
    expect(await world.tcp(b.ns, '192.0.2.1', 8080)).toBe(seen(b.ipv4, '10.88.0.1'));
    expect(await world.tcp(b.ns, 'fd00:2::1', 8080)).toBe(seen(b.ipv6, 'fd00:88::1'));
    expect(await world.udp(b.ns, '192.0.2.1', 5353)).toBe(seen(b.ipv4, '10.88.0.1'));
    expect(await world.tcp(a.ns, '192.0.2.1', 8080)).toBe('10.88.0.1');
    expect(await world.tcp(a.ns, 'fd00:2::1', 8080)).toBe('fd00:88::1');
    expect(await world.udp(a.ns, '192.0.2.1', 5353)).toBe('10.88.0.1');
    expect(await world.tcp(a.ns, '10.88.0.1', 8080)).toBe('10.88.0.1');
  });
});

describe('host ports', () => {
  it('with a hostIP serve that address alone; two pods may share a port on two addresses', async () => {
    world.host.run('ip', 'addr', 'add', '192.0.2.9/24', 'dev', 'up0');
    const network = world.network();
    const a = await world.pod(network, [{ hostIP: '192.0.2.1' }]);
    const b = await world.pod(network, [{ hostIP: '192.0.2.9', containerPort: 81 }]);
    await world.serveTcp(a.ns, 80);
    await world.serveTcp(b.ns, 81);
    expect(await world.tcp(world.outside, '192.0.2.1', 8080)).toBe('192.0.2.2');
    expect(await world.tcp(world.outside, '192.0.2.9', 8080)).toBe('192.0.2.2');
    expect(await world.tcp(world.outside, 'fd00:2::1', 8080, 300)).toBe('ECONNREFUSED');
    expect(await world.tcp(world.outside, '192.0.2.1', 80, 300)).toBe('ECONNREFUSED');
  });

  it('do not catch what only passes through the host (CVE-2025-67499)', async () => {
    const network = world.network();
    await world.pod(network, [{ hostPort: 80, containerPort: 9999 }]);
    const b = await world.pod(network);
    await world.serveTcp(world.outside, 80);
    expect(await world.tcp(b.ns, '192.0.2.2', 80)).toBe('192.0.2.1');
  });

  it('of UDP reach the next pod of the same port, from the same client port, at once', async () => {
    const network = world.network();
    const mapping = { hostPort: 5353, containerPort: 53, protocol: 'udp' as const };
    // The client speaks before there is a rule, to a pod, to nobody, and to the next pod.
    await world.serveUdp(world.host, 5353, '192.0.2.1');
    const ask = async (): Promise<string> =>
      await world.udp(world.outside, '192.0.2.1', 5353, { sourcePort: 4000, timeout: 500 });
    expect(await ask()).toBe('192.0.2.2');
    const answers: string[] = [];
    for (const name of ['first', 'second']) {
      const pod = await world.pod(network, [mapping]);
      const server = await world.serveUdp(pod.ns, 53);
      server.on('message', () => answers.push(name));
      expect(await ask()).toBe('192.0.2.2');
      await network.remove(pod.attachment);
      expect(world.host.run('conntrack', '-L', '-p', 'udp')).not.toContain(pod.ipv4);
    }
    expect(answers).toEqual(['first', 'second']);
  });

  it('leave connections alone that go elsewhere', async () => {
    const network = world.network();
    await world.serveUdp(world.outside, 5353);
    const client = await world.pod(network);
    expect(await world.udp(client.ns, '192.0.2.2', 5353, { sourcePort: 4000 })).toBe('192.0.2.1');
    const before = world.host
      .run('conntrack', '-L', '-p', 'udp', '--orig-src', client.ipv4)
      .match(/dport=5353/g)?.length;
    await world.pod(network, [{ hostPort: 5353, containerPort: 53, protocol: 'udp' }]);
    expect(
      world.host.run('conntrack', '-L', '-p', 'udp', '--orig-src', client.ipv4).match(/dport=5353/g)?.length,
    ).toBe(before);
    expect(before).toBe(1);
  });

  it('are gone with the pod', async () => {
    const network = world.network();
    const a = await world.pod(network, [{}]);
    await world.serveTcp(a.ns, 80);
    expect(await world.tcp(world.outside, '192.0.2.1', 8080)).toBe('192.0.2.2');
    await network.remove(a.attachment);
    expect(await world.tcp(world.outside, '192.0.2.1', 8080, 300)).toBe('ECONNREFUSED');
    expect(world.host.run('nft', 'list', 'ruleset')).not.toContain('comment "' + a.attachment.id);
  });
});

describe('what a pod could do to the host', () => {
  it('route_localnet stays off: nobody reaches the loopback services of the host (CVE-2020-8558)', async () => {
    const network = world.network();
    const a = await world.pod(network, [{}]);
    await world.serveTcp(world.host, 10250, '127.0.0.1');
    for (const link of ['all', 'default', 'nodelet0', a.result.interfaces[1]?.name ?? '']) {
      expect(world.host.run('sysctl', '-n', `net.ipv4.conf.${link}.route_localnet`).trim()).toBe('0');
    }
    a.ns.run('ip', 'addr', 'flush', 'dev', 'lo');
    a.ns.run('sysctl', '-qw', 'net.ipv4.conf.eth0.route_localnet=1');
    a.ns.run('ip', 'route', 'add', '127.0.0.1/32', 'via', '10.88.0.1', 'dev', 'eth0');
    expect(await world.tcp(a.ns, '127.0.0.1', 10250, 300)).toMatch(
      /ETIMEDOUT|EINVAL|EHOSTUNREACH|ECONNREFUSED/,
    );
  });

  it('accept_ra is off on the bridge and on every link of a pod (CVE-2020-10749)', async () => {
    world.host.run('sysctl', '-qw', 'net.ipv6.conf.default.accept_ra=2');
    const network = world.network();
    const a = await world.pod(network);
    for (const link of ['nodelet0', a.result.interfaces[1]?.name ?? '']) {
      expect(world.host.run('sysctl', '-n', `net.ipv6.conf.${link}.accept_ra`).trim()).toBe('0');
    }
    expect(a.ns.run('sysctl', '-n', 'net.ipv6.conf.eth0.accept_ra').trim()).toBe('0');
  });
});
