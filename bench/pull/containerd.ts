/** A containerd of the bench's own: root, state and socket in its folder, no CRI, nothing shared with one of the host. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Cost, cost, cpuOf } from '../../test/fixtures/cost.ts';

export interface Containerd extends AsyncDisposable {
  pull(image: string): Promise<Cost>;
}

export async function startContainerd(folder: string): Promise<Containerd> {
  mkdirSync(folder, { recursive: true });
  const socket = join(folder, 'c.sock');
  const config = join(folder, 'config.toml');
  writeFileSync(
    config,
    [
      'version = 2',
      `root = "${join(folder, 'root')}"`,
      `state = "${join(folder, 'state')}"`,
      'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]',
      `[grpc]\n  address = "${socket}"`,
      `[plugins."io.containerd.internal.v1.opt"]\n  path = "${join(folder, 'opt')}"`,
    ].join('\n'),
  );
  const child = spawn('containerd', ['--config', config, '--log-level', 'error'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const { pid } = child;
  if (pid === undefined) throw new Error('containerd did not start');
  for (const deadline = Date.now() + 20_000; !existsSync(socket); ) {
    if (Date.now() > deadline || child.exitCode !== null) throw new Error('containerd did not come up');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  execFileSync('ctr', ['-a', socket, 'version'], { stdio: 'ignore' });
  return {
    async pull(image) {
      const before = cpuOf(pid);
      const found = await cost('ctr', '-a', socket, 'images', 'pull', '--plain-http', image);
      const status = readFileSync(`/proc/${pid}/status`, 'latin1');
      const peak = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? Number.NaN) * 1024;
      return { wall: found.wall, cpu: found.cpu + cpuOf(pid) - before, peak };
    },
    async [Symbol.asyncDispose]() {
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      await gone;
    },
  };
}
