/**
 * Runs the judges of the Container Runtime Interface against `nodelet cri`: critest whole, its streaming specs again over
 * WebSocket, then ours that drive crictl. Started by scripts/test-cri.mjs in namespaces of its own.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { readCgroupHost, removeCgroup } from '../../src/linux/cgroups/index.ts';
import { readMountinfo } from '../../src/linux/mountinfo.ts';
import { packageRoot } from '../../src/linux/package-root.ts';
import { startRegistry } from '../fixtures/registry.ts';
import { ALLOWED_SKIPS } from './allowed-skips.ts';
import { publishImages, WITH_DIGEST } from './images.ts';
import { mirrorAll } from './registry.ts';
import { count, fromGinkgo, fromVitest, judgeSkips, type Outcome } from './report.ts';
import { CGROUP_ROOT, type CriServer, startContainerd, startNodelet } from './servers.ts';

const { values } = parseArgs({
  options: {
    report: { type: 'string' },
    /** Of critest, a regular expression; without crictl. */
    focus: { type: 'string' },
    /** critest against containerd, as it is. */
    peer: { type: 'boolean', default: false },
    /** Only crictl's part. */
    crictl: { type: 'boolean', default: false },
  },
});
const { CRITEST = '', CRICTL = '' } = process.env;
const say = (text: string) => console.log(`cri: ${text}`);

/** One run of critest. `name` is that of its part in reports. */
function critest(name: string, server: CriServer, folder: string, flags: readonly string[]): Outcome[] {
  const report = join(folder, `${name}.json`);
  const args = [
    `-runtime-endpoint=unix://${server.socket}`,
    '-config=/nonexistent',
    '-ginkgo.no-color',
    '-ginkgo.succinct',
    '-ginkgo.timeout=20m',
    `-ginkgo.json-report=${report}`,
    ...flags,
  ];
  const { status, stdout, stderr, error } = spawnSync(CRITEST, args, {
    cwd: folder,
    encoding: 'utf8',
    maxBuffer: 1 << 30,
  });
  if (error !== undefined) throw error;
  writeFileSync(join(folder, `${name}.log`), `${stdout}${stderr}`);
  let outcomes: Outcome[];
  try {
    outcomes = fromGinkgo(JSON.parse(readFileSync(report, 'utf8')) as Parameters<typeof fromGinkgo>[0]);
  } catch {
    outcomes = [{ name: 'critest', state: 'failed', message: `no report: ${stderr.slice(-2000)}` }];
  }
  if (status !== 0 && !outcomes.some(({ state }) => state === 'failed'))
    outcomes.push({ name: 'critest', state: 'failed', message: `exit ${status}: ${stderr.slice(-2000)}` });
  if (outcomes.length === 0) outcomes.push({ name: 'critest', state: 'failed', message: 'no spec ran' });
  return tell(name, values.peer ? outcomes : judgeSkips(outcomes, ALLOWED_SKIPS));
}

function crictl(server: CriServer, folder: string): Outcome[] {
  const report = join(folder, 'crictl.json');
  const args = [
    'run',
    '--project',
    'cri',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
  ];
  const env = { ...process.env, CRICTL, CRI_ENDPOINT: `unix://${server.socket}` };
  const vitest = join(packageRoot(), 'node_modules/vitest/vitest.mjs');
  const { status } = spawnSync(process.execPath, [vitest, ...args], {
    cwd: packageRoot(),
    stdio: 'inherit',
    env,
  });
  const outcomes = fromVitest(JSON.parse(readFileSync(report, 'utf8')) as Parameters<typeof fromVitest>[0]);
  if (status !== 0 && !outcomes.some(({ state }) => state === 'failed'))
    outcomes.push({ name: 'crictl', state: 'failed', message: `exit ${status}` });
  return tell('crictl', outcomes);
}

function tell(name: string, outcomes: readonly Outcome[]): Outcome[] {
  const { passed, failed, skipped } = count(outcomes);
  say(`${name}: ${passed} passed, ${failed} failed, ${skipped} skipped`);
  return outcomes.map((one) => ({ ...one, name: `${name}: ${one.name}` }));
}

/** What the suites and the runtime have left, after the runtime has ended with no pod. */
function leftovers(server: CriServer, folder: string): Outcome {
  const name = 'nothing is left: shims, mounts';
  const left = [
    ...server.processes().map((pid) => `process ${pid}: ${readFileSync(`/proc/${pid}/cmdline`, 'utf8')}`),
    ...readMountinfo()
      .filter(({ mountPoint }) => mountPoint.startsWith(folder))
      .map(({ mountPoint }) => `mount ${mountPoint}`),
  ];
  return { name, state: left.length === 0 ? 'passed' : 'failed', message: left.join('\n') };
}

async function main(): Promise<Outcome[]> {
  const folder = mkdtempSync(join(tmpdir(), 'nodelet-cri-'));
  const outcomes: Outcome[] = [];
  let server: CriServer | undefined;
  const registry = await startRegistry();
  try {
    const digest = await publishImages(registry.host);
    const place = { folder: join(folder, 'r'), certs: mirrorAll(folder, registry.host) };
    mkdirSync(place.folder);
    server = await (values.peer ? startContainerd(place) : startNodelet(place));
    say(`images are in the registry, ${server.name} is up`);
    const whole = [`-image-with-digest=${WITH_DIGEST}@${digest}`, `-ginkgo.focus=${values.focus ?? ''}`];
    const sockets = ['exec', 'attach', 'portforward'].map((kind) => `-websocket-${kind}`);
    if (!values.crictl) {
      outcomes.push(...critest('critest', server, folder, whole));
      if (values.focus === undefined && !values.peer)
        outcomes.push(
          ...critest('critest-websocket', server, folder, [...sockets, '-ginkgo.focus=Streaming']),
        );
    }
    if (values.focus === undefined && !values.peer) outcomes.push(...crictl(server, folder));
    emptied(server);
    await server[Symbol.asyncDispose]();
    if (!values.peer) outcomes.push(leftovers(server, folder));
    return outcomes;
  } finally {
    if (server !== undefined) await end(server);
    await removeCgroup(readCgroupHost(), CGROUP_ROOT, { deadline: 5000 }).catch(() => {});
    await registry.stop();
    if (outcomes.some(({ state }) => state === 'failed') && server !== undefined) keep(server);
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Removes the pods of specs that failed. */
function emptied(server: CriServer): void {
  const args = ['--config', '/dev/null', '-r', `unix://${server.socket}`, 'rmp', '--all', '--force'];
  spawnSync(CRICTL, args, { stdio: 'ignore', timeout: 120_000 });
}

/** Whatever happened: nothing runs on. */
async function end(server: CriServer): Promise<void> {
  if (server.processes().includes(server.pid)) emptied(server);
  await server[Symbol.asyncDispose]();
  for (const pid of server.processes()) process.kill(pid, 'SIGKILL');
}

/** What the runtime said, for who looks for the reason. */
function keep(server: CriServer): void {
  const to = join(packageRoot(), '.cache/cri/last.log');
  writeFileSync(to, server.log());
  say(`the log of ${server.name} is in ${to}`);
}

/** Without stacks and the insides of Go's values. */
function brief(message: string): string {
  const lines = message.split('\n').filter((line) => line.trim() !== '' && !/^\s+at /.test(line));
  return lines.slice(0, 8).join('\n    ');
}

const outcomes = await main();
const counts = count(outcomes);
const failures = outcomes.filter(({ state }) => state === 'failed');
if (failures.length > 0) {
  console.log('\nfailed:');
  for (const { name, message } of failures) console.log(`  ${name}\n    ${brief(message)}`);
}
for (const { name, message } of outcomes.filter(({ state }) => state === 'skipped'))
  console.log(`skipped: ${name}: ${message}`);
if (values.report !== undefined)
  writeFileSync(
    values.report,
    JSON.stringify({
      counts,
      failures: failures.map(({ name, message }) => `${name}: ${message.trim().split('\n')[0]}`),
    }),
  );
console.log(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed === 0 ? 0 : 1;
