/**
 * Runtimes that serve CRI on a socket, each a child process with directories, cgroups and a bridge of its own: Nodelet's,
 * and Debian's containerd with runc, the peer that tells what a suite finds elsewhere. They have to be started in network
 * and mount namespaces that end with the test: `enclosed` in scripts/test-cri.mjs.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { basename, join } from 'node:path';
import { sleep } from '../../src/base/index.ts';
import { readMountinfo } from '../../src/linux/mountinfo.ts';
import { packageRoot } from '../../src/linux/package-root.ts';
import { PAUSE } from './images.ts';

export interface CriServer extends AsyncDisposable {
  readonly name: string;
  /** Path of the socket. */
  readonly socket: string;
  readonly pid: number;
  /** The server, as long as it runs, and its shims. */
  processes(): number[];
  log(): string;
}

/** Of Nodelet's, in every hierarchy. */
export const CGROUP_ROOT = '/nodelet-test-cri';

export interface Place {
  /** For everything that the server keeps; short, for the sake of socket paths. */
  readonly folder: string;
  /** `certs.d`. */
  readonly certs: string;
  /** Warnings only; else all that the server can say. */
  readonly quiet?: boolean;
  /** For what a reboot ends, which an ordinary host has on a tmpfs; below `folder` by default. */
  readonly state?: string;
}

/** Until a connection is taken. Throws with the log where the server ends or does not come up. */
async function untilUp(server: { child: ChildProcess; socket: string; log(): string }): Promise<void> {
  for (const deadline = Date.now() + 30_000; ; await sleep(20)) {
    if (server.child.exitCode !== null || Date.now() > deadline)
      throw new Error(`${server.socket} did not come up: ${server.log()}`);
    const open = await new Promise<boolean>((resolve) => {
      const client = connect(server.socket, () => {
        client.destroy();
        resolve(true);
      });
      client.on('error', () => resolve(false));
    });
    if (open) return;
  }
}

/** The processes of a program whose command line has `mark` in it. */
function processesOf(program: string, mark: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        return basename(words[0] ?? '') === program && words.some((word) => word.includes(mark));
      } catch {
        return false;
      }
    })
    .map(Number);
}

async function launch(
  name: string,
  folder: string,
  socket: string,
  argv: readonly string[],
  shims: () => number[],
): Promise<CriServer> {
  const path = join(folder, 'log');
  const fd = openSync(path, 'a', 0o600);
  const [command = '', ...args] = argv;
  const child = spawn(command, args, { stdio: ['ignore', fd, fd], cwd: folder });
  closeSync(fd);
  const log = () => readFileSync(path, 'utf8');
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGTERM');
    await gone;
  };
  try {
    await untilUp({ child, socket, log });
  } catch (error) {
    await stop();
    throw error;
  }
  const pid = child.pid ?? 0;
  const processes = () => [
    ...(child.exitCode === null && child.signalCode === null ? [pid] : []),
    ...shims(),
  ];
  return { name, socket, pid, log, processes, [Symbol.asyncDispose]: stop };
}

export async function startNodelet({ folder, certs, quiet = false, state }: Place): Promise<CriServer> {
  mkdirSync(folder, { recursive: true });
  const socket = join(folder, 'cri.sock');
  const own = ['--root', join(folder, 'root'), '--cri-socket', socket];
  if (state !== undefined) own.push('--state', state);
  const apart = ['--cgroup-root', CGROUP_ROOT, '--bridge', 'cri0', '--pod-cidr', '10.233.0.0/16'];
  const args = ['cri', ...own, ...apart, '--registry-hosts', certs, '--log-level', quiet ? 'warn' : 'debug'];
  const shims = () => processesOf('nodelet-shim', state ?? join(folder, 'root'));
  // As it is installed: its first line has options for Node.
  const program = join(packageRoot(), 'bin', 'nodelet.mjs');
  return await launch('nodelet', folder, socket, [program, ...args], shims);
}

/** runc makes its cgroups in every hierarchy there is; this removes `path` where nothing runs in it any more. */
export function removePeerCgroup(path: string): void {
  const hierarchies = readMountinfo().filter(({ type }) => type === 'cgroup' || type === 'cgroup2');
  for (const { mountPoint } of hierarchies) removeGroup(join(mountPoint, path));
}

function removeGroup(path: string): void {
  if (!existsSync(path)) return;
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) removeGroup(join(path, entry.name));
  rmdirSync(path);
}

export async function startContainerd({
  folder,
  certs,
  state = join(folder, 'state'),
}: Place): Promise<CriServer> {
  for (const name of ['cni', 'ipam']) mkdirSync(join(folder, name), { recursive: true });
  const socket = join(folder, 'c.sock');
  const cri = 'plugins."io.containerd.grpc.v1.cri"';
  const config = [
    'version = 2',
    `root = "${join(folder, 'root')}"`,
    `state = "${state}"`,
    '[grpc]',
    `address = "${socket}"`,
    '[ttrpc]',
    `address = "${socket}.ttrpc"`,
    `[${cri}]`,
    `sandbox_image = "${PAUSE}"`,
    // Without CAP_SYS_RESOURCE no process may be made safer from the OOM killer than its parent.
    'restrict_oom_score_adj = true',
    `[${cri}.cni]`,
    'bin_dir = "/usr/lib/cni"',
    `conf_dir = "${join(folder, 'cni')}"`,
    `[${cri}.registry]`,
    `config_path = "${certs}"`,
    `[${cri}.containerd.runtimes.runc]`,
    'runtime_type = "io.containerd.runc.v2"',
  ].join('\n');
  writeFileSync(join(folder, 'config.toml'), `${config}\n`);
  const network = {
    cniVersion: '1.0.0',
    name: 'peer',
    plugins: [
      {
        type: 'bridge',
        bridge: 'peer0',
        isGateway: true,
        ipMasq: true,
        ipam: {
          type: 'host-local',
          dataDir: join(folder, 'ipam'),
          ranges: [[{ subnet: '10.234.0.0/16' }]],
          routes: [{ dst: '0.0.0.0/0' }],
        },
      },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  };
  writeFileSync(join(folder, 'cni', '10-peer.conflist'), JSON.stringify(network));
  const shims = () => processesOf('containerd-shim-runc-v2', socket);
  const argv = ['containerd', '--config', join(folder, 'config.toml'), '--log-level', 'warn'];
  return await launch('containerd', folder, socket, argv, shims);
}
