import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { NodeletError } from '../../../src/base/index.ts';
import { podOf, World } from './world.ts';

describe('pods in and out', () => {
  it('the same UID again changes nothing', async () => {
    await using world = new World();
    await world.start();
    const pod = await podOf({});
    await world.add(pod);
    await world.add(pod);
    expect(world.tell()).toEqual(['0.0 run sandbox web #0', '0.0 start a #0']);
  });

  it('one of the same name and another UID takes the place of the first once nothing is left of that', async () => {
    await using world = new World();
    world.runtime.programs.set('a', { stops: 1000 });
    await world.start();
    await world.add(await podOf({}, { uid: 'uid-1' }));
    await world.add(await podOf({ containers: [{ name: 'b' }] }, { uid: 'uid-2' }));
    await world.advance(1);
    await world.until('the second pod runs', () => world.runtime.live().includes('b'));
    expect(world.tell()).toEqual([
      '0.0 run sandbox web #0',
      '0.0 start a #0',
      '0.0 stop a #0 within 30 s',
      '1.0 exit a #0 143',
      '1.0 stop sandbox web #0',
      '1.0 remove a #0',
      '1.0 remove sandbox web #0',
      '1.0 run sandbox web #0',
      '1.0 start b #0',
    ]);
    expect(world.kubelet.has('uid-1')).toBe(false);
    expect(world.kubelet.getByName('default/web')?.metadata?.uid).toBe('uid-2');
  });

  it('of several that come meanwhile the last counts', async () => {
    await using world = new World();
    world.runtime.programs.set('a', { stops: 1000 });
    await world.start();
    await world.add(await podOf({}, { uid: 'uid-1' }));
    for (const uid of ['uid-2', 'uid-3', 'uid-4']) await world.add(await podOf({}, { uid }));
    await world.advance(1);
    await world.until('the last pod runs', () => world.kubelet.has('uid-4'));
    expect(world.kubelet.list().map((pod) => pod.metadata?.uid)).toEqual(['uid-4']);
  });

  it('removal leaves nothing behind and says so', async () => {
    await using world = new World();
    await world.start();
    const volumes = [{ name: 'v', emptyDir: {} }];
    await world.add(await podOf({ volumes }));
    const { kubelet } = world;
    const directory = kubelet.paths.pod('uid-1');
    expect(existsSync(kubelet.paths.volume('uid-1', 'empty-dir', 'v'))).toBe(true);
    const gone: string[] = [];
    kubelet.onRemoved((pod) => gone.push(pod.metadata.uid));
    await kubelet.remove('uid-1', { grace: 0 });
    expect(gone).toEqual(['uid-1']);
    expect(world.runtime.sandboxes.size).toBe(0);
    expect(world.runtime.containers.size).toBe(0);
    expect(world.cgroups.pods.size).toBe(0);
    expect(existsSync(directory)).toBe(false);
    expect(existsSync(join(kubelet.paths.directories.podLogs, 'default_web_uid-1'))).toBe(false);
    expect(kubelet.list()).toEqual([]);
  });

  it('while it is removed it shows when it was asked to go', async () => {
    await using world = new World();
    world.runtime.programs.set('a', { stops: 20_000 });
    await world.start();
    await world.add(await podOf({}));
    const removed = world.kubelet.remove('uid-1');
    await world.advance(1);
    expect(world.kubelet.get('uid-1')?.metadata).toMatchObject({
      deletionTimestamp: '2026-03-01T12:00:30Z',
      deletionGracePeriodSeconds: 30,
    });
    await world.advance(20);
    await removed;
  });

  it('a pod that was stopped keeps its record until it is removed', async () => {
    await using world = new World();
    await world.start();
    await world.add(await podOf({}));
    world.kubelet.stop('uid-1', { failure: { reason: 'Evicted', message: 'the disk is full' } });
    await world.advance(1);
    expect(world.status()).toMatchObject({
      phase: 'Failed',
      reason: 'Evicted',
      message: 'the disk is full',
    });
    expect(world.containerStatus('a').state?.terminated?.exitCode).toBe(143);
    await world.kubelet.remove('uid-1');
    expect(world.kubelet.has('uid-1')).toBe(false);
  });

  it('unknown pods and unsafe UIDs are refused by name', async () => {
    await using world = new World();
    await world.start();
    expect(() => world.kubelet.stop('nobody')).toThrow('cannot find pod "nobody"');
    const pod = await podOf({});
    const evil = { ...pod, metadata: { ...pod.metadata, uid: '../evil' } };
    expect(() => world.kubelet.add(evil)).toThrow('cannot use "../evil" as the UID of a pod');
  });
});

describe('what the node cannot take', () => {
  it('is Failed with the reason and never reaches the runtime', async () => {
    await using world = new World();
    await world.start();
    const resources = { requests: { cpu: '3' } };
    await world.add(await podOf({ containers: [{ name: 'a', resources }] }, { name: 'one', uid: 'uid-1' }));
    await world.add(await podOf({ containers: [{ name: 'a', resources }] }, { name: 'two', uid: 'uid-2' }));
    expect(world.status('uid-1').phase).toBe('Running');
    expect(world.status('uid-2')).toMatchObject({
      phase: 'Failed',
      reason: 'OutOfcpu',
      message:
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 3000, used: 3000, capacity: 4000",
    });
    expect(world.events('uid-2')).toEqual([
      "OutOfcpu: Node didn't have enough resource: cpu, requested: 3000, used: 3000, capacity: 4000",
    ]);
    expect(world.tell()).toEqual(['0.0 run sandbox one #0', '0.0 start a #0']);
  });

  it('room is there again once a pod has ended', async () => {
    await using world = new World();
    world.runtime.programs.set('a', { runs: 1000 });
    await world.start();
    const ports = [{ containerPort: 80, hostPort: 8080 }];
    const spec = { restartPolicy: 'Never', containers: [{ name: 'a', ports }] };
    await world.add(await podOf(spec, { name: 'one', uid: 'uid-1' }));
    await world.add(await podOf(spec, { name: 'two', uid: 'uid-2' }));
    expect(world.status('uid-2').reason).toBe('NodePorts');
    await world.advance(2);
    await world.add(await podOf(spec, { name: 'three', uid: 'uid-3' }));
    expect(world.status('uid-3').phase).toBe('Running');
  });

  it('the class of burstable pods weighs what they ask for together', async () => {
    await using world = new World();
    await world.start();
    const resources = { requests: { cpu: '500m' } };
    await world.add(await podOf({ containers: [{ name: 'a', resources }] }, { name: 'one', uid: 'uid-1' }));
    await world.add(await podOf({ containers: [{ name: 'a', resources }] }, { name: 'two', uid: 'uid-2' }));
    expect(world.cgroups.classes).toEqual([
      { path: 'kubepods', values: { cpuShares: 4096, memoryLimit: 8 * 2 ** 30 } },
      { path: 'kubepods/burstable', values: { cpuShares: 1024 } },
      { path: 'kubepods/besteffort', values: { cpuShares: 2 } },
    ]);
    await world.kubelet.remove('uid-1', { grace: 0 });
    await world.settle();
    expect(world.cgroups.classes[1]?.values.cpuShares).toBe(512);
  });
});

describe('another agent takes over', () => {
  it('what runs runs on, with its status and start time', async () => {
    await using world = new World();
    await world.start();
    const pod = await podOf({});
    await world.add(pod);
    await world.advance(5);
    const before = world.status();
    world.tell();
    await world.restartAgent([pod]);
    await world.advance(5);
    expect(world.tell()).toEqual([]);
    expect({ ...world.status(), conditions: [] }).toEqual({ ...before, conditions: [] });
  });

  it('what ended meanwhile is restarted and counted', async () => {
    await using world = new World();
    await world.start();
    const pod = await podOf({});
    await world.add(pod);
    await world.restartAgent([pod], () => world.runtime.exit(world.runtime.container('a'), 9));
    await world.advance(1);
    expect(world.containerStatus('a')).toMatchObject({
      restartCount: 1,
      state: { running: {} },
      lastState: { terminated: { exitCode: 9 } },
    });
  });

  it('a crash loop goes on where it was', async () => {
    await using world = new World();
    world.runtime.programs.set('a', { runs: 1000, code: 1 });
    await world.start();
    const pod = await podOf({});
    await world.add(pod);
    await world.advance(36);
    world.tell();
    await world.restartAgent([pod]);
    expect(world.containerStatus('a').state?.waiting?.message).toBe(
      'back-off 40s restarting failed container=a pod=web_default(uid-1)',
    );
    await world.advance(39);
    expect(world.tell().filter((line) => line.includes('start'))).toEqual(['74.0 start a #4']);
  });

  it('a pod that was being stopped is stopped, in what is left of its time', async () => {
    await using world = new World();
    world.runtime.programs.set('a', { stops: Number.POSITIVE_INFINITY });
    await world.start();
    const pod = await podOf({ terminationGracePeriodSeconds: 20 });
    await world.add(pod);
    world.kubelet.stop('uid-1');
    await world.advance(5);
    world.tell();
    await world.restartAgent([pod]);
    await world.advance(20);
    expect(world.tell()).toEqual([
      '5.0 stop a #0 within 15 s',
      '20.0 exit a #0 137',
      '20.0 stop sandbox web #0',
    ]);
  });

  it('a pod that had ended stays as it was', async () => {
    await using world = new World();
    world.runtime.programs.set('a', { runs: 1000, code: 4 });
    await world.start();
    const pod = await podOf({ restartPolicy: 'Never' });
    await world.add(pod);
    await world.advance(2);
    await world.until('it was given back', () => world.cgroups.pods.size === 0);
    world.tell();
    await world.restartAgent([pod]);
    expect(world.status().phase).toBe('Failed');
    expect(world.containerStatus('a').state?.terminated?.exitCode).toBe(4);
    await world.advance(10);
    expect(world.tell()).toEqual([]);
  });

  it('a removal that was under way is finished', async () => {
    await using world = new World();
    world.runtime.programs.set('a', { stops: 10_000 });
    await world.start();
    const pod = await podOf({});
    await world.add(pod);
    void world.kubelet.remove('uid-1');
    await world.advance(1);
    await world.restartAgent([pod]);
    await world.advance(10);
    await world.until('the pod is gone', () => !world.kubelet.has('uid-1'));
    expect(world.runtime.sandboxes.size).toBe(0);
    expect(existsSync(world.kubelet.paths.pod('uid-1'))).toBe(false);
  });

  it('a ready container is not taken for unready until its first probe', async () => {
    await using world = new World();
    await world.start();
    const readinessProbe = { exec: { command: ['check'] }, periodSeconds: 10 };
    const pod = await podOf({ containers: [{ name: 'a', readinessProbe }] });
    await world.add(pod);
    await world.advance(3);
    expect(world.condition('Ready')).toBe('True');
    const readiness: string[] = [];
    await world.restartAgent([pod]);
    world.kubelet.onStatus(() => readiness.push(world.condition('Ready')));
    expect(world.condition('Ready')).toBe('True');
    await world.advance(25);
    expect(readiness.filter((each) => each !== 'True')).toEqual([]);
  });

  it('what belongs to no known pod is ended and removed: sandboxes, directories, logs, cgroups', async () => {
    await using world = new World();
    await world.start();
    await world.add(await podOf({}, { uid: 'uid-1' }));
    await world.kubelet.close();
    const { directory } = world;
    const left = join(directory, 'kubelet/pods/uid-7/volumes/kubernetes.io~empty-dir/v');
    mkdirSync(left, { recursive: true });
    writeFileSync(join(left, 'file'), 'x');
    mkdirSync(join(directory, 'logs/ns_gone_uid-7/a'), { recursive: true });
    mkdirSync(join(directory, 'logs/another-tool'), { recursive: true });
    await world.cgroups.ensure({ qos: 'BestEffort', path: 'kubepods/besteffort/poduid-8', values: {} });
    // Another client of the runtime made this one.
    await world.runtime.runPodSandbox({ config: { metadata: { name: 'foreign' } } });
    world.tell();
    await world.restartAgent([]);
    expect(world.tell()).toEqual([
      '0.0 stop a #0 within 1 s',
      '0.0 exit a #0 143',
      '0.0 stop sandbox web #0',
      '0.0 remove sandbox web #0',
    ]);
    expect([...world.runtime.sandboxes.values()].map(({ config }) => config.metadata?.name)).toEqual([
      'foreign',
    ]);
    expect(world.cgroups.pods.size).toBe(0);
    expect(existsSync(join(directory, 'kubelet/pods/uid-7'))).toBe(false);
    expect(existsSync(join(directory, 'kubelet/pods/uid-1'))).toBe(false);
    expect(existsSync(join(directory, 'logs/ns_gone_uid-7'))).toBe(false);
    expect(existsSync(join(directory, 'logs/another-tool'))).toBe(true);
  });
});

describe('what changes while a pod runs', () => {
  it('a ConfigMap volume is written again, and no container is restarted', async () => {
    await using world = new World();
    await world.start();
    const configMap = (value: string) => ({
      metadata: { name: 'conf', namespace: 'default' },
      data: { 'app.ini': value },
    });
    world.kubelet.objects.putConfigMap(configMap('one'));
    const volumes = [{ name: 'conf', configMap: { name: 'conf' } }];
    await world.add(await podOf({ volumes }));
    const file = join(world.kubelet.paths.volume('uid-1', 'configmap', 'conf'), 'app.ini');
    expect(readFileSync(file, 'utf8')).toBe('one');
    world.tell();
    world.kubelet.objects.putConfigMap(configMap('two'));
    await world.settle();
    expect(readFileSync(file, 'utf8')).toBe('two');
    expect(world.tell()).toEqual([]);
  });

  it('an error of the runtime while it is asked is survived', async () => {
    await using world = new World();
    await world.start();
    await world.add(await podOf({}));
    const list = world.runtime.listContainers.bind(world.runtime);
    let broken = true;
    world.runtime.listContainers = async (request) => {
      if (broken) throw new NodeletError('UNAVAILABLE', 'try again');
      return await list(request);
    };
    world.runtime.exit(world.runtime.container('a'), 1);
    await world.settle();
    broken = false;
    await world.until('it is restarted', () => world.runtime.live().length === 1);
  });

  it('every change of the status is told once', async () => {
    await using world = new World();
    await world.start();
    const phases: string[] = [];
    world.kubelet.onStatus(({ status }) => phases.push(JSON.stringify(status)));
    await world.add(await podOf({}));
    await world.advance(30);
    expect(new Set(phases).size).toBe(phases.length);
    expect(phases.length).toBeLessThanOrEqual(4);
  });

  it('keeps how long each step took', async () => {
    await using world = new World();
    await world.start();
    await world.add(await podOf({}));
    expect(world.kubelet.spans('uid-1').map(({ name }) => name)).toEqual([
      'prepare directories, cgroup and volumes',
      'create sandbox, attempt 0',
      'ensure image "app:1" for a',
      'start container a, attempt first',
    ]);
  });
});
