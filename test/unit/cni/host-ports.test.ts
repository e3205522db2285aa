import { describe, expect, it } from 'vitest';
import { resolveConfig } from '../../../src/cni/config.ts';
import { findPortConflict, portElements, type SetElements } from '../../../src/cni/host-ports.ts';
import { localhostListeners, type PortMapping } from '../../../src/cni/index.ts';
import { tableOf } from '../../../src/cni/rules.ts';
import { formatElement } from '../../../src/linux/nftables/index.ts';

const { subnets } = resolveConfig({ name: 'pods', subnets: ['10.88.0.0/16', 'fd00:88::/64'] });
const [v4, v6] = subnets;
const table = tableOf('nodelet0');
const both = [
  { subnet: v4!, address: '10.88.0.5' },
  { subnet: v6!, address: 'fd00:88::5' },
];
const mapping = (change: Partial<PortMapping>): PortMapping => ({
  hostPort: 8080,
  containerPort: 80,
  protocol: 'tcp',
  hostIP: '',
  ...change,
});
const elements = (mappings: PortMapping[], addresses = both, id = 'me'): SetElements[] =>
  portElements(table, id, addresses, mappings);
const text = (list: SetElements[]): string[] =>
  list.flatMap(({ set, elements: items }) =>
    items.map((element) => `${set.name}: ${formatElement(set, element)}`),
  );

describe('the elements of port mappings', () => {
  it.each<[string, Partial<PortMapping>, string[]]>([
    [
      'every address of both families',
      {},
      [
        'hostports4: tcp . 8080 comment "me" : 10.88.0.5 . 80',
        'hairpin4: 10.88.0.5 . 10.88.0.5 comment "me"',
        'hostports6: tcp . 8080 comment "me" : fd00:88::5 . 80',
        'hairpin6: fd00:88::5 . fd00:88::5 comment "me"',
      ],
    ],
    [
      '0.0.0.0 is every IPv4 address',
      { hostIP: '0.0.0.0' },
      [
        'hostports4: tcp . 8080 comment "me" : 10.88.0.5 . 80',
        'hairpin4: 10.88.0.5 . 10.88.0.5 comment "me"',
      ],
    ],
    [
      'one address',
      { hostIP: '192.0.2.1', protocol: 'sctp' },
      [
        'hostips4: 192.0.2.1 . sctp . 8080 comment "me" : 10.88.0.5 . 80',
        'hairpin4: 10.88.0.5 . 10.88.0.5 comment "me"',
      ],
    ],
    [
      'one IPv6 address',
      { hostIP: 'FD00::0:1' },
      [
        'hostips6: fd00::1 . tcp . 8080 comment "me" : fd00:88::5 . 80',
        'hairpin6: fd00:88::5 . fd00:88::5 comment "me"',
      ],
    ],
    ['a loopback address is not for rules', { hostIP: '127.0.0.1' }, []],
    ['nor is that of IPv6', { hostIP: '::1' }, []],
    ['no host port', { hostPort: 0 }, []],
  ])('%s', (_name, change, expected) => {
    expect(text(elements([mapping(change)]))).toEqual(expected);
  });

  it('are none for a family that the pod has no address of', () => {
    expect(text(elements([mapping({ hostIP: '::' })], [both[0]!]))).toEqual([]);
    expect(text(elements([mapping({})], [both[0]!])).length).toBe(2);
  });

  it('hold the same mapping once, and refuse one port for two', () => {
    expect(text(elements([mapping({}), mapping({})])).length).toBe(4);
    expect(() => elements([mapping({}), mapping({ containerPort: 81 })])).toThrow(
      expect.objectContaining({
        code: 'NETWORK_INVALID_CONFIG',
        message: 'cannot map host port 8080/tcp to two ports of one pod',
      }),
    );
  });

  it('refuse a hostIP that is none', () => {
    expect(() => elements([mapping({ hostIP: 'localhost' })])).toThrow(
      expect.objectContaining({ code: 'NETWORK_INVALID_CONFIG' }),
    );
  });
});

describe('a conflict of ports', () => {
  const conflict = (first: Partial<PortMapping>, second: Partial<PortMapping>, owner = 'other') =>
    findPortConflict('me', elements([mapping(second)]), elements([mapping(first)], both, owner));

  it.each<[string, Partial<PortMapping>, Partial<PortMapping>, string]>([
    ['all and all', {}, {}, '8080/tcp'],
    ['all and one', {}, { hostIP: '192.0.2.1' }, '192.0.2.1:8080/tcp'],
    ['one and all', { hostIP: '192.0.2.1' }, {}, '8080/tcp'],
    ['one and the same', { hostIP: 'fd00::1' }, { hostIP: 'fd00:0::1' }, '[fd00::1]:8080/tcp'],
    ['all of IPv4 and all', { hostIP: '0.0.0.0' }, {}, '8080/tcp'],
  ])('%s', (_name, first, second, port) => {
    expect(conflict(first, second)).toEqual({ port, owner: 'other' });
  });

  it.each<[string, Partial<PortMapping>, Partial<PortMapping>]>([
    ['another port', {}, { hostPort: 8081 }],
    ['another protocol', {}, { protocol: 'udp' }],
    ['another address', { hostIP: '192.0.2.1' }, { hostIP: '192.0.2.2' }],
    ['another family', { hostIP: '0.0.0.0' }, { hostIP: '::' }],
    ['one IPv4 address and all of IPv6', { hostIP: '192.0.2.1' }, { hostIP: '::' }],
  ])('is not: %s', (_name, first, second) => {
    expect(conflict(first, second)).toBeUndefined();
  });

  it('is none with oneself', () => {
    expect(conflict({}, {}, 'me')).toBeUndefined();
  });
});

describe('the loopback listeners of port mappings', () => {
  const listeners = (mappings: PortMapping[], addresses = ['10.88.0.5', 'fd00:88::5']): string[] =>
    localhostListeners(mappings, addresses).map(
      ({ protocol, address, port, targetAddress, targetPort, required }) =>
        `${protocol} ${address} ${port} > ${targetAddress} ${targetPort}${required ? ' required' : ''}`,
    );

  it.each<[string, Partial<PortMapping>, string[]]>([
    ['every address', {}, ['tcp 127.0.0.1 8080 > 10.88.0.5 80', 'tcp ::1 8080 > fd00:88::5 80']],
    ['every IPv4 address', { hostIP: '0.0.0.0', protocol: 'udp' }, ['udp 127.0.0.1 8080 > 10.88.0.5 80']],
    ['every IPv6 address', { hostIP: '::' }, ['tcp ::1 8080 > fd00:88::5 80']],
    ['a loopback address', { hostIP: '127.0.0.9' }, ['tcp 127.0.0.9 8080 > 10.88.0.5 80 required']],
    ['another address', { hostIP: '192.0.2.1' }, []],
    ['SCTP', { protocol: 'sctp' }, []],
    ['no host port', { hostPort: 0 }, []],
  ])('%s', (_name, change, expected) => {
    expect(listeners([mapping(change)])).toEqual(expected);
  });

  it('lead to the address that the pod has', () => {
    expect(listeners([mapping({})], ['10.88.0.5'])).toEqual([
      'tcp 127.0.0.1 8080 > 10.88.0.5 80',
      'tcp ::1 8080 > 10.88.0.5 80',
    ]);
    expect(listeners([mapping({})], [])).toEqual([]);
  });

  it('are one for a port that is mapped twice', () => {
    expect(listeners([mapping({}), mapping({ hostIP: '0.0.0.0' })]).length).toBe(2);
  });
});
