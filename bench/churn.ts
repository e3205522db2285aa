/**
 * Pods made, seen running and removed, 20 at a time, by a real agent: how fast, and what is left. `npm run bench:churn --
 * [PODS] [plain]`: 1,000 pods of every kind, or of one plain kind for comparison with others.
 *
 * After every 100 pods all are gone for a moment, and the agent's memory is read: as it is, and after a garbage collection.
 * What the agent holds of the machine is listed before and after. Exit 1 where something is left, or where memory grows.
 */
import { AgentProcess } from '../test/fixtures/agent-process.ts';
import { churn } from '../test/fixtures/churn.ts';
import { quantile } from './figures.ts';

const PODS = Number(process.argv[2] ?? 1000);
const plain = process.argv[3] === 'plain';
const PARALLEL = 20;
const BATCH = 100;
/**
 * Growth of the collected heap over the second half that counts as none. It is V8's machine code and its tables, which grow
 * for as long as functions become hot: two heap snapshots 400 pods apart differed by 0.66 MiB, of which 0.65 were code, and
 * by 18 objects.
 */
const FLAT = 1024 * 1024;

const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(1).padStart(8);
const line = (name: string, values: readonly number[]) =>
  `${name.padEnd(20)}${[0.5, 0.95, 0.99].map((q) => quantile(values, q).toFixed(1).padStart(9)).join('')}`;

/** Growth per pod: the slope of the least squares. */
function slope(points: readonly (readonly [number, number])[]): number {
  const n = points.length;
  const mx = points.reduce((sum, [x]) => sum + x, 0) / n;
  const my = points.reduce((sum, [, y]) => sum + y, 0) / n;
  const over = points.reduce((sum, [x, y]) => sum + (x - mx) * (y - my), 0);
  const under = points.reduce((sum, [x]) => sum + (x - mx) ** 2, 0);
  return over / under;
}

await using agent = await AgentProcess.start('churn', { probe: true });
// What the first pods make once and for all: bridge, rules, compiled programs.
await churn(agent, { from: 0, count: 2 * PARALLEL, parallel: PARALLEL });
await new Promise((resolve) => setTimeout(resolve, 1000));
await agent.collected();
const before = agent.holdings();

console.log(
  `${PODS} ${plain ? 'plain pods' : 'pods of every kind'}, ${PARALLEL} at a time; MiB of the agent`,
);
console.log('  pods     RSS  RSS collected   heap  external    pods/s');
const running: number[] = [];
const gone: number[] = [];
const heap: [number, number][] = [];
let total = 0;
for (let done = 0; done < PODS; ) {
  const count = Math.min(BATCH, PODS - done);
  const times = await churn(agent, { from: 1000 + done, count, parallel: Math.min(PARALLEL, count), plain });
  running.push(...times.running);
  gone.push(...times.gone);
  total += times.total;
  done += count;
  const { rss } = agent.memory();
  const usage = await agent.collected();
  heap.push([done, usage.heapUsed + usage.external]);
  const rate = ((count / times.total) * 1000).toFixed(1).padStart(8);
  console.log(
    `${String(done).padStart(6)}${mib(rss)}${mib(agent.memory().rss).padStart(15)}${mib(usage.heapUsed).slice(1)}${mib(usage.external).padStart(10)}  ${rate}`,
  );
}
const left = await agent.difference(before);
console.log(`pods a second       ${((PODS / total) * 1000).toFixed(1).padStart(9)}`);
console.log('milliseconds              p50      p95      p99');
console.log(line('create to running', running));
console.log(line('delete to gone', gone));
const half = heap.slice(Math.floor(heap.length / 2));
const growth = half.length < 2 ? 0 : slope(half);
const span = (half.at(-1)?.[0] ?? 0) - (half[0]?.[0] ?? 0);
console.log(
  `heap, second half   ${growth.toFixed(0).padStart(9)} bytes a pod  (goal: 0; within ${(FLAT / Math.max(1, span)).toFixed(0)})`,
);
console.log(`left behind         ${String(left.length).padStart(9)}  (goal 0)`);
for (const one of left.slice(0, 50)) console.log(`  ${one}`);
const log = agent.log();
if (log !== '') console.log(`the agent's log (first lines):\n${log.split('\n').slice(0, 20).join('\n')}`);
if (left.length > 0 || growth * span > FLAT) process.exitCode = 1;
