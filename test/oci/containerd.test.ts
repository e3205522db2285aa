/** Debian's containerd with Nodelet in runc's place, by its own client. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { NODELET_OCI } from '../fixtures/oci.ts';
import { hierarchiesOf } from '../fixtures/oci-cgroups.ts';

const directory = mkdtempSync(join(tmpdir(), 'nodelet-containerd-'));
const socket = join(directory, 'containerd.sock');
const namespace = `nodelet-test-${randomBytes(4).toString('hex')}`;
const IMAGE = 'localhost/nodelet-test-busybox:latest';
let daemon: ChildProcess | undefined;

function ctr(...args: readonly string[]) {
  return spawnSync('ctr', ['--address', socket, '--namespace', namespace, ...args], {
    encoding: 'utf8',
    timeout: 60_000,
  });
}

function ok(...args: readonly string[]): string {
  const done = ctr(...args);
  if (done.status !== 0) throw new Error(`ctr ${args.join(' ')}: ${done.status}: ${done.stderr}`);
  return done.stdout.trim();
}

function nodelet(...args: readonly string[]): void {
  const program = join(dirname(NODELET_OCI), 'nodelet.mjs');
  const done = spawnSync(process.execPath, [program, '--root', join(directory, 'images'), ...args], {
    encoding: 'utf8',
  });
  if (done.status !== 0) throw new Error(done.stderr);
}

beforeAll(async () => {
  // containerd's shims listen in /run/containerd whatever the state directory is.
  writeFileSync(
    join(directory, 'config.toml'),
    `version = 2
root = "${directory}/root"
state = "${directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "${socket}"
`,
  );
  daemon = spawn('containerd', ['--config', join(directory, 'config.toml')], { stdio: 'ignore' });
  await vi.waitFor(() => ok('version'), { timeout: 30_000 });
  const applets = ['cat', 'echo', 'id', 'sh', 'sleep', 'true'];
  nodelet(
    'image',
    'pack',
    IMAGE,
    '/bin/busybox',
    ...applets.map((name) => `/usr/bin/busybox:/usr/bin/${name}`),
    '--entrypoint',
    '[]',
    '--cmd',
    '["/usr/bin/sh"]',
  );
  nodelet('image', 'export', IMAGE, '-o', join(directory, 'image.tar'));
  ok('images', 'import', '--base-name', 'localhost/nodelet-test-busybox', join(directory, 'image.tar'));
});

afterAll(async () => {
  ctr('task', 'kill', '--signal', 'KILL', 'detached');
  ctr('task', 'delete', '--force', 'detached');
  ctr('container', 'delete', 'detached');
  if (daemon !== undefined) {
    const ended = new Promise((resolve) => daemon?.once('exit', resolve));
    daemon.kill('SIGTERM');
    await ended;
  }
  for (const root of [
    ...hierarchiesOf(),
    ...readdirSync('/sys/fs/cgroup').map((name) => `/sys/fs/cgroup/${name}`),
  ])
    if (existsSync(`${root}/${namespace}`)) spawnSync('rmdir', [`${root}/${namespace}`]);
  rmSync(directory, { recursive: true, force: true });
});

const RUN = ['run', '--runc-binary', NODELET_OCI, '--snapshotter', 'native'];

test('a container runs to its end with its output and exit status', () => {
  const done = ctr(...RUN, '--rm', IMAGE, 'once', 'sh', '-c', 'echo out; id -u; exit 4');
  expect(done).toMatchObject({ status: 4, stdout: 'out\n0\n' });
});

test('one that stays can be joined, paused, looked at, killed and deleted', async () => {
  ok(...RUN, '--detach', IMAGE, 'detached', 'sh', '-c', 'trap "exit 8" TERM; while :; do sleep 0.05; done');
  expect(ok('task', 'list')).toMatch(/detached +\d+ +RUNNING/);
  expect(ctr('task', 'exec', '--exec-id', 'e1', 'detached', 'sh', '-c', 'echo in; exit 5')).toMatchObject({
    status: 5,
    stdout: 'in\n',
  });
  expect(ok('task', 'ps', 'detached')).toMatch(/\d+/);
  ok('task', 'pause', 'detached');
  expect(ok('task', 'list')).toContain('PAUSED');
  ok('task', 'resume', 'detached');
  ok('task', 'kill', '--signal', 'TERM', 'detached');
  await vi.waitFor(() => expect(ok('task', 'list')).toMatch(/detached +\d+ +STOPPED/), { timeout: 20_000 });
  ok('task', 'delete', 'detached');
  ok('container', 'delete', 'detached');
  expect(ok('container', 'list', '--quiet')).toBe('');
  expect(readFileSync('/proc/self/mounts', 'utf8')).not.toContain(directory);
});

test('a program that is missing is an error with its name', () => {
  const done = ctr(...RUN, '--rm', IMAGE, 'missing', 'nope');
  expect(done.status).not.toBe(0);
  expect(done.stderr).toContain('"nope"');
});
