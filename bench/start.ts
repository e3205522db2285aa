/**
 * Create, start and exit of /bin/true in all namespaces with limits, image present, against `crun run` and `runc run` on the
 * same root file system. One run, the three in turn, so that a machine that slows down slows all of them.
 *
 * Nodelet is a resident agent: what is timed is RunPodSandbox, CreateContainer and StartContainer until the exit has been
 * heard of. The others are timed as whole processes. Their specification has the same namespaces and limits, but no
 * seccomp filter, which Nodelet applies. On a hybrid host crun needs the v2 mount out of sight: both run in a private mount
 * namespace in which it is unmounted. State of all three is on tmpfs, where it is on an ordinary host.
 *
 * A second row is without the sandbox that is made ahead of a pod. Between any two of them is a pause, in which kernel and
 * agent clear away what the one before has left.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { silentLog } from '../src/base/index.ts';
import { NamespaceMode } from '../src/cri/index.ts';
import { openImages } from '../src/image/index.ts';
import { MASKED_PATHS, READ_ONLY_PATHS } from '../src/kubelet/translate/security.ts';
import { defaultCapabilities } from '../src/linux/capabilities.ts';
import { readCgroupHost, removeCgroup } from '../src/linux/cgroups/index.ts';
import { Runtime } from '../src/runtime/index.ts';
import { median, row } from './figures.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 100);
const WARM_UP = 20;
const LIMITS = { memory: 64 * 2 ** 20, quota: 50_000, period: 100_000, shares: 512, pids: 100 };

const base = mkdtempSync('/dev/shm/nodelet-bench-');
const cgroupRoot = '/nodelet-bench';
const images = openImages({ root: join(base, 'root'), log: silentLog });
await images.pack('bench.local/true:1', ['/bin/busybox', '/bin/busybox:/bin/true'], {});
const image = images.resolve('bench.local/true:1');
if (image === undefined) throw new Error('the image was not packed');
const layer = images.prepare('rootfs', image).lower[0] ?? '';
const bundle = join(base, 'bundle');
cpSync(layer, join(bundle, 'rootfs'), { recursive: true, verbatimSymlinks: true });
for (const name of ['proc', 'dev', 'sys']) mkdirSync(join(bundle, 'rootfs', name), { recursive: true });
await images.removeSnapshot('rootfs');

/** One runtime with a sandbox made ahead, one without. */
const runtimes: Runtime[] = [];
for (const spares of [1, 0]) {
  const runtime = new Runtime({
    root: join(base, 'root'),
    state: join(base, `state-${spares}`),
    cgroupRoot: `${cgroupRoot}-${spares}`,
    images,
    network: undefined,
    log: silentLog,
    spares,
  });
  await runtime.recover();
  runtimes.push(runtime);
}
const [ahead, whole] = runtimes as [Runtime, Runtime];

/** Milliseconds. */
const PAUSE = 150;

/** A helper in a private mount namespace that runs one command a line and says how long it took. */
class Peer {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor() {
    const script =
      'for m in $(awk \'$3=="cgroup2" && $2!="/sys/fs/cgroup" {print $2}\' /proc/self/mounts); do umount $m; done; exec python3 -u -c "$1"';
    const python = [
      'import subprocess,sys,time',
      'for line in sys.stdin:',
      '    a=time.perf_counter()',
      '    r=subprocess.run(line.split(),stdin=subprocess.DEVNULL,stdout=subprocess.PIPE,stderr=subprocess.STDOUT)',
      '    print((time.perf_counter()-a)*1e3 if r.returncode==0 else "failed: "+r.stdout.decode().strip().replace(chr(10)," "))',
    ].join('\n');
    this.#child = spawn('unshare', ['-m', 'sh', '-c', script, 'sh', python], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    if (this.#child.stdout === null) throw new Error('no output');
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  async time(command: string): Promise<number> {
    this.#child.stdin?.write(`${command}\n`);
    const { value } = await this.#lines.next();
    const ms = Number(value);
    if (!Number.isFinite(ms)) throw new Error(`${command}: ${String(value)}`);
    return ms;
  }

  close(): void {
    this.#child.stdin?.end();
  }
}

function writeSpec(): void {
  const capabilities = [...defaultCapabilities];
  const spec = {
    ociVersion: '1.0.2',
    process: {
      terminal: false,
      user: { uid: 0, gid: 0 },
      args: ['/bin/true'],
      env: ['PATH=/bin'],
      cwd: '/',
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    },
    root: { path: 'rootfs', readonly: false },
    hostname: 'bench',
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
      {
        destination: '/dev',
        type: 'tmpfs',
        source: 'tmpfs',
        options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
      },
      {
        destination: '/dev/pts',
        type: 'devpts',
        source: 'devpts',
        options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
      },
      {
        destination: '/dev/shm',
        type: 'tmpfs',
        source: 'shm',
        options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'],
      },
      {
        destination: '/dev/mqueue',
        type: 'mqueue',
        source: 'mqueue',
        options: ['nosuid', 'noexec', 'nodev'],
      },
      { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
      {
        destination: '/sys/fs/cgroup',
        type: 'cgroup',
        source: 'cgroup',
        options: ['nosuid', 'noexec', 'nodev', 'relatime', 'ro'],
      },
    ],
    linux: {
      namespaces: ['pid', 'network', 'ipc', 'uts', 'mount', 'cgroup'].map((type) => ({ type })),
      resources: {
        memory: { limit: LIMITS.memory },
        cpu: { quota: LIMITS.quota, period: LIMITS.period, shares: LIMITS.shares },
        pids: { limit: LIMITS.pids },
      },
      maskedPaths: MASKED_PATHS,
      readonlyPaths: READ_ONLY_PATHS,
    },
  };
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec));
}

interface Round {
  readonly total: number;
  readonly sandbox: number;
  readonly create: number;
  readonly start: number;
  readonly exit: number;
}

async function nodelet(runtime: Runtime, i: number): Promise<Round> {
  const pid = NamespaceMode.CONTAINER;
  const t0 = performance.now();
  const { podSandboxId } = await runtime.runPodSandbox({
    config: {
      metadata: { name: 'bench', namespace: 'bench', uid: String(i), attempt: 0 },
      hostname: 'bench',
      logDirectory: join(base, 'logs'),
      linux: { securityContext: { namespaceOptions: { pid } } },
    },
  });
  const t1 = performance.now();
  const { containerId = '' } = await runtime.createContainer({
    podSandboxId,
    config: {
      metadata: { name: 'true', attempt: 0 },
      image: { image: 'bench.local/true:1' },
      command: ['/bin/true'],
      logPath: 'true.log',
      linux: {
        resources: {
          memoryLimitInBytes: LIMITS.memory,
          cpuQuota: LIMITS.quota,
          cpuPeriod: LIMITS.period,
          cpuShares: LIMITS.shares,
        },
        securityContext: { namespaceOptions: { pid } },
      },
    },
  });
  const t2 = performance.now();
  await runtime.startContainer({ containerId });
  const t3 = performance.now();
  const container = runtime.context.model.container(containerId);
  await container.ended.promise;
  const t4 = performance.now();
  if (container.record.exitCode !== 0)
    throw new Error(`exit ${container.record.exitCode}: ${container.record.message}`);
  await runtime.removePodSandbox({ podSandboxId });
  return { total: t4 - t0, sandbox: t1 - t0, create: t2 - t1, start: t3 - t2, exit: t4 - t3 };
}

const peer = new Peer();
try {
  writeSpec();
  const ours: Round[] = [];
  const unprepared: Round[] = [];
  const crun: number[] = [];
  const runc: number[] = [];
  for (let i = 0; i < WARM_UP + ROUNDS; i++) {
    const mine = await nodelet(ahead, i);
    await setTimeout(PAUSE);
    const first = await peer.time(`crun --root ${base}/crun run --bundle ${bundle} bench-crun`);
    await setTimeout(PAUSE);
    const mineWhole = await nodelet(whole, i);
    await setTimeout(PAUSE);
    const second = await peer.time(`runc --root ${base}/runc run --bundle ${bundle} bench-runc`);
    await setTimeout(PAUSE);
    if (i < WARM_UP) continue;
    ours.push(mine);
    unprepared.push(mineWhole);
    crun.push(first);
    runc.push(second);
  }
  const total = ours.map((one) => one.total);
  console.log(`create + start + exit of /bin/true, ${ROUNDS} rounds in turn, milliseconds (p10, p50, p90)`);
  console.log(row('nodelet', total));
  for (const part of ['sandbox', 'create', 'start', 'exit'] as const)
    console.log(
      row(
        `  ${part}`,
        ours.map((one) => one[part]),
      ),
    );
  console.log(
    row(
      'nodelet, none ahead',
      unprepared.map((one) => one.total),
    ),
  );
  console.log(row('crun run', crun));
  console.log(row('runc run', runc));
  const pairs = (others: readonly number[]): number => median(total.map((ms, i) => ms / (others[i] ?? 1)));
  console.log(`nodelet / crun  ${pairs(crun).toFixed(2)}  (goal 0.50)`);
  console.log(`nodelet / runc  ${pairs(runc).toFixed(2)}  (goal 0.20)`);
} finally {
  peer.close();
  for (const runtime of runtimes) {
    for (const { id = '' } of (await runtime.listPodSandbox({})).items ?? [])
      await runtime.removePodSandbox({ podSandboxId: id });
    await runtime.close();
  }
  await images.close();
  for (const spares of [1, 0]) await removeCgroup(readCgroupHost(), `${cgroupRoot}-${spares}`);
  rmSync(base, { recursive: true, force: true });
}
