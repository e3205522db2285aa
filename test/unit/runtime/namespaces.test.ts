import { describe, expect, test } from 'vitest';
import { NamespaceMode, type NamespaceOption } from '../../../src/cri/index.ts';
import { containerNamespaces, podNamespaces } from '../../../src/runtime/namespaces.ts';

const { POD, CONTAINER, NODE, TARGET } = NamespaceMode;
const MAP = [{ containerId: 0, hostId: 100_000, length: 65_536 }];

const pod = (namespaceOptions: NamespaceOption = {}) =>
  podNamespaces({ linux: { securityContext: { namespaceOptions } } });

describe('a pod', () => {
  test('has namespaces of its own where nothing is said', () => {
    expect(podNamespaces({})).toEqual({ network: true, ipc: true, pid: POD, uidMap: [], gidMap: [] });
  });

  test('has a user namespace of one row', () => {
    expect(pod({ usernsOptions: { mode: POD, uids: MAP, gids: MAP } }).uidMap).toEqual([
      { containerID: 0, hostID: 100_000, size: 65_536 },
    ]);
    expect(pod({ usernsOptions: { mode: NODE } }).uidMap).toEqual([]);
  });

  test.each([
    ['TARGET for its PIDs', { pid: TARGET }, 'namespaceOptions.pid: TARGET'],
    ['TARGET for its network', { network: TARGET }, 'namespaceOptions.network: TARGET'],
    ['a mode that does not exist', { ipc: 7 as never }, 'namespaceOptions.ipc: 7 is no namespace mode'],
    [
      'two rows of ids',
      { usernsOptions: { mode: POD, uids: [...MAP, ...MAP], gids: MAP } },
      'usernsOptions.uids: 2 mappings',
    ],
    [
      'no row of groups',
      { usernsOptions: { mode: POD, uids: MAP, gids: [] } },
      'usernsOptions.gids: 0 mappings',
    ],
    [
      'no id for root',
      { usernsOptions: { mode: POD, uids: [{ containerId: 1, hostId: 1000, length: 9 }], gids: MAP } },
      'leaves root without an id',
    ],
    [
      'ids beyond 2^32',
      {
        usernsOptions: { mode: POD, uids: [{ containerId: 0, hostId: 4_294_967_290, length: 9 }], gids: MAP },
      },
      'are not all ids',
    ],
    [
      'a negative length',
      { usernsOptions: { mode: POD, uids: [{ containerId: 0, hostId: 1, length: -9 }], gids: MAP } },
      'are not all ids',
    ],
    ['mappings and the host’s namespace', { usernsOptions: { mode: NODE, uids: MAP } }, 'takes no mappings'],
    [
      'CONTAINER for users',
      { usernsOptions: { mode: CONTAINER, uids: MAP, gids: MAP } },
      'does not exist for user namespaces',
    ],
  ] as const)('is refused with %s', (_, options, message) => {
    expect(() => pod(options as NamespaceOption)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(message) }),
    );
  });
});

describe('a container', () => {
  const from = (options: NamespaceOption | undefined, own = pod()) => {
    const { network, ipc, pid } = containerNamespaces(options, own);
    return [network.from, ipc.from, pid.from];
  };

  test('that asks for nothing has what its pod has', () => {
    expect(from(undefined)).toEqual(['pod', 'pod', 'pod']);
    expect(from({}, pod({ network: NODE, ipc: NODE, pid: NODE }))).toEqual(['host', 'host', 'host']);
  });

  test('has PIDs of its own in a pod that does not share them', () => {
    expect(from({ pid: POD }, pod({ pid: CONTAINER }))).toEqual(['pod', 'pod', 'own']);
  });

  test('has each namespace of its own where it asks for that, also beside the host’s', () => {
    expect(from({ network: CONTAINER, ipc: CONTAINER, pid: CONTAINER }, pod({ network: NODE }))).toEqual([
      'own',
      'own',
      'own',
    ]);
  });

  test('joins another one’s', () => {
    expect(from({ pid: TARGET, targetId: 'x' })).toEqual(['pod', 'pod', 'target']);
  });

  test.each([
    ['the host’s PIDs in a pod without them', { pid: NODE }, 'namespaceOptions.pid: NODE is the host'],
    [
      'the host’s network in a pod without it',
      { network: NODE },
      'namespaceOptions.network: NODE is the host',
    ],
    ['a target without a name', { pid: TARGET }, 'namespaceOptions.targetId: is empty'],
    [
      'another user namespace than the pod’s',
      { usernsOptions: { mode: POD, uids: MAP, gids: MAP } },
      'differs from that of the pod',
    ],
  ] as const)('is refused with %s', (_, options, message) => {
    expect(() => from(options as unknown as NamespaceOption)).toThrow(message);
  });
});
