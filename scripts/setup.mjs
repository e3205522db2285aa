// What a fresh Debian or Ubuntu machine lacks for nodelet: packages, npm modules, native build, bundle. Says what it
// installs before it does. `node scripts/setup.mjs [--test]`; plain Node, because nothing is installed yet.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Commands that have to be there, and the Debian package that brings each. */
const BUILD = { gcc: 'gcc', 'g++': 'g++', make: 'make', python3: 'python3', 'musl-gcc': 'musl-tools' };
const TEST = {
  ip: 'iproute2',
  nft: 'nftables',
  conntrack: 'conntrack',
  skopeo: 'skopeo',
  umoci: 'umoci',
  buildah: 'buildah',
  zstd: 'zstd',
  ctr: 'containerd',
  'mkfs.ext4': 'e2fsprogs',
  'docker-registry': 'docker-registry',
  busybox: 'busybox-static',
  curl: 'curl',
  openssl: 'openssl',
  crun: 'crun',
  runc: 'runc',
  podman: 'podman',
  conmon: 'conmon',
  pgrep: 'procps',
  ipcmk: 'util-linux',
  script: 'bsdutils',
};
/** Runtimes to compare with, and what they call. */
const PEERS = {
  containerd: 'containerd',
  iptables: 'iptables',
};
/** For the machine in which the tests run on another kernel: docs/vm.md. */
const VM = {
  'qemu-system-x86_64': 'qemu-system-x86',
  mmdebstrap: 'mmdebstrap',
  mke2fs: 'e2fsprogs',
};
/** Files that a package brings without a command of its own. */
const TEST_FILES = {
  '/usr/lib/cni/host-local': 'containernetworking-plugins',
  '/usr/share/doc/libseccomp2': 'libseccomp2',
};
const FILES = { '/usr/include/linux/bpf.h': 'linux-libc-dev', '/usr/include/stdio.h': 'libc6-dev' };

function fail(message) {
  console.error(`nodelet: ${message}`);
  process.exit(1);
}

function has(command) {
  return [
    '/usr/local/sbin',
    '/usr/local/bin',
    '/usr/sbin',
    '/usr/bin',
    '/sbin',
    '/bin',
    ...(process.env.PATH ?? '').split(':'),
  ].some((folder) => folder !== '' && existsSync(join(folder, command)));
}

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options });
  if (result.error) fail(`cannot run ${command}: ${result.error.message}`);
  if (result.status !== 0) fail(`"${command} ${args.join(' ')}" failed (exit ${result.status})`);
}

function installPackages({ test, vm, peers }) {
  const wanted = { ...BUILD, ...(test ? TEST : {}), ...(vm ? VM : {}), ...(peers ? PEERS : {}) };
  const packages = new Set(
    Object.entries(wanted)
      .filter(([command]) => !has(command))
      .map(([, name]) => name),
  );
  for (const [file, name] of Object.entries({ ...FILES, ...(test ? TEST_FILES : {}) }))
    if (!existsSync(file)) packages.add(name);
  if (packages.size === 0) return;
  const list = [...packages].join(' ');
  if (!has('apt-get'))
    fail(`this machine lacks ${list} (names of Debian packages): install what brings them, then try again`);
  console.log(`nodelet: installing packages: ${list}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  run('apt-get', ['update', '-qq'], { env });
  run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...packages], {
    env,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

function installModules() {
  const lock = readFileSync(join(root, 'package-lock.json'));
  const digest = createHash('sha256').update(lock).digest('hex');
  const marker = join(root, 'node_modules', '.nodelet-lock');
  if (existsSync(marker) && readFileSync(marker, 'utf8') === digest) return;
  console.log('nodelet: installing npm modules (npm ci)');
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
  writeFileSync(marker, digest);
}

/** Newest change below a folder, in milliseconds. */
function newest(folder) {
  let latest = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (entry.isFile())
      latest = Math.max(latest, statSync(join(entry.parentPath ?? entry.path, entry.name)).mtimeMs);
  }
  return latest;
}

const age = (path) => (existsSync(path) ? statSync(path).mtimeMs : 0);

function build() {
  const native = Math.max(newest(join(root, 'native')), age(join(root, 'binding.gyp')));
  const built = Math.min(
    age(join(root, 'build/Release/nodelet.node')),
    age(join(root, 'build/Release/nodelet-shim')),
  );
  if (built < native) {
    console.log('nodelet: building the native parts (addon and shim)');
    run(process.execPath, ['scripts/build-native.mjs']);
  }
  if (age(join(root, 'dist/cli.js')) < newest(join(root, 'src'))) {
    console.log('nodelet: compiling');
    run(process.execPath, ['scripts/build-ts.mjs']);
  }
}

/**
 * Brings this checkout to where nodelet runs; with `test`, to where all tests run, those in the VM with `vm`; with `peers`,
 * to where Nodelet can be compared with others.
 */
export function setup({ test = false, vm = test, peers = false } = {}) {
  if (process.platform !== 'linux')
    fail('nodelet runs on Linux only; vagrant/ has a machine for other systems');
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 18))
    fail(`Node.js 20.18 or newer is needed; this is ${process.version}`);
  if (process.getuid?.() !== 0)
    fail(
      'root is needed, to install packages and to make namespaces, cgroups and mounts: try again with sudo',
    );
  installPackages({ test, vm, peers });
  installModules();
  build();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) setup({ test: process.argv.includes('--test') });
