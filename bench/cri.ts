/**
 * Nodelet's runtime against containerd with runc, both behind their CRI socket: one client, the same calls, the same image
 * and configuration, both with a bridge network, in one run. `npm run bench:cri`; $ROUNDS and $PODS make it smaller.
 *
 * Their records of what runs are on a tmpfs, as on an ordinary host (/run), images and layers on the disk.
 *
 * What is timed in turn is timed in turn: a machine that slows down slows both. What fills the machine (many pods) is done
 * by one side after the other, each alone. CPU is that of the daemon, its shims and what they have waited for: for
 * containerd that includes runc, for both the programs that were run.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { type CriClient, connectCri, NamespaceMode, ProfileType } from '../src/cri/index.ts';
import { MASKED_PATHS, READ_ONLY_PATHS } from '../src/kubelet/translate/security.ts';
import { readCgroupHost, removeCgroup } from '../src/linux/cgroups/index.ts';
import { BUSYBOX, PAUSE, publishImages } from '../test/cri/images.ts';
import { mirrorAll } from '../test/cri/registry.ts';
import {
  CGROUP_ROOT,
  type CriServer,
  removePeerCgroup,
  startContainerd,
  startNodelet,
} from '../test/cri/servers.ts';
import { startRegistry } from '../test/fixtures/registry.ts';
import { median, quantile } from './figures.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 30);
const PODS = Number(process.env.PODS ?? 100);
/** Seconds: between two probes of one pod, for which they go on, and for which pods are idle before memory is read. */
const PROBE_PERIOD = 10;
const PROBES = Number(process.env.PROBES ?? 60);
const REST = 10;
const CGROUP = '/nodelet-bench-cri';
/** Clock ticks a second in /proc. */
const TICKS = 100;

interface Side {
  readonly server: CriServer;
  readonly client: CriClient;
  readonly logs: string;
}

interface Pod {
  readonly podSandboxId: string;
  readonly containerId: string;
}

let counter = 0;

/** As a kubelet asks for a pod of one container. */
async function startPod({ client: { runtime }, logs }: Side): Promise<Pod> {
  counter += 1;
  const name = `pod-${counter}`;
  const namespaceOptions = {
    network: NamespaceMode.POD,
    pid: NamespaceMode.CONTAINER,
    ipc: NamespaceMode.POD,
  };
  const sandboxConfig = {
    metadata: { name, namespace: 'bench', uid: name, attempt: 0 },
    hostname: name,
    logDirectory: join(logs, name),
    dnsConfig: { servers: ['10.96.0.10'], searches: ['bench.svc.cluster.local'], options: ['ndots:5'] },
    linux: {
      cgroupParent: CGROUP,
      securityContext: { namespaceOptions, seccomp: { profileType: ProfileType.RuntimeDefault } },
    },
  };
  const { podSandboxId = '' } = await runtime.runPodSandbox({ config: sandboxConfig });
  const { containerId = '' } = await runtime.createContainer({
    podSandboxId,
    sandboxConfig,
    config: {
      metadata: { name: 'main', attempt: 0 },
      image: { image: BUSYBOX },
      command: ['sleep', '1000000'],
      logPath: 'main/0.log',
      linux: {
        resources: { cpuShares: 102, cpuPeriod: 100_000, cpuQuota: 50_000, memoryLimitInBytes: 64 << 20 },
        securityContext: {
          namespaceOptions,
          seccomp: { profileType: ProfileType.RuntimeDefault },
          maskedPaths: [...MASKED_PATHS],
          readonlyPaths: [...READ_ONLY_PATHS],
        },
      },
    },
  });
  await runtime.startContainer({ containerId });
  return { podSandboxId, containerId };
}

async function execTrue({ client }: Side, { containerId }: Pod): Promise<void> {
  const { exitCode } = await client.runtime.execSync({ containerId, cmd: ['true'], timeout: 30 });
  if ((exitCode ?? 0) !== 0) throw new Error(`true ended with ${exitCode}`);
}

async function endPod({ client: { runtime } }: Side, { podSandboxId, containerId }: Pod): Promise<void> {
  await runtime.stopContainer({ containerId, timeout: 0 });
  await runtime.stopPodSandbox({ podSandboxId });
  await runtime.removePodSandbox({ podSandboxId });
}

async function timed<T>(into: number[], work: Promise<T>): Promise<T> {
  const begin = performance.now();
  const value = await work;
  into.push(performance.now() - begin);
  return value;
}

/** Runs `count` of `work`, `width` at a time. */
async function inParallel<T>(count: number, width: number, work: (i: number) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let i = next++; i < count; i = next++) results[i] = await work(i);
  };
  await Promise.all(Array.from({ length: width }, lane));
  return results;
}

/** Pods a second. */
async function rate(side: Side, count: number, width: number): Promise<number> {
  const begin = performance.now();
  const pods = await inParallel(count, width, () => startPod(side));
  const seconds = (performance.now() - begin) / 1000;
  await inParallel(count, 10, (i) => endPod(side, pods[i] as Pod));
  return count / seconds;
}

/** Bytes. */
function pss(pid: number): number {
  return Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1]) * 1024;
}

/** Seconds of CPU, with those of children that were waited for. */
function cpu(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return [11, 12, 13, 14].reduce((sum, at) => sum + Number(fields[at]), 0) / TICKS;
}

const total = ({ server }: Side, of: (pid: number) => number): number =>
  server.processes().reduce((sum, pid) => sum + of(pid), 0);

interface Crowd {
  readonly daemon: number;
  readonly shims: number;
  /** Of one core. */
  readonly probes: number;
}

/** PODS pods: what they cost while they are idle, and while each is probed. */
async function crowd(side: Side): Promise<Crowd> {
  const pods = await inParallel(PODS, 10, () => startPod(side));
  await setTimeout(REST * 1000);
  const daemon = pss(side.server.pid);
  const shims = total(side, pss) - daemon;
  const before = total(side, cpu);
  const begin = performance.now();
  const due = (round: number, i: number) => (round + i / PODS) * PROBE_PERIOD * 1000;
  await Promise.all(
    pods.map(async (pod, i) => {
      for (let round = 0; round * PROBE_PERIOD < PROBES; round++) {
        await setTimeout(Math.max(0, begin + due(round, i) - performance.now()));
        await execTrue(side, pod);
      }
    }),
  );
  await setTimeout(Math.max(0, begin + PROBES * 1000 - performance.now()));
  const probes = (total(side, cpu) - before) / ((performance.now() - begin) / 1000);
  await inParallel(PODS, 10, (i) => endPod(side, pods[i] as Pod));
  return { daemon, shims, probes };
}

interface Serial {
  readonly start: number[];
  readonly exec: number[];
  readonly end: number[];
}

async function serial(side: Side, into: Serial): Promise<void> {
  const pod = await timed(into.start, startPod(side));
  for (let i = 0; i < 3; i++) await timed(into.exec, execTrue(side, pod));
  await timed(into.end, endPod(side, pod));
}

let missed = false;

/** One row: both figures, how they compare, and what was wanted. `larger` where more is better. */
function tell(what: string, unit: string, ours: number, theirs: number, goal: number, larger = false): void {
  const ratio = larger ? ours / theirs : theirs / ours;
  const held = ratio >= goal;
  missed ||= !held;
  const figure = (value: number) => `${value.toFixed(value < 10 ? 2 : 0)} ${unit}`.padStart(12);
  const verdict = `${ratio.toFixed(1)} ×`.padStart(9);
  console.log(
    `${what.padEnd(44)}${figure(ours)}${figure(theirs)}${verdict}  (goal ${goal} ×)${held ? '' : '  MISSED'}`,
  );
}

const spread = (values: readonly number[]) =>
  [0.1, 0.5, 0.9].map((q) => quantile(values, q).toFixed(1)).join(', ');

const folder = mkdtempSync(join(tmpdir(), 'nodelet-bcri-'));
const memory = mkdtempSync('/dev/shm/nodelet-bcri-');
const registry = await startRegistry();
const sides: Side[] = [];
try {
  await publishImages(registry.host);
  const certs = mirrorAll(folder, registry.host);
  for (const [name, start] of [
    ['n', startNodelet],
    ['c', startContainerd],
  ] as const) {
    mkdirSync(join(folder, name));
    const server = await start({ folder: join(folder, name), certs, quiet: true, state: join(memory, name) });
    const client = await connectCri(server.socket);
    sides.push({ server, client, logs: join(folder, name, 'logs') });
    for (const image of [BUSYBOX, PAUSE]) await client.images.pullImage({ image: { image } });
  }
  const times = sides.map((): Serial => ({ start: [], exec: [], end: [] }));
  const warmUp = { start: [], exec: [], end: [] };
  for (let i = 0; i < 5; i++) for (const side of sides) await serial(side, warmUp);
  for (let i = 0; i < ROUNDS; i++) {
    for (const [at, side] of sides.entries()) {
      await serial(side, times[at] as Serial);
      await setTimeout(100);
    }
  }
  const rates: { readonly ten: number; readonly fifty: number }[] = [];
  for (const side of sides)
    rates.push({ ten: await rate(side, PODS, 10), fifty: await rate(side, PODS, 50) });
  const crowds: Crowd[] = [];
  for (const side of sides) crowds.push(await crowd(side));

  const [a, b] = times as [Serial, Serial];
  const [fast, slow] = rates as [(typeof rates)[0], (typeof rates)[0]];
  const [small, large] = crowds as [Crowd, Crowd];
  console.log(
    `${ROUNDS} rounds in turn, ${PODS} pods`.padEnd(44) + 'nodelet'.padStart(12) + 'containerd'.padStart(12),
  );
  tell('pod and container run, serial, p50', 'ms', median(a.start), median(b.start), 10);
  tell('pods a second, 10 in parallel', '/s', fast.ten, slow.ten, 8, true);
  tell('pods a second, 50 in parallel', '/s', fast.fifty, slow.fifty, 8, true);
  tell('ExecSync of true, p50', 'ms', median(a.exec), median(b.exec), 5);
  tell('stop and remove, p50', 'ms', median(a.end), median(b.end), 5);
  // The goal is 3 % of a core, whatever the other takes.
  tell(
    `${PODS} exec probes every ${PROBE_PERIOD} s, CPU of a core`,
    '%',
    small.probes * 100,
    large.probes * 100,
    1,
  );
  if (small.probes > 0.03) {
    missed = true;
    console.log('  MISSED: more than 3 % of a core');
  }
  const mib = ({ daemon, shims }: Crowd) => (daemon + shims) / 2 ** 20;
  tell(`PSS at ${PODS} idle pods`, 'MiB', mib(small), mib(large), 5);
  for (const [name, { daemon, shims }] of [
    ['nodelet', small],
    ['containerd', large],
  ] as const)
    console.log(`  ${name}: daemon ${(daemon / 2 ** 20).toFixed(1)}, shims ${(shims / 2 ** 20).toFixed(1)}`);
  console.log('p10, p50, p90 in ms:');
  for (const [name, one] of [
    ['nodelet', a],
    ['containerd', b],
  ] as const)
    console.log(`  ${name}: run ${spread(one.start)}; exec ${spread(one.exec)}; end ${spread(one.end)}`);
  if (missed) process.exitCode = 1;
} finally {
  for (const { server, client } of sides) {
    for (const { id = '' } of (await client.runtime.listPodSandbox({}).catch(() => ({ items: [] }))).items ??
      [])
      await client.runtime.removePodSandbox({ podSandboxId: id }).catch(() => {});
    client.close();
    await server[Symbol.asyncDispose]();
    for (const pid of server.processes()) process.kill(pid, 'SIGKILL');
  }
  await removeCgroup(readCgroupHost(), CGROUP_ROOT, { deadline: 5000 });
  removePeerCgroup(CGROUP);
  await registry.stop();
  for (const one of [folder, memory]) rmSync(one, { recursive: true, force: true });
}
