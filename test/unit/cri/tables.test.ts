import { describe, expect, test } from 'vitest';
import { readFlags, resolveConfig } from '../../../src/agent/index.ts';
import { NodeletError } from '../../../src/base/index.ts';
import { fromGrpcError, STATUS, toGrpcError } from '../../../src/cri/grpc/codes.ts';
import { ContainerEventType, ContainerState, PodSandboxState } from '../../../src/cri/index.ts';
import { eventsBetween, type Listed } from '../../../src/cri/remote/relist.ts';

describe('an error', () => {
  test.each([
    ['NOT_FOUND', 'NOT_FOUND'],
    ['IMAGE_NOT_FOUND', 'NOT_FOUND'],
    ['ALREADY_EXISTS', 'ALREADY_EXISTS'],
    ['INVALID_ARGUMENT', 'INVALID_ARGUMENT'],
    ['INVALID_USER', 'INVALID_ARGUMENT'],
    ['INVALID_STATE', 'FAILED_PRECONDITION'],
    ['DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED'],
    ['ABORTED', 'CANCELLED'],
    ['UNIMPLEMENTED', 'UNIMPLEMENTED'],
    ['DISK_FULL', 'RESOURCE_EXHAUSTED'],
    ['START_FAILED', 'UNKNOWN'],
    ['INTERNAL', 'INTERNAL'],
  ] as const)('%s is gRPC’s %s, and comes back as itself', (code, status) => {
    const {
      code: number,
      details,
      nodeletCode,
    } = toGrpcError(new NodeletError(code, 'it failed', { hint: 'mend it' }));
    expect([number, details, nodeletCode]).toEqual([STATUS[status], 'it failed (mend it)', code]);
    expect(fromGrpcError('Version', number, details, nodeletCode)).toMatchObject({
      code,
      message: 'it failed (mend it)',
    });
  });

  test('of another runtime has the code that is nearest', () => {
    expect(fromGrpcError('Version', STATUS.NOT_FOUND, 'no such', undefined).code).toBe('NOT_FOUND');
    expect(fromGrpcError('Version', STATUS.UNAVAILABLE, 'gone', undefined).code).toBe('RUNTIME_UNREACHABLE');
    expect(fromGrpcError('Version', STATUS.UNKNOWN, '', undefined)).toMatchObject({
      code: 'RUNTIME_ERROR',
      message: 'Version: UNKNOWN',
    });
  });

  test('of any length fits into a header', () => {
    expect(toGrpcError(new Error('x'.repeat(100_000))).details.length).toBeLessThan(5000);
    expect(toGrpcError('thrown').code).toBe(STATUS.INTERNAL);
  });
});

describe('two lists', () => {
  const list = (sandboxes: Listed['sandboxes'], containers: Listed['containers']): Listed => ({
    sandboxes,
    containers,
  });
  const kinds = (before: Listed, after: Listed): (readonly [string | undefined, number | undefined])[] =>
    eventsBetween(before, after).map((event) => [event.containerId, event.containerEventType]);
  const { CONTAINER_CREATED, CONTAINER_RUNNING, CONTAINER_EXITED } = ContainerState;
  const nothing = list([], []);

  test('that are the same are no event', () => {
    const same = list(
      [{ id: 'p', state: PodSandboxState.SANDBOX_READY }],
      [{ id: 'c', state: CONTAINER_RUNNING }],
    );
    expect(kinds(same, structuredClone(same))).toEqual([]);
    expect(kinds(list([], [{ id: 'c' }]), list([], [{ id: 'c', state: CONTAINER_CREATED }]))).toEqual([]);
  });

  test('tell what came, changed and went', () => {
    const {
      CONTAINER_STARTED_EVENT,
      CONTAINER_STOPPED_EVENT,
      CONTAINER_DELETED_EVENT,
      CONTAINER_CREATED_EVENT,
    } = ContainerEventType;
    expect(kinds(nothing, list([{ id: 'p', state: 0 }], [{ id: 'a', state: CONTAINER_CREATED }]))).toEqual([
      ['p', CONTAINER_STARTED_EVENT],
      ['a', CONTAINER_CREATED_EVENT],
    ]);
    const before = list(
      [{ id: 'p', state: 0 }],
      [
        { id: 'a', state: CONTAINER_RUNNING },
        { id: 'b', state: CONTAINER_EXITED },
      ],
    );
    expect(kinds(before, list([{ id: 'p', state: 1 }], [{ id: 'a', state: CONTAINER_EXITED }]))).toEqual([
      ['p', CONTAINER_STOPPED_EVENT],
      ['a', CONTAINER_STOPPED_EVENT],
      ['b', CONTAINER_DELETED_EVENT],
    ]);
  });

  test('say whose pod it is', () => {
    const labels = { 'io.kubernetes.pod.uid': 'u-1' };
    const [event] = eventsBetween(nothing, list([], [{ id: 'a', state: CONTAINER_RUNNING, labels }]));
    expect(event?.containersStatuses?.[0]?.labels).toEqual(labels);
  });
});

describe('a socket', () => {
  const settle = (flags: Record<string, string>) => resolveConfig(readFlags(flags));
  test('is a path, also as kubelets write it', () => {
    for (const text of ['/run/x.sock', 'unix:///run/x.sock', 'unix:/run/x.sock'])
      expect(settle({ containerRuntimeEndpoint: text })).toMatchObject({
        runtimeEndpoint: '/run/x.sock',
        imageEndpoint: '/run/x.sock',
      });
    expect(settle({ containerRuntimeEndpoint: '/a', imageServiceEndpoint: '/b' }).imageEndpoint).toBe('/b');
  });
  test.each([
    ['of another kind', { criSocket: 'tcp://127.0.0.1:80' }, 'is no unix socket'],
    ['without a path', { criSocket: '' }, 'is no path'],
    [
      'of our own beside another runtime',
      { criSocket: '/a', containerRuntimeEndpoint: '/b' },
      'no runtime of our own',
    ],
    ['of an image service alone', { imageServiceEndpoint: '/a' }, 'beside containerRuntimeEndpoint'],
  ])('%s is refused', (_, flags, message) => {
    expect(() => settle(flags)).toThrow(message);
  });
});
