/** `nodelet run` whose reader has gone: `nodelet run pod.yaml | head -1`, a terminal that was closed, a parent that died. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Program, podOf, shell, World } from '../../fixtures/agent.ts';

let world: World;
beforeAll(async () => {
  world = await World.open({ programs: 'sh sleep' });
});
afterAll(async () => await world?.close());

async function started(script: string): Promise<Program> {
  const pod = podOf('p', [shell(script), shell('sleep 1000', { name: 'other' })]);
  const run = world.start(['run', ...world.settings, world.manifest(pod)]);
  await run.until(/^\[c\] +up$/m);
  // An event that is still to be shown would be a write that finds the reader gone.
  for (const name of ['c', 'other']) await run.until(new RegExp(`Started +pod/p\\[${name}\\]`), 'stderr');
  return run;
}

function leave(run: Program): void {
  run.child.stdout?.destroy();
  run.child.stderr?.destroy();
}

it.each([
  [
    'is told by SIGINT, after which a container writes',
    'trap "echo bye; exit 0" TERM; echo up; while :; do sleep 1000 & wait $!; done',
    true,
    130,
  ],
  ['is found out by the next write', 'echo up; while :; do echo y; done', false, 141],
])('%s: ends, and leaves nothing', async (_, script, interrupt, code) => {
  const run = await started(script);
  leave(run);
  if (interrupt) run.signal('SIGINT');
  expect((await run.exit).code).toBe(code);
  expect(world.leftovers()).toEqual([]);
  expect(world.shared()).toEqual([]);
});
