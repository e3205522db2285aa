/** podman from Debian, with Nodelet in runc's place: what it is asked for is looked up where it takes effect. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { NODELET_OCI } from '../fixtures/oci.ts';
import { hierarchiesOf } from '../fixtures/oci-cgroups.ts';

const directory = mkdtempSync(join(tmpdir(), 'nodelet-podman-'));
const cgroup = `/nodelet-test-podman-${randomBytes(6).toString('hex')}`;
/** podman does not hand options of the runtime on to its own clean-up: a program of its own has them. */
const runtime = join(directory, 'nodelet-oci');
const IMAGE = 'localhost/nodelet-test-busybox';
const APPLETS = [
  'cat',
  'echo',
  'env',
  'grep',
  'id',
  'ls',
  'mkdir',
  'sh',
  'sleep',
  'stty',
  'test',
  'touch',
  'true',
  'tty',
];

const GLOBAL = [
  '--root',
  join(directory, 'storage'),
  '--runroot',
  join(directory, 'run'),
  '--tmpdir',
  join(directory, 'tmp'),
  '--storage-driver',
  'vfs',
  '--cgroup-manager',
  'cgroupfs',
  '--events-backend',
  'file',
  '--runtime',
  runtime,
];
const env = { ...process.env, CONTAINERS_CONF: join(directory, 'containers.conf') };

function podman(...args: readonly string[]) {
  return spawnSync('podman', [...GLOBAL, ...args], { encoding: 'utf8', timeout: 60_000, env });
}

function ok(...args: readonly string[]): string {
  const done = podman(...args);
  if (done.status !== 0) throw new Error(`podman ${args.join(' ')}: ${done.status}: ${done.stderr}`);
  return done.stdout.trim();
}

const RUN = ['run', '--rm', '--cgroup-parent', cgroup, '--network', 'host'];

function nodelet(...args: readonly string[]): void {
  const program = join(dirname(NODELET_OCI), 'nodelet.mjs');
  const done = spawnSync(process.execPath, [program, '--root', join(directory, 'images'), ...args], {
    encoding: 'utf8',
  });
  if (done.status !== 0) throw new Error(done.stderr);
}

function removeTree(path: string): void {
  try {
    for (const entry of readdirSync(path, { withFileTypes: true }))
      if (entry.isDirectory()) removeTree(join(path, entry.name));
  } catch {
    return;
  }
  spawnSync('rmdir', [path]);
}

beforeAll(() => {
  mkdirSync(join(directory, 'state'));
  writeFileSync(runtime, `#!/bin/sh\nexec ${NODELET_OCI} --root ${join(directory, 'state')} "$@"\n`, {
    mode: 0o755,
  });
  // Debian's podman would raise limits beyond what a host without CAP_SYS_RESOURCE may give.
  writeFileSync(
    join(directory, 'containers.conf'),
    '[containers]\ndefault_ulimits = []\nlog_driver = "k8s-file"\n[engine]\nevents_logger = "file"\n',
  );
  nodelet(
    'image',
    'pack',
    IMAGE,
    '/bin/busybox',
    ...APPLETS.map((name) => `/usr/bin/busybox:/usr/bin/${name}`),
    '--entrypoint',
    '[]',
    '--cmd',
    '["/usr/bin/sh"]',
  );
  nodelet('image', 'export', IMAGE, '-o', join(directory, 'image.tar'));
  ok('load', '-i', join(directory, 'image.tar'));
});

afterAll(() => {
  podman('rm', '--all', '--force', '--time', '0');
  podman('rmi', '--all', '--force');
  for (const root of [
    ...hierarchiesOf(),
    ...readdirSync('/sys/fs/cgroup').map((name) => `/sys/fs/cgroup/${name}`),
  ])
    removeTree(`${root}${cgroup}`);
  rmSync(directory, { recursive: true, force: true });
});

describe('podman run', () => {
  test('gives output and exit status', () => {
    expect(podman(...RUN, IMAGE, 'sh', '-c', 'echo out; echo err >&2; exit 6')).toMatchObject({
      status: 6,
      stdout: 'out\n',
      stderr: 'err\n',
    });
  });

  test('tells a program that is missing from one that may not be run', () => {
    expect(podman(...RUN, IMAGE, '/nope').status).toBe(127);
    expect(podman(...RUN, IMAGE, 'nope').status).toBe(127);
    expect(podman(...RUN, IMAGE, '/etc').status).toBe(126);
  });

  test.each([
    ['--memory', ['--memory', '48m'], 'memory/memory.limit_in_bytes', 'memory.max', '50331648'],
    ['--cpus', ['--cpus', '0.25'], 'cpu/cpu.cfs_quota_us', 'cpu.max', '25000'],
    ['--pids-limit', ['--pids-limit', '17'], 'pids/pids.max', 'pids.max', '17'],
  ])('%s is in the cgroup that the container sees', (_, flags, v1, v2, value) => {
    const out = ok(
      ...RUN,
      ...flags,
      IMAGE,
      'sh',
      '-c',
      `cat /sys/fs/cgroup/${v1} 2>/dev/null || cat /sys/fs/cgroup/${v2}`,
    );
    expect(out).toMatch(new RegExp(`^${value}\\b`));
  });

  test('--memory is a limit: what goes beyond is killed', () => {
    expect(
      podman(...RUN, '--memory', '16m', IMAGE, 'sh', '-c', 'x=a; while :; do x=$x$x; done').status,
    ).not.toBe(0);
  });

  test('--pids-limit is a limit: a fork fails', () => {
    const done = podman(
      ...RUN,
      '--pids-limit',
      '3',
      IMAGE,
      'sh',
      '-c',
      'sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait',
    );
    expect(done.stderr).toContain("can't fork");
  });

  test('--read-only: the root is, /tmp is not', () => {
    const out = ok(
      ...RUN,
      '--read-only',
      IMAGE,
      'sh',
      '-c',
      'touch /x 2>/dev/null || echo refused; touch /tmp/x && echo fine',
    );
    expect(out).toBe('refused\nfine');
  });

  test('--user', () => {
    expect(
      ok(...RUN, '--user', '1000:1001', IMAGE, 'sh', '-c', 'id -u; id -g; test -w /etc || echo unprivileged'),
    ).toBe('1000\n1001\nunprivileged');
  });

  test('--cap-drop', () => {
    const caps = (...flags: string[]) =>
      BigInt(`0x${ok(...RUN, ...flags, IMAGE, 'grep', 'CapEff', '/proc/self/status').split(/\s+/)[1] ?? ''}`);
    expect(caps('--cap-drop', 'ALL')).toBe(0n);
    expect(caps() & ~caps('--cap-drop', 'CHOWN')).toBe(1n);
  });

  test('-v, also read-only', () => {
    const volume = join(directory, 'volume');
    mkdirSync(volume);
    writeFileSync(join(volume, 'in'), 'from the host\n');
    expect(ok(...RUN, '-v', `${volume}:/data`, IMAGE, 'sh', '-c', 'cat /data/in; echo back >/data/out')).toBe(
      'from the host',
    );
    expect(readFileSync(join(volume, 'out'), 'utf8')).toBe('back\n');
    expect(podman(...RUN, '-v', `${volume}:/data:ro`, IMAGE, 'touch', '/data/no').stderr).toContain(
      'Read-only file system',
    );
  });

  test('-t gives a terminal', () => {
    expect(ok(...RUN, '-t', IMAGE, 'sh', '-c', 'tty; test -c /dev/console && echo console')).toBe(
      '/dev/pts/0\r\nconsole',
    );
  });
});

describe('podman run -d', () => {
  const name = `nodelet-test-${randomBytes(4).toString('hex')}`;
  beforeAll(() => {
    ok(
      'run',
      '-d',
      '--name',
      name,
      '--cgroup-parent',
      cgroup,
      '--network',
      'host',
      IMAGE,
      'sh',
      '-c',
      'trap "echo ending; exit 9" TERM; echo up; echo problem >&2; while :; do sleep 0.05; done',
    );
  });

  test('ps and inspect show it, by our state', async () => {
    expect(ok('ps', '--format', '{{.Names}} {{.Status}}')).toMatch(new RegExp(`^${name} Up`));
    expect(ok('inspect', name, '--format', '{{.State.Status}} {{.OCIRuntime}}')).toBe(`running ${runtime}`);
    await expect.poll(() => podman('logs', name).stdout).toBe('up\n');
    expect(podman('logs', name).stderr).toBe('problem\n');
  });

  test('exec gives output and exit status, each time', () => {
    for (let i = 0; i < 5; i++)
      expect(podman('exec', name, 'sh', '-c', 'echo in; exit 5')).toMatchObject({
        status: 5,
        stdout: 'in\n',
      });
    expect(
      ok(
        'exec',
        '--user',
        '1000',
        '--env',
        'A=b',
        '--workdir',
        '/tmp',
        name,
        'sh',
        '-c',
        'id -u; echo $A; pwd',
      ),
    ).toBe('1000\nb\n/tmp');
    expect(podman('exec', name, 'nope').status).toBe(127);
    expect(ok('exec', '-t', name, 'tty')).toMatch(/^\/dev\/pts\/\d+$/);
  });

  test('pause and unpause', () => {
    ok('pause', name);
    expect(ok('inspect', name, '--format', '{{.State.Status}}')).toBe('paused');
    ok('unpause', name);
    expect(podman('exec', name, 'true').status).toBe(0);
  });

  test('stop sends the signal, and the exit status and last words are kept', () => {
    ok('stop', '--time', '20', name);
    expect(ok('inspect', name, '--format', '{{.State.Status}} {{.State.ExitCode}}')).toBe('exited 9');
    expect(ok('logs', name)).toContain('ending');
    ok('rm', name);
    expect(readdirSync(join(directory, 'state'))).toEqual([]);
  });

  test('kill, wait, rm', () => {
    ok('run', '-d', '--name', name, '--cgroup-parent', cgroup, '--network', 'host', IMAGE, 'sleep', '1000');
    ok('kill', name);
    expect(ok('wait', name)).toBe('137');
    ok('rm', name);
    expect(ok('ps', '--all', '--quiet')).toBe('');
    expect(readdirSync(join(directory, 'state'))).toEqual([]);
  });
});
