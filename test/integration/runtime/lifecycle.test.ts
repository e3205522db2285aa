import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  ContainerEventType,
  ContainerState,
  NamespaceMode,
  PodSandboxState,
} from '../../../src/cri/index.ts';
import { footprint } from '../../fixtures/leaks.ts';
import { file, makeImage, tarOf, writeLayout } from '../../fixtures/registry-images.ts';
import {
  type ContainerOptions,
  containerConfig,
  ended,
  IMAGE,
  openRuntime,
  type RuntimeFixture,
  runToEnd,
  sandboxConfig,
  sh,
} from '../../fixtures/runtime.ts';

let fixture: RuntimeFixture;
beforeAll(async () => {
  fixture = await openRuntime();
});
afterAll(async () => {
  await fixture?.close();
});

async function pod(): Promise<string> {
  return (await fixture.runtime.runPodSandbox({ config: sandboxConfig(fixture) })).podSandboxId ?? '';
}

async function create(
  podSandboxId: string,
  command: readonly string[],
  name = 'c',
  attempt = 0,
): Promise<string> {
  const config = { ...containerConfig(command, { name }), metadata: { name, attempt } };
  return (await fixture.runtime.createContainer({ podSandboxId, config })).containerId ?? '';
}

async function stateOf(containerId: string): Promise<number | undefined> {
  return (await fixture.runtime.containerStatus({ containerId })).status?.state;
}

describe('a container', () => {
  test('of an image of 130 layers sees all of them, the topmost first, and writes', async () => {
    const { base, images, runtime } = fixture;
    const image = 'localhost/deep:1';
    const bottom = images.resolve(IMAGE)?.chainIds[0] ?? ''; // not compressed: the blob's digest as well
    const blobs = join(base, 'root', 'images', 'blobs', 'sha256');
    const programs = readFileSync(join(blobs, bottom.slice(7)));
    const layers = Array.from({ length: 129 }, (_, i) => tarOf(file(`f${i}`), file('top', String(i))));
    const layout = join(base, 'deep');
    writeLayout(layout, {
      [image]: makeImage({ layers: [programs, ...layers], compress: 'none' }),
    });
    await images.import(layout);
    const script =
      'set -- /f*; echo $# && read top < /top; echo "$top"; echo new > /top; read top < /top; echo "$top"';
    const result = await runToEnd(fixture, ['/usr/bin/sh', '-c', script], { image: { image } });
    expect(result).toMatchObject({ exitCode: 0, output: '129\n128\nnew\n' });
    expect(await images.remove(image)).toMatchObject({ layers: 129 });
    expect((await runtime.listPodSandbox({})).items).toEqual([]);
  });

  test('goes from created to running to exited, with times in order', async () => {
    const { runtime } = fixture;
    const podSandboxId = await pod();
    const containerId = await create(podSandboxId, sh('sleep 0.05; exit 5'));
    expect(await stateOf(containerId)).toBe(ContainerState.CONTAINER_CREATED);
    await runtime.startContainer({ containerId });
    expect(await stateOf(containerId)).toBe(ContainerState.CONTAINER_RUNNING);
    await ended(runtime, containerId);
    const { status = {} } = await runtime.containerStatus({ containerId });
    expect(status).toMatchObject({ state: ContainerState.CONTAINER_EXITED, exitCode: 5, reason: 'Error' });
    const { createdAt = 0, startedAt = 0, finishedAt = 0 } = status;
    expect(createdAt).toBeLessThanOrEqual(startedAt);
    expect(startedAt + 45e6).toBeLessThan(finishedAt);
    await runtime.removePodSandbox({ podSandboxId });
  });

  test.each([
    ['kill -9 $$', 137, 'Error'],
    ['kill -TERM $$; exit 3', 3, 'Error'],
    ['trap "exit 9" TERM; kill -TERM $$', 9, 'Error'],
    ['exit 0', 0, 'Completed'],
    ['exit 255', 255, 'Error'],
  ])('that runs `%s` ends with %i', async (script, code, reason) => {
    // PID 1 of a PID namespace does not get signals from inside that it has no handler for.
    const expected = script.startsWith('kill -9') ? 0 : code;
    const result = await runToEnd(fixture, sh(script));
    if (script.startsWith('kill -9')) expect(result.exitCode).toBe(expected);
    else expect(result).toMatchObject({ exitCode: code, reason });
  });

  test('that a signal ends has 128 and the signal as its code', async () => {
    const { runtime } = fixture;
    const podSandboxId = await pod();
    const containerId = await create(podSandboxId, ['sleep', '1000']);
    await runtime.startContainer({ containerId });
    await runtime.stopContainer({ containerId, timeout: 0 });
    expect((await runtime.containerStatus({ containerId })).status).toMatchObject({
      exitCode: 137,
      reason: 'Error',
    });
    await runtime.removePodSandbox({ podSandboxId });
  });

  test('that handles SIGTERM ends within its grace period, one that does not is killed after it', async () => {
    const { runtime } = fixture;
    const podSandboxId = await pod();
    const polite = await create(
      podSandboxId,
      sh('trap "exit 7" TERM; echo ready; while true; do sleep 0.05; done'),
      'polite',
    );
    const deaf = await create(podSandboxId, sh('trap "" TERM; while true; do sleep 0.05; done'), 'deaf');
    for (const containerId of [polite, deaf]) await runtime.startContainer({ containerId });
    const begin = performance.now();
    await Promise.all([
      runtime.stopContainer({ containerId: polite, timeout: 30 }),
      runtime.stopContainer({ containerId: deaf, timeout: 1 }),
    ]);
    const took = performance.now() - begin;
    expect((await runtime.containerStatus({ containerId: polite })).status?.exitCode).toBe(7);
    expect((await runtime.containerStatus({ containerId: deaf })).status?.exitCode).toBe(137);
    expect(took).toBeGreaterThan(950);
    expect(took).toBeLessThan(10_000);
    await runtime.removePodSandbox({ podSandboxId });
  });

  test('is stopped at once by a second stop with a shorter grace period', async () => {
    const { runtime } = fixture;
    const podSandboxId = await pod();
    const containerId = await create(podSandboxId, sh('trap "" TERM; while true; do sleep 0.05; done'));
    await runtime.startContainer({ containerId });
    const long = runtime.stopContainer({ containerId, timeout: 300 });
    await runtime.stopContainer({ containerId, timeout: 0 });
    await long;
    expect(await stateOf(containerId)).toBe(ContainerState.CONTAINER_EXITED);
    await runtime.removePodSandbox({ podSandboxId });
  });

  test('cannot be started twice, but stopped and removed as often as one likes', async () => {
    const { runtime } = fixture;
    const podSandboxId = await pod();
    const containerId = await create(podSandboxId, ['true']);
    await runtime.startContainer({ containerId });
    await ended(runtime, containerId);
    await expect(runtime.startContainer({ containerId })).rejects.toMatchObject({ code: 'INVALID_STATE' });
    await runtime.stopContainer({ containerId, timeout: 5 });
    await runtime.stopContainer({ containerId });
    await runtime.removeContainer({ containerId });
    await runtime.removeContainer({ containerId });
    await runtime.stopContainer({ containerId });
    await expect(runtime.containerStatus({ containerId })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await runtime.removePodSandbox({ podSandboxId });
    await runtime.removePodSandbox({ podSandboxId });
    await runtime.stopPodSandbox({ podSandboxId });
  });

  test('leaves no process behind that left its first one, also in a shared PID namespace', async () => {
    const { runtime } = fixture;
    const options = { network: NamespaceMode.POD, pid: NamespaceMode.POD, ipc: NamespaceMode.POD };
    const { podSandboxId = '' } = await runtime.runPodSandbox({
      config: sandboxConfig(fixture, { sandbox: { namespaceOptions: options } }),
    });
    const config = containerConfig(sh('sleep 4711 & sleep 4712 & exit 0'), {
      security: { namespaceOptions: { pid: NamespaceMode.POD } },
    });
    const { containerId = '' } = await runtime.createContainer({ podSandboxId, config });
    await runtime.startContainer({ containerId });
    await ended(runtime, containerId);
    // Its cgroup can only be removed when it is empty.
    await runtime.removeContainer({ containerId });
    await runtime.removePodSandbox({ podSandboxId });
  });

  test('starts a hundred times in a user namespace without losing its way', async () => {
    const map = [{ hostId: 400_000, containerId: 0, length: 65_536 }];
    const sandbox = {
      namespaceOptions: {
        network: NamespaceMode.POD,
        pid: NamespaceMode.CONTAINER,
        ipc: NamespaceMode.POD,
        usernsOptions: { mode: NamespaceMode.POD, uids: map, gids: map },
      },
    };
    for (let i = 0; i < 100; i++) {
      const result = await runToEnd(fixture, ['echo', String(i)], {}, { sandbox });
      expect(result).toMatchObject({ exitCode: 0, output: `${i}\n` });
    }
  });
});

describe('a sandbox', () => {
  test('is the same one for a create that is tried again, and so is a container', async () => {
    const { runtime } = fixture;
    const config = sandboxConfig(fixture);
    const first = await runtime.runPodSandbox({ config });
    const second = await runtime.runPodSandbox({ config });
    expect(second.podSandboxId).toBe(first.podSandboxId);
    const podSandboxId = first.podSandboxId ?? '';
    expect(await create(podSandboxId, ['true'])).toBe(await create(podSandboxId, ['true']));
    await runtime.removePodSandbox({ podSandboxId });
  });

  test('that stops ends its containers and is not ready; no container can be created in it', async () => {
    const { runtime } = fixture;
    const podSandboxId = await pod();
    const containerId = await create(podSandboxId, ['sleep', '1000']);
    await runtime.startContainer({ containerId });
    await runtime.stopPodSandbox({ podSandboxId });
    expect((await runtime.podSandboxStatus({ podSandboxId })).status?.state).toBe(
      PodSandboxState.SANDBOX_NOTREADY,
    );
    expect(await stateOf(containerId)).toBe(ContainerState.CONTAINER_EXITED);
    await expect(create(podSandboxId, ['true'], 'late')).rejects.toMatchObject({ code: 'INVALID_STATE' });
    await runtime.removePodSandbox({ podSandboxId });
  });

  test('is found by label, state and id', async () => {
    const { runtime } = fixture;
    const config = { ...sandboxConfig(fixture), labels: { app: 'web', tier: 'front' } };
    const { podSandboxId = '' } = await runtime.runPodSandbox({ config });
    const ids = async (filter: object): Promise<(string | undefined)[]> =>
      ((await runtime.listPodSandbox({ filter })).items ?? []).map((one) => one.id);
    expect(await ids({ labelSelector: { app: 'web' } })).toEqual([podSandboxId]);
    expect(await ids({ labelSelector: { app: 'web', tier: 'back' } })).toEqual([]);
    expect(
      await ids({ id: podSandboxId.slice(0, 13), state: { state: PodSandboxState.SANDBOX_READY } }),
    ).toEqual([podSandboxId]);
    await runtime.removePodSandbox({ podSandboxId });
  });

  test('that cannot be made leaves nothing behind', async () => {
    const { runtime, base, cgroupRoot } = fixture;
    const before = footprint(base, cgroupRoot);
    const config = sandboxConfig(fixture, { sysctls: { 'net.ipv4.no_such_thing': '1' } });
    await expect(runtime.runPodSandbox({ config })).rejects.toThrow(
      /operation \d+ \(sysctl\).*net\/ipv4\/no_such_thing.*ENOENT/,
    );
    expect(footprint(base, cgroupRoot)).toEqual(before);
    expect(readdirSync(join(base, 'state', 'sandboxes'))).toEqual([]);
  });

  test('tells its events in order', async () => {
    const { runtime } = fixture;
    const seen: string[] = [];
    const names = Object.fromEntries(
      Object.entries(ContainerEventType).map(([name, value]) => [value, name]),
    );
    const off = runtime.onEvent((event) => seen.push(names[event.containerEventType ?? -1] ?? ''));
    const podSandboxId = await pod();
    const containerId = await create(podSandboxId, ['true']);
    await runtime.startContainer({ containerId });
    await ended(runtime, containerId);
    await runtime.removePodSandbox({ podSandboxId });
    off();
    const short = seen.map((name) => name.replace(/^CONTAINER_|_EVENT$/g, '').toLowerCase());
    expect(short).toEqual(['started', 'created', 'started', 'stopped', 'stopped', 'deleted', 'deleted']);
  });
});

describe('what cannot be started', () => {
  test.each([
    [
      'a command that is not there',
      ['nonesuch'],
      {},
      127,
      /exec: "nonesuch": executable file not found in \$PATH/,
    ],
    [
      'a path that is not there',
      ['/bin/nonesuch'],
      {},
      127,
      /exec: "\/bin\/nonesuch": no such file or directory/,
    ],
    ['a file that is not executable', ['/etc/passwd'], {}, 126, /exec: "\/etc\/passwd": permission denied/],
    ['a directory', ['/etc'], {}, 126, /exec: "\/etc": permission denied/],
    [
      'a working directory that is a file',
      ['true'],
      { workingDir: '/etc/passwd' },
      128,
      /working directory "\/etc\/passwd" is not a directory/,
    ],
    [
      'a mount over a path through a file',
      ['true'],
      { mounts: [{ containerPath: '/etc/passwd/x', hostPath: '/tmp' }] },
      128,
      /attach-in.*etc\/passwd\/x.*ENOTDIR/,
    ],
    [
      'a source that cannot be made',
      ['true'],
      { mounts: [{ containerPath: '/x', hostPath: '/etc/passwd/x' }] },
      128,
      /open-tree.*\/etc\/passwd\/x.*ENOTDIR/,
    ],
    [
      'memory for nothing',
      ['true'],
      { linux: { resources: { memoryLimitInBytes: 8192 } } },
      128,
      /memory limit of 8192 bytes may be too small/,
    ],
  ])('is said by name: %s', async (_name, command, options, exitCode, message) => {
    const { runtime, base, cgroupRoot } = fixture;
    const podSandboxId = await pod();
    const before = footprint(base, cgroupRoot);
    const config = containerConfig(command, options);
    const { containerId = '' } = await runtime.createContainer({ podSandboxId, config });
    await expect(runtime.startContainer({ containerId })).rejects.toThrow(message);
    const { status = {} } = await runtime.containerStatus({ containerId });
    expect(status).toMatchObject({ state: ContainerState.CONTAINER_EXITED, exitCode, reason: 'StartError' });
    expect(status.message).toMatch(message);
    expect(footprint(base, cgroupRoot)).toEqual(before);
    await runtime.removePodSandbox({ podSandboxId });
  });

  test.each<[string, ContainerOptions, string]>([
    ['an image that is not there', { image: { image: 'test.local/absent:1' } }, 'IMAGE_NOT_FOUND'],
    ['a user that the image does not have', { security: { runAsUsername: 'nobody-here' } }, 'INVALID_USER'],
    ['a user id that wraps around', { security: { runAsUser: { value: 2 ** 32 } } }, 'INVALID_USER'],
    ['a negative user id', { security: { runAsUser: { value: -1 } } }, 'INVALID_USER'],
    ['a group without a user', { security: { runAsGroup: { value: 5 } } }, 'INVALID_USER'],
    ['a relative working directory', { workingDir: 'tmp' }, 'INVALID_WORKING_DIRECTORY'],
    ['a name that climbs', { metadata: { name: '../x' } }, 'INVALID_ARGUMENT'],
    ['a log path that climbs', { logPath: '../../etc/passwd' }, 'INVALID_ARGUMENT'],
    ['a mount on /', { mounts: [{ containerPath: '/', hostPath: '/tmp' }] }, 'INVALID_ARGUMENT'],
    [
      'a capability that does not exist',
      { security: { capabilities: { addCapabilities: ['FLY'] } } },
      'CAPABILITY_UNKNOWN',
    ],
    [
      'a profile without a name',
      { security: { seccomp: { profileType: 2, localhostRef: '' } } },
      'SECCOMP_PROFILE_NOT_FOUND',
    ],
    ['a device that is no device', { devices: [{ hostPath: '/etc/passwd' }] }, 'DEVICE_NOT_FOUND'],
    ['an environment name with =', { envs: [{ key: 'A=B', value: '' }] }, 'INVALID_ENVIRONMENT'],
  ])('is refused before anything is made: %s', async (_name, options, code) => {
    const { runtime, base, cgroupRoot } = fixture;
    const podSandboxId = await pod();
    const before = footprint(base, cgroupRoot);
    const attempt = async (): Promise<void> => {
      const { containerId = '' } = await runtime.createContainer({
        podSandboxId,
        config: containerConfig(['true'], options),
      });
      await runtime.startContainer({ containerId });
    };
    await expect(attempt()).rejects.toMatchObject({ code });
    expect(footprint(base, cgroupRoot)).toEqual(before);
    expect(fixture.images.snapshotKeys()).toEqual([]);
    await runtime.removePodSandbox({ podSandboxId });
  });
});

test('an image keeps what a container wrote out of the next one', async () => {
  expect(
    (await runToEnd(fixture, sh('echo changed > /etc/passwd; rm /usr/bin/yes; mkdir /new'))).exitCode,
  ).toBe(0);
  expect(
    (await runToEnd(fixture, sh('grep -c root /etc/passwd; ls /usr/bin/yes; ls -d /new 2>/dev/null; true')))
      .output,
  ).toBe('1\n/usr/bin/yes\n');
  expect(fixture.images.resolve(IMAGE)).toBeDefined();
  expect(existsSync('/new')).toBe(false);
});
