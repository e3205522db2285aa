/** Host ports on the host's loopback addresses: they are the runtime's, whoever asks for the sandbox. */
import { connect, createServer, type Server } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { PodNetwork } from '../../../src/cni/index.ts';
import { freePort } from '../../fixtures/registry.ts';
import { openRuntime, type RuntimeFixture, sandboxConfig } from '../../fixtures/runtime.ts';

/** Gives every pod the same address of this machine, at which the test answers in its place. */
const POD = '127.0.0.2';
const network: PodNetwork = {
  name: 'test',
  setUp: async () => {},
  add: async () => ({
    interfaces: [],
    ips: [{ address: `${POD}/8`, gateway: '127.0.0.1' }],
    routes: [],
    dns: {},
  }),
  remove: async () => {},
  collect: async () => [],
  status: async () => ({ ready: true }),
  plan: () => [],
  tearDown: async () => {},
};

let fixture: RuntimeFixture;
let pod: Server;
let containerPort = 0;
beforeEach(async () => {
  fixture = await openRuntime(undefined, 0, network);
  pod = createServer((socket) => socket.end('from the pod'));
  await new Promise<void>((resolve) => {
    pod.listen(0, POD, resolve);
  });
  const address = pod.address();
  containerPort = typeof address === 'object' && address !== null ? address.port : 0;
});
afterEach(async () => {
  pod?.close();
  await fixture?.close();
});

/** What a client of the host reads there. */
async function read(port: number): Promise<string> {
  return await new Promise((resolve) => {
    let text = '';
    connect(port, '127.0.0.1')
      .on('data', (data) => {
        text += data.toString();
      })
      .on('end', () => resolve(text))
      .on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
  });
}

test('are there when the sandbox is, after a restart of the agent, and gone when it is stopped', async () => {
  const hostPort = await freePort();
  const config = { ...sandboxConfig(fixture), portMappings: [{ hostPort, containerPort }] };
  const { podSandboxId = '' } = await fixture.runtime.runPodSandbox({ config });
  expect(await read(hostPort)).toBe('from the pod');
  await fixture.runtime.close();
  expect(await read(hostPort)).toBe('ECONNREFUSED');
  const next = await fixture.restart();
  expect(await read(hostPort)).toBe('from the pod');
  await next.stopPodSandbox({ podSandboxId });
  expect(await read(hostPort)).toBe('ECONNREFUSED');
});

test('that a process of the host has leave the sandbox as it is', async () => {
  const hostPort = await freePort();
  const other = createServer((socket) => socket.end('from the host'));
  await new Promise<void>((resolve) => {
    other.listen(hostPort, '127.0.0.1', resolve);
  });
  try {
    const config = { ...sandboxConfig(fixture), portMappings: [{ hostPort, containerPort }] };
    await fixture.runtime.runPodSandbox({ config });
    expect(await read(hostPort)).toBe('from the host');
  } finally {
    other.close();
  }
});
