/**
 * Resident memory: of the agent while it is idle, fresh and after 1 and 20 pods ran and were removed, and of a pod's shim.
 * `npm run bench:memory -- [SECONDS]`: how long the fresh agent rests first, 30 by default. Exit 1 where a goal is missed.
 *
 * The agent's is what the kernel counts as its own (RSS), pages of the node binary included that every Node.js process of
 * the machine shares; beside it its share (PSS). A shim is so small that only PSS means something.
 */
import { AgentProcess } from '../test/fixtures/agent-process.ts';
import { churn, podNumber } from '../test/fixtures/churn.ts';
import { median } from './figures.ts';

const REST = Number(process.argv[2] ?? 30) * 1000;
const AGENT_GOAL = 90 * 2 ** 20;
const SHIM_GOAL = 2 ** 20;

const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(2).padStart(9);
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

await using agent = await AgentProcess.start('memory');

function tell(what: string): void {
  const { rss, pss } = agent.memory();
  console.log(`${what.padEnd(34)}${mib(rss)}${mib(pss)}  (goal: RSS ${AGENT_GOAL / 2 ** 20})`);
  if (rss > AGENT_GOAL) process.exitCode = 1;
}

console.log(`MiB${''.padEnd(31)}${'RSS'.padStart(9)}${'PSS'.padStart(9)}`);
await sleep(REST);
tell(`agent, fresh, idle for ${REST / 1000} s`);
await churn(agent, { from: 0, count: 1, parallel: 1, plain: true });
await sleep(5000);
tell('agent, idle after 1 pod');
await churn(agent, { from: 100, count: 20, parallel: 20, plain: true });
await sleep(5000);
tell('agent, idle after 20 pods at once');

const names = Array.from({ length: 20 }, (_, i) => i + 1000);
for (const i of names) await agent.client.create(await podNumber(i, true));
for (const i of names) {
  for await (const { object } of agent.client.watchPod('default', `pod-${i}`)) {
    if (object.status?.phase === 'Running') break;
  }
}
const shims = agent.shims().map((pid) => agent.memory(pid).pss);
const shim = median(shims);
console.log(
  `${`shim, PSS, median of ${shims.length}`.padEnd(34)}${''.padStart(9)}${mib(shim)}  (goal: ${SHIM_GOAL / 2 ** 20})`,
);
console.log(`${'shim, PSS, largest'.padEnd(43)}${mib(Math.max(...shims))}`);
console.log(`${'all shims together, PSS'.padEnd(43)}${mib(shims.reduce((sum, one) => sum + one, 0))}`);
if (!(shim <= SHIM_GOAL)) process.exitCode = 1;
await Promise.all(names.map((i) => agent.client.remove('default', `pod-${i}`, 0)));
