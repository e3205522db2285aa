/** Whole lives of pods, each told by what the runtime was asked for, and when. */
import { describe, expect, it } from 'vitest';
import { podOf, World } from './world.ts';

const PULLED = 'Pulled: Container image "app:1" already present on machine and can be accessed by the pod';

describe('a pod that runs', () => {
  it('starts its containers in order, is Running and Ready, and tells its address', async () => {
    await using world = new World();
    await world.start();
    await world.add(await podOf({ containers: [{ name: 'b' }, { name: 'a' }] }));
    expect(world.tell()).toEqual(['0.0 run sandbox web #0', '0.0 start b #0', '0.0 start a #0']);
    expect(world.status()).toMatchObject({
      phase: 'Running',
      podIP: '10.0.0.2',
      hostIP: '192.0.2.1',
      qosClass: 'BestEffort',
      startTime: '2026-03-01T12:00:00Z',
    });
    expect(
      world.status().containerStatuses?.map(({ name, ready, started }) => [name, ready, started]),
    ).toEqual([
      ['a', true, true],
      ['b', true, true],
    ]);
    expect(world.condition('Ready')).toBe('True');
    const started = ['Created: Container created', 'Started: Container started'];
    expect(world.events()).toEqual([PULLED, PULLED, ...started, ...started]);
    expect(world.cgroups.pods.get('uid-1')?.path).toBe('kubepods/besteffort/poduid-1');
  });

  it('is Succeeded when all containers end with 0, its sandbox is stopped and its cgroup given back', async () => {
    await using world = new World();
    world.runtime.programs.set('a', { runs: 2000 });
    await world.start();
    await world.add(await podOf({ restartPolicy: 'Never' }));
    await world.advance(3);
    expect(world.tell()).toEqual([
      '0.0 run sandbox web #0',
      '0.0 start a #0',
      '2.0 exit a #0 0',
      '2.0 stop sandbox web #0',
    ]);
    expect(world.status()).toMatchObject({ phase: 'Succeeded' });
    expect(world.condition('Ready')).toBe('False PodCompleted');
    expect(world.condition('Initialized')).toBe('True PodCompleted');
    expect(world.containerStatus('a').state?.terminated).toMatchObject({ exitCode: 0, reason: 'Completed' });
    await world.until('the cgroup is gone', () => world.cgroups.pods.size === 0);
    await world.advance(700);
    expect(world.tell()).toEqual([]);
  });

  it('is Failed when one container failed, once the others have ended', async () => {
    await using world = new World();
    world.runtime.programs.set('a', { runs: 1000, code: 3, message: 'out of coffee' });
    world.runtime.programs.set('b', { runs: 5000 });
    await world.start();
    await world.add(await podOf({ restartPolicy: 'Never', containers: [{ name: 'a' }, { name: 'b' }] }));
    await world.advance(2);
    expect(world.status().phase).toBe('Running');
    expect(world.condition('Ready')).toBe('False ContainersNotReady');
    await world.advance(5);
    expect(world.status().phase).toBe('Failed');
    expect(world.containerStatus('a').state?.terminated).toMatchObject({
      exitCode: 3,
      reason: 'Error',
      message: 'out of coffee',
    });
  });

  it('with OnFailure starts a failed container again and is Succeeded in the end', async () => {
    await using world = new World();
    world.runtime.programs.set('a', { runs: 1000, code: (attempt) => (attempt < 2 ? 1 : 0) });
    await world.start();
    await world.add(await podOf({ restartPolicy: 'OnFailure' }));
    await world.advance(30);
    expect(world.tell()).toEqual([
      '0.0 run sandbox web #0',
      '0.0 start a #0',
      '1.0 exit a #0 1',
      '1.0 start a #1',
      '2.0 exit a #1 1',
      // Ten seconds after the exit; of the dead ones the last is kept.
      '12.0 start a #2',
      '12.0 remove a #0',
      '13.0 exit a #2 0',
      '13.0 stop sandbox web #0',
    ]);
    expect(world.status().phase).toBe('Succeeded');
    expect(world.containerStatus('a').restartCount).toBe(2);
    expect(world.containerStatus('a').lastState?.terminated?.exitCode).toBe(1);
  });

  it('each container may have a restart policy of its own', async () => {
    await using world = new World();
    world.runtime.programs.set('once', { runs: 1000, code: 1 });
    world.runtime.programs.set('again', { runs: 1000, code: (attempt) => (attempt === 0 ? 1 : 0) });
    await world.start();
    const containers = [
      { name: 'once', restartPolicy: 'Never' },
      { name: 'again', restartPolicy: 'OnFailure' },
    ];
    await world.add(await podOf({ restartPolicy: 'Always', containers }));
    await world.advance(5);
    expect(world.tell().filter((line) => line.includes('start'))).toEqual([
      '0.0 start once #0',
      '0.0 start again #0',
      '1.0 start again #1',
    ]);
    expect(world.status().phase).toBe('Failed');
  });
});

describe('a pod that crashes', () => {
  it('is restarted at once, then after 10 s, 20 s, 40 s and so on up to 300 s from each exit', async () => {
    await using world = new World();
    world.runtime.programs.set('a', { runs: 1000, code: 1 });
    await world.start();
    await world.add(await podOf({}));
    await world.advance(1300);
    const starts = world.tell().filter((line) => line.includes('start a'));
    expect(starts.map((line) => line.split(' ')[0])).toEqual([
      '0.0',
      '1.0',
      '12.0',
      '33.0',
      '74.0',
      '155.0',
      '316.0',
      '617.0',
      '918.0',
      '1219.0',
    ]);
  });

  it('says so: first the exit, then CrashLoopBackOff with the exit as its last state', async () => {
    await using world = new World();
    world.runtime.programs.set('a', { runs: 1000, code: 1 });
    await world.start();
    await world.add(await podOf({}));
    await world.advance(2.5);
    expect(world.containerStatus('a').state?.terminated?.exitCode).toBe(1);
    await world.advance(1);
    expect(world.containerStatus('a').state).toEqual({
      waiting: {
        reason: 'CrashLoopBackOff',
        message: 'back-off 10s restarting failed container=a pod=web_default(uid-1)',
      },
    });
    expect(world.containerStatus('a')).toMatchObject({
      ready: false,
      started: false,
      restartCount: 1,
      lastState: { terminated: { exitCode: 1 } },
    });
    expect(world.status().phase).toBe('Running');
    expect(world.events().at(-1)).toBe(
      'BackOff: Back-off restarting failed container a in pod web_default(uid-1)',
    );
    await world.advance(30);
    expect(world.events()).toContain(
      'BackOff: Back-off restarting failed container a in pod web_default(uid-1) (2)',
    );
  });

  it('begins anew after a run of more than ten minutes', async () => {
    await using world = new World();
    let long = false;
    world.runtime.programs.set('a', {
      get runs() {
        return long ? 601_000 : 1000;
      },
      code: 1,
    });
    await world.start();
    await world.add(await podOf({}));
    await world.advance(20);
    long = true;
    await world.advance(14);
    long = false;
    world.tell();
    await world.advance(640);
    expect(world.tell().filter((line) => !line.includes('remove'))).toEqual([
      '634.0 exit a #3 1',
      '634.0 start a #4',
      '635.0 exit a #4 1',
      '645.0 start a #5',
      '646.0 exit a #5 1',
      '666.0 start a #6',
      '667.0 exit a #6 1',
    ]);
  });

  it('other containers run on meanwhile', async () => {
    await using world = new World();
    world.runtime.programs.set('a', { runs: 1000, code: 1 });
    await world.start();
    await world.add(await podOf({ containers: [{ name: 'a' }, { name: 'b' }] }));
    await world.advance(40);
    expect(world.runtime.live()).toContain('b');
    expect(world.containerStatus('b').restartCount).toBe(0);
  });

  it('is given another sandbox when its own dies, and init containers run again', async () => {
    await using world = new World();
    world.runtime.programs.set('init', { runs: 1000 });
    await world.start();
    await world.add(await podOf({ initContainers: [{ name: 'init' }] }));
    await world.advance(5);
    world.tell();
    world.runtime.lose(world.runtime.sandbox());
    await world.advance(3);
    expect(world.tell()).toEqual([
      '5.0 exit a #0 137',
      '5.0 remove init #0',
      '5.0 run sandbox web #1',
      '5.0 start init #0',
      '6.0 exit init #0 0',
      '6.0 start a #1',
      // The first sandbox still holds the dead container, whose log can be asked for.
    ]);
    expect(world.events()).toContain(
      'SandboxChanged: Pod sandbox changed, it will be killed and re-created.',
    );
    expect(world.status()).toMatchObject({ phase: 'Running', podIP: '10.0.0.5' });
  });

  it('with Never is Failed when its sandbox dies', async () => {
    await using world = new World();
    await world.start();
    await world.add(await podOf({ restartPolicy: 'Never' }));
    world.runtime.lose(world.runtime.sandbox());
    await world.advance(1);
    expect(world.status().phase).toBe('Failed');
    expect(world.runtime.sandboxes.size).toBe(1);
  });
});

describe('init containers', () => {
  it('run one after another before the others start', async () => {
    await using world = new World();
    world.runtime.programs.set('one', { runs: 1000 });
    world.runtime.programs.set('two', { runs: 2000 });
    await world.start();
    await world.add(await podOf({ initContainers: [{ name: 'one' }, { name: 'two' }] }));
    expect(world.status().phase).toBe('Pending');
    expect(world.condition('Initialized')).toBe('False ContainersNotInitialized');
    expect(world.containerStatus('a').state?.waiting?.reason).toBe('PodInitializing');
    await world.advance(5);
    expect(world.tell()).toEqual([
      '0.0 run sandbox web #0',
      '0.0 start one #0',
      '1.0 exit one #0 0',
      '1.0 start two #0',
      '3.0 exit two #0 0',
      '3.0 start a #0',
    ]);
    expect(world.condition('Initialized')).toBe('True');
    expect(world.containerStatus('one')).toMatchObject({
      ready: true,
      state: { terminated: { reason: 'Completed' } },
    });
  });

  it('one that fails is tried again with back-off; the ones behind it wait', async () => {
    await using world = new World();
    world.runtime.programs.set('one', { runs: 1000, code: (attempt) => (attempt < 2 ? 1 : 0) });
    await world.start();
    await world.add(await podOf({ initContainers: [{ name: 'one' }] }));
    await world.advance(20);
    expect(world.tell().filter((line) => line.includes('start'))).toEqual([
      '0.0 start one #0',
      '1.0 start one #1',
      '12.0 start one #2',
      '13.0 start a #0',
    ]);
  });

  it('one that fails where nothing is restarted fails the pod', async () => {
    await using world = new World();
    world.runtime.programs.set('one', { runs: 1000, code: 7 });
    await world.start();
    await world.add(await podOf({ restartPolicy: 'Never', initContainers: [{ name: 'one' }] }));
    await world.advance(5);
    expect(world.tell()).toEqual([
      '0.0 run sandbox web #0',
      '0.0 start one #0',
      '1.0 exit one #0 7',
      '1.0 stop sandbox web #0',
    ]);
    expect(world.status().phase).toBe('Failed');
    expect(world.containerStatus('a').state?.waiting?.reason).toBe('PodInitializing');
  });
});

describe('sidecars', () => {
  const sidecars = [
    { name: 's1', restartPolicy: 'Always' },
    { name: 's2', restartPolicy: 'Always' },
  ];

  it('start before the main containers, and end behind them in reverse order', async () => {
    await using world = new World();
    for (const name of ['s1', 's2', 'a']) world.runtime.programs.set(name, { stops: 1000 });
    await world.start();
    await world.add(await podOf({ initContainers: sidecars }));
    world.kubelet.stop('uid-1');
    await world.advance(5);
    expect(world.tell()).toEqual([
      '0.0 run sandbox web #0',
      '0.0 start s1 #0',
      '0.0 start s2 #0',
      '0.0 start a #0',
      '0.0 stop a #0 within 30 s',
      '1.0 exit a #0 143',
      '1.0 stop s2 #0 within 29 s',
      '2.0 exit s2 #0 143',
      '2.0 stop s1 #0 within 28 s',
      '3.0 exit s1 #0 143',
      '3.0 stop sandbox web #0',
    ]);
    expect(world.status().phase).toBe('Failed');
  });

  it('do not keep a pod from ending: when the main containers are done they are stopped', async () => {
    await using world = new World();
    world.runtime.programs.set('a', { runs: 1000 });
    await world.start();
    await world.add(await podOf({ restartPolicy: 'Never', initContainers: sidecars }));
    await world.advance(5);
    expect(world.tell().slice(4)).toEqual([
      '1.0 exit a #0 0',
      '1.0 stop s2 #0 within 30 s',
      '1.0 exit s2 #0 143',
      '1.0 stop s1 #0 within 30 s',
      '1.0 exit s1 #0 143',
      '1.0 stop sandbox web #0',
    ]);
    expect(world.status().phase).toBe('Succeeded');
  });

  it('one that dies is started again, whatever the pod restarts', async () => {
    await using world = new World();
    await world.start();
    await world.add(await podOf({ restartPolicy: 'Never', initContainers: sidecars }));
    world.runtime.exit(world.runtime.container('s1'), 1);
    await world.advance(1);
    expect(world.containerStatus('s1')).toMatchObject({ restartCount: 1, state: { running: {} } });
    expect(world.status().phase).toBe('Running');
  });
});

describe('the end of a pod', () => {
  it('gives each container its grace period, then kills it', async () => {
    await using world = new World();
    world.runtime.programs.set('a', { stops: Number.POSITIVE_INFINITY });
    await world.start();
    await world.add(await podOf({ terminationGracePeriodSeconds: 5 }));
    world.tell();
    world.kubelet.stop('uid-1');
    await world.advance(10);
    expect(world.tell()).toEqual([
      '0.0 stop a #0 within 5 s',
      '5.0 exit a #0 137',
      '5.0 stop sandbox web #0',
    ]);
    expect(world.events().at(-1)).toBe('Killing: Stopping container a');
  });

  it('a second request can only make it shorter', async () => {
    await using world = new World();
    world.runtime.programs.set('a', { stops: Number.POSITIVE_INFINITY });
    await world.start();
    await world.add(await podOf({}));
    world.tell();
    world.kubelet.stop('uid-1');
    await world.advance(2);
    world.kubelet.stop('uid-1', { grace: 60 });
    await world.advance(1);
    world.kubelet.stop('uid-1', { grace: 4 });
    await world.advance(10);
    expect(world.tell()).toEqual([
      '0.0 stop a #0 within 30 s',
      '3.0 stop a #0 within 4 s',
      '7.0 exit a #0 137',
      '7.0 stop sandbox web #0',
    ]);
  });

  it('comes by itself at activeDeadlineSeconds', async () => {
    await using world = new World();
    await world.start();
    await world.add(await podOf({ activeDeadlineSeconds: 60, terminationGracePeriodSeconds: 3 }));
    world.tell();
    await world.advance(59);
    expect(world.tell()).toEqual([]);
    await world.advance(2);
    expect(world.tell()).toEqual([
      '60.0 stop a #0 within 3 s',
      '60.0 exit a #0 143',
      '60.0 stop sandbox web #0',
    ]);
    expect(world.status()).toMatchObject({
      phase: 'Failed',
      reason: 'DeadlineExceeded',
      message: 'Pod was active on the node longer than the specified deadline',
    });
  });

  it('a pull that is under way is given up', async () => {
    await using world = new World();
    world.images.present.clear();
    world.images.registry.set('app:1', { id: 'sha256:1' });
    world.images.delay = 60_000;
    await world.start();
    await world.add(await podOf({}));
    world.kubelet.stop('uid-1');
    await world.advance(1);
    expect(world.tell()).toEqual(['0.0 run sandbox web #0', '0.0 stop sandbox web #0']);
    expect(world.status().phase).toBe('Failed');
    await world.advance(120);
    expect(world.tell()).toEqual([]);
  });
});
