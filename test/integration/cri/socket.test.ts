/** The runtime behind its socket: every call as a client of another process makes it. */
import { existsSync, lstatSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Client, credentials, Metadata, status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { deferred, silentLog } from '../../../src/base/index.ts';
import {
  ContainerEventType,
  ContainerState,
  type CriClient,
  type CriServer,
  connectCri,
  type PodSandboxConfig,
  PodSandboxState,
  type StreamingUrls,
  serveCri,
} from '../../../src/cri/index.ts';
import { codecOf } from '../../../src/cri/wire/codec.ts';
import { CriImageService } from '../../../src/image/index.ts';
import { commandLines } from '../../fixtures/leaks.ts';
import {
  containerConfig,
  ended,
  IMAGE,
  openRuntime,
  type RuntimeFixture,
  sandboxConfig,
  sh,
} from '../../fixtures/runtime.ts';

const urls: StreamingUrls = {
  exec: () => 'http://127.0.0.1:1/exec/token',
  attach: () => 'http://127.0.0.1:1/attach/token',
  portForward: () => 'http://127.0.0.1:1/portforward/token',
};

let fixture: RuntimeFixture;
let server: CriServer;
let client: CriClient;
let path: string;

async function serve(at: string): Promise<CriServer> {
  return await serveCri({
    path: at,
    runtime: fixture.runtime,
    images: new CriImageService(fixture.images),
    urls,
    log: silentLog,
  });
}

beforeAll(async () => {
  fixture = await openRuntime();
  path = join(fixture.base, 'cri.sock');
  server = await serve(path);
  client = await connectCri(path);
});
afterAll(async () => {
  client?.close();
  await server?.close();
  await fixture?.close();
});

async function runPod(): Promise<string> {
  return (await client.runtime.runPodSandbox({ config: sandboxConfig(fixture) })).podSandboxId ?? '';
}

/** A running container in a pod of its own. */
async function runContainer(
  command: readonly string[],
): Promise<{ podSandboxId: string; containerId: string }> {
  const podSandboxId = await runPod();
  const { containerId = '' } = await client.runtime.createContainer({
    podSandboxId,
    config: containerConfig(command),
  });
  await client.runtime.startContainer({ containerId });
  return { podSandboxId, containerId };
}

/** The code of the error that a call ends with. */
async function codeOfCall(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    return (error as { code: string }).code;
  }
  return 'OK';
}

describe('the socket', () => {
  test('is for root alone', () => {
    expect(lstatSync(path).isSocket()).toBe(true);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test('is not taken from a live server', async () => {
    await expect(serve(path)).rejects.toMatchObject({ code: 'SOCKET_IN_USE' });
    expect((await client.runtime.version({})).runtimeName).toBe('nodelet');
  });

  test('of a dead server is replaced, and goes with the new one', async () => {
    const stale = join(fixture.base, 'stale.sock');
    const dead = createServer();
    const listening = deferred<void>();
    dead.listen(stale, () => listening.resolve());
    await listening.promise;
    // Renamed, so that its end does not take the path away.
    renameSync(stale, `${stale}.x`);
    const closed = deferred<void>();
    dead.close(() => closed.resolve());
    await closed.promise;
    renameSync(`${stale}.x`, stale);
    const next = await serve(stale);
    const other = await connectCri(stale);
    expect((await other.runtime.version({})).runtimeApiVersion).toBe('v1');
    other.close();
    await next.close();
    expect(existsSync(stale)).toBe(false);
  });

  test('replaces nothing else', async () => {
    const file = join(fixture.base, 'file');
    writeFileSync(file, 'mine');
    await expect(serve(file)).rejects.toMatchObject({ code: 'SOCKET_UNUSABLE' });
    await expect(serve(join(fixture.base, 'x'.repeat(120)))).rejects.toMatchObject({
      code: 'INVALID_CONFIGURATION',
    });
  });
});

describe('a pod', () => {
  test('lives and ends, as a kubelet sees it', async () => {
    const { runtime } = client;
    const events: string[] = [];
    const stop = new AbortController();
    const watching = (async () => {
      for await (const event of runtime.getContainerEvents({}, stop.signal))
        events.push(`${event.containerEventType ?? 0} ${event.containerId ?? ''}`);
    })();
    // The stream is open when the first event of a pod comes by it.
    const early = await runPod();
    while (events.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await runtime.removePodSandbox({ podSandboxId: early });

    const config = sandboxConfig(fixture);
    const { podSandboxId = '' } = await runtime.runPodSandbox({ config });
    const again = await runtime.runPodSandbox({ config });
    expect(again.podSandboxId).toBe(podSandboxId);
    const create = { podSandboxId, config: containerConfig(sh('echo hello; exit 3')) };
    const { containerId = '' } = await runtime.createContainer(create);
    expect((await runtime.createContainer(create)).containerId).toBe(containerId);
    await runtime.startContainer({ containerId });
    await ended(fixture.runtime, containerId);
    const { status } = await runtime.containerStatus({ containerId });
    expect(status).toMatchObject({ state: ContainerState.CONTAINER_EXITED, exitCode: 3, reason: 'Error' });
    expect(Math.abs((status?.finishedAt ?? 0) / 1e6 - Date.now())).toBeLessThan(60_000);

    for (let i = 0; i < 2; i += 1) await runtime.stopPodSandbox({ podSandboxId });
    const pod = await runtime.podSandboxStatus({ podSandboxId });
    expect(pod.status?.state).toBe(PodSandboxState.SANDBOX_NOTREADY);
    expect(pod.containersStatuses).toHaveLength(1);
    expect(await codeOfCall(runtime.runPodSandbox({ config }))).toBe('ALREADY_EXISTS');
    for (let i = 0; i < 2; i += 1) await runtime.removePodSandbox({ podSandboxId });
    for (let i = 0; i < 2; i += 1) await runtime.removeContainer({ containerId });
    expect(await codeOfCall(runtime.podSandboxStatus({ podSandboxId }))).toBe('NOT_FOUND');
    expect(await codeOfCall(runtime.containerStatus({ containerId }))).toBe('NOT_FOUND');
    stop.abort();
    await watching;
    const {
      CONTAINER_CREATED_EVENT,
      CONTAINER_STARTED_EVENT,
      CONTAINER_STOPPED_EVENT,
      CONTAINER_DELETED_EVENT,
    } = ContainerEventType;
    expect(events.filter((line) => line.includes(containerId))).toEqual(
      [
        CONTAINER_CREATED_EVENT,
        CONTAINER_STARTED_EVENT,
        CONTAINER_STOPPED_EVENT,
        CONTAINER_DELETED_EVENT,
      ].map((kind) => `${kind} ${containerId}`),
    );
  });

  test('is stopped with its running containers, and removed with all of them', async () => {
    const { podSandboxId, containerId } = await runContainer(sh('sleep 1000'));
    await client.runtime.stopPodSandbox({ podSandboxId });
    const { status } = await client.runtime.containerStatus({ containerId });
    expect(status).toMatchObject({ state: ContainerState.CONTAINER_EXITED, exitCode: 137 });
    await client.runtime.removePodSandbox({ podSandboxId });
    expect((await client.runtime.listContainers({})).containers ?? []).toEqual([]);
  });

  test('is found by what a filter says, and by a streaming list', async () => {
    const { runtime } = client;
    const one = await runContainer(sh('sleep 1000'));
    const two = await runPod();
    const ids = async (filter: object): Promise<(string | undefined)[]> =>
      ((await runtime.listPodSandbox({ filter })).items ?? []).map(({ id }) => id);
    expect(await ids({ id: two })).toEqual([two]);
    expect(await ids({ id: two.slice(0, 12) })).toEqual([two]);
    expect(await ids({ state: { state: PodSandboxState.SANDBOX_NOTREADY } })).toEqual([]);
    expect(await ids({ labelSelector: { no: 'such' } })).toEqual([]);
    const streamed: (string | undefined)[] = [];
    for await (const { podSandboxes = [] } of runtime.streamPodSandboxes({}))
      streamed.push(...podSandboxes.map(({ id }) => id));
    expect(new Set(streamed)).toEqual(new Set([one.podSandboxId, two]));
    expect(streamed).toHaveLength(2);
    const running = await runtime.listContainers({
      filter: { podSandboxId: one.podSandboxId, state: { state: ContainerState.CONTAINER_RUNNING } },
    });
    expect((running.containers ?? []).map(({ id }) => id)).toEqual([one.containerId]);
    expect((await runtime.listContainers({ filter: { podSandboxId: two } })).containers ?? []).toEqual([]);
    for (const podSandboxId of [one.podSandboxId, two]) await runtime.removePodSandbox({ podSandboxId });
  });
});

describe('a container', () => {
  let running: { podSandboxId: string; containerId: string };
  beforeAll(async () => {
    running = await runContainer(sh('sleep 1000'));
  });
  afterAll(async () => {
    await client.runtime.removePodSandbox({ podSandboxId: running.podSandboxId });
  });

  test('runs programs: output, exit code, and an end in time', async () => {
    const { containerId } = running;
    const { runtime } = client;
    const result = await runtime.execSync({ containerId, cmd: sh('echo out; echo err >&2; exit 7') });
    expect([
      Buffer.from(result.stdout ?? []).toString(),
      Buffer.from(result.stderr ?? []).toString(),
      result.exitCode,
    ]).toEqual(['out\n', 'err\n', 7]);
    const started = performance.now();
    expect(await codeOfCall(runtime.execSync({ containerId, cmd: sh('sleep 100'), timeout: 1 }))).toBe(
      'DEADLINE_EXCEEDED',
    );
    expect(performance.now() - started).toBeLessThan(20_000);
    expect(await codeOfCall(runtime.execSync({ containerId, cmd: ['/no/such'] }))).toBe('EXEC_FAILED');
  });

  test('loses a program whose caller goes away', async () => {
    const { containerId } = running;
    const gone = new AbortController();
    const call = client.runtime.execSync({ containerId, cmd: sh('exec sleep 123454321') }, gone.signal);
    const count = (): number => commandLines('sleep 123454321').length;
    const tick = async (): Promise<void> => await new Promise((resolve) => setTimeout(resolve, 5));
    while (count() === 0) await tick();
    gone.abort();
    await expect(call).rejects.toBe(gone.signal.reason);
    while (count() > 0) await tick();
  });

  test('tells about itself: verbose, statistics, metrics', async () => {
    const { runtime } = client;
    const { containerId, podSandboxId } = running;
    const info = JSON.parse(
      (await runtime.containerStatus({ containerId, verbose: true })).info?.info ?? '{}',
    ) as {
      pid: number;
      sandboxID: string;
      runtimeSpec: { process: { args: string[] }; linux: { namespaces: { type: string; path: string }[] } };
    };
    expect(info).toMatchObject({
      sandboxID: podSandboxId,
      runtimeSpec: { process: { args: sh('sleep 1000') } },
    });
    for (const { path: file } of info.runtimeSpec.linux.namespaces) expect(existsSync(file)).toBe(true);
    const pod = JSON.parse(
      (await runtime.podSandboxStatus({ podSandboxId, verbose: true })).info?.info ?? '{}',
    ) as object;
    expect(pod).toHaveProperty('config.metadata.namespace', 'test');
    const { stats } = await runtime.containerStats({ containerId });
    expect(stats?.attributes?.id).toBe(containerId);
    expect(stats?.memory?.workingSetBytes?.value).toBeGreaterThan(0);
    const { descriptors = [] } = await runtime.listMetricDescriptors({});
    const { podMetrics = [] } = await runtime.listPodSandboxMetrics({});
    const known = new Map(descriptors.map(({ name = '', labelKeys = [] }) => [name, labelKeys.length]));
    const metrics = podMetrics.flatMap(({ metrics: own = [], containerMetrics = [] }) => [
      ...own,
      ...containerMetrics.flatMap(({ metrics: more = [] }) => more),
    ]);
    expect(metrics.length).toBeGreaterThan(5);
    for (const { name = '', labelValues = [] } of metrics) expect(known.get(name)).toBe(labelValues.length);
  });

  test('is updated live, and its log is opened anew', async () => {
    const { containerId } = running;
    await client.runtime.updateContainerResources({
      containerId,
      linux: { memoryLimitInBytes: 64 * 2 ** 20 },
    });
    const { status } = await client.runtime.containerStatus({ containerId });
    expect(status?.resources?.linux?.memoryLimitInBytes).toBe(64 * 2 ** 20);
    await client.runtime.reopenContainerLog({ containerId });
    await client.runtime.updatePodSandboxResources({
      podSandboxId: running.podSandboxId,
      resources: { cpuShares: 100 },
    });
  });

  test('is led to by URLs, where there is something to lead to', async () => {
    const { containerId, podSandboxId } = running;
    const { runtime } = client;
    expect((await runtime.exec({ containerId, cmd: ['sh'], stdout: true })).url).toMatch(/\/exec\//);
    expect((await runtime.attach({ containerId, stdout: true })).url).toMatch(/\/attach\//);
    expect((await runtime.portForward({ podSandboxId, port: [80] })).url).toMatch(/\/portforward\//);
    expect(await codeOfCall(runtime.exec({ containerId: 'f'.repeat(64), cmd: ['sh'], stdout: true }))).toBe(
      'NOT_FOUND',
    );
    expect(await codeOfCall(runtime.checkpointContainer({ containerId }))).toBe('UNIMPLEMENTED');
  });

  test('is given the value of a variable to the byte', async () => {
    const { podSandboxId } = running;
    const envs = [
      { key: 'ODD', value: 'a\udcff\udc80b' },
      { key: 'EVEN', value: 'ä😀' },
    ];
    const config = containerConfig(sh('sleep 1000'), { name: 'bytes', envs });
    const { containerId = '' } = await client.runtime.createContainer({ podSandboxId, config });
    await client.runtime.startContainer({ containerId });
    const { stdout } = await client.runtime.execSync({ containerId, cmd: ['cat', '/proc/1/environ'] });
    const text = Buffer.from(stdout ?? []).toString('latin1');
    expect(text).toContain('ODD=a\xff\x80b\0');
    expect(text).toContain(`EVEN=${Buffer.from('ä😀').toString('latin1')}\0`);
    await client.runtime.removeContainer({ containerId });
  });

  test('that has ended runs nothing', async () => {
    const { podSandboxId } = running;
    const config = containerConfig(sh('true'), { name: 'short' });
    const { containerId = '' } = await client.runtime.createContainer({ podSandboxId, config });
    await client.runtime.startContainer({ containerId });
    await ended(fixture.runtime, containerId);
    expect(await codeOfCall(client.runtime.execSync({ containerId, cmd: ['true'] }))).toBe('INVALID_STATE');
    expect(await codeOfCall(client.runtime.exec({ containerId, cmd: ['sh'], stdout: true }))).toBe(
      'INVALID_STATE',
    );
    expect(await codeOfCall(client.runtime.startContainer({ containerId }))).toBe('INVALID_STATE');
    for (let i = 0; i < 2; i += 1) await client.runtime.stopContainer({ containerId, timeout: 1 });
    for (let i = 0; i < 2; i += 1) await client.runtime.removeContainer({ containerId });
  });
});

describe('the runtime', () => {
  test('says what it is and can', async () => {
    const { runtime } = client;
    const { status, runtimeHandlers = [], features, info } = await runtime.status({ verbose: true });
    expect((status?.conditions ?? []).map(({ type, status: holds }) => [type, holds])).toEqual([
      ['RuntimeReady', true],
      ['NetworkReady', true],
    ]);
    expect(runtimeHandlers[0]?.features).toEqual({ recursiveReadOnlyMounts: true, userNamespaces: true });
    expect(features?.supplementalGroupsPolicy).toBe(true);
    expect(info).toHaveProperty('host');
    expect((await runtime.runtimeConfig({})).linux?.cgroupDriver).toBe(1);
    expect(
      await runtime.updateRuntimeConfig({ runtimeConfig: { networkConfig: { podCidr: '10.1.0.0/24' } } }),
    ).toEqual({});
  });

  test('lists images, one by one or all', async () => {
    const { images } = client;
    const all = (await images.listImages({})).images ?? [];
    expect(all.map(({ repoTags }) => repoTags)).toEqual([[IMAGE]]);
    expect(all[0]?.uid).toEqual({ value: 0 });
    const streamed: unknown[] = [];
    for await (const { images: part = [] } of images.streamImages({})) streamed.push(...part);
    expect(streamed).toEqual(all);
    expect((await images.imageStatus({ image: { image: IMAGE }, verbose: true })).image?.id).toBe(all[0]?.id);
    expect(await images.imageStatus({ image: { image: 'no/such:1' } })).toEqual({});
    expect((await images.imageFsInfo({})).imageFilesystems?.[0]?.usedBytes?.value).toBeGreaterThan(0);
    expect(await codeOfCall(images.pullImage({ image: { image: 'NOT A NAME' } }))).toBe('INVALID_REFERENCE');
  });

  test('changes nothing for a request that it refuses', async () => {
    const { runtime } = client;
    const config = sandboxConfig(fixture);
    const hostile = [
      { ...config, metadata: { ...config.metadata, uid: '../../x' } },
      { ...config, labels: { a: 'x'.repeat(2 ** 20) } },
      { ...config, linux: { ...config.linux, cgroupParent: '/../x' } },
      { ...config, portMappings: [{ hostPort: -1 }] },
    ];
    for (const one of hostile)
      expect(await codeOfCall(runtime.runPodSandbox({ config: one }))).toBe('INVALID_ARGUMENT');
    expect((await runtime.listPodSandbox({})).items ?? []).toEqual([]);
    const podSandboxId = await runPod();
    const refused = [
      containerConfig(['x'], { security: { runAsUser: { value: 2 ** 32 } } }),
      containerConfig(['x'], { logPath: '../x' }),
      containerConfig(['x'], { image: { image: 'a\nb' } }),
    ];
    for (const one of refused)
      expect(await codeOfCall(runtime.createContainer({ podSandboxId, config: one }))).toBe(
        'INVALID_ARGUMENT',
      );
    expect((await runtime.listContainers({})).containers ?? []).toEqual([]);
    expect(
      await codeOfCall(
        runtime.createContainer({
          podSandboxId,
          config: containerConfig(['x'], { image: { image: 'no/such:1' } }),
        }),
      ),
    ).toBe('IMAGE_NOT_FOUND');
    await runtime.removePodSandbox({ podSandboxId });
    expect(fixture.images.snapshotKeys()).toEqual([]);
  });
});

describe("a client's deadline", () => {
  const OK: number = status.OK;
  const DEADLINE_EXCEEDED: number = status.DEADLINE_EXCEEDED;
  const services = { grpc: undefined as Client | undefined };
  beforeAll(() => {
    services.grpc = new Client(`unix://${path}`, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
    });
  });
  afterAll(() => services.grpc?.close());

  /** RunPodSandbox as any client of gRPC asks for it. Resolves with the status code and the sandbox. */
  async function run(config: PodSandboxConfig, ms?: number): Promise<{ code: number; podSandboxId: string }> {
    const request = codecOf('RunPodSandboxRequest');
    const response = codecOf('RunPodSandboxResponse');
    return await new Promise((resolve) => {
      services.grpc?.makeUnaryRequest<object, { readonly podSandboxId?: string }>(
        '/runtime.v1.RuntimeService/RunPodSandbox',
        (message) => request.encode(message),
        (bytes) => response.decode(bytes),
        { config },
        new Metadata(),
        ms === undefined ? {} : { deadline: Date.now() + ms },
        (error, value) =>
          resolve({ code: error === null ? OK : error.code, podSandboxId: value?.podSandboxId ?? '' }),
      );
    });
  }

  const records = (): string[] => fixture.runtime.context.store.load().sandboxes.map(({ id }) => id);

  test('that passes before the turn of its request leaves nothing made', async () => {
    const config = sandboxConfig(fixture);
    const { namespace, name, uid } = config.metadata ?? {};
    const { locks } = fixture.runtime.context;
    const key = `name:${namespace}/${name}/${uid}/0`;
    const gate = deferred<void>();
    const holder = locks.run(key, async () => await gate.promise);
    expect((await run(config, 100)).code).toBe(DEADLINE_EXCEEDED);
    gate.resolve();
    await holder;
    await locks.run(key, () => {});
    expect(records()).toEqual([]);
  });

  test('that passes at any moment of a create is told; a retry gets one sandbox, and there is no other', async () => {
    let exceeded = 0;
    for (let ms = 1; ms <= 40; ms += 1) {
      const config = sandboxConfig(fixture);
      const { code } = await run(config, ms);
      if (code !== OK) expect(code).toBe(DEADLINE_EXCEEDED);
      exceeded += code === OK ? 0 : 1;
      const again = await run(config);
      expect(again.code).toBe(OK);
      expect(records()).toEqual([again.podSandboxId]);
      expect(readdirSync(join(fixture.base, 'state', 'sandboxes'))).toEqual([again.podSandboxId]);
      await client.runtime.removePodSandbox({ podSandboxId: again.podSandboxId });
    }
    expect(exceeded).toBeGreaterThan(0);
    expect(commandLines(join(fixture.base, 'state')).length).toBe(0);
  });
});
