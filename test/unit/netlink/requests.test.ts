import { describe, expect, it } from 'vitest';
import {
  addAddress,
  addLink,
  addRoute,
  deleteLink,
  type NetlinkRequest,
  NetlinkWriter,
  replaceNeighbour,
  setLink,
} from '../../../src/linux/netlink/index.ts';

const dev = { index: 7, name: 'eth0' };

function hexOf(request: NetlinkRequest): string {
  const w = new NetlinkWriter();
  request.write(w);
  return w.bytes().toString('hex');
}

describe('requests say themselves as ip(8) would', () => {
  it.each<[string, NetlinkRequest]>([
    [
      'ip link add br0 address 02:00:00:00:00:01 mtu 1500 type bridge stp_state 0 forward_delay 0 nf_call_iptables 1',
      addLink({
        name: 'br0',
        mac: '02:00:00:00:00:01',
        mtu: 1500,
        info: { kind: 'bridge', stp: false, forwardDelay: 0, nfCallIptables: true },
      }),
    ],
    [
      'ip link add v0 master br0 up type veth peer name eth0 mtu 1400 netns POD',
      addLink({
        name: 'v0',
        master: { index: 3, name: 'br0' },
        up: true,
        info: { kind: 'veth', peer: { name: 'eth0', mtu: 1400, netnsFd: 9 } },
      }),
    ],
    [
      'ip link add vx type vxlan id 7 local 10.0.0.1 dstport 4789',
      addLink({ name: 'vx', info: { kind: 'vxlan', id: 7, local: '10.0.0.1', port: 4789 } }),
    ],
    ['ip link add d0 type dummy', addLink({ name: 'd0', info: { kind: 'dummy' } })],
    [
      'ip link set v0 alias "a b" addrgenmode none type bridge_slave hairpin on up',
      setLink({ name: 'v0' }, { alias: 'a b', addrGenMode: 'none', port: { hairpin: true }, up: true }),
    ],
    [
      'ip link set v0 name v1 mtu 1300 nomaster down',
      setLink({ name: 'v0', index: 4 }, { newName: 'v1', mtu: 1300, master: null, up: false }),
    ],
    ['ip link delete v0', deleteLink({ name: 'v0' })],
    [
      'ip address add fd00::2/64 dev eth0 nodad',
      addAddress({ link: dev, address: 'fd00::2/64', noDad: true }),
    ],
    ['ip address add 10.0.0.2/16 dev eth0', addAddress({ link: dev, address: '10.0.0.2/16', noDad: true })],
    [
      'ip route add default via 10.0.0.1 dev eth0',
      addRoute({ destination: '0.0.0.0/0', gateway: '10.0.0.1', link: dev }),
    ],
    [
      'ip -6 route add default via fd00::1 dev eth0',
      addRoute({ destination: '::/0', gateway: 'fd00::1', link: dev }),
    ],
    [
      'ip route add 10.2.0.0/16 dev eth0 metric 5 onlink',
      addRoute({ destination: '10.2.3.4/16', link: dev, metric: 5, onLink: true }),
    ],
    [
      'bridge fdb replace 02:00:00:00:00:01 dev eth0 dst 10.0.0.9',
      replaceNeighbour({ link: dev, address: '10.0.0.9', mac: '02:00:00:00:00:01', table: 'fdb' }),
    ],
  ])('%s', (text, request) => {
    expect(request.describe()).toBe(text);
  });
});

describe('the bytes of a request', () => {
  it('of an IPv4 address with its broadcast address', () => {
    expect(hexOf(addAddress({ link: dev, address: '10.88.0.5/16' }))).toBe(
      ['02100000', '07000000', '0800 0200 0a580005', '0800 0100 0a580005', '0800 0400 0a58ffff']
        .join('')
        .replaceAll(' ', ''),
    );
  });

  it('of a change by index do not name the link, which would rename it', () => {
    expect(hexOf(setLink({ name: 'eth0', index: 7 }, { up: true }))).toBe('00000000070000000100000001000000');
  });

  it('of a change that does not speak of up or down leaves that alone', () => {
    expect(hexOf(setLink({ name: 'eth0', index: 7 }, { mtu: 1400 }))).toBe(
      '000000000700000000000000000000000800040078050000',
    );
  });
});

describe('requests that cannot be meant are refused before the kernel sees them', () => {
  it.each<[string, () => NetlinkRequest, string]>([
    [
      'a gateway of the other family',
      () => addRoute({ destination: '0.0.0.0/0', gateway: 'fd00::1', link: dev }),
      'INVALID_ADDRESS',
    ],
    ['an address without its prefix', () => addAddress({ link: dev, address: '10.0.0.1' }), 'INVALID_SUBNET'],
    [
      'a neighbour that is no address',
      () => replaceNeighbour({ link: dev, address: 'x', mac: '02:00:00:00:00:01' }),
      'INVALID_ADDRESS',
    ],
  ])('%s', (_name, make, code) => {
    expect(make).toThrow(expect.objectContaining({ code }));
  });
});
