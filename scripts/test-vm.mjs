// `npm run test:vm [-- FILE…]`: the integration tests on a real Debian kernel with pure cgroup v2, under QEMU. See
// docs/vm.md. With --shell, a shell in that machine. Exit status 0: all passed; 77: this machine cannot, said why.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { boot } from '../test/vm/boot.mjs';
import { blankDisk, initramfs, projectDisk, toolsDisk } from '../test/vm/disks.mjs';
import { rootDisk, SUITE } from '../test/vm/root-disk.mjs';
import { counts, problems } from '../test/vm/verdict.mjs';
import { root } from './setup.mjs';

/** What runs inside: what depends on the kernel. */
const DEFAULT = [
  'linux/',
  'netlink/',
  'nftables/',
  'cni/',
  'runtime/',
  'kubelet/',
  'agent/inside.test.ts',
].map((path) => `test/integration/${path}`);

const CACHE = join(root, '.cache/vm');
const RESULTS_SIZE = 64 << 20;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    shell: { type: 'boolean', default: false },
    /** Where vitest's JSON goes, with `counts` added. */
    report: { type: 'string' },
    memory: { type: 'string', default: '3072' },
    cpus: { type: 'string', default: '2' },
    /** Seconds for the whole run. */
    deadline: { type: 'string', default: '2700' },
    /** How many times slower than hardware: tests' deadlines are multiplied by it. */
    patience: { type: 'string', default: '8' },
  },
});

const say = (text) => console.log(`vm: ${text}`);

/** Why this machine cannot make or run the guest, or undefined. */
function obstacle() {
  if (process.arch !== 'x64') return `the guest is x86-64, this machine is ${process.arch}`;
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
  // The addon is built here and loaded there: the same libraries have to be there.
  if (!new RegExp(`^VERSION_CODENAME="?${SUITE}"?$`, 'm').test(release))
    return `the guest is made of Debian ${SUITE}'s packages and runs what was built here; this machine is no Debian ${SUITE}`;
  const lacking = ['qemu-system-x86_64', 'mmdebstrap', 'mke2fs', 'unshare'].filter(
    (command) => spawnSync('sh', ['-c', `command -v ${command}`]).status !== 0,
  );
  if (lacking.length > 0)
    return `this machine lacks ${lacking.join(', ')}: node scripts/setup.mjs --test installs them`;
  return undefined;
}

/** What the guest left on its disk of results, or undefined. */
function readResults(disk, folder) {
  mkdirSync(folder, { recursive: true });
  if (spawnSync('tar', ['-C', folder, '-xf', disk], { stdio: 'ignore' }).status !== 0) return undefined;
  const read = (name) =>
    existsSync(join(folder, name)) ? readFileSync(join(folder, name), 'utf8') : undefined;
  const status = read('status');
  if (status === undefined) return undefined;
  const report = read('vitest.json');
  let parsed;
  try {
    parsed = report === undefined ? undefined : JSON.parse(report);
  } catch {
    // A report cut short is none.
  }
  return { status: Number(status), report: parsed, dmesg: read('dmesg') ?? '' };
}

async function main() {
  const reason = obstacle();
  if (reason !== undefined) {
    say(`skipped: ${reason}`);
    return 77;
  }
  const begin = performance.now();
  const seconds = () => Math.round((performance.now() - begin) / 100) / 10;
  const base = rootDisk(CACHE, say);
  const tools = toolsDisk(root, CACHE, say);
  const work = mkdtempSync(join(CACHE, 'run-'));
  const last = join(CACHE, 'last');
  const deadline = Number(values.deadline);
  try {
    const results = blankDisk(join(work, 'results.img'), RESULTS_SIZE);
    const files = positionals.length > 0 ? positionals : DEFAULT;
    const project = projectDisk(root, work, {
      command: [
        '/opt/tools/node',
        '/nodelet/node_modules/vitest/vitest.mjs',
        'run',
        '--project=integration',
        '--reporter=default',
        '--reporter=json',
        '--outputFile.json=/run/results/vitest.json',
        '--retry=1',
        ...files,
      ],
      environment: { CI: 'true', NODELET_TEST_PATIENCE: values.patience, NO_COLOR: '1' },
      deadline: Math.max(30, deadline - 60),
    });
    const disk = (file, keep = false) => ({ file, keep });
    rmSync(last, { recursive: true, force: true });
    mkdirSync(last, { recursive: true });
    say(`booting after ${seconds()} s: ${files.join(' ')}`);
    const {
      console: text,
      exit,
      ended,
    } = await boot({
      kernel: join(base, 'vmlinuz'),
      initrd: initramfs(join(root, 'test/vm/guest'), base, work),
      disks: [disk(join(base, 'root.img')), disk(tools), disk(project), disk(results, true)],
      memory: Number(values.memory),
      cpus: Number(values.cpus),
      deadline,
      log: join(last, 'console.log'),
      line: (line) => console.log(line),
      interactive: values.shell,
    });
    if (values.shell) return exit ?? 1;
    const left = readResults(results, last);
    const found = problems({ console: text, ended, exit, seconds: seconds(), results: left });
    const counted = counts(left?.report, found.length);
    for (const problem of found) say(`FAILED: ${problem}`);
    say(
      `${counted.passed} passed, ${counted.failed} failed, ${counted.skipped} skipped in ${seconds()} s; console and kernel log in ${last}`,
    );
    if (values.report !== undefined)
      writeFileSync(values.report, JSON.stringify({ ...left?.report, counts: counted }));
    return counted.failed === 0 && ended === 'itself' ? 0 : 1;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

process.exitCode = await main();
