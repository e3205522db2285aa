/** Pods that meet trouble: with the runtime, with images and configuration, with their own probes and hooks. */
import { describe, expect, it } from 'vitest';
import { NodeletError } from '../../../src/base/index.ts';
import { podOf, World } from './world.ts';

describe('what goes wrong on the way', () => {
  it('a sandbox that cannot be made is tried again after ten seconds', async () => {
    await using world = new World();
    world.runtime.failNext('runPodSandbox', new NodeletError('CNI', 'no address is free'));
    await world.start();
    await world.add(await podOf({}));
    expect(world.containerStatus('a').state?.waiting?.reason).toBe('ContainerCreating');
    expect(world.events()).toEqual([
      'FailedCreatePodSandBox: Failed to create pod sandbox: no address is free',
    ]);
    await world.advance(15);
    expect(world.tell()).toEqual(['10.0 run sandbox web #0', '10.0 start a #0']);
  });

  it('sandboxes that come without an address are replaced with pauses, and leave nothing behind', async () => {
    await using world = new World();
    world.runtime.addresses = false;
    await world.start();
    await world.add(await podOf({}));
    await world.advance(60);
    expect(world.tell().filter((line) => line.includes('run sandbox'))).toEqual([
      '0.0 run sandbox web #0',
      '0.0 run sandbox web #1',
      ...[2, 3, 4, 5, 6].map((attempt) => `${(attempt - 1) * 10}.0 run sandbox web #${attempt}`),
    ]);
    expect(world.runtime.sandboxes.size).toBeLessThanOrEqual(2);
    expect(world.events()).toEqual([
      'SandboxChanged: Pod sandbox changed, it will be killed and re-created. (6)',
    ]);
    world.runtime.addresses = true;
    await world.advance(15);
    expect(world.status().phase).toBe('Running');
  });

  it('a container that cannot be made or started says why, and another attempt follows', async () => {
    await using world = new World();
    world.runtime.failNext('startContainer', new NodeletError('START_FAILED', 'no such program: "serve"'));
    await world.start();
    await world.add(await podOf({}));
    expect(world.containerStatus('a').state?.waiting).toEqual({
      reason: 'RunContainerError',
      message: 'no such program: "serve"',
    });
    expect(world.events()).toContain('Failed: Error: no such program: "serve"');
    await world.advance(15);
    expect(world.tell()).toEqual(['0.0 run sandbox web #0', '10.0 start a #1']);
    expect(world.status().phase).toBe('Running');
  });

  it('an image that does not come: ErrImagePull, then ImagePullBackOff with growing pauses', async () => {
    await using world = new World();
    world.images.present.clear();
    await world.start();
    await world.add(await podOf({}));
    expect(world.containerStatus('a').state?.waiting).toEqual({
      reason: 'ErrImagePull',
      message: 'no such image: app:1',
    });
    await world.advance(2);
    expect(world.containerStatus('a').state?.waiting).toEqual({
      reason: 'ImagePullBackOff',
      message: 'Back-off pulling image "app:1": ErrImagePull: no such image: app:1',
    });
    await world.advance(75);
    expect(world.images.pulls.length).toBe(4);
    world.images.registry.set('app:1', { id: 'sha256:1', size: 5 });
    await world.advance(100);
    expect(world.tell()).toEqual(['0.0 run sandbox web #0', '150.0 start a #0']);
    expect(world.containerStatus('a')).toMatchObject({ imageID: 'sha256:1', image: 'app:1' });
    expect(world.events()).toContain('BackOff: Back-off pulling image "app:1" (4)');
    expect(world.events()).toContain(
      'Pulled: Successfully pulled image "app:1" in 0ms (0ms including waiting). Image size: 5 bytes.',
    );
  });

  it('two containers of one image cost one pull', async () => {
    await using world = new World();
    world.images.present.clear();
    world.images.registry.set('app:1', { id: 'sha256:1' });
    world.images.delay = 3000;
    await world.start();
    await world.add(await podOf({ containers: [{ name: 'a' }, { name: 'b' }] }));
    await world.advance(4);
    expect(world.images.pulls.length).toBe(1);
    expect(world.tell()).toEqual(['0.0 run sandbox web #0', '3.0 start a #0', '3.0 start b #0']);
  });

  it('an image that may not be pulled is not', async () => {
    await using world = new World();
    world.images.present.clear();
    await world.start();
    await world.add(await podOf({ containers: [{ name: 'a', imagePullPolicy: 'Never' }] }));
    await world.advance(5);
    expect(world.images.pulls).toEqual([]);
    expect(world.containerStatus('a').state?.waiting).toEqual({
      reason: 'ErrImageNeverPull',
      message: 'Container image "app:1" is not present with pull policy of Never',
    });
    world.images.present.set('app:1', { id: 'sha256:1' });
    await world.advance(10);
    expect(world.status().phase).toBe('Running');
  });

  it('a Secret that is missing is named, and the container starts as soon as it is there', async () => {
    await using world = new World();
    await world.start();
    const env = [{ name: 'KEY', valueFrom: { secretKeyRef: { name: 'keys', key: 'k' } } }];
    await world.add(await podOf({ containers: [{ name: 'a', env }] }));
    expect(world.containerStatus('a').state?.waiting).toEqual({
      reason: 'CreateContainerConfigError',
      message: 'secret "keys" not found',
    });
    world.kubelet.objects.putSecret({
      metadata: { name: 'keys', namespace: 'default' },
      data: { k: 'dmFsdWU=' },
    });
    await world.advance(1);
    expect(world.runtime.container('a').config.envs).toContainEqual({ key: 'KEY', value: 'value' });
  });

  it('a volume that cannot be set up holds everything up and is named', async () => {
    await using world = new World();
    await world.start();
    const volumes = [{ name: 'conf', configMap: { name: 'conf' } }];
    await world.add(await podOf({ volumes }));
    expect(world.events()).toEqual([
      'FailedMount: MountVolume.SetUp failed for volume "conf" : configmap "conf" not found',
    ]);
    expect(world.tell()).toEqual([]);
    world.kubelet.objects.putConfigMap({
      metadata: { name: 'conf', namespace: 'default' },
      data: { a: '1' },
    });
    await world.advance(1);
    expect(world.tell()).toEqual(['0.0 run sandbox web #0', '0.0 start a #0']);
  });
});

describe('hooks and probes', () => {
  it('a postStart hook that fails ends the container, which is restarted', async () => {
    await using world = new World();
    world.runtime.exec = async () => ({ exitCode: 1, stderr: Buffer.from('broken') });
    await world.start();
    const lifecycle = { postStart: { exec: { command: ['warm', 'up'] } } };
    await world.add(await podOf({ containers: [{ name: 'a', lifecycle }] }));
    expect(world.tell()).toEqual([
      '0.0 run sandbox web #0',
      '0.0 start a #0',
      '0.0 exec a: warm up',
      '0.0 stop a #0 within 30 s',
      '0.0 exit a #0 143',
    ]);
    expect(world.events()).toContain('FailedPostStartHook: PostStartHook failed');
    expect(world.containerStatus('a').state?.waiting?.reason).toBe('PostStartHookError');
    world.runtime.exec = async () => ({ exitCode: 0 });
    await world.advance(11);
    expect(world.tell()).toEqual(['10.0 start a #1', '10.0 exec a: warm up']);
  });

  it('a preStop hook runs first, and its time counts', async () => {
    await using world = new World();
    world.runtime.exec = (_name, _cmd) =>
      new Promise((resolve) => setTimeout(() => resolve({ exitCode: 0 }), 4000));
    await world.start();
    const lifecycle = { preStop: { exec: { command: ['drain'] } } };
    await world.add(await podOf({ containers: [{ name: 'a', lifecycle }] }));
    world.tell();
    world.kubelet.stop('uid-1', { grace: 10 });
    await world.advance(10);
    expect(world.tell()).toEqual([
      '0.0 exec a: drain',
      '4.0 stop a #0 within 6 s',
      '4.0 exit a #0 143',
      '4.0 stop sandbox web #0',
    ]);
  });

  const probe = (fields: object) => ({ exec: { command: ['check'] }, periodSeconds: 5, ...fields });

  it('readiness follows its probe and restarts nothing', async () => {
    await using world = new World();
    let healthy = false;
    world.runtime.exec = async () => ({ exitCode: healthy ? 0 : 1, stdout: Buffer.from('not yet') });
    await world.start();
    const readinessProbe = probe({ failureThreshold: 2 });
    await world.add(await podOf({ containers: [{ name: 'a', readinessProbe }] }));
    await world.advance(1);
    expect(world.containerStatus('a')).toMatchObject({ ready: false, started: true });
    expect(world.condition('Ready')).toBe('False ContainersNotReady');
    expect(world.events()).toContain('Unhealthy: Readiness probe failed: not yet');
    healthy = true;
    await world.advance(5);
    expect(world.condition('Ready')).toBe('True');
    healthy = false;
    await world.advance(5);
    expect(world.condition('Ready')).toBe('True');
    await world.advance(5);
    expect(world.condition('Ready')).toBe('False ContainersNotReady');
    expect(world.containerStatus('a').restartCount).toBe(0);
  });

  it('a container that fails its liveness probe is killed and restarted', async () => {
    await using world = new World();
    let healthy = true;
    world.runtime.exec = async () => ({ exitCode: healthy ? 0 : 1 });
    await world.start();
    const livenessProbe = probe({ failureThreshold: 2 });
    await world.add(await podOf({ containers: [{ name: 'a', livenessProbe }] }));
    await world.advance(2);
    healthy = false;
    world.tell();
    await world.advance(9);
    expect(world.tell().filter((line) => !line.includes('exec'))).toEqual([
      '10.0 stop a #0 within 30 s',
      '10.0 exit a #0 143',
      '10.0 start a #1',
    ]);
    expect(world.events()).toContain('Killing: Container a failed liveness probe, will be restarted');
  });

  it('a startup probe holds the others back, and ends a container that does not start', async () => {
    await using world = new World();
    world.runtime.exec = async (_name, cmd) => ({ exitCode: cmd[0] === 'up' ? 1 : 0 });
    await world.start();
    const container = {
      name: 'a',
      startupProbe: probe({ exec: { command: ['up'] }, failureThreshold: 3 }),
      livenessProbe: probe({ exec: { command: ['alive'] } }),
    };
    await world.add(await podOf({ containers: [container] }));
    await world.advance(9);
    expect(world.containerStatus('a')).toMatchObject({ ready: false, started: false });
    expect(world.tell().filter((line) => line.includes('alive'))).toEqual([]);
    await world.advance(2);
    expect(world.tell().filter((line) => line.includes('stop'))).toEqual(['10.0 stop a #0 within 30 s']);
    expect(world.events()).toContain('Killing: Container a failed startup probe, will be restarted');
  });

  it('once it has started, the others begin at once', async () => {
    await using world = new World();
    let up = false;
    world.runtime.exec = async (_name, cmd) => ({ exitCode: cmd[0] === 'up' && !up ? 1 : 0 });
    await world.start();
    const container = {
      name: 'a',
      startupProbe: probe({ exec: { command: ['up'] }, failureThreshold: 30 }),
      readinessProbe: probe({ exec: { command: ['ready'] }, periodSeconds: 60 }),
    };
    await world.add(await podOf({ containers: [container] }));
    await world.advance(7);
    up = true;
    await world.advance(4);
    expect(world.containerStatus('a')).toMatchObject({ ready: true, started: true });
  });
});
