import { describe, expect, it } from 'vitest';
import { staleAfterAdd, staleAfterRemove } from '../../../src/cni/flows.ts';
import type { PortMapping } from '../../../src/cni/index.ts';
import type { Flow } from '../../../src/linux/netlink/index.ts';

const flow = (destination: string, port: number, answeredBy: string, protocol = 17): Flow => ({
  family: 4,
  protocol,
  original: { source: '192.0.2.2', destination, sourcePort: 4000, destinationPort: port },
  reply: { source: answeredBy, destination: '192.0.2.2', sourcePort: 53, destinationPort: 4000 },
  key: { tuple: Buffer.alloc(0), id: undefined },
});

const mapping = (change: Partial<PortMapping> = {}): PortMapping => ({
  hostPort: 53,
  containerPort: 53,
  protocol: 'udp',
  hostIP: '',
  ...change,
});
const own = new Set(['10.88.0.5']);
const host = new Set(['192.0.2.1', '192.0.2.9', '10.88.0.1']);

describe('after a host port was mapped, a connection is stale', () => {
  it.each<[string, Flow, Partial<PortMapping>, boolean]>([
    ['that a server of the host answers', flow('192.0.2.1', 53, '192.0.2.1'), {}, true],
    ['that a pod answers that had the port before', flow('192.0.2.1', 53, '10.88.0.4'), {}, true],
    ['but not one that the pod answers', flow('192.0.2.1', 53, '10.88.0.5'), {}, false],
    ['but not one to another port', flow('192.0.2.1', 54, '192.0.2.1'), {}, false],
    ['but not one that only passes through', flow('192.0.2.2', 53, '192.0.2.2'), {}, false],
    ['but not one of TCP', flow('192.0.2.1', 53, '192.0.2.1', 6), {}, false],
    ['but not for a mapping of TCP', flow('192.0.2.1', 53, '192.0.2.1'), { protocol: 'tcp' }, false],
    ['on the address of the mapping', flow('192.0.2.1', 53, '192.0.2.1'), { hostIP: '192.0.2.1' }, true],
    ['but not on another address', flow('192.0.2.9', 53, '192.0.2.9'), { hostIP: '192.0.2.1' }, false],
    ['on any address for 0.0.0.0', flow('192.0.2.9', 53, '192.0.2.9'), { hostIP: '0.0.0.0' }, true],
  ])('%s', (_name, one, change, stale) => {
    expect(staleAfterAdd([one], [mapping(change)], own, host)).toEqual(stale ? [one] : []);
  });
});

describe('after a pod is gone, a connection is stale', () => {
  it.each<[string, Flow, boolean]>([
    ['that was translated to it', flow('192.0.2.1', 53, '10.88.0.5'), true],
    ['that was translated to it, of TCP too', flow('192.0.2.1', 53, '10.88.0.5', 6), true],
    ['but not one to the pod itself', flow('10.88.0.5', 53, '10.88.0.5'), false],
    ['but not one to another pod', flow('192.0.2.1', 53, '10.88.0.6'), false],
  ])('%s', (_name, one, stale) => {
    expect(staleAfterRemove([one], own)).toEqual(stale ? [one] : []);
  });
});
