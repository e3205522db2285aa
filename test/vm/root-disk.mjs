// The guest's Debian: made once from Debian's packages by mmdebstrap, kept by the hash of what it is made from.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/** The release whose packages the guest is made of: Linux 6.1, glibc 2.36. */
export const SUITE = 'bookworm';
const KERNEL = 'linux-image-cloud-amd64';

/** What tests call inside, beside what Debian's minimal base has. */
const PACKAGES = [
  'busybox-static',
  'iproute2',
  'nftables',
  'kmod',
  'procps',
  'conntrack',
  'containernetworking-plugins',
  // seccomp: a small program is compiled, and another compiler of filters is asked
  'tcc',
  'libc6-dev',
  'python3-minimal',
  'libseccomp2',
  // probes over TLS
  'openssl',
];

/** Size of the disk; the file is sparse. */
const SIZE = '4G';

/** The kernel is unpacked, not installed: the guest has no boot loader and an initramfs of our own. */
const UNPACK_KERNEL = `
cd /tmp
package=$(apt-cache depends ${KERNEL} | sed -n 's/^ *Depends: \\(linux-image-.*\\)/\\1/p' | head -n 1)
test -n "$package"
apt-get download -q -o APT::Sandbox::User=root "$package"
# Not over /: tar would put a directory in the place of the link /lib.
dpkg-deb --extract "$package"_*.deb kernel
mv kernel/lib/modules /usr/lib/
mv kernel/boot/* /boot/
rm -r kernel "$package"_*.deb
depmod "\${package#linux-image-}"
`;

function run(command, args) {
  const { status, error, stderr, stdout } = spawnSync(command, args, {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  if (error !== undefined) throw new Error(`cannot run "${command}": ${error.message}`);
  if (status !== 0)
    throw new Error(`"${command}" failed (exit ${status}):\n${(stderr + stdout).trim().slice(-4000)}`);
  return stdout;
}

/** The release's sources as this machine's apt has them, so that a mirror of its own is used; none: Debian's. */
function sources() {
  const format = '$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)\t$(ORIGIN)';
  return run('apt-get', ['indextargets', '--format', format, 'Created-By: Packages'])
    .split('\n')
    .map((line) => line.split('\t'))
    .filter(
      ([, release = '', component, origin]) =>
        release.split('-')[0] === SUITE && component === 'main' && origin === 'Debian',
    )
    .map(([uri, release, component]) => `deb ${uri} ${release} ${component}`);
}

/** Version of the kernel's package that apt would take. */
function kernelVersion() {
  const ask = () => /^Version: (\S+)$/m.exec(run('apt-cache', ['show', '--no-all-versions', KERNEL]))?.[1];
  try {
    return ask();
  } catch {
    run('apt-get', ['update', '-qq']);
    return ask();
  }
}

/** Makes the disk in `folder`: root.img, vmlinuz and modules/ (of the kernel's tree, for the initramfs). */
function make(folder) {
  const tree = join(folder, 'tree');
  mkdirSync(tree, { recursive: true });
  // In a mount namespace of its own: what mmdebstrap mounts in the tree is seen by nobody else.
  run('unshare', [
    '--mount',
    '--propagation=private',
    'mmdebstrap',
    '--quiet',
    '--mode=root',
    '--variant=minbase',
    '--format=directory',
    `--include=${PACKAGES.join(',')}`,
    `--customize-hook=chroot "$1" sh -ec '${UNPACK_KERNEL.replaceAll("'", `'\\''`)}'`,
    SUITE,
    tree,
    ...sources(),
  ]);
  const [kernel] = readdirSync(join(tree, 'boot')).filter((name) => name.startsWith('vmlinuz-'));
  if (kernel === undefined) throw new Error(`"${KERNEL}" brought no kernel`);
  renameSync(join(tree, 'boot', kernel), join(folder, 'vmlinuz'));
  cpSync(join(tree, 'usr/bin/busybox'), join(folder, 'busybox'));
  const modules = join(tree, 'lib/modules', kernel.slice('vmlinuz-'.length), 'kernel/drivers');
  mkdirSync(join(folder, 'modules'));
  for (const group of ['virtio', 'block'])
    for (const name of readdirSync(join(modules, group)).filter((one) => one.startsWith('virtio')))
      cpSync(join(modules, group, name), join(folder, 'modules', name));
  rmSync(join(tree, 'boot'), { recursive: true });
  run('mke2fs', [
    '-q',
    '-t',
    'ext4',
    '-O',
    '^has_journal',
    '-m',
    '0',
    '-d',
    tree,
    join(folder, 'root.img'),
    SIZE,
  ]);
  rmSync(tree, { recursive: true });
}

/** Changes with whatever the disk is made from: packages, kernel, and how it is made. */
function key() {
  const inputs = [SUITE, kernelVersion(), PACKAGES, SIZE, UNPACK_KERNEL, make.toString()];
  return createHash('sha256').update(JSON.stringify(inputs)).digest('hex').slice(0, 16);
}

/**
 * The folder with the guest's root.img, vmlinuz, busybox and modules/, made if it is not there. `say` is told before
 * anything is downloaded.
 */
export function rootDisk(cache, say) {
  const name = `root-${key()}`;
  const folder = join(cache, name);
  if (existsSync(folder)) return folder;
  say(
    `making the guest's Debian (${SUITE}, ${KERNEL}) from Debian's packages; later runs find it in ${cache}`,
  );
  mkdirSync(cache, { recursive: true });
  const fresh = join(cache, `new-${process.pid}`);
  try {
    make(fresh);
    try {
      renameSync(fresh, folder);
    } catch (error) {
      // Another run was quicker: what it made is as good.
      if (!existsSync(folder)) throw error;
    }
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  for (const old of readdirSync(cache))
    if (old.startsWith('root-') && old !== name) rmSync(join(cache, old), { recursive: true, force: true });
  return folder;
}
