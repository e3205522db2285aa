/**
 * From the shell to the first container: `nodelet run FILE` with a packed image and no agent running, until the container's
 * first line is seen, Node's start included. `npm run bench:run -- [ROUNDS]`. The parts are taken from outside: Node and
 * bundle from commands that do no more, the agent's start by its socket, the rest by the pod's own trace (all clocks are
 * CLOCK_MONOTONIC). Exit 1 where the median misses the goal of a second.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { AgentClient } from '../src/agent/index.ts';
import { monotonicMicros, type Span } from '../src/base/index.ts';
import { readCgroupHost, removeCgroup } from '../src/linux/cgroups/index.ts';
import { packageRoot } from '../src/linux/package-root.ts';
import { median, row } from './figures.ts';

const ROUNDS = Number(process.argv[2] ?? 20);
const GOAL = 1000;
const IMAGE = 'bench.local/busybox:1';

const base = mkdtempSync(join(tmpdir(), 'nodelet-run-'));
const cgroupRoot = `/${basename(base)}`;
const cli = join(packageRoot(), 'dist', 'cli.js');
const own = ['--root', join(base, 'root'), '--state', join(base, 'state')];
const manifest = join(base, 'pod.json');

const now = () => monotonicMicros() / 1000;

/** Milliseconds of a whole command. */
function time(...words: string[]): number {
  const start = now();
  execFileSync(process.execPath, words, { stdio: 'ignore' });
  return now() - start;
}

interface Round {
  /** Milliseconds from the start of the program. */
  readonly agent: number;
  readonly output: number;
  readonly spans: readonly Span[];
  readonly begun: number;
}

async function run(): Promise<Round> {
  const begun = now();
  const settings = ['--cgroup-root', cgroupRoot, '--bridge', 'bench0', '--pod-cidr', '10.231.0.0/16'];
  const words = [cli, 'run', ...own, ...settings, '--node-ip', '192.0.2.1', manifest];
  const child = spawn('unshare', ['--net', process.execPath, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(child, 'exit');
  let errors = '';
  child.stderr.on('data', (data: Buffer) => {
    errors += data.toString();
  });
  try {
    const output = firstOutput(child, () => errors);
    const client = new AgentClient(join(base, 'state', 'nodelet.sock'));
    const agent = agentUp(client);
    const [seen, up] = await Promise.all([output, agent]);
    const { spans } = await client.trace('default', 'bench');
    return { agent: up - begun, output: seen - begun, spans, begun };
  } finally {
    child.kill('SIGINT');
    await ended;
  }
}

async function firstOutput(child: ChildProcess, errors: () => string): Promise<number> {
  if (child.stdout === null) throw new Error('no output');
  const [what] = (await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])) as [unknown];
  if (!Buffer.isBuffer(what)) throw new Error(`nodelet run ended with ${String(what)}: ${errors()}`);
  return now();
}

async function agentUp(client: AgentClient): Promise<number> {
  const deadline = now() + 10_000;
  for (;;) {
    if (await client.isRunning()) return now();
    if (now() > deadline) throw new Error('the agent did not answer');
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Length of the kubelet's span whose name begins so. */
function span({ spans }: Round, name: string): number {
  const found = spans.find((one) => one.category === 'kubelet' && one.name.startsWith(name));
  return (found?.duration ?? Number.NaN) / 1000;
}

try {
  writeFileSync(
    manifest,
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'bench' },
      spec: {
        terminationGracePeriodSeconds: 0,
        containers: [{ name: 'main', image: IMAGE, command: ['sh', '-c', 'echo up; exec sleep 1000'] }],
      },
    }),
  );
  const files = ['/bin/busybox', '/bin/busybox:/bin/sh', '/bin/busybox:/bin/sleep'];
  execFileSync(process.execPath, [cli, 'image', 'pack', ...own, '--stop-signal', 'SIGKILL', IMAGE, ...files]);
  const node: number[] = [];
  const bundle: number[] = [];
  const rounds: Round[] = [];
  await run();
  for (let i = 0; i < ROUNDS; i++) {
    node.push(time('-e', ''));
    bundle.push(time(cli, '--version'));
    rounds.push(await run());
  }
  const total = rounds.map(({ output }) => output);
  console.log(`nodelet run, packed image, ${ROUNDS} rounds, milliseconds (p10, p50, p90)`);
  console.log(row('first output', total));
  console.log(row('  node', node));
  console.log(
    row(
      '  bundle',
      bundle.map((ms, i) => ms - (node[i] ?? 0)),
    ),
  );
  console.log(
    row(
      '  agent',
      rounds.map(({ agent }, i) => agent - (bundle[i] ?? 0)),
    ),
  );
  console.log(
    row(
      '  pod taken in',
      rounds.map((one) => (firstSpan(one)?.start ?? 0) / 1000 - one.begun - one.agent),
    ),
  );
  for (const [name, of] of [
    ['directories', 'prepare'],
    ['sandbox', 'create sandbox'],
    ['image', 'ensure image'],
    ['container', 'start container'],
  ] as const)
    console.log(
      row(
        `  ${name}`,
        rounds.map((one) => span(one, of)),
      ),
    );
  console.log(
    row(
      '  shown',
      rounds.map((one) => one.output + one.begun - lastEnd(one)),
    ),
  );
  const p50 = median(total);
  console.log(`first container after ${p50.toFixed(0)} ms  (goal ${GOAL})`);
  if (!(p50 < GOAL)) process.exitCode = 1;
} finally {
  await removeCgroup(readCgroupHost(), cgroupRoot, { deadline: 5000 }).catch(() => {});
  rmSync(base, { recursive: true, force: true });
}

function firstSpan({ spans }: Round): Span | undefined {
  return spans.filter(({ category }) => category === 'kubelet').sort((a, b) => a.start - b.start)[0];
}

/** When the container's start was done, in milliseconds. */
function lastEnd({ spans }: Round): number {
  const start = spans.find((one) => one.category === 'kubelet' && one.name.startsWith('start container'));
  return start === undefined ? Number.NaN : (start.start + start.duration) / 1000;
}
