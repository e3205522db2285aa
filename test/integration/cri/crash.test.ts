/** The runtime behind its socket, killed between every two steps of each call: the same calls again end where they were going. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ContainerState,
  type CriClient,
  connectCri,
  type LocalContainerConfig,
  NamespaceMode,
  type PodSandboxConfig,
} from '../../../src/cri/index.ts';
import { IMAGE, patience, World } from '../../fixtures/agent.ts';

let world: World;
let counter = 0;
beforeAll(async () => {
  world = await World.open();
});
afterAll(async () => {
  await world?.close();
});

interface Asked {
  readonly sandbox: PodSandboxConfig;
  readonly container: LocalContainerConfig;
}

function asked(): Asked {
  counter += 1;
  const name = `pod-${counter}`;
  return {
    sandbox: {
      metadata: { name, namespace: 'test', uid: name, attempt: 0 },
      linux: { securityContext: { namespaceOptions: { pid: NamespaceMode.POD } } },
    },
    container: {
      metadata: { name: 'c', attempt: 0 },
      image: { image: IMAGE },
      // Deaf to its signal, so that a stop comes to its kill.
      command: ['sh', '-c', 'trap "" TERM; while :; do sleep 1; done'],
      mounts: [{ containerPath: '/image', image: { image: IMAGE } }],
      linux: { resources: { memoryLimitInBytes: 64 * 2 ** 20 } },
    },
  };
}

/** Everything that is made for a pod; may be repeated, and goes on from what it finds. */
async function make({ runtime }: CriClient, { sandbox, container }: Asked): Promise<string> {
  const { podSandboxId = '' } = await runtime.runPodSandbox({ config: sandbox });
  const { containerId = '' } = await runtime.createContainer({
    podSandboxId,
    config: container,
    sandboxConfig: sandbox,
  });
  const { status } = await runtime.containerStatus({ containerId });
  if (status?.state === ContainerState.CONTAINER_CREATED) await runtime.startContainer({ containerId });
  await runtime.updateContainerResources({ containerId, linux: { memoryLimitInBytes: 96 * 2 ** 20 } });
  expect((await runtime.containerStatus({ containerId })).status).toMatchObject({
    state: ContainerState.CONTAINER_RUNNING,
    resources: { linux: { memoryLimitInBytes: 96 * 2 ** 20 } },
  });
  return containerId;
}

/** Everything that is taken away; may be repeated. */
async function unmake({ runtime }: CriClient): Promise<void> {
  for (const { id = '' } of (await runtime.listContainers({})).containers ?? []) {
    await runtime.stopContainer({ containerId: id, timeout: 1 });
    await runtime.removeContainer({ containerId: id });
  }
  for (const { id = '' } of (await runtime.listPodSandbox({})).items ?? []) {
    await runtime.stopPodSandbox({ podSandboxId: id });
    await runtime.removePodSandbox({ podSandboxId: id });
  }
}

async function connected<T>(work: (client: CriClient) => Promise<T>): Promise<T> {
  const client = await connectCri(join(world.state, 'cri.sock'));
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

describe('a runtime that is killed', () => {
  it.each([
    'sandbox:after-record',
    'sandbox:after-shim',
    'sandbox:after-namespaces',
    'sandbox:after-network',
    'sandbox:after-ready',
    'container:after-snapshot',
    'container:after-image-volumes',
    'container:after-volumes',
    'container:after-created',
    'start:before-run',
    'start:after-run',
    'start:after-record',
    'update:after-cgroup',
    'stop:before-kill',
    'remove:after-cgroup',
    'remove:after-snapshot',
    'remove:after-image-volumes',
    'remove:after-volumes',
    'stop-sandbox:after-containers',
    'stop-sandbox:after-network',
    'stop-sandbox:after-shim',
    'remove-sandbox:after-containers',
  ])('at %s: the next one goes on', async (failpoint) => {
    const request = asked();
    const first = await world.cri([], { env: { NODELET_FAILPOINTS: `${failpoint}=kill` } });
    await connected(async (client) => {
      await make(client, request);
      await unmake(client);
    }).catch(() => undefined); // it breaks off with the runtime
    const late = setTimeout(() => first.signal('SIGTERM'), 20_000 * patience);
    const { signal, stderr } = await first.exit;
    clearTimeout(late);
    expect(signal, `failpoint ${failpoint} was not met:\n${stderr}`).toBe('SIGKILL');

    const next = await world.cri();
    try {
      await connected(async (client) => {
        const { items = [] } = await client.runtime.listPodSandbox({});
        expect(items.length).toBeLessThanOrEqual(1);
        // What was on its way out goes on with that; what was on its way in is asked for again.
        if (!/^(stop|remove)/.test(failpoint)) await make(client, request);
        await unmake(client);
      });
      expect(world.leftovers()).toEqual([]);
    } finally {
      next.signal('SIGTERM');
      await next.exit;
    }
  });
});
