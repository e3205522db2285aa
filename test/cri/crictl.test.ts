/**
 * crictl of cri-tools, command by command, against `nodelet cri`. `npm run test:cri` starts both; $CRI_ENDPOINT names the
 * socket, $CRICTL the program.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { atTerminal, crictl, json, Running, tryCrictl } from './crictl.ts';
import { BUSYBOX, PAUSE, WEB_SERVER } from './images.ts';

const folder = mkdtempSync(join(tmpdir(), 'nodelet-crictl-'));
const ID = /^[0-9a-f]{64}$/;

function config(name: string, value: object): string {
  const path = join(folder, `${name}.json`);
  writeFileSync(path, JSON.stringify(value));
  return path;
}

function podConfig(name: string, more: object = {}): string {
  const logs = join(folder, 'logs', name);
  mkdirSync(logs, { recursive: true });
  return config(`pod-${name}`, {
    metadata: { name, namespace: 'tests', uid: `uid-${name}`, attempt: 1 },
    log_directory: logs,
    labels: { app: name },
    annotations: { note: `of ${name}` },
    linux: {},
    ...more,
  });
}

function containerConfig(name: string, command: readonly string[], more: object = {}): string {
  return config(`container-${name}`, {
    metadata: { name, attempt: 0 },
    image: { image: BUSYBOX },
    command,
    log_path: `${name}.log`,
    labels: { role: name },
    linux: {},
    ...more,
  });
}

/** A container in a pod, running. */
function started(pod: string, podFile: string, name: string, command: readonly string[], more = {}): string {
  const id = crictl('create', pod, containerConfig(name, command, more), podFile);
  crictl('start', id);
  return id;
}

interface Status {
  readonly id: string;
  readonly state: string;
  readonly exitCode: number;
  readonly reason: string;
  readonly createdAt: string;
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly imageRef: string;
  readonly imageId: string;
  readonly image: { readonly image: string };
  readonly labels: Readonly<Record<string, string>>;
  readonly logPath: string;
  readonly mounts: readonly { readonly containerPath: string }[];
  readonly resources: { readonly linux: Readonly<Record<string, string>> };
}

const inspect = (id: string) =>
  json('inspect', id) as { readonly status: Status; readonly info: Readonly<Record<string, unknown>> };

async function untilExited(id: string): Promise<Status> {
  for (let i = 0; ; i++) {
    const { status } = inspect(id);
    if (status.state === 'CONTAINER_EXITED') return status;
    if (i > 100) throw new Error(`${id} is ${status.state}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const podFile = podConfig('main', { port_mappings: [{ container_port: 80 }] });
let pod = '';
let web = '';
let shell = '';

beforeAll(() => {
  for (const image of [BUSYBOX, WEB_SERVER]) crictl('pull', image);
  pod = crictl('runp', podFile);
  web = started(pod, podFile, 'web', [], { image: { image: WEB_SERVER } });
  shell = started(pod, podFile, 'shell', ['sh', '-c', 'echo out; echo err >&2; exec sleep 1000']);
});

afterAll(() => {
  tryCrictl(['rmp', '--all', '--force']);
  tryCrictl(['rmi', BUSYBOX, WEB_SERVER, PAUSE]);
  rmSync(folder, { recursive: true, force: true });
});

describe('the runtime', () => {
  it('says who it is', () => {
    expect(crictl('version')).toMatch(
      /RuntimeName: {2}nodelet\nRuntimeVersion: {2}\S+\nRuntimeApiVersion: {2}v1$/,
    );
  });

  it('is ready, and says what it can', () => {
    const info = json('info') as {
      readonly status: { readonly conditions: readonly { type: string; status: boolean }[] };
      readonly runtimeHandlers: readonly { name?: string; features: Readonly<Record<string, boolean>> }[];
      readonly features: Readonly<Record<string, boolean>>;
    };
    const ready = info.status.conditions.filter(({ status }) => status).map(({ type }) => type);
    expect(ready).toEqual(expect.arrayContaining(['RuntimeReady', 'NetworkReady']));
    expect(info.runtimeHandlers.find(({ name = '' }) => name === '')?.features).toMatchObject({
      recursive_read_only_mounts: true,
      user_namespaces: true,
    });
    expect(info.features).toMatchObject({ supplemental_groups_policy: true });
  });

  it('tells its cgroup driver', () => {
    expect(crictl('runtime-config')).toMatch(/CGROUPFS/i);
  });
});

describe('images', () => {
  it('are pulled, listed, inspected and removed', () => {
    expect(crictl('pull', PAUSE)).toMatch(/sha256:[0-9a-f]{64}$/);
    const { images } = json('images', '-o', 'json') as {
      images: readonly { id: string; repoTags: string[]; repoDigests: string[]; size: string }[];
    };
    const image = images.find(({ repoTags }) => repoTags.includes(PAUSE));
    expect(image?.repoDigests).toEqual([
      expect.stringMatching(/^registry\.k8s\.io\/pause@sha256:[0-9a-f]{64}$/),
    ]);
    expect(Number(image?.size)).toBeGreaterThan(1000);
    expect(crictl('images', '-q', PAUSE)).toBe(image?.id);
    const one = json('inspecti', PAUSE) as {
      status: { id: string; uid: { value: string } | null };
      info: object;
    };
    expect(one.status).toMatchObject({ id: image?.id, uid: { value: '65535' } });
    expect(one.info).not.toEqual({});
    expect(crictl('rmi', PAUSE)).toContain(PAUSE);
    expect(crictl('images', '-q', PAUSE)).toBe('');
    expect(tryCrictl(['inspecti', PAUSE]).status).not.toBe(0);
  });

  it('that are not there are said by name', () => {
    const { status, stderr } = tryCrictl(['pull', 'registry.k8s.io/nothing-here:1']);
    expect(status).not.toBe(0);
    expect(stderr).toContain('registry.k8s.io/nothing-here:1');
  });

  it('take room that is counted', () => {
    const info = json('imagefsinfo', '-o', 'json') as {
      status: { imageFilesystems: readonly { usedBytes: { value: string }; fsId: { mountpoint: string } }[] };
    };
    const [first] = info.status.imageFilesystems;
    expect(Number(first?.usedBytes.value)).toBeGreaterThan(1e6);
    expect(first?.fsId.mountpoint).toMatch(/^\//);
  });
});

describe('pods', () => {
  it('are listed, by each of the filters', () => {
    interface Item {
      readonly id: string;
      readonly metadata: object;
      readonly state: string;
      readonly labels: object;
    }
    const { items } = json('pods', '-o', 'json') as { items: readonly Item[] };
    expect(items.find(({ id }) => id === pod)).toMatchObject({
      metadata: { name: 'main', namespace: 'tests', uid: 'uid-main', attempt: 1 },
      state: 'SANDBOX_READY',
      labels: { app: 'main' },
    });
    for (const filter of [
      ['--id', pod.slice(0, 12)],
      ['--name', '^main$'],
      ['--namespace', 'tests'],
      ['--label', 'app=main'],
      ['--state', 'ready'],
      ['--latest'],
    ])
      expect(crictl('pods', '-q', '--no-trunc', ...filter), filter.join(' ')).toContain(pod);
    expect(crictl('pods', '-q', '--label', 'app=other')).toBe('');
  });

  it('are inspected', () => {
    const { status, info } = json('inspectp', pod) as {
      status: { network: { ip: string }; state: string; annotations: object; createdAt: string };
      info: Readonly<Record<string, unknown>>;
    };
    expect(status.state).toBe('SANDBOX_READY');
    expect(status.network.ip).toMatch(/^10\.233\.\d+\.\d+$/);
    expect(status.annotations).toEqual({ note: 'of main' });
    expect(Math.abs(Date.now() - Date.parse(status.createdAt))).toBeLessThan(600_000);
    expect(info).not.toEqual({});
  });

  it('are stopped, and removed with all that is in them', async () => {
    const file = podConfig('brief');
    const id = crictl('runp', file);
    expect(id).toMatch(ID);
    const inner = started(id, file, 'inner', ['sleep', '1000']);
    expect(crictl('stopp', id)).toContain(id);
    expect((json('inspectp', id) as { status: { state: string } }).status.state).toBe('SANDBOX_NOTREADY');
    expect((await untilExited(inner)).exitCode).toBe(137);
    expect(crictl('stopp', id)).toContain(id);
    expect(crictl('rmp', id)).toContain(id);
    expect(crictl('pods', '-q', '--id', id)).toBe('');
    expect(crictl('ps', '-aq', '--pod', id)).toBe('');
  });

  it('that are asked for again are the one that is there', () => {
    expect(crictl('runp', podFile)).toBe(pod);
  });
});

describe('containers', () => {
  it('are created, started, listed by each of the filters', () => {
    const id = crictl('create', pod, containerConfig('listed', ['sleep', '1000']), podFile);
    expect(id).toMatch(ID);
    expect(crictl('ps', '-aq', '--state', 'created', '--no-trunc')).toContain(id);
    expect(crictl('ps', '-q', '--no-trunc')).not.toContain(id);
    expect(crictl('start', id)).toBe(id);
    for (const filter of [
      ['--id', id.slice(0, 12)],
      ['--name', '^listed$'],
      ['--pod', pod],
      ['--image', BUSYBOX],
      ['--label', 'role=listed'],
      ['--state', 'running'],
      ['--latest'],
    ])
      expect(crictl('ps', '-q', '--no-trunc', ...filter), filter.join(' ')).toContain(id);
    crictl('rm', '-f', id);
    expect(crictl('ps', '-aq', '--no-trunc')).not.toContain(id);
  });

  it('are inspected', () => {
    const { status, info } = inspect(shell);
    expect(status).toMatchObject({
      id: shell,
      state: 'CONTAINER_RUNNING',
      image: { image: BUSYBOX },
      labels: { role: 'shell' },
      logPath: join(folder, 'logs/main/shell.log'),
    });
    const image = crictl('images', '-q', BUSYBOX);
    expect(status.imageId).toBe(image);
    expect(status.imageRef).toContain('sha256:');
    expect(Date.parse(status.startedAt)).toBeGreaterThanOrEqual(Date.parse(status.createdAt));
    const { pid } = info as { pid: number };
    expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toBe('sleep\x001000\0');
  });

  it('end with their exit code, and are started once', async () => {
    const id = started(pod, podFile, 'ends', ['sh', '-c', 'exit 7']);
    expect(await untilExited(id)).toMatchObject({ exitCode: 7, reason: 'Error' });
    expect(tryCrictl(['start', id]).status).not.toBe(0);
    expect(crictl('ps', '-aq', '--state', 'exited', '--no-trunc')).toContain(id);
    crictl('rm', id);
  });

  it('are stopped by SIGTERM, and after the grace period by SIGKILL', async () => {
    const polite = started(pod, podFile, 'polite', [
      'sh',
      '-c',
      'trap "exit 3" TERM; while :; do sleep 0.1; done',
    ]);
    const deaf = started(pod, podFile, 'deaf', ['sh', '-c', 'trap "" TERM; while :; do sleep 0.1; done']);
    crictl('exec', '-s', polite, 'true');
    crictl('stop', '--timeout', '20', polite);
    expect((await untilExited(polite)).exitCode).toBe(3);
    crictl('stop', '--timeout', '1', deaf);
    expect((await untilExited(deaf)).exitCode).toBe(137);
    // Again is no error.
    crictl('stop', polite, deaf);
    crictl('rm', polite, deaf);
  });

  it('are made and started in one step', () => {
    const file = podConfig('one-step');
    const id = crictl('run', containerConfig('one', ['sleep', '1000']), file);
    expect(inspect(id).status.state).toBe('CONTAINER_RUNNING');
    const owner = crictl('pods', '-q', '--no-trunc', '--name', '^one-step$');
    crictl('rmp', '-f', owner);
  });

  it('get other limits while they run', () => {
    const limits = { memory_limit_in_bytes: 64 << 20, cpu_shares: 512 };
    const id = started(pod, podFile, 'limited', ['sleep', '1000'], { linux: { resources: limits } });
    expect(inspect(id).status.resources.linux).toMatchObject({ memoryLimitInBytes: String(64 << 20) });
    crictl('update', '--memory', String(96 << 20), '--cpu-share', '256', id);
    expect(inspect(id).status.resources.linux).toMatchObject({
      memoryLimitInBytes: String(96 << 20),
      cpuShares: '256',
    });
    expect(memoryLimit((inspect(id).info as { pid: number }).pid)).toBe(96 << 20);
    crictl('rm', '-f', id);
  });

  it('that nobody knows are said to be unknown', () => {
    for (const command of [
      ['inspect'],
      ['start'],
      ['logs'],
      ['exec', '-s'],
      ['update', '--memory', '10000000'],
    ]) {
      const { status, stderr } = tryCrictl([
        ...command,
        'f'.repeat(64),
        ...(command[0] === 'exec' ? ['true'] : []),
      ]);
      expect(status, command.join(' ')).not.toBe(0);
      expect(stderr, command.join(' ')).toMatch(/not ?found|not exist|no such|cannot find/i);
    }
  });

  it('are not checkpointed without CRIU, which is said', () => {
    const { status, stderr } = tryCrictl(['checkpoint', '--export', join(folder, 'checkpoint.tar'), shell]);
    expect(status).not.toBe(0);
    expect(stderr).toMatch(/Unimplemented/i);
    expect(stderr).toMatch(/CRIU/i);
  });
});

/** What the kernel holds a process to, in either hierarchy. */
function memoryLimit(pid: number): number {
  const lines = readFileSync(`/proc/${pid}/cgroup`, 'utf8').split('\n');
  const v1 = lines.find((line) => /^\d+:memory:/.test(line));
  const path = (v1 ?? lines.find((line) => line.startsWith('0::')) ?? '').replace(/^\d+:[^:]*:/, '');
  const file =
    v1 === undefined
      ? `/sys/fs/cgroup${path}/memory.max`
      : `/sys/fs/cgroup/memory${path}/memory.limit_in_bytes`;
  return Number(readFileSync(file, 'utf8'));
}

describe('logs', () => {
  it('are shown, by stream, with times, from the end', () => {
    expect(tryCrictl(['logs', shell])).toMatchObject({ stdout: 'out\n', stderr: 'err\n' });
    expect(tryCrictl(['logs', '--stream', 'stdout', shell])).toMatchObject({ stdout: 'out\n', stderr: '' });
    expect(crictl('logs', '--timestamps', '--stream', 'stdout', shell)).toMatch(/^\d{4}-\d\d-\d\dT\S+ out$/);
    const id = started(pod, podFile, 'counts', [
      'sh',
      '-c',
      'for i in 1 2 3 4 5; do echo line $i; done; exec sleep 1000',
    ]);
    crictl('exec', '-s', id, 'true');
    expect(crictl('logs', '--tail', '2', id)).toBe('line 4\nline 5');
    crictl('rm', '-f', id);
  });

  it('are followed to the end, across a rotation', async () => {
    const command = [
      'sh',
      '-c',
      'echo first; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo second; exit 0',
    ];
    const id = started(pod, podFile, 'followed', command);
    await using follower = new Running('logs', '--follow', id);
    await follower.output(/first\n/);
    crictl('logs', '--reopen', id);
    crictl('exec', '-s', id, 'touch', '/tmp/go');
    await follower.output(/second\n/);
    expect(await follower.end()).toBe(0);
    expect(follower.stdout).toBe('first\nsecond\n');
    crictl('rm', id);
  });
});

describe.each(['spdy', 'websocket'])('over %s', (transport) => {
  const over = ['--transport', transport];

  it('exec keeps streams apart, takes input to its end, and tells how it ended', () => {
    expect(tryCrictl(['exec', ...over, shell, 'sh', '-c', 'echo to-out; echo to-err >&2'])).toMatchObject({
      status: 0,
      stdout: 'to-out\n',
      stderr: 'to-err\n',
    });
    const text = 'x'.repeat(1 << 20);
    expect(tryCrictl(['exec', ...over, '-i', shell, 'wc', '-c'], text).stdout.trim()).toBe(String(1 << 20));
    expect(tryCrictl(['exec', ...over, '-i', shell, 'cat'], text).stdout).toBe(text);
    const failed = tryCrictl(['exec', ...over, shell, 'sh', '-c', 'exit 9']);
    expect(failed.status).not.toBe(0);
    expect(failed.stderr).toContain('9');
  });

  it('exec has a terminal where one is asked for, as large as that of the user', () => {
    // The size comes after the start.
    const size = 'until stty size | grep -q 117; do sleep 0.05; done; stty size';
    const text = atTerminal(117, ['exec', ...over, '-i', '-t', shell, 'sh', '-c', `tty; ${size}`]);
    expect(text).toMatch(/\/dev\/pts\/\d+\r?\n/);
    expect(text).toMatch(/24 117\r?\n/);
  });

  it('attach reads and writes a running container', async () => {
    const name = `attached-${transport}`;
    const id = started(pod, podFile, name, ['sh', '-c', 'while read line; do echo got $line; done'], {
      stdin: true,
    });
    await using attached = new Running('attach', ...over, '--stdin', id);
    attached.child.stdin.write('one\n');
    await attached.output(/got one\n/);
    attached.child.stdin.write('two\n');
    await attached.output(/got two\n/);
    await attached[Symbol.asyncDispose]();
    // The container has not noticed: a second client takes its place.
    await using again = new Running('attach', ...over, '--stdin', id);
    again.child.stdin.write('three\n');
    await again.output(/got three\n/);
    expect(crictl('logs', id)).toBe('got one\ngot two\ngot three');
    crictl('rm', '-f', id);
  });

  it('port-forward reaches a port of the pod, many times at once', async () => {
    const port = await freePort();
    await using forward = new Running('port-forward', ...over, pod, `${port}:80`);
    await forward.output(/Forwarding from 127\.0\.0\.1/);
    const pages = await Promise.all(
      Array.from({ length: 20 }, async () => await (await fetch(`http://127.0.0.1:${port}/`)).text()),
    );
    expect(new Set(pages)).toEqual(new Set(['<html><body><h1>It works!</h1></body></html>\n']));
  });
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  await new Promise((resolve) => {
    server.close(resolve);
  });
  return typeof address === 'object' && address !== null ? address.port : 0;
}

it('exec in one step returns output, exit code and a timeout', () => {
  expect(crictl('exec', '-s', web, 'cat', '/var/run/nginx.pid')).toMatch(/^\d+$/);
  expect(tryCrictl(['exec', '-s', shell, 'sh', '-c', 'echo no >&2; exit 4'])).toMatchObject({
    stderr: expect.stringContaining('no') as string,
  });
  const begin = performance.now();
  expect(tryCrictl(['exec', '-s', '--timeout', '1', shell, 'sleep', '100']).status).not.toBe(0);
  expect(performance.now() - begin).toBeLessThan(10_000);
});

describe('what pods use', () => {
  it('is counted by container', () => {
    interface Stats {
      readonly attributes: { readonly id: string };
      readonly cpu: { readonly usageCoreNanoSeconds: { readonly value: string } };
      readonly memory: { readonly workingSetBytes: { readonly value: string } };
      readonly writableLayer: { readonly usedBytes: { readonly value: string } };
    }
    crictl('exec', '-s', shell, 'sh', '-c', 'dd if=/dev/zero of=/tmp/big bs=1M count=3 2>/dev/null');
    const { stats } = json('stats', '-o', 'json', '--id', shell) as { stats: readonly Stats[] };
    expect(stats).toHaveLength(1);
    const [one] = stats;
    expect(one?.attributes.id).toBe(shell);
    expect(Number(one?.cpu.usageCoreNanoSeconds.value)).toBeGreaterThan(0);
    expect(Number(one?.memory.workingSetBytes.value)).toBeGreaterThan(0);
    expect(Number(one?.writableLayer.usedBytes.value)).toBeGreaterThanOrEqual(3 << 20);
    expect(
      (json('stats', '-o', 'json', '--label', 'role=web') as { stats: readonly Stats[] }).stats,
    ).toHaveLength(1);
  });

  it('is counted by pod', () => {
    const { stats } = json('statsp', '-o', 'json', '--id', pod) as {
      stats: readonly {
        attributes: { id: string; metadata: { name: string } };
        linux: {
          cpu: { usageCoreNanoSeconds: { value: string } };
          memory: { workingSetBytes: { value: string } };
          network: { defaultInterface: { name: string; rxBytes: { value: string } } };
          process: { processCount: { value: string } };
          containers: readonly { attributes: { id: string } }[];
        };
      }[];
    };
    const [one] = stats;
    expect(one?.attributes).toMatchObject({ id: pod, metadata: { name: 'main' } });
    expect(Number(one?.linux.cpu.usageCoreNanoSeconds.value)).toBeGreaterThan(0);
    expect(Number(one?.linux.memory.workingSetBytes.value)).toBeGreaterThan(0);
    expect(one?.linux.network.defaultInterface.name).toBe('eth0');
    expect(Number(one?.linux.network.defaultInterface.rxBytes.value)).toBeGreaterThan(0);
    expect(Number(one?.linux.process.processCount.value)).toBeGreaterThanOrEqual(2);
    expect(one?.linux.containers.map(({ attributes: { id } }) => id)).toEqual(
      expect.arrayContaining([web, shell]),
    );
  });

  it('has metrics that are described', () => {
    const { descriptors } = json('metricdescs') as {
      descriptors: readonly { name: string; help: string; labelKeys: string[] }[];
    };
    const names = descriptors.map(({ name }) => name);
    expect(names).toEqual(
      expect.arrayContaining(['container_cpu_usage_seconds_total', 'container_memory_working_set_bytes']),
    );
    const { podMetrics } = json('metricsp') as {
      podMetrics: readonly {
        podSandboxId: string;
        containerMetrics: readonly {
          containerId: string;
          metrics: readonly { name: string; labelValues: string[] }[];
        }[];
      }[];
    };
    const one = podMetrics.find(({ podSandboxId }) => podSandboxId === pod);
    const container = one?.containerMetrics.find(({ containerId }) => containerId === shell);
    expect(container?.metrics.map(({ name }) => name)).toContain('container_cpu_usage_seconds_total');
    for (const { name, labelValues } of container?.metrics ?? []) {
      const described = descriptors.find((descriptor) => descriptor.name === name);
      expect(described?.labelKeys, name).toHaveLength(labelValues.length);
    }
  });
});

it('events tell of a life from beginning to end, in order', async () => {
  await using events = new Running('events', '-o', 'json');
  // Once it hears of one pod it hears of all that comes.
  const probe = async (): Promise<void> => {
    for (let i = 0; !/CREATED/.test(events.stdout) && i < 50; i++) {
      const id = crictl('create', pod, containerConfig(`probe-${i}`, ['true']), podFile);
      crictl('rm', id);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  await probe();
  const id = started(pod, podFile, 'watched', ['sleep', '1000']);
  crictl('stop', '--timeout', '0', id);
  crictl('rm', id);
  const told = () =>
    [...events.stdout.matchAll(/"containerId":\s*"([0-9a-f]{64})",\s*"containerEventType":\s*"(\w+)"/g)]
      .filter(([, which]) => which === id)
      .map(([, , type]) => type);
  await events.output(new RegExp(`${id}",\\s*"containerEventType":\\s*"CONTAINER_DELETED_EVENT`));
  expect(told()).toEqual([
    'CONTAINER_CREATED_EVENT',
    'CONTAINER_STARTED_EVENT',
    'CONTAINER_STOPPED_EVENT',
    'CONTAINER_DELETED_EVENT',
  ]);
});
