// What a run brings along beside the guest's Debian: Node and node_modules (kept), the project (fresh), an initramfs.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';

/** Loaded by the initramfs in this order. */
const MODULES = [
  'virtio_ring',
  'virtio',
  'virtio_pci_modern_dev',
  'virtio_pci_legacy_dev',
  'virtio_pci',
  'virtio_blk',
];

/** Large modules that no test needs. */
const LEFT_OUT =
  /^(@biomejs|@oxlint|@oxlint-tsgolint|@typescript|typescript|oxlint|oxlint-tsgolint|node-gyp|\..*)$/;

/** What of the project the tests read. */
const PROJECT = [
  'package.json',
  'tsconfig.json',
  'vitest.config.ts',
  'binding.gyp',
  'bin',
  'dist',
  'native',
  'scripts',
  'src',
  'test',
];
const BUILT = ['build/Release/nodelet.node', 'build/Release/nodelet-shim'];

/** Libraries that the guest's base has anyway; a Node binary that needs another one cannot run there. */
const LIBRARIES = /^(linux-vdso|ld-linux-x86-64|lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s))\.so/;

function run(command, args, options = {}) {
  const { status, error, stderr, stdout } = spawnSync(command, args, { encoding: 'utf8', ...options });
  if (error !== undefined) throw new Error(`cannot run "${command}": ${error.message}`);
  if (status !== 0) throw new Error(`"${command} ${args.join(' ')}" failed (exit ${status}): ${stderr}`);
  return stdout;
}

/** An ext4 image of a folder, without a mount or a loop device. */
function image(folder, file, size) {
  run('mke2fs', ['-q', '-t', 'ext4', '-O', '^has_journal', '-m', '0', '-d', folder, file, size]);
}

/** The disk with Node and node_modules: made anew when either changes. */
export function toolsDisk(root, cache, say) {
  const node = statSync(process.execPath);
  const inputs = [
    readFileSync(join(root, 'package-lock.json'), 'utf8'),
    `${process.version} ${node.size} ${node.mtimeMs}`,
    String(LEFT_OUT),
  ];
  const name = `tools-${createHash('sha256').update(JSON.stringify(inputs)).digest('hex').slice(0, 16)}.img`;
  const file = join(cache, name);
  if (existsSync(file)) return file;
  const foreign = run('ldd', [process.execPath])
    .split('\n')
    .map((line) => basename(line.trim().split(' ')[0] ?? ''))
    .filter((library) => library.includes('.so'))
    .filter((library) => !LIBRARIES.test(library));
  if (foreign.length > 0)
    throw new Error(`"${process.execPath}" needs libraries that the guest lacks: ${foreign.join(', ')}`);
  say('packing Node and node_modules for the guest');
  const tree = join(cache, `tools-new-${process.pid}`);
  try {
    mkdirSync(tree, { recursive: true });
    cpSync(process.execPath, join(tree, 'node'));
    cpSync(join(root, 'node_modules'), join(tree, 'node_modules'), {
      recursive: true,
      verbatimSymlinks: true,
      filter: (from) => {
        const inside = from.slice(join(root, 'node_modules').length + 1);
        return inside === '' || inside.includes('/') || !LEFT_OUT.test(inside);
      },
    });
    image(tree, `${file}.new-${process.pid}`, '1G');
    renameSync(`${file}.new-${process.pid}`, file);
  } finally {
    rmSync(tree, { recursive: true, force: true });
    rmSync(`${file}.new-${process.pid}`, { force: true });
  }
  for (const old of readdirSync(cache))
    if (/^tools-\w+\.img$/.test(old) && old !== name) rmSync(join(cache, old), { force: true });
  return file;
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/**
 * The disk of the project as it is now. In its `.vm` are `command`, what the guest runs in the project's folder, and
 * `environment`, exported to it. Tests see the tree at /nodelet.
 */
export function projectDisk(root, work, { command, environment, deadline }) {
  const tree = join(work, 'project');
  mkdirSync(join(tree, '.vm'), { recursive: true });
  mkdirSync(join(tree, 'build/Release'), { recursive: true });
  for (const name of [...PROJECT, ...BUILT])
    if (existsSync(join(root, name))) cpSync(join(root, name), join(tree, name), { recursive: true });
  writeFileSync(join(tree, '.vm/command'), `exec ${command.map(quoted).join(' ')}\n`);
  const exported = Object.entries(environment).map(([name, value]) => `export ${name}=${quoted(value)}\n`);
  writeFileSync(join(tree, '.vm/environment'), `deadline=${deadline}\n${exported.join('')}`);
  const file = join(work, 'project.img');
  image(tree, file, '512M');
  rmSync(tree, { recursive: true });
  return file;
}

/** A file as a blank disk. */
export function blankDisk(file, bytes) {
  writeFileSync(file, '');
  truncateSync(file, bytes);
  return file;
}

/** The initramfs: busybox, the modules to the disks, and the guest's own scripts. */
export function initramfs(guest, rootFolder, work) {
  const tree = join(work, 'initramfs');
  for (const name of ['bin', 'proc', 'dev', 'root', 'modules'])
    mkdirSync(join(tree, name), { recursive: true });
  cpSync(join(rootFolder, 'busybox'), join(tree, 'bin/busybox'));
  for (const name of MODULES)
    cpSync(join(rootFolder, 'modules', `${name}.ko`), join(tree, 'modules', `${name}.ko`));
  writeFileSync(join(tree, 'modules/order'), `${MODULES.join('\n')}\n`);
  cpSync(guest, join(tree, 'guest'), { recursive: true });
  cpSync(join(guest, 'initramfs.sh'), join(tree, 'init'));
  const file = join(work, 'initramfs.cpio');
  run(
    'sh',
    [
      '-c',
      `chmod 755 init && find . | ${quoted(join(rootFolder, 'busybox'))} cpio -o -H newc > ${quoted(file)}`,
    ],
    {
      cwd: tree,
    },
  );
  rmSync(tree, { recursive: true });
  return file;
}
