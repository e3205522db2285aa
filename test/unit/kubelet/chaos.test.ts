/** Whatever happens to pods and agent, and in whatever order: what must never be, never is. */
import { existsSync, readdirSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NodeletError } from '../../../src/base/index.ts';
import { ContainerState } from '../../../src/cri/index.ts';
import { podOf, World } from './world.ts';

const steps = fc.array(
  fc.oneof(
    fc.record({ do: fc.constant('wait' as const), seconds: fc.constantFrom(1, 3, 15) }),
    fc.record({ do: fc.constant('exit' as const), which: fc.nat(3), code: fc.constantFrom(0, 1) }),
    fc.record({ do: fc.constant('lose-sandbox' as const) }),
    fc.record({
      do: fc.constant('fail' as const),
      verb: fc.constantFrom(
        'runPodSandbox',
        'createContainer',
        'startContainer',
        'stopContainer',
        'stopPodSandbox',
        'removeContainer',
        'removePodSandbox',
      ),
    }),
    fc.record({ do: fc.constant('addresses' as const), given: fc.boolean() }),
    fc.record({ do: fc.constant('restart-agent' as const), forgets: fc.boolean() }),
    fc.record({ do: fc.constant('stop' as const), grace: fc.constantFrom(0, 2, 30) }),
    fc.record({ do: fc.constant('replace' as const) }),
  ),
  { maxLength: 12 },
);

const specs = fc.record({
  restartPolicy: fc.constantFrom('Always', 'OnFailure', 'Never'),
  sidecar: fc.boolean(),
  init: fc.boolean(),
  stops: fc.constantFrom(0, 1000, 60_000),
});

type Step = (typeof steps extends fc.Arbitrary<infer T> ? T : never)[number];

describe('invariants', () => {
  it('one live container of each name at most, attempts that only grow, sandboxes at a distance, and nothing left in the end', async () => {
    await fc.assert(
      fc.asyncProperty(specs, steps, async (spec, happenings) => {
        await using world = new World();
        const violations = watch(world);
        await world.start();
        const manifest = {
          restartPolicy: spec.restartPolicy,
          terminationGracePeriodSeconds: 5,
          containers: [{ name: 'a' }, { name: 'b' }],
          initContainers: [
            ...(spec.init ? [{ name: 'i' }] : []),
            ...(spec.sidecar ? [{ name: 's', restartPolicy: 'Always' }] : []),
          ],
        };
        world.runtime.programs.set('i', { runs: 500 });
        for (const name of ['a', 'b', 's']) world.runtime.programs.set(name, { stops: spec.stops });
        let count = 1;
        await world.add(await podOf(manifest, { uid: 'uid-1' }));
        for (const step of happenings) {
          if (step.do === 'replace') {
            count += 1;
            await world.add(await podOf(manifest, { uid: `uid-${count}` }));
          } else await happen(world, step);
        }
        await removeAll(world);
        expect(violations).toEqual([]);
      }),
      { numRuns: Number(process.env.CHAOS_RUNS ?? 60) },
    );
  }, 600_000);
});

async function happen(world: World, step: Exclude<Step, { do: 'replace' }>): Promise<void> {
  const { runtime, kubelet } = world;
  switch (step.do) {
    case 'wait':
      return await world.advance(step.seconds);
    case 'exit': {
      const live = [...runtime.containers.values()].filter(
        ({ state }) => state === ContainerState.CONTAINER_RUNNING,
      );
      const victim = live[step.which % Math.max(1, live.length)];
      if (victim !== undefined) runtime.exit(victim, step.code);
      return await world.settle();
    }
    case 'lose-sandbox': {
      const ready = [...runtime.sandboxes.values()].find((sandbox) => sandbox.ready);
      if (ready !== undefined) runtime.lose(ready);
      return await world.settle();
    }
    case 'addresses':
      runtime.addresses = step.given;
      return;
    case 'fail':
      runtime.failNext(step.verb, new NodeletError('CHAOS', `${step.verb} fails`));
      return;
    case 'restart-agent': {
      const known = [...world.store.values()].slice(0, step.forgets ? 1 : undefined);
      for (const uid of world.store.keys())
        if (!known.some((pod) => pod.metadata.uid === uid)) world.store.delete(uid);
      return await world.restartAgent(known);
    }
    case 'stop': {
      const [first] = kubelet.list();
      if (first?.metadata?.uid !== undefined) kubelet.stop(first.metadata.uid, { grace: step.grace });
      return await world.settle();
    }
    default:
      return;
  }
}

/** What is thrown in the runtime would pass for an error of it: violations are collected. */
function watch(world: World): string[] {
  const violations: string[] = [];
  const attempts = new Map<string, number>();
  const told = world.runtime.onCall;
  const made = new Map<string, number>();
  /** Replacements of one pod's sandbox keep their distance, over restarts of the agent too. */
  const watchSandbox = (line: string): void => {
    const { config, createdAt } = world.runtime.sandbox();
    const { uid = '', attempt = 0 } = config.metadata ?? {};
    const before = made.get(uid);
    made.set(uid, createdAt);
    if (attempt > 1 && before !== undefined && createdAt - before < 10_000)
      violations.push(`${line}: ${createdAt - before} ms after the one before`);
  };
  world.runtime.onCall = (line) => {
    told(line);
    if (line.startsWith('run sandbox ')) watchSandbox(line);
    if (!line.startsWith('start ')) return;
    const live = [...world.runtime.containers.values()].filter(
      ({ state }) => state === ContainerState.CONTAINER_RUNNING,
    );
    const names = live.map(
      ({ config }) => `${config.labels?.['io.kubernetes.pod.uid']}/${config.metadata?.name}`,
    );
    if (new Set(names).size < names.length) violations.push(`two of a name live: ${names.join(', ')}`);
    const started = live.at(-1);
    const sandbox = world.runtime.sandboxes.get(started?.sandboxId ?? '');
    if (sandbox?.ready !== true) violations.push(`${line}: its sandbox is not ready`);
    const key = `${started?.config.labels?.['io.kubernetes.pod.uid']}/${line.split(' ')[1]}`;
    const attempt = Number(line.split('#')[1]);
    // Init containers begin anew in each sandbox; the others never repeat a number.
    if (!/\/[is]$/.test(key) && attempt <= (attempts.get(key) ?? -1)) violations.push(`${line}: again`);
    attempts.set(key, attempt);
  };
  return violations;
}

async function removeAll(world: World): Promise<void> {
  const { kubelet, runtime } = world;
  runtime.failures.clear();
  const state = { gone: false };
  const removal = (async () => {
    for (let [first] = kubelet.list(); first !== undefined; [first] = kubelet.list()) {
      await kubelet.remove(first.metadata?.uid ?? '', { grace: 0 });
    }
    state.gone = true;
  })();
  for (let i = 0; i < 60 && !state.gone; i++) await world.advance(1);
  await world.until('everything is gone', () => state.gone);
  await removal;
  // What is left of forgotten pods is tried again.
  await world.advance(15);
  expect([...runtime.containers.values()].map(({ config }) => config.metadata?.name)).toEqual([]);
  expect(runtime.sandboxes.size).toBe(0);
  expect(world.cgroups.pods.size).toBe(0);
  expect(existsSync(kubelet.paths.pods) ? readdirSync(kubelet.paths.pods) : []).toEqual([]);
  expect(readdirSync(kubelet.paths.directories.podLogs)).toEqual([]);
}
