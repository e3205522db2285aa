/** `kill -9` of the agent while containers log, end, are killed and restart: nothing of that is lost. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { sleep } from '../../../src/base/index.ts';
import type { Pod } from '../../../src/kube/index.ts';
import { patience, podOf, shell, World } from '../../fixtures/agent.ts';

let world: World;
beforeAll(async () => {
  world = await World.open();
  mkdirSync(join(world.base, 'user'));
});
afterAll(async () => await world?.close());

const LINE = 100;
const PER_SECOND = 10_000_000 / LINE;
const SECONDS = 6;

/** 10 MB/s of numbered lines and more, in twenty bursts a second, and at the end of it an exit code. */
const WRITER = `awk 'BEGIN {
  pad = sprintf("%0${LINE - 11}d", 0);
  for (n = 0; n < ${PER_SECOND * SECONDS}; n++) {
    printf "%09d %s\\n", n, pad;
    if (n % ${PER_SECOND / 20} == 0) { fflush(); system("usleep 25000"); }
  }
  exit 11;
}'`;

/** Waits for the test's sign, the first or the second one. */
const sign = (n: number): string => `while [ ! -e /sign/${n} ]; do usleep 20000; done`;
const give = (n: number): void => writeFileSync(join(world.base, 'user', String(n)), '');

function podWith(name: string, container: object, spec: object = {}): string {
  return world.manifest(
    podOf(name, [{ ...container, volumeMounts: [{ name: 'sign', mountPath: '/sign' }] }], {
      terminationGracePeriodSeconds: 0,
      volumes: [{ name: 'sign', hostPath: { path: join(world.base, 'user') } }],
      ...spec,
    }),
  );
}

function logFile(pod: Pod, container = 'c'): string {
  const { namespace, name, uid } = pod.metadata ?? {};
  return join(world.root, 'log/pods', `${namespace}_${name}_${uid}`, container, '0.log');
}

async function until(what: string, is: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 40_000 * patience; Date.now() < deadline; await sleep(10))
    if (is()) return;
  throw new Error(`timed out: ${what}`);
}

const terminated = (pod: Pod) => pod.status?.containerStatuses?.[0]?.state?.terminated;

it('containers run on, log lines, exit codes, OOM kills and restart counts are there', async () => {
  const first = await world.liveAgent();
  const files = [
    podWith('writer', shell(WRITER)),
    podWith('ender', shell(`echo one; ${sign(1)}; echo two; exit 42`)),
    podWith('eater', shell(`${sign(1)}; exec tail /dev/zero`, { resources: { limits: { memory: '24Mi' } } })),
    podWith(
      'again',
      shell(
        `[ -e /sign/0 ] || { touch /sign/0; exit 3; }; [ -e /sign/2 ] || { ${sign(1)}; touch /sign/2; exit 5; }; sleep 1000`,
      ),
      { restartPolicy: 'Always' },
    ),
    podWith('stays', shell(`echo $(cat /proc/sys/kernel/random/uuid); exec sleep 1000`)),
  ];
  expect((await world.cli(['run', '-d', ...files])).code).toBe(0);
  await Promise.all(['ender', 'eater', 'stays'].map((name) => world.untilRunning(name)));
  await world.untilPod('again', ({ status }) => {
    const [container] = status?.containerStatuses ?? [];
    return container?.restartCount === 1 && container.state?.running !== undefined;
  });
  const stays = await world.untilRunning('stays');
  const log = logFile(await world.untilRunning('writer'));
  const follower = world.start(['logs', '-f', 'writer']);
  await until('the writer writes', () => statSync(log).size > 2e6);

  await first.kill();
  // Nobody but the shims is there now.
  const atKill = statSync(log).size;
  await until('10 MB come without an agent', () => statSync(log).size > atKill + 10e6);
  give(1);
  await until('the others end', () => existsExit(4));
  await until('20 MB have come without an agent', () => statSync(log).size > atKill + 20e6);
  expect((await follower.exit).code).not.toBe(0);

  const second = await world.liveAgent();
  expect(terminated(await world.untilEnded('ender'))).toMatchObject({ exitCode: 42, reason: 'Error' });
  expect((await world.cli(['logs', 'ender'])).stdout).toBe('one\ntwo\n');
  const eater = JSON.parse((await world.cli(['pods', 'eater', '-o', 'json'])).stdout) as Pod;
  expect(eater.status?.phase).toBe('Failed');
  expect(terminated(eater)).toMatchObject({ exitCode: 137, reason: 'OOMKilled' });

  // The one that ran on is the same one.
  const now = await world.untilRunning('stays');
  expect(now.status?.containerStatuses?.[0]).toMatchObject({
    restartCount: 0,
    containerID: stays.status?.containerStatuses?.[0]?.containerID,
    state: { running: stays.status?.containerStatuses?.[0]?.state?.running },
  });
  expect(await world.cli(['exec', 'stays', '--', 'echo', 'in'])).toMatchObject({
    stdout: 'in\n',
    stderr: '',
  });

  expect(terminated(await world.untilEnded('writer'))).toMatchObject({ exitCode: 11 });
  const lines = readFileSync(log, 'latin1').split('\n');
  expect(lines.pop()).toBe('');
  expect(lines.length).toBe(PER_SECOND * SECONDS);
  // Not one is missing, doubled, cut or out of order.
  const wrong = lines.findIndex(
    (line, n) => !line.endsWith(` stdout F ${String(n).padStart(9, '0')} ${'0'.repeat(LINE - 11)}`),
  );
  expect(lines[wrong]).toBeUndefined();
  const [from = 0, to = 0] = [lines[0], lines.at(-1)].map((line) => Date.parse(line?.split(' ')[0] ?? ''));
  const rate = (PER_SECOND * SECONDS * LINE) / ((to - from) / 1000);
  console.log(`the writer wrote ${(rate / 1e6).toFixed(1)} MB/s`);
  // Of what was asked for, what a machine with other things to do gives.
  expect(rate).toBeGreaterThan(5e6 / patience);

  const again = await world.untilPod(
    'again',
    ({ status }) => status?.containerStatuses?.[0]?.restartCount === 2,
  );
  expect(again.status?.containerStatuses?.[0]?.lastState?.terminated?.exitCode).toBe(5);

  expect((await world.cli(['rm', '--all'])).code).toBe(0);
  expect(world.leftovers()).toEqual([]);
  second.signal('SIGTERM');
  await second.exit;
});

/** Exit files that shims have written: of so many containers at least. */
function existsExit(count: number): boolean {
  const root = join(world.state, 'sandboxes');
  const written = readdirSync(root).flatMap((sandbox) => {
    try {
      return readdirSync(join(root, sandbox, 'containers')).filter((id) => {
        try {
          return readFileSync(join(root, sandbox, 'containers', id, 'exit'), 'utf8').startsWith('{');
        } catch {
          return false;
        }
      });
    } catch {
      return [];
    }
  });
  return written.length >= count;
}
