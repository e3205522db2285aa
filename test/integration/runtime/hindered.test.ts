/** What hinders one container (a frozen cgroup, a file system that does not answer, a flood of lines) and must not hinder others. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { LocalContainerConfig } from '../../../src/cri/index.ts';
import { ContainerState, NamespaceMode } from '../../../src/cri/index.ts';
import { directoryOf, ensureCgroup, freeze, readCgroupHost, thaw } from '../../../src/linux/cgroups/index.ts';
import { MNT_DETACH } from '../../../src/linux/constants.ts';
import { native } from '../../../src/linux/native.ts';
import { patience } from '../../fixtures/patience.ts';
import {
  containerConfig,
  ended,
  openRuntime,
  type RuntimeFixture,
  sandboxConfig,
  sh,
} from '../../fixtures/runtime.ts';

const DEADLINE = 1500 * patience;
const host = readCgroupHost();
let fixture: RuntimeFixture;
beforeAll(async () => {
  fixture = await openRuntime(undefined, 0, undefined, { startDeadline: DEADLINE });
});
afterEach(async () => {
  for (const { id = '' } of (await fixture.runtime.listPodSandbox({})).items ?? [])
    await fixture.runtime.removePodSandbox({ podSandboxId: id });
});
afterAll(async () => {
  await fixture?.close();
});

async function start(podSandboxId: string, config: LocalContainerConfig): Promise<string> {
  const { containerId = '' } = await fixture.runtime.createContainer({ podSandboxId, config });
  await fixture.runtime.startContainer({ containerId });
  return containerId;
}

async function exec(containerId: string, cmd: string[]): Promise<number> {
  return (await fixture.runtime.execSync({ containerId, cmd, timeout: 60 * patience })).exitCode ?? -1;
}

describe('a frozen cgroup', () => {
  test('of a pod holds up a start until its deadline, and nothing else', async () => {
    const { runtime, cgroupRoot } = fixture;
    const cgroupParent = `${cgroupRoot}/pod`;
    ensureCgroup(host, cgroupParent, {}, { kind: 'pod', owned: cgroupRoot });
    const { podSandboxId = '' } = await runtime.runPodSandbox({
      config: sandboxConfig(fixture, { cgroupParent }),
    });
    const config = containerConfig(['sleep', '1000'], { name: 'held' });
    const { containerId = '' } = await runtime.createContainer({ podSandboxId, config });
    await freeze(host, cgroupParent);
    try {
      const begun = performance.now();
      await expect(runtime.startContainer({ containerId })).rejects.toMatchObject({
        code: 'DEADLINE_EXCEEDED',
      });
      expect(performance.now() - begun).toBeGreaterThan(DEADLINE * 0.9);
    } finally {
      await thaw(host, cgroupParent);
    }
    const { status = {} } = await runtime.containerStatus({ containerId });
    expect(status).toMatchObject({
      state: ContainerState.CONTAINER_EXITED,
      exitCode: 128,
      reason: 'StartError',
    });
    expect(() =>
      readFileSync(`${directoryOf(host.unified, `${cgroupParent}/${containerId}`)}/cgroup.procs`),
    ).toThrow('ENOENT');
    // The shim has let go of it.
    const next = await start(podSandboxId, containerConfig(['true'], { name: 'next' }));
    await ended(runtime, next);
    await runtime.removePodSandbox({ podSandboxId });
  });

  test('of a container holds up a program in it until its deadline', async () => {
    const { runtime } = fixture;
    const { podSandboxId = '' } = await runtime.runPodSandbox({ config: sandboxConfig(fixture) });
    const containerId = await start(podSandboxId, containerConfig(['sleep', '1000']));
    const path = `${fixture.cgroupRoot}/containers/${containerId}`;
    await freeze(host, path);
    try {
      await expect(exec(containerId, ['true'])).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    } finally {
      await thaw(host, path);
    }
    expect(await exec(containerId, ['true'])).toBe(0);
  });
});

/** Python's foreign functions make the file system; a minimal Python has none, a kernel may lack FUSE. */
const canHang =
  existsSync('/dev/fuse') && spawnSync('python3', ['-c', 'import ctypes'], { stdio: 'ignore' }).status === 0;

/** A mount whose files never answer, for as long as the process runs. */
class HangingFs {
  static async mount(path: string): Promise<HangingFs> {
    const program = spawn('python3', [join(import.meta.dirname, 'hanging-fs.py'), path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const lines = createInterface(program.stdout);
    // Its end closes the lines, too: nobody waits for a program that could not begin.
    const [line] = (await Promise.race([once(lines, 'line'), once(lines, 'close')])) as [string?];
    expect(line).toBe('ready');
    return new HangingFs(path, program, lines);
  }

  readonly #path: string;
  readonly #program: ChildProcess;
  readonly #lines: ReturnType<typeof createInterface>;

  private constructor(path: string, program: ChildProcess, lines: ReturnType<typeof createInterface>) {
    this.#path = path;
    this.#program = program;
    this.#lines = lines;
  }

  /** Somebody waits for an answer. */
  async asked(): Promise<void> {
    await once(this.#lines, 'line');
  }

  /** Whoever waits is told that there is nobody, and may go. */
  async end(): Promise<void> {
    if (this.#program.exitCode === null && this.#program.signalCode === null) {
      const gone = once(this.#program, 'exit');
      this.#program.kill('SIGKILL');
      await gone;
    }
    native().umount2(this.#path, MNT_DETACH);
  }
}

describe.skipIf(!canHang)('a file system that does not answer (it takes FUSE, and a whole Python)', () => {
  test('holds up the container that wants it, not its pod’s shim and not the agent', async () => {
    const { runtime } = fixture;
    const path = mkdtempSync(join(fixture.base, 'hanging-'));
    const { podSandboxId = '' } = await runtime.runPodSandbox({ config: sandboxConfig(fixture) });
    const good = await start(podSandboxId, containerConfig(['sleep', '1000'], { name: 'good' }));
    const hanging = await HangingFs.mount(path);
    try {
      const config = containerConfig(['true'], {
        name: 'held',
        mounts: [{ containerPath: '/data', hostPath: path }],
        workingDir: '/data/below',
      });
      const { containerId = '' } = await runtime.createContainer({ podSandboxId, config });
      const failed = runtime.startContainer({ containerId }).then(
        () => 'started',
        (error: { code?: string }) => error.code,
      );
      await hanging.asked();
      // Beside it, while its child sits in the kernel.
      expect(await exec(good, ['true'])).toBe(0);
      expect(await failed).toBe('DEADLINE_EXCEEDED');
      // The child has its SIGKILL and cannot die; nobody waits for it.
      expect(await exec(good, ['true'])).toBe(0);
      const other = await start(podSandboxId, containerConfig(['true'], { name: 'other' }));
      await ended(runtime, other);
    } finally {
      await hanging.end();
    }
    await runtime.removePodSandbox({ podSandboxId });
    rmSync(path, { recursive: true });
  });
});

test('four hundred programs at once beside a flood of two-byte lines', async () => {
  const { runtime } = fixture;
  const { podSandboxId = '' } = await runtime.runPodSandbox({ config: sandboxConfig(fixture) });
  const flood = await start(
    podSandboxId,
    containerConfig(sh('while :; do echo x; done'), { name: 'flood', logPath: '' }),
  );
  const quiet = await start(podSandboxId, containerConfig(['sleep', '1000'], { name: 'quiet' }));
  const sessions = await Promise.allSettled(
    Array.from({ length: 400 }, () =>
      runtime.openExec({ containerId: quiet, command: ['true'], stdin: false, terminal: false }),
    ),
  );
  const opened = sessions.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  for (const { stdout, stderr } of opened) for (const stream of [stdout, stderr]) stream?.resume();
  expect(await Promise.all(opened.map(({ exit }) => exit))).toEqual(opened.map(() => 0));
  // What did not start in time was given up by the deadline, never because there was no room to ask.
  const refused = sessions.flatMap((one) =>
    one.status === 'rejected' ? [one.reason as { code?: string }] : [],
  );
  expect(refused.map(({ code }) => code).filter((code) => code !== 'DEADLINE_EXCEEDED')).toEqual([]);
  expect((await runtime.containerStatus({ containerId: flood })).status?.state).toBe(
    ContainerState.CONTAINER_RUNNING,
  );
});

test('the pause process can do nothing but wait', async () => {
  const { runtime } = fixture;
  const shared = { network: NamespaceMode.POD, pid: NamespaceMode.POD, ipc: NamespaceMode.POD };
  const config = sandboxConfig(fixture, { sandbox: { namespaceOptions: shared } });
  const { podSandboxId = '' } = await runtime.runPodSandbox({ config });
  const { pausePid } = runtime.context.model.sandbox(podSandboxId).record;
  await expect.poll(() => readFileSync(`/proc/${pausePid}/status`, 'utf8')).toMatch(/^Seccomp:\t2$/m);
  expect(readFileSync(`/proc/${pausePid}/status`, 'utf8')).toMatch(/^NoNewPrivs:\t1$/m);
  // It still does its work: an orphan of a container is reaped.
  const namespaceOptions = { pid: NamespaceMode.POD };
  const orphan = containerConfig(sh('(sleep 0.2 &) ; sleep 0.6; ps | grep -c "[Z]"; true'), {
    security: { namespaceOptions },
  });
  const containerId = await start(podSandboxId, orphan);
  await ended(runtime, containerId);
  expect((await runtime.containerStatus({ containerId })).status?.exitCode).toBe(0);
});
