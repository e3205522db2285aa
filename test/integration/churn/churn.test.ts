/** Pods of every kind come and go through a real agent: nothing of them is left, and its memory does not grow with them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentProcess } from '../../fixtures/agent-process.ts';
import { churn, podNumber } from '../../fixtures/churn.ts';
import { patience } from '../../fixtures/patience.ts';

const PARALLEL = 20;

let agent: AgentProcess;
beforeAll(async () => {
  agent = await AgentProcess.start('churn', { probe: true });
  // What the first pods make once and for all.
  await churn(agent, { from: 0, count: PARALLEL, parallel: PARALLEL });
});
afterAll(async () => {
  await agent?.[Symbol.asyncDispose]();
});

describe('60 pods, 20 at a time', () => {
  it('leave no mount, cgroup, link, rule, process, descriptor, thread or file behind', async () => {
    const before = agent.holdings();
    await churn(agent, { from: 100, count: 60, parallel: PARALLEL });
    expect(await agent.difference(before)).toEqual([]);
    expect(await agent.client.pods()).toEqual([]);
  });

  it('leave the buffers of the agent as they were', async () => {
    const before = await agent.collected();
    await churn(agent, { from: 200, count: 60, parallel: PARALLEL });
    const after = await agent.collected();
    // A shim's client has one of 32 KiB; what is kept of each pod would be more than this.
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(60 * 4 * 1024);
    // Events are kept, about 1 KiB each and 2,000 at most.
    expect(after.heapUsed - before.heapUsed).toBeLessThan(60 * 20 * 1024);
  });
});

describe('ConfigMaps and Secrets that came with a pod', () => {
  const has = async (text: string): Promise<boolean> =>
    (await agent.client.events()).some(({ message }) => message?.includes(text));

  it('stay while another pod refers to them, and go with the last', async () => {
    const manifests = await podNumber(1);
    const again = (name: string) => ({
      pods: manifests.pods.map((pod) => ({ ...pod, metadata: { ...pod.metadata, name } })),
      configMaps: [],
      secrets: [],
    });
    await agent.client.create(manifests);
    await agent.client.create(again('second'));
    await agent.client.remove('default', 'pod-1', 0);
    await agent.client.remove('default', 'second', 0);
    expect(await has('configmap "conf-1" not found')).toBe(false);
    await agent.client.create(again('third'));
    await expect.poll(() => has('configmap "conf-1" not found'), { timeout: 10_000 * patience }).toBe(true);
    await agent.client.remove('default', 'third', 0);
  });
});

describe('an agent that has ended', () => {
  it('leaves no process', async () => {
    expect(await agent.end()).toBe(0);
    expect(agent.shims()).toEqual([]);
  });
});
