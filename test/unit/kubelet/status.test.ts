/** The status of a pod from what is known of it. */
import { describe, expect, it } from 'vitest';
import type { ContainerStatus, PodStatus } from '../../../src/kube/index.ts';
import { newPodMemory, type ObservedContainer } from '../../../src/kubelet/core/model.ts';
import { goDuration } from '../../../src/kubelet/status/containers.ts';
import { podPhase } from '../../../src/kubelet/status/phase.ts';
import { generateStatus, orderAddresses, type StatusInput } from '../../../src/kubelet/status/status.ts';
import { NODE, podOf, START } from './world.ts';

type Fields = Readonly<Record<string, unknown>>;

/** `a` running, `a` waiting, `a 3` exited, `a -` unknown to everybody, `a ~3` waiting for a restart after its exit. */
function statusesOf(states: Readonly<Record<string, string>>): ContainerStatus[] {
  return Object.entries(states).map(([name, state]) => {
    const base = { name, image: 'app:1', imageID: '', ready: false, restartCount: 0 };
    const ended = { terminated: { exitCode: Number(state.replace('~', '')) } };
    if (state === 'running' || state === 'starting') {
      return { ...base, state: { running: {} }, started: state === 'running' };
    }
    if (state === 'waiting') return { ...base, state: { waiting: {} } };
    if (state === 'none') return base;
    if (state.startsWith('~')) return { ...base, state: { waiting: {} }, lastState: ended };
    return { ...base, state: ended };
  });
}

describe('the phase', () => {
  const two = { containers: [{ name: 'a' }, { name: 'b' }] };
  const never = { ...two, restartPolicy: 'Never' };
  const onFailure = { ...two, restartPolicy: 'OnFailure' };
  const init = { ...two, initContainers: [{ name: 'i' }] };
  const sidecar = { ...two, initContainers: [{ name: 's', restartPolicy: 'Always' }] };
  const rows: readonly (readonly [
    spec: Fields,
    states: Record<string, string>,
    phase: string,
    ending?: boolean,
  ])[] = [
    [two, { a: 'waiting', b: 'waiting' }, 'Pending'],
    [two, { a: 'running', b: 'waiting' }, 'Pending'],
    [two, { a: 'running', b: 'running' }, 'Running'],
    [two, { a: 'running', b: 'none' }, 'Pending'],
    [two, { a: 'running', b: '0' }, 'Running'],
    [two, { a: '~1', b: '~1' }, 'Running'],
    [two, { a: '0', b: '0' }, 'Running'],
    [two, { a: '0', b: '0' }, 'Succeeded', true],
    [two, { a: '0', b: '1' }, 'Failed', true],
    [never, { a: '0', b: '0' }, 'Succeeded'],
    [never, { a: '1', b: '0' }, 'Failed'],
    [never, { a: '1', b: 'running' }, 'Running'],
    [onFailure, { a: '0', b: '0' }, 'Succeeded'],
    [onFailure, { a: '0', b: '1' }, 'Running'],
    [onFailure, { a: '0', b: '~1' }, 'Running'],
    [init, { i: 'running', a: 'waiting', b: 'waiting' }, 'Pending'],
    [init, { i: '~1', a: 'waiting', b: 'waiting' }, 'Pending'],
    [init, { i: '0', a: 'running', b: 'running' }, 'Running'],
    [{ ...init, restartPolicy: 'Never' }, { i: '1', a: 'waiting', b: 'waiting' }, 'Failed'],
    [sidecar, { s: 'starting', a: 'waiting', b: 'waiting' }, 'Pending'],
    [sidecar, { s: 'running', a: 'running', b: 'running' }, 'Running'],
    [{ ...sidecar, restartPolicy: 'Never' }, { s: '0', a: '0', b: '0' }, 'Succeeded'],
    [{ ...sidecar, restartPolicy: 'Never' }, { s: '137', a: '0', b: '0' }, 'Succeeded'],
  ];
  for (const [spec, states, phase, ending = false] of rows) {
    const what = Object.entries(states).map(([name, state]) => `${name} ${state}`);
    const policy = typeof spec.restartPolicy === 'string' ? spec.restartPolicy : 'Always';
    it(`${policy}, ${what.join(', ')}${ending ? ', ending' : ''}: ${phase}`, async () => {
      expect(podPhase(await podOf(spec), statusesOf(states), ending, false)).toBe(phase);
    });
  }
});

function container(name: string, fields: Partial<ObservedContainer> = {}): ObservedContainer {
  return {
    id: `${name}-id`,
    name,
    sandboxId: 'sandbox',
    attempt: 0,
    state: 'running',
    createdAt: START,
    startedAt: START,
    finishedAt: 0,
    exitCode: 0,
    reason: '',
    message: '',
    image: 'app:1',
    imageRef: 'sha256:1',
    logPath: '',
    ...fields,
  };
}

const SANDBOX = { id: 'sandbox', attempt: 0, ready: true, createdAt: START, ips: ['10.0.0.5'] };

async function statusOf(spec: Fields, fields: Partial<StatusInput> = {}): Promise<PodStatus> {
  return generateStatus({
    pod: await podOf(spec),
    observed: { sandboxes: [SANDBOX], containers: [container('a')] },
    memory: newPodMemory(START),
    probes: new Map(),
    ending: false,
    ended: false,
    terminal: undefined,
    previous: undefined,
    hostIps: NODE.ips,
    now: START,
    ...fields,
  });
}

describe('a container’s status', () => {
  it('names ids, image, count and resources', async () => {
    const resources = { limits: { memory: '64Mi' }, requests: { memory: '32Mi' } };
    const mounts = [{ name: 'v', mountPath: '/v', readOnly: true }];
    const status = await statusOf(
      {
        containers: [{ name: 'a', resources, volumeMounts: mounts }],
        volumes: [{ name: 'v', emptyDir: {} }],
      },
      {
        observed: {
          sandboxes: [SANDBOX],
          containers: [container('a', { attempt: 3, user: { uid: 5, gid: 6 } })],
        },
      },
    );
    expect(status.containerStatuses).toEqual([
      {
        name: 'a',
        state: { running: { startedAt: '2026-03-01T12:00:00Z' } },
        ready: true,
        started: true,
        restartCount: 3,
        image: 'app:1',
        imageID: 'sha256:1',
        containerID: 'nodelet://a-id',
        resources,
        allocatedResources: { memory: '32Mi' },
        volumeMounts: [{ name: 'v', mountPath: '/v', readOnly: true, recursiveReadOnly: 'Disabled' }],
        user: { linux: { uid: 5, gid: 6 } },
      },
    ]);
  });

  it('an end tells its code, reason, message and times', async () => {
    const end = container('a', {
      state: 'exited',
      exitCode: 137,
      reason: 'OOMKilled',
      message: 'bye',
      finishedAt: START + 5000,
    });
    const status = await statusOf(
      { restartPolicy: 'Never' },
      { observed: { sandboxes: [SANDBOX], containers: [end] } },
    );
    expect(status.containerStatuses?.[0]?.state).toEqual({
      terminated: {
        exitCode: 137,
        reason: 'OOMKilled',
        message: 'bye',
        startedAt: '2026-03-01T12:00:00Z',
        finishedAt: '2026-03-01T12:00:05Z',
        containerID: 'nodelet://a-id',
      },
    });
  });

  it('one that was never made waits for its creation, or for initialization', async () => {
    const none = { observed: { sandboxes: [SANDBOX], containers: [] } };
    const waiting = (status: PodStatus) => status.containerStatuses?.[0]?.state?.waiting?.reason;
    expect(waiting(await statusOf({}, none))).toBe('ContainerCreating');
    expect(waiting(await statusOf({ initContainers: [{ name: 'i' }] }, none))).toBe('PodInitializing');
  });

  it('one that ran and is gone without a trace counts as a restart', async () => {
    const previous = await statusOf({});
    const status = await statusOf({}, { previous, observed: { sandboxes: [SANDBOX], containers: [] } });
    expect(status.containerStatuses?.[0]).toMatchObject({
      restartCount: 1,
      state: { waiting: { reason: 'ContainerCreating' } },
      lastState: { terminated: { exitCode: 137, reason: 'ContainerStatusUnknown' } },
    });
  });

  it('the one before is its last state', async () => {
    const containers = [
      container('a', { id: 'second', attempt: 1 }),
      container('a', { id: 'first', state: 'exited', exitCode: 2, reason: 'Error' }),
    ];
    const status = await statusOf({}, { observed: { sandboxes: [SANDBOX], containers } });
    expect(status.containerStatuses?.[0]?.lastState?.terminated).toMatchObject({
      exitCode: 2,
      containerID: 'nodelet://first',
    });
  });

  it('an init container that was collected after its success still counts as completed', async () => {
    const status = await statusOf({ initContainers: [{ name: 'i' }] });
    expect(status.initContainerStatuses?.[0]).toMatchObject({
      ready: true,
      state: { terminated: { exitCode: 0, reason: 'Completed' } },
    });
  });
});

describe('a pod’s status', () => {
  it('has conditions in upstream’s order, and keeps the times of what does not change', async () => {
    const first = await statusOf({});
    expect(first.conditions?.map(({ type, status }) => [type, status])).toEqual([
      ['PodReadyToStartContainers', 'True'],
      ['Initialized', 'True'],
      ['Ready', 'True'],
      ['ContainersReady', 'True'],
      ['PodScheduled', 'True'],
    ]);
    const observed = { sandboxes: [SANDBOX], containers: [container('a', { state: 'exited', exitCode: 1 })] };
    const later = await statusOf({}, { previous: first, observed, now: START + 60_000 });
    const times = later.conditions?.map(({ type, lastTransitionTime }) => [type, lastTransitionTime]);
    expect(times).toEqual([
      ['PodReadyToStartContainers', '2026-03-01T12:00:00Z'],
      ['Initialized', '2026-03-01T12:00:00Z'],
      ['Ready', '2026-03-01T12:01:00Z'],
      ['ContainersReady', '2026-03-01T12:01:00Z'],
      ['PodScheduled', '2026-03-01T12:00:00Z'],
    ]);
    expect(later.conditions?.[2]).toMatchObject({
      reason: 'ContainersNotReady',
      message: 'containers with unready status: [a]',
    });
  });

  it('names who is not initialized', async () => {
    const observed = { sandboxes: [SANDBOX], containers: [container('i')] };
    const status = await statusOf({ initContainers: [{ name: 'i' }, { name: 'j' }] }, { observed });
    expect(status.conditions?.[1]).toMatchObject({
      status: 'False',
      reason: 'ContainersNotInitialized',
      message: 'containers with incomplete status: [i j]',
    });
  });

  it('keeps its address when its sandbox has stopped', async () => {
    const previous = await statusOf({});
    const stopped = { ...SANDBOX, ready: false, ips: [] };
    const status = await statusOf({}, { previous, observed: { sandboxes: [stopped], containers: [] } });
    expect(status.podIPs).toEqual([{ ip: '10.0.0.5' }]);
  });

  it('in the host’s network it has the host’s addresses', async () => {
    const status = await statusOf({ hostNetwork: true });
    expect(status.podIPs).toEqual([{ ip: '192.0.2.1' }, { ip: '2001:db8::1' }]);
  });

  it('one that ended without having run is Failed, its containers without a trace', async () => {
    const observed = { sandboxes: [], containers: [] };
    const status = await statusOf({}, { observed, ending: true, ended: true });
    expect(status.phase).toBe('Failed');
    expect(status.containerStatuses?.[0]?.state?.terminated).toMatchObject({
      exitCode: 137,
      reason: 'ContainerStatusUnknown',
    });
  });

  it.each([
    [['fd00::5', '10.0.0.5'], ['192.0.2.1'], ['10.0.0.5', 'fd00::5']],
    [['10.0.0.5', 'fd00::5'], ['2001:db8::1'], ['fd00::5', '10.0.0.5']],
    [['10.0.0.5', '10.0.0.6'], ['192.0.2.1'], ['10.0.0.5']],
    [[], ['192.0.2.1'], []],
  ])('of %j on a host with %j it shows %j', (ips, hostIps, expected) => {
    expect(orderAddresses(ips, hostIps)).toEqual(expected);
  });

  it.each([
    [0, '0ms'],
    [999, '999ms'],
    [10_000, '10s'],
    [80_000, '1m20s'],
    [300_000, '5m0s'],
  ])('%i ms are written %s', (milliseconds, expected) => {
    expect(goDuration(milliseconds)).toBe(expected);
  });
});
