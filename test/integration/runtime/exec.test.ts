import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ExecOptions, ExecSession } from '../../../src/cri/index.ts';
import { NamespaceMode } from '../../../src/cri/index.ts';
import {
  containerConfig,
  openRuntime,
  type RuntimeFixture,
  sandboxConfig,
  sh,
} from '../../fixtures/runtime.ts';
import { textOf, until } from '../../fixtures/streams.ts';

let fixture: RuntimeFixture;
let containerId: string;
let podSandboxId: string;
beforeAll(async () => {
  fixture = await openRuntime();
  podSandboxId =
    (await fixture.runtime.runPodSandbox({ config: sandboxConfig(fixture, { hostname: 'execs' }) }))
      .podSandboxId ?? '';
  const config = containerConfig(sh('while true; do sleep 1000; done'), {
    envs: [{ key: 'COLOUR', value: 'green' }],
    workingDir: '/srv/work',
    linux: { resources: { memoryLimitInBytes: 64 * 2 ** 20 } },
  });
  containerId = (await fixture.runtime.createContainer({ podSandboxId, config })).containerId ?? '';
  await fixture.runtime.startContainer({ containerId });
});
afterAll(async () => {
  await fixture?.close();
});

function open(command: readonly string[], options: Partial<ExecOptions> = {}): Promise<ExecSession> {
  return fixture.runtime.openExec({ containerId, command, terminal: false, stdin: false, ...options });
}

describe('a program in a running container', () => {
  test('has its own streams and exit code', async () => {
    const session = await open(sh('echo out; echo err >&2; exit 42'));
    expect(await Promise.all([textOf(session.stdout), textOf(session.stderr), session.exit])).toEqual([
      'out\n',
      'err\n',
      42,
    ]);
  });

  test('has the container’s namespaces, root, environment, directory, identity and cgroup', async () => {
    const session = await open(
      sh(
        'hostname; echo $COLOUR; pwd; for n in mnt pid net ipc uts cgroup; do [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] || echo $n differs; done; grep -E "CapEff|Seccomp:" /proc/self/status; cat /proc/self/cgroup',
      ),
    );
    const output = await textOf(session.stdout);
    expect(output).toMatch(/^execs\ngreen\n\/srv\/work\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n/);
    const own = output.split('\n').filter((line) => /:(memory|pids|cpu)?:/.test(line));
    for (const line of own) expect(line).toMatch(/:\/$/);
    expect(await session.exit).toBe(0);
  });

  test('reads what it is sent, to its end', async () => {
    const session = await open(['wc', '-c'], { stdin: true });
    const block = Buffer.alloc(1 << 20, 'x');
    for (let i = 0; i < 8; i++) {
      if (session.stdin?.write(block) === false)
        await new Promise((resolve) => session.stdin?.once('drain', resolve));
    }
    session.stdin?.end();
    expect(await textOf(session.stdout)).toBe(`${8 << 20}\n`);
    expect(await session.exit).toBe(0);
  });

  test('has an empty standard input where nobody sends', async () => {
    const session = await open(['cat']);
    expect(await textOf(session.stdout)).toBe('');
    expect(await session.exit).toBe(0);
  });

  test('writes no faster than it is read', async () => {
    const session = await open(['yes']);
    // Nobody reads: the program stops when its pipe is full, and our memory does not grow.
    const before = process.memoryUsage().arrayBuffers;
    await until(session.stdout, /y\n/);
    session.stdout.pause();
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 << 20);
    session.close();
    await session.exit;
  });

  test('is killed when its session is closed', async () => {
    const session = await open(['sleep', '12345']);
    expect(readFileSync(`/proc/${session.pid}/cmdline`, 'utf8')).toContain('12345');
    session.close();
    expect(await session.exit).toBe(137);
  });

  test('ends its session although a child of it holds the output', async () => {
    const session = await open(sh('sleep 3600 & echo gone'));
    session.stdout.resume();
    session.stderr?.resume();
    expect(await session.exit).toBe(0);
  });

  test.each([
    [['nonesuch'], 127, /executable file not found in \$PATH/],
    [['/nonesuch'], 127, /ENOENT/],
    [['/etc/passwd'], 126, /EACCES/],
  ])('that cannot be run (%s) is refused with %i', async (command, exitCode, message) => {
    const error = await open(command).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({ code: 'EXEC_FAILED', details: { exitCode } });
    expect(String(error)).toMatch(message);
  });

  test('shares the container’s memory limit', async () => {
    const session = await open(sh('dd if=/dev/zero of=/dev/null bs=200M count=1'));
    session.stdout.resume();
    session.stderr?.resume();
    expect(await session.exit).not.toBe(0);
    const { status } = await fixture.runtime.containerStatus({ containerId });
    expect(status?.state).toBe(1);
  });
});

describe('a terminal', () => {
  const size = { width: 101, height: 33 };

  test('is the controlling one, of the size asked for', async () => {
    const session = await open(
      sh('tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all; ls -l /proc/self/fd/0'),
      { terminal: true, stdin: true, size },
    );
    const output = await textOf(session.stdout);
    expect(output).toMatch(/^\/dev\/pts\/\d+\r\n33 101\r\nall\r\n/);
    expect(await session.exit).toBe(0);
  });

  test('echoes, edits and interrupts', async () => {
    const session = await open(['sh', '-i'], { terminal: true, stdin: true, size });
    session.stdin?.write('echo $((20 + 3))\n');
    await until(session.stdout, /\n23\r\n/);
    session.stdin?.write('sh -c "echo sta""rted; sleep 1000"\n');
    await until(session.stdout, /\nstarted\r\n/);
    session.stdin?.write('\x03');
    session.stdin?.write('exit 4\n');
    session.stdout.resume();
    expect(await session.exit).toBe(4);
  });

  test('changes its size while it is open', async () => {
    const session = await open(
      sh('trap "stty size; exit 0" WINCH; echo ready; while true; do sleep 0.02; done'),
      { terminal: true, stdin: true, size },
    );
    await until(session.stdout, /ready/);
    session.resize({ width: 120, height: 40 });
    expect(await textOf(session.stdout)).toContain('40 120');
    expect(await session.exit).toBe(0);
  });

  test('that is full holds the program, not us', async () => {
    const session = await open(sh('sleep 1000'), { terminal: true, stdin: true, size });
    for (let i = 0; i < 100; i++) session.stdin?.write('x'.repeat(1000));
    // Node's loop goes on: another program can be run meanwhile.
    expect(await (await open(['true'])).exit).toBe(0);
    session.close();
    await session.exit;
  });
});

test('ExecSync collects output and times out', async () => {
  const { runtime } = fixture;
  const result = await runtime.execSync({ containerId, cmd: sh('echo a; echo b >&2; exit 2'), timeout: 10 });
  expect(result).toMatchObject({ exitCode: 2 });
  expect(Buffer.from(result.stdout ?? []).toString()).toBe('a\n');
  await expect(runtime.execSync({ containerId, cmd: ['sleep', '100'], timeout: 1 })).rejects.toMatchObject({
    code: 'DEADLINE_EXCEEDED',
  });
});

test('a thousand programs leave no descriptor and no process', async () => {
  const descriptors = (): number => readdirSync('/proc/self/fd').length;
  for (let i = 0; i < 20; i++) await fixture.runtime.execSync({ containerId, cmd: ['true'] });
  const before = descriptors();
  for (let round = 0; round < 50; round++) {
    await Promise.all(
      Array.from({ length: 20 }, () => fixture.runtime.execSync({ containerId, cmd: ['true'] })),
    );
  }
  expect(descriptors()).toBeLessThanOrEqual(before + 2);
  const list = await fixture.runtime.context.model.sandbox(podSandboxId).shim?.list();
  expect(list?.map((one) => one.name)).toEqual([containerId]);
}, 120_000);

test('an exec joins a user namespace as its root', async () => {
  const { runtime } = fixture;
  const map = [{ hostId: 500_000, containerId: 0, length: 65_536 }];
  const sandbox = {
    namespaceOptions: {
      network: NamespaceMode.POD,
      pid: NamespaceMode.CONTAINER,
      ipc: NamespaceMode.POD,
      usernsOptions: { mode: NamespaceMode.POD, uids: map, gids: map },
    },
  };
  const id =
    (await runtime.runPodSandbox({ config: sandboxConfig(fixture, { sandbox }) })).podSandboxId ?? '';
  const inner =
    (await runtime.createContainer({ podSandboxId: id, config: containerConfig(['sleep', '1000']) }))
      .containerId ?? '';
  await runtime.startContainer({ containerId: inner });
  const result = await runtime.execSync({
    containerId: inner,
    cmd: sh('id -u; stat -c %u /bin/busybox; touch /x && stat -c %u /x'),
  });
  expect(Buffer.from(result.stdout ?? []).toString()).toBe('0\n0\n0\n');
  await runtime.removePodSandbox({ podSandboxId: id });
});
