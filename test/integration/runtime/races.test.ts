/** Requests that cross each other, or whose client is gone before they are done: none leaves anything behind. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { NodeletError } from '../../../src/base/index.ts';
import { ContainerState, PodSandboxState } from '../../../src/cri/index.ts';
import { commandLines } from '../../fixtures/leaks.ts';
import {
  containerConfig,
  openRuntime,
  type RuntimeFixture,
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

async function create(podSandboxId: string, command: readonly string[]): Promise<string> {
  const config = containerConfig(command);
  return (await fixture.runtime.createContainer({ podSandboxId, config })).containerId ?? '';
}

const pause = async (ms: number): Promise<void> => await new Promise((resolve) => setTimeout(resolve, ms));

async function untilNone(words: string): Promise<void> {
  while (commandLines(words).length > 0) await pause(5);
}

describe('a sandbox', () => {
  test('that is stopped while a container of it starts keeps none running, and is removed', async () => {
    const { runtime } = fixture;
    for (let round = 0; round < 40; round++) {
      const podSandboxId = await pod();
      const containerId = await create(podSandboxId, ['sleep', '123450001']);
      const start = runtime.startContainer({ containerId }).catch(() => {});
      // Every moment of a start, from before its plan is sent to after its program runs.
      if (round > 0) await pause(round / 4);
      await runtime.stopPodSandbox({ podSandboxId });
      await start;
      const { status = {} } = await runtime.containerStatus({ containerId });
      expect(status.state).not.toBe(ContainerState.CONTAINER_RUNNING);
      await untilNone('sleep 123450001');
      await runtime.removePodSandbox({ podSandboxId });
    }
  });

  test('whose stop is under way starts nothing more, and is not handed out again', async () => {
    const { runtime } = fixture;
    const config = sandboxConfig(fixture);
    const { podSandboxId = '' } = await runtime.runPodSandbox({ config });
    const containerId = await create(podSandboxId, ['sleep', '123450002']);
    const stop = runtime.stopPodSandbox({ podSandboxId });
    const results = await Promise.allSettled([
      runtime.startContainer({ containerId }),
      runtime.runPodSandbox({ config }),
      create(podSandboxId, ['true']).then(async () => await create(podSandboxId, ['true'])),
    ]);
    await stop;
    expect(results.slice(0, 2)).toMatchObject([
      { status: 'rejected', reason: { code: 'INVALID_STATE' } },
      { status: 'rejected', reason: { code: 'ALREADY_EXISTS' } },
    ]);
    const { status = {} } = await runtime.podSandboxStatus({ podSandboxId });
    expect(status.state).toBe(PodSandboxState.SANDBOX_NOTREADY);
    expect(commandLines('sleep 123450002')).toEqual([]);
    await runtime.removePodSandbox({ podSandboxId });
  });

  test('that is removed while it is updated does not come back with the next agent', async () => {
    const { runtime } = fixture;
    const podSandboxId = await pod();
    const containerId = await create(podSandboxId, ['true']);
    const results = await Promise.allSettled([
      runtime.removePodSandbox({ podSandboxId }),
      runtime.updatePodSandboxResources({ podSandboxId, overhead: { cpuShares: 2 } }),
      runtime.updateContainerResources({ containerId, linux: { cpuShares: 512 } }).then(() => {}),
    ]);
    expect(results[0]).toMatchObject({ status: 'fulfilled' });
    expect(results[1]).toMatchObject({ status: 'rejected', reason: { code: 'NOT_FOUND' } });
    const { sandboxes, containers, broken } = runtime.context.store.load();
    expect([sandboxes, containers, broken]).toEqual([[], [], []]);
  });
});

describe('a container', () => {
  test('that is removed before its start is reached is not found by it', async () => {
    const { runtime } = fixture;
    const podSandboxId = await pod();
    const containerId = await create(podSandboxId, ['sleep', '123450003']);
    const results = await Promise.allSettled([
      runtime.removeContainer({ containerId }),
      runtime.startContainer({ containerId }),
      runtime.updateContainerResources({ containerId, linux: { cpuShares: 512 } }),
    ]);
    expect(results).toMatchObject([
      { status: 'fulfilled' },
      { status: 'rejected', reason: { code: 'NOT_FOUND' } },
      { status: 'rejected', reason: { code: 'NOT_FOUND' } },
    ]);
    expect(commandLines('sleep 123450003')).toEqual([]);
    expect(runtime.context.store.load().containers).toEqual([]);
    await runtime.removePodSandbox({ podSandboxId });
  });

  test('loses a program whose caller was gone before it ran', async () => {
    const { runtime } = fixture;
    const podSandboxId = await pod();
    const containerId = await create(podSandboxId, ['sleep', '1000']);
    await runtime.startContainer({ containerId });
    const gone = new AbortController();
    const call = runtime.execSync({ containerId, cmd: sh('exec sleep 123450004') }, gone.signal);
    gone.abort(new NodeletError('ABORTED', 'gone'));
    await expect(call).rejects.toMatchObject({ code: 'ABORTED' });
    await untilNone('sleep 123450004');
    await runtime.removePodSandbox({ podSandboxId });
  });

  test('whose shim is killed while its pod is stopped has ended all the same', async () => {
    const { runtime } = fixture;
    const podSandboxId = await pod();
    const containerId = await create(podSandboxId, sh('trap "" TERM; sleep 123450005 & wait; wait'));
    await runtime.startContainer({ containerId });
    const sandbox = runtime.context.model.sandbox(podSandboxId);
    // As a stop leaves it that could not come to its end: what ends now is nobody's surprise.
    sandbox.stopping = true;
    process.kill(sandbox.record.shimPid, 'SIGKILL');
    while (sandbox.shim?.connected === true) await pause(5);
    await runtime.stopPodSandbox({ podSandboxId });
    const { status = {} } = await runtime.containerStatus({ containerId });
    expect(status).toMatchObject({ state: ContainerState.CONTAINER_EXITED, exitCode: 137 });
    expect(status.message).toContain('shim');
    await untilNone('sleep 123450005');
    await runtime.removePodSandbox({ podSandboxId });
  });
});
