import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  addLink,
  applyInBackground,
  Conntrack,
  deleteLink,
  Rtnetlink,
  setLink,
  solicitedNodeGroup,
} from '../../../src/linux/netlink/index.ts';
import { ensureNetSysctl, readNetSysctl, settleLink, writeNetSysctl } from '../../../src/linux/netns.ts';
import { TestNetns } from './netns.ts';

let ns: TestNetns;
beforeEach(() => {
  ns = new TestNetns('one');
  ns.run('ip', 'link', 'set', 'lo', 'up');
});
afterEach(() => ns[Symbol.dispose]());

describe('tracked connections', () => {
  it('are listed as conntrack(8) lists them, and deleted one by one', () => {
    for (const [port, family] of [
      [1001, 4],
      [1002, 4],
      [1003, 6],
    ] as const) {
      const [a, b] = family === 4 ? ['10.0.0.1', '10.0.0.2'] : ['fd00::1', 'fd00::2'];
      ns.run(
        'conntrack',
        '-I',
        '-p',
        'udp',
        '-s',
        a,
        '-d',
        b,
        '--sport',
        '5000',
        '--dport',
        String(port),
        '-t',
        '60',
      );
    }
    using conntrack = new Conntrack(ns.fd);
    const flows = conntrack.list(4);
    expect(
      flows
        .map(({ protocol, original, reply }) => ({ protocol, original, reply }))
        .sort((a, b) => a.original.destinationPort - b.original.destinationPort),
    ).toEqual(
      [1001, 1002].map((port) => ({
        protocol: 17,
        original: { source: '10.0.0.1', destination: '10.0.0.2', sourcePort: 5000, destinationPort: port },
        reply: { source: '10.0.0.2', destination: '10.0.0.1', sourcePort: port, destinationPort: 5000 },
      })),
    );
    expect(conntrack.list(6).map(({ original }) => original.destination)).toEqual(['fd00::2']);
    const [first] = flows.filter(({ original }) => original.destinationPort === 1001);
    expect(conntrack.delete(first!)).toBe(true);
    expect(conntrack.delete(first!)).toBe(false);
    expect(conntrack.list(4).map(({ original }) => original.destinationPort)).toEqual([1002]);
    expect(ns.run('conntrack', '-L', '-p', 'udp')).not.toContain('dport=1001');
  });

  it('are not deleted for another that has the same addresses', () => {
    const insert = (): string =>
      ns.run(
        'conntrack',
        '-I',
        '-p',
        'udp',
        '-s',
        '10.0.0.1',
        '-d',
        '10.0.0.2',
        '--sport',
        '1',
        '--dport',
        '2',
        '-t',
        '60',
      );
    insert();
    using conntrack = new Conntrack(ns.fd);
    const [old] = conntrack.list(4);
    ns.run('conntrack', '-F');
    insert();
    const [fresh] = conntrack.list(4);
    // The kernel's id is a hash of the entry's place in memory: the same place may be had again.
    if (!fresh!.key.id!.equals(old!.key.id!)) expect(conntrack.delete(old!)).toBe(false);
    expect(conntrack.delete(fresh!)).toBe(true);
  });
});

describe('work in the background', () => {
  it('does what it does in the foreground, and fails by the same error', async () => {
    await applyInBackground(ns.fd, [
      addLink({ name: 'br0', info: { kind: 'bridge' } }),
      setLink({ name: 'br0' }, { up: true }),
    ]);
    using rt = new Rtnetlink(ns.fd);
    expect(rt.link({ name: 'br0' })?.up).toBe(true);
    await expect(
      applyInBackground(ns.fd, [deleteLink({ name: 'br0' }), deleteLink({ name: 'br0' })]),
    ).rejects.toMatchObject({
      code: 'ENODEV',
      index: 1,
      request: 'ip link delete br0',
    });
    await applyInBackground(ns.fd, []);
  });
});

describe('a link that was just brought up', () => {
  it('is made to answer for its addresses without waiting for the kernel to look', () => {
    using rt = new Rtnetlink(ns.fd);
    rt.apply([
      addLink({ name: 'va', up: true, info: { kind: 'veth', peer: { name: 'vb' } } }),
      setLink({ name: 'vb' }, { up: true }),
    ]);
    expect(settleLink(ns.fd, 'va')).toBe(true);
    expect(settleLink(ns.fd, 'vb')).toBe(true);
    const va = rt.link({ name: 'va' });
    expect(va?.operState).toBe('up');
    expect(rt.groups(va!)).toContain('ff02::1');
    rt.apply([setLink({ name: 'vb' }, { up: false })]);
    expect(settleLink(ns.fd, 'va')).toBe(false);
    expect(() => settleLink(ns.fd, 'nothing')).toThrow(expect.objectContaining({ code: 'ENODEV' }));
    expect(solicitedNodeGroup('fd00:88::12:3456')).toBe('ff02::1:ff12:3456');
  });
});

describe('sysctls', () => {
  it("are those of the namespace, and the process's own stay as they are", () => {
    const own = readNetSysctl(undefined, 'ipv4/conf/default/arp_notify');
    writeNetSysctl(ns.fd, 'ipv4/conf/default/arp_notify', own === '1' ? '0' : '1');
    expect(readNetSysctl(ns.fd, 'ipv4/conf/default/arp_notify')).not.toBe(own);
    expect(readNetSysctl(undefined, 'ipv4/conf/default/arp_notify')).toBe(own);
    writeNetSysctl(ns.fd, 'ipv4/ip_forward', '0');
    expect(ensureNetSysctl(ns.fd, 'ipv4/ip_forward', '1')).toBe(true);
    expect(ensureNetSysctl(ns.fd, 'ipv4/ip_forward', '1')).toBe(false);
    expect(readNetSysctl(ns.fd, 'ipv4/conf/nothing/forwarding')).toBeUndefined();
    expect(() => writeNetSysctl(ns.fd, 'ipv4/conf/nothing/forwarding', '1')).toThrow(
      expect.objectContaining({ code: 'ENOENT' }),
    );
    expect(() => writeNetSysctl(ns.fd, 'ipv4/ip_forward', 'x')).toThrow(
      expect.objectContaining({
        code: 'EINVAL',
        message: expect.stringContaining('cannot set sysctl "net/ipv4/ip_forward" to "x"') as string,
      }),
    );
  });

  it.each([
    '../kernel/hostname',
    'ipv4/../../kernel/hostname',
    '/ipv4/ip_forward',
    'ipv4',
    'ipv4//ip_forward',
    'ipv4/a b',
  ])('named %j are refused', (name) => {
    expect(() => readNetSysctl(ns.fd, name)).toThrow(expect.objectContaining({ code: 'INVALID_SYSCTL' }));
  });
});
