/** `nodelet agent --cri-socket`: the kubelet's pods and those of other CRI clients, side by side in one runtime. */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ContainerEventType,
  ContainerState,
  type CriClient,
  connectCri,
  NamespaceMode,
  PodSandboxState,
} from '../../../src/cri/index.ts';
import { IMAGE, type Program, podOf, shell, World } from '../../fixtures/agent.ts';

let world: World;
let path: string;
let agent: Program;
let client: CriClient;
beforeAll(async () => {
  world = await World.open();
  path = join(world.state, 'cri.sock');
  agent = await world.liveAgent(['--cri-socket', path]);
  client = await connectCri(path);
});
afterAll(async () => {
  await world?.cli(['rm', '--all', '--force']);
  for (const { id } of (await client?.runtime.listPodSandbox({}))?.items ?? [])
    await client.runtime.removePodSandbox({ podSandboxId: id });
  const left = world?.leftovers();
  client?.close();
  agent?.signal('SIGTERM');
  const code = (await agent?.exit)?.code;
  const socket = existsSync(path ?? '');
  await world?.close();
  expect({ left, code, socket }).toEqual({ left: [], code: 0, socket: false });
});

/** A pod that no kubelet knows of, with one running container. */
async function runOwn(name: string): Promise<{ podSandboxId: string; containerId: string }> {
  const { runtime } = client;
  const config = {
    metadata: { name, namespace: 'default', uid: `uid-${name}`, attempt: 0 },
    linux: {
      securityContext: { namespaceOptions: { network: NamespaceMode.POD, pid: NamespaceMode.CONTAINER } },
    },
  };
  const { podSandboxId = '' } = await runtime.runPodSandbox({ config });
  const container = {
    metadata: { name: 'c', attempt: 0 },
    image: { image: IMAGE },
    command: ['sleep', '1000'],
  };
  const { containerId = '' } = await runtime.createContainer({ podSandboxId, config: container });
  await runtime.startContainer({ containerId });
  return { podSandboxId, containerId };
}

async function names(): Promise<string[]> {
  const { items = [] } = await client.runtime.listPodSandbox({
    filter: { state: { state: PodSandboxState.SANDBOX_READY } },
  });
  return items.map(({ metadata }) => metadata?.name ?? '').sort();
}

describe('beside the kubelet', () => {
  it('the socket is for root alone, and answers for the same runtime and images', async () => {
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const { conditions = [] } = (await client.runtime.status({})).status ?? {};
    expect(conditions.map(({ type, status }) => [type, status])).toEqual([
      ['RuntimeReady', true],
      ['NetworkReady', true],
    ]);
    expect((await client.images.imageStatus({ image: { image: IMAGE } })).image?.repoTags).toEqual([IMAGE]);
  });

  it('shows the pods of both; each is looked after by its own side', async () => {
    const { runtime } = client;
    const pod = podOf('ours', [shell('sleep 1000')], { restartPolicy: 'Always' });
    await world.cli(['run', '-d', world.manifest(pod)]);
    const before = await world.untilRunning('ours');
    const { podSandboxId, containerId } = await runOwn('theirs');
    expect(await names()).toEqual(['ours', 'theirs']);

    // The kubelet's container, as a CRI client meets it.
    const { containers = [] } = await runtime.listContainers({
      filter: { labelSelector: { 'io.kubernetes.pod.name': 'ours' } },
    });
    const [own = {}] = containers;
    expect(`nodelet://${own.id}`).toBe(before.status?.containerStatuses?.[0]?.containerID);
    const said = await runtime.execSync({ containerId: own.id, cmd: ['hostname'] });
    expect(Buffer.from(said.stdout ?? []).toString()).toBe('ours\n');

    // Stopped behind the kubelet's back: it hears of that by the runtime's events and starts it anew.
    const stop = new AbortController();
    const started: string[] = [];
    const watching = (async () => {
      for await (const event of runtime.getContainerEvents({}, stop.signal)) {
        if (event.containerEventType !== ContainerEventType.CONTAINER_STARTED_EVENT) continue;
        started.push(event.podSandboxStatus?.metadata?.name ?? '');
        stop.abort();
      }
    })();
    await runtime.stopContainer({ containerId: own.id, timeout: 0 });
    const after = await world.untilPod(
      'ours',
      ({ status }) =>
        (status?.containerStatuses?.[0]?.restartCount ?? 0) === 1 && status?.phase === 'Running',
    );
    await world.untilRunning('ours');
    await watching;
    expect(started).toEqual(['ours']);
    expect(after.status?.podIP).toBe(before.status?.podIP);

    // The kubelet's commands know its own pods only, and the other pod has noticed nothing of all this.
    const { stdout } = await world.cli(['pods']);
    expect([stdout.includes('ours'), stdout.includes('theirs')]).toEqual([true, false]);
    await world.cli(['rm', '--force', 'ours']);
    expect(await names()).toEqual(['theirs']);
    expect((await runtime.containerStatus({ containerId })).status?.state).toBe(
      ContainerState.CONTAINER_RUNNING,
    );
    await runtime.removePodSandbox({ podSandboxId });
    expect(await names()).toEqual([]);
  });

  it('both are taken up again by the next agent, whose socket replaces that of the killed one', async () => {
    await world.cli(['run', '-d', world.manifest(podOf('stays', [shell('sleep 1000')]))]);
    const before = await world.untilRunning('stays');
    const { podSandboxId, containerId } = await runOwn('too');
    agent.signal('SIGKILL');
    await agent.exit;
    client.close();
    expect(existsSync(path)).toBe(true);
    agent = await world.liveAgent(['--cri-socket', path]);
    client = await connectCri(path);
    const after = await world.untilRunning('stays');
    expect(after.status?.containerStatuses?.[0]?.containerID).toBe(
      before.status?.containerStatuses?.[0]?.containerID,
    );
    expect(await names()).toEqual(['stays', 'too']);
    const said = await client.runtime.execSync({ containerId, cmd: ['echo', 'still here'] });
    expect(Buffer.from(said.stdout ?? []).toString()).toBe('still here\n');
    await client.runtime.removePodSandbox({ podSandboxId });
    await world.cli(['rm', '--force', 'stays']);
    expect(await names()).toEqual([]);
  });
});
