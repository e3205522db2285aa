/** What somebody tries who wants out of a container, or wants to leave something behind. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { NamespaceMode } from '../../../src/cri/index.ts';
import { directoryOf, readCgroupHost } from '../../../src/linux/cgroups/index.ts';
import {
  containerConfig,
  logText,
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

describe('a program that is run in a container', () => {
  test('goes nowhere when the container has just ended and its pid is somebody else’s', async () => {
    const { runtime } = fixture;
    const { podSandboxId = '' } = await runtime.runPodSandbox({ config: sandboxConfig(fixture) });
    const { containerId = '' } = await runtime.createContainer({
      podSandboxId,
      config: containerConfig(['sleep', '1000']),
    });
    await runtime.startContainer({ containerId });
    const { record } = runtime.context.model.container(containerId);
    const { pid } = record;
    let other: ReturnType<typeof spawn> | undefined;
    try {
      // Without a turn of the event loop: the agent is busy and has not heard of the end.
      process.kill(pid, 'SIGKILL');
      while (existsSync(`/proc/${pid}`)) spawnSync('true');
      for (let i = 0; i < 50 && other?.pid !== pid; i++) {
        other?.kill('SIGKILL');
        writeFileSync('/proc/sys/kernel/ns_last_pid', String(pid - 1));
        other = spawn('sleep', ['1000'], { stdio: 'ignore' });
      }
      expect(other?.pid).toBe(pid);
      expect(record.state).toBe('running');
      await expect(
        runtime.execSync({ containerId, cmd: ['readlink', '/proc/self/ns/mnt'] }),
      ).rejects.toMatchObject({ code: 'INVALID_STATE' });
    } finally {
      other?.kill('SIGKILL');
    }
    await runtime.removePodSandbox({ podSandboxId });
  });
});

describe('in a user namespace', () => {
  const rows = [{ containerId: 0, hostId: 300_000, length: 65_536 }];
  const sandbox = {
    namespaceOptions: {
      network: NamespaceMode.POD,
      pid: NamespaceMode.CONTAINER,
      ipc: NamespaceMode.POD,
      usernsOptions: { mode: NamespaceMode.POD, uids: rows, gids: rows },
    },
  };
  test('/dev/stdout can be opened, by root and by others, also in an exec', async () => {
    const { runtime } = fixture;
    for (const uid of [0, 1000]) {
      const config = sandboxConfig(fixture, { sandbox });
      const { podSandboxId = '' } = await runtime.runPodSandbox({ config });
      const { containerId = '' } = await runtime.createContainer({
        podSandboxId,
        config: containerConfig(sh('echo one > /dev/stdout; echo two > /dev/stderr; sleep 1000'), {
          security: { runAsUser: { value: uid }, runAsGroup: { value: uid } },
        }),
      });
      await runtime.startContainer({ containerId });
      const { stdout, stderr, exitCode } = await runtime.execSync({
        containerId,
        cmd: sh('id -u > /dev/stdout'),
      });
      expect({ out: String(stdout), err: String(stderr), exitCode }).toEqual({
        out: `${uid}\n`,
        err: '',
        exitCode: 0,
      });
      await runtime.stopContainer({ containerId, timeout: 0 });
      expect(
        logText(fixture, config.metadata?.name ?? '')
          .split('\n')
          .sort()
          .join(' ')
          .trim(),
      ).toBe('one two');
      await runtime.removePodSandbox({ podSandboxId });
    }
  });
});

describe('a /dev of the host', () => {
  test('gets nothing from us, and the container starts again and again', async () => {
    const dev = mkdtempSync(join(tmpdir(), 'nodelet-dev-'));
    try {
      writeFileSync(join(dev, 'mine'), '');
      for (let i = 0; i < 2; i++) {
        const { output, exitCode } = await runToEnd(fixture, sh('ls /dev'), {
          mounts: [{ hostPath: dev, containerPath: '/dev' }],
        });
        expect({ output, exitCode }).toEqual({ output: 'mine\n', exitCode: 0 });
      }
      expect(readdirSync(dev)).toEqual(['mine']);
    } finally {
      rmSync(dev, { recursive: true, force: true });
    }
  });
});

describe('a log', () => {
  test.each([
    ['a device', ['mknod', 'c', '1', '3']],
    ['a named pipe with a reader', ['mknod', 'p']],
  ])('is not written into %s that somebody has put there', async (_what, [program = '', ...type]) => {
    const config = sandboxConfig(fixture);
    const directory = join(config.logDirectory ?? '', 'c');
    mkdirSync(directory, { recursive: true });
    const path = join(directory, '0.log');
    execFileSync(program, [path, ...type]);
    const reader = type[0] === 'p' ? spawn('cat', [path], { stdio: 'ignore' }) : undefined;
    const { runtime } = fixture;
    const { podSandboxId = '' } = await runtime.runPodSandbox({ config });
    try {
      const { containerId = '' } = await runtime.createContainer({
        podSandboxId,
        config: containerConfig(sh('echo x')),
      });
      await expect(runtime.startContainer({ containerId })).rejects.toMatchObject({ code: 'START_FAILED' });
    } finally {
      reader?.kill('SIGKILL');
      await runtime.removePodSandbox({ podSandboxId });
    }
  });
});

describe('nothing is left behind', () => {
  test('where the answer to a start is lost, but not the start', async () => {
    const { runtime, cgroupRoot } = fixture;
    const { podSandboxId = '' } = await runtime.runPodSandbox({ config: sandboxConfig(fixture) });
    const { containerId = '' } = await runtime.createContainer({
      podSandboxId,
      config: containerConfig(['sleep', '1000']),
    });
    const container = runtime.context.model.container(containerId);
    const started = runtime.startContainer({ containerId });
    const group = directoryOf(readCgroupHost().unified, `${cgroupRoot}/containers/${containerId}`);
    while (!container.starting) await new Promise(setImmediate);
    // The shim drops an agent that does not read; here the agent hangs up while the shim works.
    while (!existsSync(group) || readFileSync(`${group}/cgroup.procs`, 'utf8') === '') spawnSync('true');
    while (container.record.state === 'created' && !/sleep/.test(commandOf(group))) spawnSync('true');
    container.sandbox.shim?.close();
    await expect(started).rejects.toMatchObject({ code: 'SHIM_GONE' });
    expect(existsSync(group)).toBe(false);
    await runtime.removePodSandbox({ podSandboxId });
  });

  test('of a sandbox made ahead whose pod has no room for its record', async (context) => {
    context.skip(
      !fixture.runtime.context.host.features.cloneDetached,
      'none is made ahead before Linux 6.15',
    );
    const own = await openRuntime(undefined, 1);
    try {
      const { runtime, cgroupRoot } = own;
      const shims = directoryOf(readCgroupHost().unified, `${cgroupRoot}/shims`);
      const count = (): number =>
        readdirSync(shims, { withFileTypes: true }).filter((one) => one.isDirectory()).length;
      const { store } = runtime.context;
      const save = store.saveSandbox.bind(store);
      // One is ready when the pod gets it, and not a shim of its own.
      const ready = runtime.context.spares.take.bind(runtime.context.spares);
      let spare = ready();
      while (spare === undefined) {
        await new Promise(setImmediate);
        spare = ready();
      }
      runtime.context.spares.take = () => spare;
      store.saveSandbox = () => {
        throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
      };
      await expect(runtime.runPodSandbox({ config: sandboxConfig(own) })).rejects.toThrow('ENOSPC');
      store.saveSandbox = save;
      await runtime.context.spares.close();
      expect(count()).toBe(0);
    } finally {
      await own.close();
    }
  });
});

function commandOf(group: string): string {
  const [pid] = readFileSync(`${group}/cgroup.procs`, 'utf8').split('\n');
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

test('a plan of ten thousand operations is answered', async () => {
  const { runtime } = fixture;
  const { podSandboxId = '' } = await runtime.runPodSandbox({ config: sandboxConfig(fixture) });
  const { shim } = runtime.context.model.sandbox(podSandboxId);
  const operations = Array.from({ length: 10_000 }, () => ({ op: 'umask', mask: 0 }) as const);
  const started = await shim?.run({
    kind: 'sandbox',
    name: 'long',
    operations: [...operations, { op: 'finish' }],
  });
  // Without the times, which would not have fitted.
  expect(started?.spans).toHaveLength(1);
  await runtime.removePodSandbox({ podSandboxId });
});

/** mount(2) with MS_REMOUNT on "/" and a new file there, in the mount namespace behind descriptor 3. */
const remount = `
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
assert libc.setns(3, 0x20000) == 0
os.chdir('/')
done = libc.mount(b'', b'/', None, 0x20, None)
print('remount', os.strerror(ctypes.get_errno()) if done < 0 else 'done')
try:
    open('/left-behind', 'w')
    print('written')
except OSError as error:
    print('write', error.strerror)
`;

test('the empty root that all containers begin with is made writable by nobody', async (context) => {
  const { runtime } = fixture;
  const { podSandboxId = '' } = await runtime.runPodSandbox({ config: sandboxConfig(fixture) });
  const mounts = runtime.context.emptyMounts.of(runtime.context.model.sandbox(podSandboxId));
  context.skip(mounts === undefined, 'before Linux 6.15 containers begin with a copy of the host’s mounts');
  const { stdout, stderr } = spawnSync('python3', ['-c', remount], {
    stdio: ['ignore', 'pipe', 'pipe', mounts?.number ?? -1],
    encoding: 'utf8',
  });
  expect(stderr).toBe('');
  expect(stdout.split('\n')).toEqual(['remount Read-only file system', 'write Read-only file system', '']);
  await runtime.removePodSandbox({ podSandboxId });
});
