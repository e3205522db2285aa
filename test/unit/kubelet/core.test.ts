/** The pure core, where a story of the whole would hide what is being decided. */
import { describe, expect, it } from 'vitest';
import type { BackoffState } from '../../../src/base/index.ts';
import type { Action } from '../../../src/kubelet/core/actions.ts';
import { describeAction, slotOf } from '../../../src/kubelet/core/actions.ts';
import { type DecideInput, type Decision, decide } from '../../../src/kubelet/core/decide.ts';
import { newPodMemory, type ObservedContainer, type PodMemory } from '../../../src/kubelet/core/model.ts';
import { forgetConfiguration, remember } from '../../../src/kubelet/core/remember.ts';
import { announceTime, startTime } from '../../../src/kubelet/core/restart.ts';
import { podOf, START } from './world.ts';

const POLICY = { initial: 10_000, factor: 2, max: 300_000, resetAfter: 600_000 };
const RETRY = { imagePull: POLICY, retryAfter: 10_000 };
const SANDBOX = { id: 's', attempt: 0, ready: true, createdAt: START, ips: ['10.0.0.5'] };

function exited(finishedAt: number, fields: Partial<ObservedContainer> = {}): ObservedContainer {
  return {
    id: 'a-id',
    name: 'a',
    sandboxId: 's',
    attempt: 0,
    state: 'exited',
    createdAt: START,
    startedAt: START,
    finishedAt,
    exitCode: 1,
    reason: 'Error',
    message: '',
    image: 'app:1',
    imageRef: 'sha256:1',
    logPath: '',
    ...fields,
  };
}

const running = (name: string) => exited(0, { id: `${name}-id`, name, state: 'running', exitCode: 0 });

const PREPARED: PodMemory = { ...newPodMemory(START), prepared: true };

async function decision(spec: object, fields: Partial<DecideInput> = {}): Promise<Decision> {
  return decide({
    pod: await podOf({ ...spec }),
    desired: { kind: 'run' },
    observed: { sandboxes: [SANDBOX], containers: [] },
    memory: PREPARED,
    probes: new Map(),
    busy: new Map(),
    previous: undefined,
    hostIps: [],
    crashLoop: POLICY,
    retryAfter: RETRY.retryAfter,
    now: START,
    ...fields,
  });
}

const busy = (...actions: Action[]) => new Map(actions.map((action) => [slotOf(action), action]));
const done = ({ actions }: Decision) => actions.map(describeAction);

describe('what is to be done', () => {
  it('first directories, cgroup and volumes, then the sandbox', async () => {
    const nothing = { sandboxes: [], containers: [] };
    expect(done(await decision({}, { observed: nothing, memory: newPodMemory(START) }))).toEqual([
      'prepare directories, cgroup and volumes',
    ]);
    expect(done(await decision({}, { observed: nothing }))).toEqual(['create sandbox, attempt 0']);
  });

  describe('a sandbox that is of no use', () => {
    const NO_ADDRESS = { ...SANDBOX, ips: [] };
    const DEAD = { ...SANDBOX, ready: false };
    const later = { attempt: 1, createdAt: START + 60_000 };
    it.each([
      ['the first, dead: at once', DEAD, 0, 'now'],
      ['the first, without an address: at once', { ...NO_ADDRESS, ready: false }, 0, 'now'],
      ['a replacement, dead right away: after the pause', { ...DEAD, ...later }, 60_000, 70_000],
      ['a replacement, dead within the pause: what is left of it', { ...DEAD, ...later }, 67_000, 70_000],
      ['a replacement that lived for a minute: at once', { ...DEAD, ...later }, 120_000, 'now'],
      ['made in the future, since the clock was set back: at once', { ...DEAD, ...later }, 1000, 'now'],
    ])('%s', async (_name, sandbox, at, expected) => {
      const observed = { sandboxes: [sandbox], containers: [] };
      const { actions, wakeAt } = await decision({}, { observed, now: START + at });
      const create = [`create sandbox, attempt ${sandbox.attempt + 1}`];
      expect(actions.map(describeAction)).toEqual(expected === 'now' ? create : []);
      expect(wakeAt).toBe(expected === 'now' ? undefined : START + Number(expected));
    });

    it('is stopped while its successor waits', async () => {
      const observed = { sandboxes: [{ ...NO_ADDRESS, ...later }], containers: [] };
      expect(done(await decision({}, { observed, now: START + 60_000 }))).toEqual(['stop sandbox s']);
    });
  });

  it('images of all containers that may start are fetched at the same time, the containers started one by one', async () => {
    const spec = {
      containers: [
        { name: 'a', image: 'one:1' },
        { name: 'b', image: 'two:1' },
      ],
    };
    expect(done(await decision(spec))).toEqual(['ensure image "one:1" for a', 'ensure image "two:1" for b']);
    const memory = { ...PREPARED, containers: { a: { imageRef: '1' }, b: { imageRef: '2' } } };
    expect(done(await decision(spec, { memory }))).toEqual(['start container a, attempt first']);
  });

  it('an init container holds back the images of those behind it', async () => {
    const spec = { initContainers: [{ name: 'i', image: 'init:1' }] };
    expect(done(await decision(spec))).toEqual(['ensure image "init:1" for i']);
  });

  it('nothing while the same is under way', async () => {
    const spec = {};
    const first = await decision(spec);
    const [action] = first.actions;
    expect(action && done(await decision(spec, { busy: busy(action) }))).toEqual([]);
  });

  it('nothing before its time where it has failed, and then again', async () => {
    const failures = {
      'create-sandbox pod': { reason: 'X', message: 'x', at: START, retryAt: START + 10_000 },
    };
    const fields = { observed: { sandboxes: [], containers: [] }, memory: { ...PREPARED, failures } };
    const early = await decision({}, fields);
    expect(done(early)).toEqual([]);
    expect(early.wakeAt).toBe(START + 10_000);
    expect(done(await decision({}, { ...fields, now: START + 10_000 }))).toEqual([
      'create sandbox, attempt 0',
    ]);
  });

  it('a container that was made and never started is not started: another attempt is made', async () => {
    const containers = [exited(0, { state: 'created' })];
    const memory = { ...PREPARED, containers: { a: { imageRef: '1' } } };
    expect(done(await decision({}, { memory, observed: { sandboxes: [SANDBOX], containers } }))).toEqual([
      'start container a, attempt 1',
    ]);
  });

  it('one in an unknown state is killed before it is started again', async () => {
    const containers = [exited(0, { state: 'unknown' })];
    const { actions } = await decision({}, { observed: { sandboxes: [SANDBOX], containers } });
    expect(actions).toMatchObject([
      { kind: 'kill-container', message: 'Container is in "unknown" state, try killing it before restart' },
    ]);
  });

  it('two ready sandboxes are none: everything in them ends first', async () => {
    const other = { ...SANDBOX, id: 'other', attempt: 1 };
    const observed = { sandboxes: [other, SANDBOX], containers: [running('a')] };
    expect(done(await decision({}, { observed }))).toEqual(['kill container a (a-id) within 30 s']);
  });

  it('a sandbox without an address is replaced, but for the host’s network', async () => {
    const observed = { sandboxes: [{ ...SANDBOX, ips: [] }], containers: [] };
    expect(done(await decision({}, { observed }))).toEqual(['stop sandbox s']);
    expect(done(await decision({ hostNetwork: true }, { observed }))).toEqual(['ensure image "app:1" for a']);
  });

  it('of dead containers one of each name is kept beside the newest', async () => {
    const containers = [
      { ...running('a'), id: 'a4', attempt: 4 },
      exited(3, { id: 'a3', attempt: 3 }),
      exited(2, { id: 'a2', attempt: 2 }),
      exited(1, { id: 'a1', attempt: 1 }),
    ];
    expect(done(await decision({}, { observed: { sandboxes: [SANDBOX], containers } }))).toEqual([
      'remove container a (a2)',
      'remove container a (a1)',
    ]);
  });

  it('an old sandbox goes when nothing of it is kept', async () => {
    const old = { ...SANDBOX, id: 'old', ready: false };
    const containers = [running('a'), exited(1, { id: 'a0', sandboxId: 'old' })];
    const sandboxes = [{ ...SANDBOX, attempt: 1 }, old];
    expect(done(await decision({}, { observed: { sandboxes, containers } }))).toEqual([]);
    const kept = { sandboxes, containers: containers.slice(0, 1) };
    expect(done(await decision({}, { observed: kept }))).toEqual(['remove sandbox old']);
  });

  it('a start that is under way is given up when the pod shall end, and waited for', async () => {
    const start: Action = {
      kind: 'start-container',
      container: 'a',
      sandboxId: 's',
      ips: [],
      imageRef: '1',
      attempt: 0,
      crash: undefined,
    };
    const result = await decision({}, { busy: busy(start), desired: { kind: 'stop', at: START } });
    expect(result.cancel).toEqual(['container/a']);
    expect(result.stage).toBe('ending');
    expect(done(result)).toEqual([]);
  });

  it('a kill is replaced by one that is over sooner, not by the same or a longer one', async () => {
    const observed = { sandboxes: [SANDBOX], containers: [running('a')] };
    const kill = (await decision({}, { observed, desired: { kind: 'stop', at: START } })).actions[0];
    if (kill === undefined) throw new Error('no kill');
    const again = { observed, busy: busy(kill), now: START + 5000 };
    const same = await decision({}, { ...again, desired: { kind: 'stop', at: START } });
    expect([same.cancel, done(same)]).toEqual([[], []]);
    const sooner = await decision({}, { ...again, desired: { kind: 'stop', at: START + 5000, grace: 1 } });
    expect([sooner.cancel, done(sooner)]).toEqual([['container/a'], ['kill container a (a-id) within 1 s']]);
  });

  it('an ended pod gives back what it held, and only a removed one is erased', async () => {
    const observed = { sandboxes: [], containers: [] };
    const stopped = { kind: 'stop', at: START } as const;
    const removed = { kind: 'remove', at: START } as const;
    const memory = { ...PREPARED, released: true };
    expect(done(await decision({}, { observed, desired: stopped }))).toEqual([
      'release volumes, cgroup and user ids',
    ]);
    expect(done(await decision({}, { observed, desired: stopped, memory }))).toEqual([]);
    expect(done(await decision({}, { observed, desired: removed, memory }))).toEqual([
      'erase directories and logs',
    ]);
  });
});

describe('when an attempt may start', () => {
  const rows: readonly (readonly [
    what: string,
    observed: ObservedContainer | undefined,
    crash: BackoffState | undefined,
    now: number,
    at: number,
    delay: number | undefined,
  ])[] = [
    ['the first', undefined, undefined, 0, 0, undefined],
    ['the first restart, at once', exited(START), undefined, START, START, 10_000],
    [
      'the second, ten seconds after the exit',
      exited(START + 1000),
      { delay: 10_000, since: START },
      START + 1000,
      START + 11_000,
      20_000,
    ],
    [
      'never more than five minutes',
      exited(START + 1000),
      { delay: 300_000, since: START },
      START + 1000,
      START + 301_000,
      300_000,
    ],
    [
      'a run of ten minutes and a bit clears it',
      exited(START + 600_001),
      { delay: 80_000, since: START },
      START + 600_001,
      START + 600_001,
      10_000,
    ],
    [
      'what the container’s annotation says counts where nothing is remembered',
      exited(START + 1000, { crashDelay: 40_000 }),
      undefined,
      START + 1000,
      START + 41_000,
      80_000,
    ],
  ];
  for (const [what, observed, crash, now, at, delay] of rows) {
    it(what, () => {
      const memory = crash === undefined ? undefined : { crash };
      const found = startTime(POLICY, observed, memory, undefined, now);
      expect(Math.max(found.at, observed === undefined ? 0 : now)).toBe(at);
      expect(found.crash?.delay).toBe(delay);
    });
  }

  it('a failed start puts it off as well', () => {
    const failure = { reason: 'X', message: 'x', at: START, retryAt: START + 10_000 };
    expect(startTime(POLICY, undefined, undefined, failure, START)).toMatchObject({
      at: START + 10_000,
      because: 'failure',
    });
  });

  it('a pause is announced after a second, or half of it', () => {
    expect(announceTime(START, START + 10_000)).toBe(START + 1000);
    expect(announceTime(START, START + 500)).toBe(START + 250);
  });
});

describe('what is remembered', () => {
  const pull: Action = { kind: 'ensure-image', container: 'a', image: 'app:1' };
  const failed = { ok: false, reason: 'ErrImagePull', message: 'no route' } as const;

  it('pauses between pulls grow, and a success forgets them', () => {
    let memory = remember(PREPARED, pull, failed, RETRY, START);
    expect(memory.pulls['app:1']).toMatchObject({
      pulled: true,
      announced: false,
      backoff: { delay: 10_000 },
    });
    memory = remember(memory, pull, failed, RETRY, START + 10_000);
    expect(memory.pulls['app:1']?.backoff.delay).toBe(20_000);
    memory = remember(memory, pull, { ok: true, imageRef: 'sha256:1' }, RETRY, START + 30_000);
    expect(memory.pulls).toEqual({});
    expect(memory.containers.a?.imageRef).toBe('sha256:1');
  });

  it('a name that is none is no failed pull: it is looked at again after the same time', () => {
    const outcome = { ...failed, reason: 'InvalidImageName' };
    let memory = remember(PREPARED, pull, outcome, RETRY, START);
    memory = remember(memory, pull, outcome, RETRY, START + 10_000);
    expect(memory.pulls['app:1']).toMatchObject({ pulled: false, backoff: { delay: 10_000 } });
  });

  it('an image serves one attempt: the next asks again', () => {
    const start: Action = {
      kind: 'start-container',
      container: 'a',
      sandboxId: 's',
      ips: [],
      imageRef: '1',
      attempt: 1,
      crash: { delay: 10_000, since: START },
    };
    const before = { ...PREPARED, containers: { a: { imageRef: '1' } } };
    expect(remember(before, start, { ok: true }, RETRY, START).containers.a).toEqual({ crash: start.crash });
  });

  it('after a change of configuration what failed for it is tried at once, other failures wait', () => {
    const failure = (reason: string) => ({ reason, message: '', at: START, retryAt: START + 10_000 });
    const memory = forgetConfiguration({
      ...PREPARED,
      failures: {
        'start-container container/a': failure('CreateContainerConfigError'),
        'start-container container/b': failure('RunContainerError'),
        'prepare-pod pod': failure('FailedMount'),
      },
    });
    expect(memory.prepared).toBe(false);
    expect(Object.keys(memory.failures)).toEqual(['start-container container/b']);
  });
});
