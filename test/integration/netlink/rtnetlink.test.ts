import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { deferred, withDeadline } from '../../../src/base/index.ts';
import {
  addAddress,
  addLink,
  addRoute,
  deleteAddress,
  deleteLink,
  deleteNeighbour,
  deleteRoute,
  type Link,
  NetlinkError,
  NetlinkMonitor,
  NetlinkSocket,
  netlinkConstants,
  parseLink,
  Rtnetlink,
  replaceAddress,
  replaceNeighbour,
  replaceRoute,
  setLink,
} from '../../../src/linux/netlink/index.ts';
import { TestNetns } from './netns.ts';

const { RTPROT, RTNLGRP, NETLINK, IFA_F } = netlinkConstants;

describe('rtnetlink, beside what ip(8) says of the same namespace', () => {
  let host: TestNetns;
  let pod: TestNetns;
  let rt: Rtnetlink;

  beforeEach(() => {
    host = new TestNetns('host');
    pod = new TestNetns('pod');
    rt = new Rtnetlink(host.fd);
  });
  afterEach(() => {
    rt.close();
    host[Symbol.dispose]();
    pod[Symbol.dispose]();
  });

  const link = (name: string): Link => {
    const found = rt.link({ name });
    if (found === undefined) throw new Error(`no link ${name}`);
    return found;
  };

  it('sees the loopback link of a new namespace, down', () => {
    expect(rt.links().map(({ name, up, index }) => ({ name, up, index }))).toContainEqual({
      name: 'lo',
      up: false,
      index: 1,
    });
    rt.apply([setLink({ name: 'lo' }, { up: true })]);
    expect(link('lo').up).toBe(true);
  });

  it('makes a bridge with its options', () => {
    rt.apply([
      addLink({
        name: 'br0',
        mac: '0a:58:0a:58:00:01',
        mtu: 1450,
        up: true,
        info: { kind: 'bridge', stp: false, forwardDelay: 0, nfCallIptables: true, nfCallIp6tables: false },
      }),
    ]);
    expect(link('br0')).toMatchObject({
      kind: 'bridge',
      up: true,
      mtu: 1450,
      mac: '0a:58:0a:58:00:01',
      bridge: {
        stp: false,
        forwardDelay: 0,
        vlanFiltering: false,
        nfCallIptables: true,
        nfCallIp6tables: false,
      },
      promiscuity: 0,
    });
    const [shown] = JSON.parse(host.run('ip', '-d', '-j', 'link', 'show', 'br0')) as {
      linkinfo: { info_data: object };
    }[];
    expect(shown?.linkinfo.info_data).toMatchObject({
      forward_delay: 0,
      stp_state: 0,
      nf_call_iptables: 1,
      nf_call_ip6tables: 0,
    });
  });

  it('makes a veth pair whose peer has its final name, MAC and MTU in another namespace', () => {
    rt.apply([addLink({ name: 'br0', up: true, info: { kind: 'bridge' } })]);
    rt.apply([
      addLink({
        name: 'veth0',
        mac: '0e:00:00:00:00:01',
        mtu: 1400,
        master: link('br0'),
        info: {
          kind: 'veth',
          peer: { name: 'eth0', mac: '0a:58:0a:58:00:05', mtu: 1400, netnsFd: pod.fd },
        },
      }),
      setLink(
        { name: 'veth0' },
        { alias: 'nodelet:net:abc', port: { hairpin: true }, addrGenMode: 'none', up: true },
      ),
    ]);
    const host0 = link('veth0');
    expect(host0).toMatchObject({
      kind: 'veth',
      alias: 'nodelet:net:abc',
      up: true,
      mtu: 1400,
      master: link('br0').index,
    });
    expect(host0.port).toMatchObject({ hairpin: true, isolated: false });
    using inside = new Rtnetlink(pod.fd);
    const eth0 = inside.link({ name: 'eth0' });
    expect(eth0).toMatchObject({
      kind: 'veth',
      mac: '0a:58:0a:58:00:05',
      mtu: 1400,
      peer: host0.index,
    });
    expect(host0.peer).toBe(eth0?.index);
    const [shown] = JSON.parse(host.run('ip', '-d', '-j', 'link', 'show', 'veth0')) as Record<
      string,
      unknown
    >[];
    expect(shown).toMatchObject({ ifalias: 'nodelet:net:abc', master: 'br0', inet6_addr_gen_mode: 'none' });
    expect(host.run('ip', '-6', 'addr', 'show', 'dev', 'veth0')).toBe('');
  });

  it('lists ports of one bridge, and links of one kind', () => {
    rt.apply([
      addLink({ name: 'br0', info: { kind: 'bridge' } }),
      addLink({ name: 'br1', info: { kind: 'bridge' } }),
    ]);
    const peer = (name: string) => ({ kind: 'veth', peer: { name } }) as const;
    rt.apply([
      addLink({ name: 'va', master: link('br0'), info: peer('pa') }),
      addLink({ name: 'vb', master: link('br1'), info: peer('pb') }),
    ]);
    expect(rt.links({ master: link('br0') }).map(({ name }) => name)).toEqual(['va']);
    expect(rt.links({ kind: 'bridge' }).map(({ name }) => name)).toEqual(['br0', 'br1']);
    expect(
      rt
        .links({ kind: 'veth' })
        .map(({ name }) => name)
        .sort(),
    ).toEqual(['pa', 'pb', 'va', 'vb']);
  });

  it('renames, moves into another namespace, leaves a bridge, deletes', () => {
    rt.apply([addLink({ name: 'br0', info: { kind: 'bridge' } })]);
    rt.apply([addLink({ name: 'va', master: link('br0'), info: { kind: 'veth', peer: { name: 'pa' } } })]);
    rt.apply([setLink(link('va'), { newName: 'vb', mtu: 1300, master: null })]);
    expect(link('vb')).toMatchObject({ mtu: 1300, master: undefined });
    rt.apply([setLink({ name: 'pa' }, { netnsFd: pod.fd })]);
    expect(rt.link({ name: 'pa' })).toBeUndefined();
    expect(pod.run('ip', 'link', 'show', 'pa')).toContain('pa@');
    rt.apply([deleteLink({ name: 'vb' })]);
    expect(rt.link({ name: 'vb' })).toBeUndefined();
    expect(pod.try('ip', 'link', 'show', 'pa').ok).toBe(false);
  });

  it('adds and removes addresses of both families; an IPv6 one with nodad is usable at once', () => {
    rt.apply([addLink({ name: 'br0', up: true, info: { kind: 'bridge' } })]);
    const br0 = link('br0');
    rt.apply([
      addAddress({ link: br0, address: '10.88.0.1/16' }),
      addAddress({ link: br0, address: 'fd00:88::1/64', noDad: true }),
    ]);
    const addresses = rt.addresses(br0);
    expect(addresses.map(({ address }) => address)).toEqual(
      expect.arrayContaining(['10.88.0.1/16', 'fd00:88::1/64']),
    );
    const v6 = addresses.find(({ address }) => address === 'fd00:88::1/64');
    expect((v6?.flags ?? 0) & IFA_F.TENTATIVE).toBe(0);
    expect((v6?.flags ?? 0) & IFA_F.NODAD).toBe(IFA_F.NODAD);
    expect(host.run('ip', 'addr', 'show', 'br0')).toContain(
      'inet 10.88.0.1/16 brd 10.88.255.255 scope global br0',
    );
    rt.apply([
      replaceAddress({ link: br0, address: '10.88.0.1/16' }),
      deleteAddress({ link: br0, address: 'fd00:88::1/64' }),
    ]);
    expect(rt.addresses(br0).map(({ address }) => address)).not.toContain('fd00:88::1/64');
    expect(() => rt.apply([addAddress({ link: br0, address: '10.88.0.1/16' })])).toThrow(
      expect.objectContaining({ code: 'EEXIST' }),
    );
  });

  it('adds, replaces and removes routes of both families', () => {
    rt.apply([addLink({ name: 'br0', up: true, info: { kind: 'bridge' } })]);
    const br0 = link('br0');
    rt.apply([
      addAddress({ link: br0, address: '10.88.0.2/16' }),
      addAddress({ link: br0, address: 'fd00:88::2/64', noDad: true }),
      addRoute({ destination: '0.0.0.0/0', gateway: '10.88.0.1', link: br0 }),
      addRoute({ destination: '::/0', gateway: 'fd00:88::1', link: br0 }),
      addRoute({ destination: '10.99.0.0/16', gateway: '192.0.2.1', onLink: true, link: br0, metric: 7 }),
    ]);
    expect(rt.routes(4, br0)).toContainEqual(
      expect.objectContaining({
        destination: '0.0.0.0/0',
        gateway: '10.88.0.1',
        linkIndex: br0.index,
        protocol: RTPROT.STATIC,
      }),
    );
    expect(rt.routes(6, br0)).toContainEqual(
      expect.objectContaining({ destination: '::/0', gateway: 'fd00:88::1' }),
    );
    const shown = host.run('ip', 'route');
    expect(shown).toContain('default via 10.88.0.1 dev br0 proto static');
    expect(shown).toMatch(/10\.99\.0\.0\/16 via 192\.0\.2\.1 dev br0 proto static metric 7 .*onlink/);
    rt.apply([
      replaceRoute({ destination: '0.0.0.0/0', gateway: '10.88.0.9', link: br0 }),
      deleteRoute({ destination: '10.99.0.0/16', link: br0, metric: 7 }),
    ]);
    expect(host.run('ip', 'route')).toContain('default via 10.88.0.9');
    expect(host.run('ip', 'route')).not.toContain('10.99.0.0');
  });

  it('keeps neighbours, and the forwarding entries of a vxlan link', () => {
    rt.apply([
      addLink({ name: 'br0', up: true, info: { kind: 'bridge' } }),
      addLink({
        name: 'vx0',
        up: true,
        info: { kind: 'vxlan', id: 7, local: '10.0.0.1', port: 4789, learning: false },
      }),
    ]);
    const mac = '0a:58:0a:58:00:07';
    rt.apply([
      replaceNeighbour({ link: link('br0'), address: '10.88.0.7', mac }),
      replaceNeighbour({ link: link('br0'), address: 'fd00:88::7', mac }),
      replaceNeighbour({ link: link('vx0'), address: '10.0.0.2', mac, table: 'fdb' }),
    ]);
    expect(host.run('ip', 'neigh', 'show', 'dev', 'br0')).toContain(`10.88.0.7 lladdr ${mac} PERMANENT`);
    expect(host.run('bridge', 'fdb', 'show', 'dev', 'vx0')).toContain(`${mac} dst 10.0.0.2 self permanent`);
    expect(rt.neighbours(4)).toContainEqual(
      expect.objectContaining({ address: '10.88.0.7', mac, table: 'ipv4' }),
    );
    expect(rt.neighbours(6)).toContainEqual(
      expect.objectContaining({ address: 'fd00:88::7', mac, table: 'ipv6' }),
    );
    expect(rt.neighbours('fdb')).toContainEqual(
      expect.objectContaining({ address: '10.0.0.2', mac, table: 'fdb' }),
    );
    rt.apply([deleteNeighbour({ link: link('br0'), address: '10.88.0.7', mac })]);
    expect(rt.neighbours(4).map(({ address }) => address)).not.toContain('10.88.0.7');
  });

  it('names the request of a batch that failed, with the words of the kernel, and tries the others', () => {
    let caught: unknown;
    try {
      rt.apply([
        addLink({ name: 'one', info: { kind: 'bridge' } }),
        addLink({ name: 'lo', info: { kind: 'bridge' } }),
        setLink({ name: 'missing' }, { up: true }),
        addLink({ name: 'two', info: { kind: 'bridge' } }),
      ]);
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(NetlinkError);
    const error = caught as NetlinkError;
    expect(error.code).toBe('EEXIST');
    expect(error.index).toBe(1);
    expect(error.message).toMatch(/^cannot do "ip link add lo type bridge": EEXIST/);
    expect(error.failures.map(({ index, request }) => ({ index, request }))).toEqual([
      { index: 1, request: 'ip link add lo type bridge' },
      { index: 2, request: 'ip link set missing up' },
    ]);
    expect(rt.link({ name: 'one' })).toBeDefined();
    expect(rt.link({ name: 'two' })).toBeDefined();
  });

  it("passes on the kernel's extended acknowledgement", () => {
    rt.apply([addLink({ name: 'br0', info: { kind: 'bridge' } })]);
    const error = (() => {
      try {
        rt.apply([addRoute({ destination: '10.9.0.0/16', gateway: '10.1.2.3', link: link('br0') })]);
      } catch (e) {
        return e as NetlinkError;
      }
      return undefined;
    })();
    expect(error?.failures[0]?.kernelMessage).toMatch(/\S/);
    expect(error?.message).toContain('(the kernel says "');
  });

  it('sends a thousand requests in one call and lists what they made', () => {
    rt.apply([addLink({ name: 'br0', up: true, info: { kind: 'bridge' } })]);
    const br0 = link('br0');
    rt.apply(
      Array.from({ length: 1000 }, (_, i) =>
        addRoute({ destination: `172.16.${i >> 8}.${i & 255}/32`, link: br0 }),
      ),
    );
    expect(
      rt.routes(4, br0).filter(({ destination }) => destination.endsWith('/32')).length,
    ).toBeGreaterThanOrEqual(1000);
  });

  it('answers nothing for a link that is not there', () => {
    expect(rt.link({ name: 'nothing' })).toBeUndefined();
    expect(rt.link({ index: 4711 })).toBeUndefined();
    expect(rt.applyUnless(deleteLink({ name: 'nothing' }), 'ENODEV')).toBe(false);
  });

  it('tells a monitor of links that come and go, in their namespace only', async () => {
    const seen: string[] = [];
    const done = deferred<void>();
    using monitor = new NetlinkMonitor({
      protocol: NETLINK.ROUTE,
      groups: [RTNLGRP.LINK],
      netnsFd: host.fd,
      onMessage(message) {
        const { name } = parseLink(message);
        seen.push(`${message.type === netlinkConstants.RTM.DELLINK ? 'del' : 'new'} ${name}`);
        if (seen.includes('del br9')) done.resolve();
      },
      onOverrun: () => done.reject(new Error('overrun')),
      onError: (error) => done.reject(error),
    });
    expect(monitor).toBeDefined();
    using elsewhere = new Rtnetlink(pod.fd);
    elsewhere.apply([addLink({ name: 'other', info: { kind: 'bridge' } })]);
    rt.apply([addLink({ name: 'br9', info: { kind: 'bridge' } }), deleteLink({ name: 'br9' })]);
    await withDeadline('the monitor', 5000, done.promise);
    expect(seen).toContain('new br9');
    expect(seen).not.toContain('new other');
  });

  it('reports lost messages as an overrun and goes on', async () => {
    const overrun = deferred<void>();
    const after = deferred<void>();
    let lost = false;
    using monitor = new NetlinkMonitor({
      protocol: NETLINK.ROUTE,
      groups: [RTNLGRP.LINK],
      netnsFd: host.fd,
      bufferSize: 4096,
      onMessage(message) {
        if (lost && parseLink(message).name === 'last') after.resolve();
      },
      onOverrun() {
        lost = true;
        overrun.resolve();
      },
      onError: (error) => after.reject(error),
    });
    expect(monitor).toBeDefined();
    for (let i = 0; i < 40; i++) rt.apply([addLink({ name: `m${i}`, info: { kind: 'bridge' } })]);
    await withDeadline('the overrun', 5000, overrun.promise);
    rt.apply([addLink({ name: 'last', info: { kind: 'bridge' } })]);
    await withDeadline('the message after it', 5000, after.promise);
  });

  it('closes twice, and refuses a closed socket', () => {
    const socket = new NetlinkSocket({ protocol: NETLINK.ROUTE, netnsFd: host.fd });
    socket.close();
    socket.close();
    expect(() => socket.execute([deleteLink({ name: 'x' })])).toThrow(
      expect.objectContaining({ code: 'EBADF' }),
    );
  });
});
