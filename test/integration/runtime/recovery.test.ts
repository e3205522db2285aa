import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { silentLog } from '../../../src/base/index.ts';
import { ContainerState, NamespaceMode, PodSandboxState } from '../../../src/cri/index.ts';
import { Runtime } from '../../../src/runtime/index.ts';
import { footprint } from '../../fixtures/leaks.ts';
import {
  containerConfig,
  ended,
  logText,
  openRuntime,
  type RuntimeFixture,
  sandboxConfig,
  sh,
} from '../../fixtures/runtime.ts';

let fixture: RuntimeFixture;
beforeEach(async () => {
  fixture = await openRuntime();
});
afterEach(async () => {
  await fixture?.close();
});

interface Started {
  readonly podSandboxId: string;
  readonly containerId: string;
  readonly pod: string;
}

async function start(command: readonly string[], shared = false): Promise<Started> {
  const pid = shared ? NamespaceMode.POD : NamespaceMode.CONTAINER;
  const config = sandboxConfig(fixture, {
    sandbox: { namespaceOptions: { network: NamespaceMode.POD, pid, ipc: NamespaceMode.POD } },
  });
  const podSandboxId = (await fixture.runtime.runPodSandbox({ config })).podSandboxId ?? '';
  const container = containerConfig(command, { security: { namespaceOptions: { pid } } });
  const containerId =
    (await fixture.runtime.createContainer({ podSandboxId, config: container })).containerId ?? '';
  await fixture.runtime.startContainer({ containerId });
  return { podSandboxId, containerId, pod: config.metadata?.name ?? '' };
}

/** The agent goes, without a word to anybody, and another one comes. */
async function restart(): Promise<Runtime> {
  await fixture.runtime.close();
  return await fixture.restart();
}

async function status(
  runtime: Runtime,
  containerId: string,
): Promise<{ state?: number; exitCode?: number; reason?: string; message?: string }> {
  return (await runtime.containerStatus({ containerId })).status ?? {};
}

/** Ended: a shim that this process started stays a zombie, for nobody waits for it any more. */
function hasEnded(pid: number): boolean {
  try {
    return / Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return true;
  }
}

async function gone(pid: number): Promise<void> {
  while (!hasEnded(pid)) await new Promise((resolve) => setImmediate(resolve));
}

describe('an agent that comes back', () => {
  test('adopts what runs, and hears when it ends', async () => {
    const { containerId } = await start(sh('while [ ! -e /stop ]; do sleep 0.01; done; exit 9'));
    const runtime = await restart();
    expect(await status(runtime, containerId)).toMatchObject({ state: ContainerState.CONTAINER_RUNNING });
    await runtime.execSync({ containerId, cmd: ['touch', '/stop'] });
    await ended(runtime, containerId);
    expect(await status(runtime, containerId)).toMatchObject({
      state: ContainerState.CONTAINER_EXITED,
      exitCode: 9,
    });
  });

  test.each([
    ['its own', false],
    ['a shared', true],
  ])('finds the exit of what ended meanwhile, in %s PID namespace', async (_name, shared) => {
    const { containerId } = await start(sh('sleep 0.2; exit 11'), shared);
    const pid = fixture.runtime.context.model.container(containerId).record.pid;
    await fixture.runtime.close();
    await gone(pid);
    const runtime = await fixture.restart();
    expect(await status(runtime, containerId)).toMatchObject({
      state: ContainerState.CONTAINER_EXITED,
      exitCode: 11,
      reason: 'Error',
    });
  });

  test('finds every line of the log that was written without it', async () => {
    const { containerId, pod } = await start(sh('seq 1 300000'));
    const pid = fixture.runtime.context.model.container(containerId).record.pid;
    await fixture.runtime.close();
    await gone(pid);
    const runtime = await fixture.restart();
    expect(await status(runtime, containerId)).toMatchObject({ exitCode: 0 });
    const lines = logText(fixture, pod).trim().split('\n');
    expect(lines).toHaveLength(300_000);
    expect(lines.at(-1)).toBe('300000');
  });

  test('can stop, exec into and remove what an earlier one started', async () => {
    const { containerId, podSandboxId } = await start(
      sh('trap "exit 3" TERM; while true; do sleep 0.01; done'),
    );
    const runtime = await restart();
    const result = await runtime.execSync({ containerId, cmd: ['hostname'] });
    expect(result.exitCode).toBe(0);
    await runtime.stopContainer({ containerId, timeout: 20 });
    expect(await status(runtime, containerId)).toMatchObject({ exitCode: 3 });
    await runtime.removePodSandbox({ podSandboxId });
    expect(footprint(fixture.base, fixture.cgroupRoot)).toMatchObject({
      mounts: [],
      cgroups: [],
      processes: [],
    });
  });

  test('keeps what was created but not started, and starts it', async () => {
    const config = sandboxConfig(fixture);
    const podSandboxId = (await fixture.runtime.runPodSandbox({ config })).podSandboxId ?? '';
    const containerId =
      (await fixture.runtime.createContainer({ podSandboxId, config: containerConfig(['true']) }))
        .containerId ?? '';
    const runtime = await restart();
    expect(await status(runtime, containerId)).toMatchObject({ state: ContainerState.CONTAINER_CREATED });
    await runtime.startContainer({ containerId });
    await ended(runtime, containerId);
    expect(await status(runtime, containerId)).toMatchObject({ exitCode: 0 });
  });

  test('collects what carries the name of nobody', async () => {
    const { runtime } = fixture;
    const orphan = 'ab'.repeat(32);
    const image = fixture.images.list()[0];
    if (image === undefined) throw new Error('no image');
    fixture.images.prepare(orphan, image);
    const group = runtime.context.cgroups.openShimGroup(orphan);
    group.close();
    await runtime.close();
    const next = await fixture.restart();
    expect(fixture.images.snapshotKeys()).toEqual([]);
    expect(next.context.cgroups.shimGroups()).toEqual([]);
  });

  test('throws away what another boot left, and says what it did', async () => {
    const { containerId, podSandboxId } = await start(['sleep', '1000']);
    const shim = fixture.runtime.context.model.sandbox(podSandboxId).record.shimPid;
    await fixture.runtime.close();
    const path = join(fixture.base, 'state', 'sandboxes', podSandboxId, 'sandbox.json');
    writeFileSync(
      path,
      readFileSync(path, 'utf8').replace(
        /"bootId":"[^"]*"/,
        '"bootId":"00000000-0000-0000-0000-000000000000"',
      ),
    );
    const runtime = await fixture.restart();
    await expect(runtime.containerStatus({ containerId })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await gone(shim);
    expect(readdirSync(join(fixture.base, 'state', 'sandboxes'))).toEqual([]);
    expect(footprint(fixture.base, fixture.cgroupRoot)).toMatchObject({
      mounts: [],
      cgroups: [],
      processes: [],
    });
  });

  test('takes a record that a crash cut off for none', async () => {
    const { podSandboxId } = await start(['sleep', '1000']);
    await fixture.runtime.close();
    writeFileSync(
      join(fixture.base, 'state', 'sandboxes', podSandboxId, 'sandbox.json'),
      '{"version":1,"boo',
    );
    const runtime = await fixture.restart();
    expect((await runtime.listPodSandbox({})).items).toEqual([]);
    expect(footprint(fixture.base, fixture.cgroupRoot)).toMatchObject({ cgroups: [], processes: [] });
  });
});

describe('an agent that died before it wrote down a start', () => {
  /** The record as it was before the start, which is written when there is time. */
  async function startUnrecorded(
    command: readonly string[],
  ): Promise<Started & { readonly pid: number; readonly shimPid: number; readonly exit: string }> {
    const started = await start(command);
    const { model } = fixture.runtime.context;
    const { pid } = model.container(started.containerId).record;
    const { shimPid } = model.sandbox(started.podSandboxId).record;
    await fixture.runtime.close();
    const { podSandboxId, containerId } = started;
    const directory = join(fixture.base, 'state', 'sandboxes', podSandboxId, 'containers', containerId);
    const path = join(directory, 'container.json');
    const record = { ...JSON.parse(readFileSync(path, 'utf8')), state: 'created', pid: 0, startedAt: 0 };
    writeFileSync(path, JSON.stringify(record));
    return { ...started, pid, shimPid, exit: join(directory, 'exit') };
  }

  test('finds the container running', async () => {
    const { containerId, pid } = await startUnrecorded(['sleep', '1000']);
    const runtime = await fixture.restart();
    expect(await status(runtime, containerId)).toMatchObject({ state: ContainerState.CONTAINER_RUNNING });
    const { record } = runtime.context.model.container(containerId);
    expect(record.pid).toBe(pid);
    expect(record.startedAt).toBeGreaterThan(record.createdAt);
  });

  test('finds how it ended, also without its shim', async () => {
    const { containerId, pid, shimPid, exit } = await startUnrecorded(sh('sleep 0.1; exit 22'));
    await gone(pid);
    while (!readFileSync(exit, 'utf8').startsWith('{')) await new Promise((resolve) => setImmediate(resolve));
    process.kill(shimPid, 'SIGKILL');
    const runtime = await fixture.restart();
    expect(await status(runtime, containerId)).toMatchObject({ exitCode: 22, reason: 'Error' });
  });

  test('leaves nothing running of a pod whose shim has died, too', async () => {
    const { pid, shimPid } = await startUnrecorded(['sleep', '1000']);
    process.kill(shimPid, 'SIGKILL');
    await fixture.restart();
    await gone(pid);
  });
});

describe('a shim that dies', () => {
  test('while the agent watches takes its containers with it, and that is said', async () => {
    const { containerId, podSandboxId } = await start(['sleep', '1000']);
    const { runtime } = fixture;
    const { pid } = runtime.context.model.container(containerId).record;
    process.kill(runtime.context.model.sandbox(podSandboxId).record.shimPid, 'SIGKILL');
    await ended(runtime, containerId);
    expect(await status(runtime, containerId)).toMatchObject({
      state: ContainerState.CONTAINER_EXITED,
      exitCode: 137,
      reason: 'ContainerStatusUnknown',
      message: expect.stringContaining('shim'),
    });
    await gone(pid);
    expect((await runtime.podSandboxStatus({ podSandboxId })).status?.state).toBe(
      PodSandboxState.SANDBOX_NOTREADY,
    );
    await runtime.removePodSandbox({ podSandboxId });
    expect(footprint(fixture.base, fixture.cgroupRoot)).toMatchObject({
      mounts: [],
      cgroups: [],
      processes: [],
    });
  });

  test('while no agent watches is found out by the next one', async () => {
    const { containerId, podSandboxId } = await start(['sleep', '1000']);
    const { pid } = fixture.runtime.context.model.container(containerId).record;
    const { shimPid } = fixture.runtime.context.model.sandbox(podSandboxId).record;
    await fixture.runtime.close();
    process.kill(shimPid, 'SIGKILL');
    const runtime = await fixture.restart();
    await gone(pid);
    expect(await status(runtime, containerId)).toMatchObject({
      state: ContainerState.CONTAINER_EXITED,
      exitCode: 137,
      reason: 'ContainerStatusUnknown',
    });
  });

  test('after the exit was written down does not take it along', async () => {
    const { containerId, podSandboxId } = await start(sh('sleep 0.1; exit 21'));
    const { pid } = fixture.runtime.context.model.container(containerId).record;
    const { shimPid } = fixture.runtime.context.model.sandbox(podSandboxId).record;
    await fixture.runtime.close();
    await gone(pid);
    const exit = join(fixture.base, 'state', 'sandboxes', podSandboxId, 'containers', containerId, 'exit');
    while (!readFileSync(exit, 'utf8').startsWith('{')) await new Promise((resolve) => setImmediate(resolve));
    process.kill(shimPid, 'SIGKILL');
    const runtime = await fixture.restart();
    expect(await status(runtime, containerId)).toMatchObject({ exitCode: 21, reason: 'Error' });
  });
});

test('a pause process that dies makes the sandbox unready', async () => {
  const { podSandboxId, containerId } = await start(['sleep', '1000'], true);
  const { runtime } = fixture;
  const unready = new Promise<void>((resolve) => {
    runtime.onEvent((event) => {
      if (event.containerId === podSandboxId) resolve();
    });
  });
  process.kill(runtime.context.model.sandbox(podSandboxId).record.pausePid, 'SIGKILL');
  await Promise.all([ended(runtime, containerId), unready]);
  expect((await runtime.podSandboxStatus({ podSandboxId })).status?.state).toBe(
    PodSandboxState.SANDBOX_NOTREADY,
  );
});

test('the socket of a shim is root’s alone', async () => {
  const { podSandboxId } = await start(['sleep', '1000']);
  const path = join(fixture.base, 'state', 'sandboxes', podSandboxId, 'shim.sock');
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test('a cgroup root below one that is not there is refused, before anything is made', async () => {
  const runtime = new Runtime({
    root: join(fixture.base, 'root'),
    state: join(fixture.base, 'other'),
    cgroupRoot: '/nodelet-test-nobody/below',
    images: fixture.images,
    network: undefined,
    log: silentLog,
  });
  await expect(runtime.recover()).rejects.toMatchObject({
    code: 'CGROUP_PATH_INVALID',
    message: expect.stringContaining('there is no "/sys/fs/cgroup'),
  });
  await runtime.close();
});
