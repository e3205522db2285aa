/** `nodelet run`: how it ends, with an agent and without. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Pod } from '../../../src/kube/index.ts';
import { type Program, podOf, shell, World } from '../../fixtures/agent.ts';
import { patience } from '../../fixtures/patience.ts';

let world: World;
beforeAll(async () => {
  world = await World.open();
});
afterAll(async () => await world?.close());

const FOREVER = 'trap "echo ended; exit 0" TERM; echo up; while :; do sleep 1000 & wait $!; done';

describe('without an agent', () => {
  afterEach(() => {
    expect(world.leftovers()).toEqual([]);
    expect(world.shared()).toEqual([]);
  });

  it('ends with 0 where the pod succeeds, standard output alone on standard output', async () => {
    const { code, stdout, stderr } = await world.run(podOf('ok', [shell('echo out; echo err >&2')]));
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'out\n' });
    expect(stderr).toMatch(/^err$/m);
    expect(stderr).toMatch(/Normal +Started +pod\/ok\[c\]/);
  });

  it("ends with the first failed container's code, in the manifest's order", async () => {
    const { code, stdout, stderr } = await world.run(
      podOf('two', [
        shell('sleep 0.3; exit 7', { name: 'first' }),
        shell('echo b; exit 8', { name: 'second' }),
      ]),
    );
    expect(code).toBe(7);
    expect(stdout).toBe('[second] b\n');
    expect(stderr).toMatch(/pod "two" failed: container "first" exited with 7$/m);
  });

  it('an init container that fails decides', async () => {
    const { code, stdout } = await world.run(
      podOf('init', [shell('echo never')], { initContainers: [shell('exit 9', { name: 'i' })] }),
    );
    expect({ code, stdout }).toEqual({ code: 9, stdout: '' });
  });

  it('a program that a signal ended', async () => {
    // PID 1 of a namespace of its own would be spared by the kernel.
    const pod = podOf('signal', [shell('kill -SEGV $$$$')], { shareProcessNamespace: true });
    expect((await world.run(pod)).code).toBe(139);
  });

  it('Ctrl-C stops gracefully and exits with 130', async () => {
    const run = world.start(['run', ...world.settings, world.manifest(podOf('long', [shell(FOREVER)]))]);
    await run.until(/^up$/m);
    run.signal('SIGINT');
    const { code, stdout, stderr } = await run.exit;
    expect({ code, stdout }).toEqual({ code: 130, stdout: 'up\nended\n' });
    expect(stderr).toContain('Stopping; press Ctrl-C again to kill at once.');
  });

  it('a second Ctrl-C kills', async () => {
    const stubborn = podOf('stubborn', [shell('trap "echo no" TERM; echo up; while :; do sleep 0.1; done')], {
      terminationGracePeriodSeconds: 600,
    });
    const run = world.start(['run', ...world.settings, world.manifest(stubborn)]);
    await run.until(/^up$/m);
    run.signal('SIGINT');
    await run.until(/^no$/m);
    run.signal('SIGINT');
    expect((await run.exit).code).toBe(130);
  });

  it('SIGTERM exits with 143', async () => {
    const run = world.start(['run', ...world.settings, world.manifest(podOf('term', [shell(FOREVER)]))]);
    await run.until(/^up$/m);
    run.signal('SIGTERM');
    expect((await run.exit).code).toBe(143);
  });

  it('--timeout stops the pods and exits with 124', async () => {
    const { code, stdout, stderr } = await world.run(podOf('late', [shell(FOREVER)]), ['--timeout', '800ms']);
    expect({ code, stdout }).toEqual({ code: 124, stdout: 'up\nended\n' });
    expect(stderr).toContain('nodelet: the time is up; stopping');
  });

  it('several pods, one of them from standard input', async () => {
    const stdin = JSON.stringify(podOf('b', [shell('echo b; exit 4')]));
    const { code, stdout } = await world.cli(
      ['run', ...world.settings, world.manifest(podOf('a', [shell('echo a')])), '-'],
      { input: stdin },
    );
    expect(code).toBe(4);
    expect(stdout.split('\n').sort()).toEqual(['', '[a/c] a', '[b/c] b']);
  });

  it('killed with SIGKILL, it leaves pods that the next run removes', async () => {
    const run = world.start(['run', ...world.settings, world.manifest(podOf('orphan', [shell(FOREVER)]))]);
    await run.until(/^up$/m);
    await run.kill();
    expect(world.processes(true)).not.toEqual([]);
    const { code, stdout, stderr } = await world.run(podOf('next', [shell('echo next')]));
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'next\n' });
    expect(stderr).toContain('removing pod "orphan": the run that it belonged to was killed');
  });
});

describe('through a running agent', () => {
  let agent: Program;
  beforeAll(async () => {
    agent = await world.liveAgent();
  });
  afterAll(async () => {
    agent.signal('SIGTERM');
    expect((await agent.exit).code).toBe(0);
  });
  afterEach(() => expect(world.leftovers()).toEqual([]));

  it('the pod stays where --rm is not given, and its name is taken', async () => {
    const file = world.manifest(podOf('kept', [shell('echo kept; exit 5')]));
    const { code, stdout } = await world.cli(['run', file]);
    expect({ code, stdout }).toEqual({ code: 5, stdout: 'kept\n' });
    expect((await world.cli(['logs', 'kept'])).stdout).toBe('kept\n');
    const again = await world.cli(['run', file]);
    expect(again.code).toBe(125);
    expect(again.stderr).toBe(
      'nodelet: a pod "default/kept" exists already\n  hint: remove it first: nodelet rm default/kept\n',
    );
    expect((await world.cli(['rm', 'kept'])).stdout).toBe('pod/kept removed\n');
  });

  it('--rm removes it', async () => {
    const { code } = await world.cli(['run', '--rm', world.manifest(podOf('gone', [shell('exit 6')]))]);
    expect(code).toBe(6);
    expect((await world.cli(['pods', '-o', 'name'])).stdout).toBe('');
  });

  it('settings are said to count for nothing', async () => {
    const { code, stderr } = await world.run(podOf('note', [shell('true')]), ['--rm']);
    expect(code).toBe(0);
    expect(stderr).toMatch(/^An agent runs already: its own settings count, not those given here\.$/m);
  });

  it('--detach returns at once; stop and rm end it', async () => {
    const file = world.manifest(podOf('bg', [shell(FOREVER)]));
    expect(await world.cli(['run', '--detach', file])).toMatchObject({ code: 0, stdout: 'pod/bg created\n' });
    await world.untilRunning('bg');
    expect((await world.cli(['stop', 'bg'])).stdout).toBe('pod/bg stopped\n');
    expect((await world.cli(['logs', 'bg'])).stdout).toBe('up\nended\n');
    expect((await world.cli(['rm', 'bg'])).code).toBe(0);
  });

  it('--detach --rm: it goes by itself', async () => {
    const file = world.manifest(podOf('self', [shell('exit 0')]));
    expect((await world.cli(['run', '-d', '--rm', file])).code).toBe(0);
    await world.untilPod('self', (_, { type }) => type === 'DELETED').catch(() => undefined);
    expect((await world.cli(['pods', '-o', 'name'])).stdout).toBe('');
  });

  it('Ctrl-C stops the pod and leaves it; --rm takes it away', async () => {
    const run = world.start(['run', world.manifest(podOf('int', [shell(FOREVER)]))]);
    await run.until(/^up$/m);
    run.signal('SIGINT');
    expect((await run.exit).code).toBe(130);
    const pod = JSON.parse((await world.cli(['pods', 'int', '-o', 'json'])).stdout) as Pod;
    expect(pod.status?.phase).toBe('Succeeded');
    expect((await world.cli(['rm', 'int'])).code).toBe(0);
  });

  it('the agent goes: the run says so and ends with 125, the pod runs on', async () => {
    const run = world.start(['run', world.manifest(podOf('lost', [shell(FOREVER)]))]);
    await run.until(/^up$/m);
    await agent.kill();
    const { code, stderr } = await run.exit;
    expect(code).toBe(125);
    expect(stderr).toMatch(/nodelet: the agent has gone; the pods run on\n {2}hint: nodelet agent/);
    expect(world.processes(true).length).toBeGreaterThan(0);
    agent = await world.liveAgent();
    await world.untilRunning('lost');
    expect((await world.cli(['rm', 'lost'])).code).toBe(0);
  });

  it('nothing of the pods is left open in the agent', async () => {
    const descriptors = (): string[] => world.descriptors(agent.pid);
    await world.cli(['run', '--rm', world.manifest(podOf('warm', [shell('true')]))]);
    const before = descriptors();
    for (let i = 0; i < 3; i += 1)
      await world.cli(['run', '--rm', world.manifest(podOf(`fd-${i}`, [shell('true')]))]);
    // Connections of commands that have just ended may be on their way out: then, and one of them before.
    const more = (): string[] => {
      const known = [...before];
      return descriptors().filter((one) => {
        const at = known.indexOf(one);
        if (at >= 0) known.splice(at, 1);
        return at < 0;
      });
    };
    await expect.poll(more).toEqual([]);
  });

  it('a second agent with the same state is refused', async () => {
    const { code, stderr } = await world.cli(['agent', ...world.settings]);
    expect(code).toBe(125);
    expect(stderr).toMatch(
      new RegExp(
        `^nodelet: an agent runs already with the state directory "${world.state}" \\(pid ${agent.pid}\\)\n {2}hint: use it, or give this one its own`,
      ),
    );
  });
});

describe('a detached run without an agent', () => {
  it('starts one in the background, which ends with its last pod', async () => {
    const file = world.manifest(podOf('alone', [shell(FOREVER)]));
    expect(await world.cli(['run', '-d', ...world.settings, file])).toMatchObject({
      code: 0,
      stdout: 'pod/alone created\n',
    });
    await world.untilRunning('alone');
    expect((await world.cli(['rm', 'alone'])).code).toBe(0);
    await expect.poll(() => world.shared(), { timeout: 10_000 }).toEqual([]);
    expect(world.leftovers()).toEqual([]);
    expect(readFileSync(join(world.state, 'agent.log'), 'utf8')).toContain('the last pod is gone');
  });
});

/** That a container runs says nothing of its listener yet. */
async function answerOf(url: string): Promise<string> {
  for (const deadline = performance.now() + 10_000 * patience; ; await setTimeout(20)) {
    try {
      return await (await fetch(url)).text();
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
  }
}

describe('two agents side by side', () => {
  it('with roots, bridges and ranges of their own know nothing of each other', async () => {
    const other = await World.open();
    try {
      const [a, b] = [await world.liveAgent(), await other.liveAgent()];
      const server = podOf('same', [
        shell('trap "exit 0" TERM; echo $HOSTNAME > /tmp/index.html; httpd -f -p 80 -h /tmp & wait'),
      ]);
      for (const one of [world, other]) await one.cli(['run', '-d', one.manifest(server)]);
      const [mine, theirs] = [await world.untilRunning('same'), await other.untilRunning('same')];
      const prefix = (one: World): string => one.subnet.replace(/\.0\/24$/, '.');
      expect(mine.status?.podIP?.startsWith(prefix(world))).toBe(true);
      expect(theirs.status?.podIP?.startsWith(prefix(other))).toBe(true);
      for (const pod of [mine, theirs]) expect(await answerOf(`http://${pod.status?.podIP}/`)).toBe('same\n');

      await world.cli(['rm', 'same']);
      a.signal('SIGTERM');
      await a.exit;
      expect((await fetch(`http://${theirs.status?.podIP}/`)).status).toBe(200);
      await other.cli(['rm', 'same']);
      b.signal('SIGTERM');
      await b.exit;
    } finally {
      await other.close();
    }
  });
});

describe('a run whose settings are wrong', () => {
  it.each([
    ['a subnet', '--pod-cidr', '10.0.0.0/99', 'cannot read "10.0.0.0/99" as a subnet'],
    [
      'a cgroup root below nothing',
      '--cgroup-root',
      '/nodelet-test-nobody/below',
      'there is no "/sys/fs/cgroup',
    ],
  ])('%s: makes nothing', async (_, flag, value, message) => {
    // A world of its own: in the other one agents have run.
    await World.within({}, async (fresh) => {
      const pod = fresh.manifest(podOf('refused', [shell('true')]));
      const { code, stderr } = await fresh.cli(['run', ...fresh.settings, flag, value, pod]);
      expect({ code, stderr }).toEqual({ code: 125, stderr: expect.stringContaining(message) });
      expect(fresh.leftovers()).toEqual([]);
      expect(fresh.shared()).toEqual([]);
    });
  });
});
