/** `nodelet doctor` on the real machine, and agents where the doctor says no. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Diagnosis, Finding } from '../../../src/agent/index.ts';
import { readCgroupHost } from '../../../src/linux/cgroups/index.ts';
import { podOf, type RunOptions, shell, World } from '../../fixtures/agent.ts';

let world: World;
beforeAll(async () => {
  world = await World.open({ programs: 'sh' });
});
afterAll(async () => await world?.close());

function traces(): string[] {
  const host = readCgroupHost();
  const tops = new Set([host.unified, ...Object.values(host.controllers).map((one) => one.root)]);
  return [
    ...[...tops].flatMap((top) => readdirSync(top)).filter((name) => name.startsWith('nodelet-doctor')),
    ...readdirSync(world.base, { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.includes('probe'),
    ),
    ...world.shared(),
    ...world.leftovers(),
  ];
}

afterEach(() => {
  expect(traces()).toEqual([]);
});

async function doctor(
  words: readonly string[] = [],
  options: RunOptions = {},
): Promise<{ readonly code: number | undefined; readonly diagnosis: Diagnosis }> {
  const settings = words.includes('--root') ? words : [...world.settings, ...words];
  const { code, stdout, stderr } = await world.cli(['doctor', ...settings, '-o', 'json'], options);
  expect(stderr).toBe('');
  return { code, diagnosis: JSON.parse(stdout) as Diagnosis };
}

function finding({ findings }: Diagnosis, id: string): Finding {
  const found = findings.find((one) => one.id === id);
  if (found === undefined) throw new Error(`no finding ${id}`);
  return found;
}

/** Runs the rest of the line with an overlay on `where`, in a mount namespace of its own. */
function onOverlay(where: string): string[] {
  const script = `set -e
    mkdir -p "$0" && mount -t tmpfs tmpfs "$0" && mkdir "$0/lower" "$0/upper" "$0/work" "$0/top"
    mount -t overlay overlay -o "lowerdir=$0/lower,upperdir=$0/upper,workdir=$0/work" "$0/top"
    exec "$@"`;
  return ['unshare', '--mount', 'sh', '-c', script, where];
}

describe('nodelet doctor', () => {
  it('finds this machine, which runs these tests, ready', async () => {
    const { code, diagnosis } = await doctor();
    expect({ code, ready: diagnosis.ready }).toEqual({ code: 0, ready: true });
    expect(diagnosis.findings.filter(({ level, status }) => level === 'needed' && status !== 'ok')).toEqual(
      [],
    );
    expect(finding(diagnosis, 'overlay').found).toContain(`"${world.root}"`);
    expect(finding(diagnosis, 'cgroup-use').status).toBe('ok');
    expect(finding(diagnosis, 'links').status).toBe('ok');
    expect(finding(diagnosis, 'agent').found).toContain('none runs');
  });

  it('for people: groups, marks, and a verdict at the end', async () => {
    const { code, stdout, stderr } = await world.cli(['doctor', ...world.settings]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^Program\n {2}ok Node\.js +\d/);
    expect(stdout).toMatch(/^ {2}ok overlayfs on --root +"/m);
    expect(stdout).toMatch(/\n\nPods can run on this machine\. It lacks .*\.\n$/);
  });

  it('sees a running agent, and does not disturb it', async () => {
    const agent = await world.liveAgent();
    try {
      const { code, diagnosis } = await doctor();
      expect(code).toBe(0);
      expect(finding(diagnosis, 'agent').found).toBe(`runs, pid ${agent.pid}`);
    } finally {
      agent.signal('SIGTERM');
      await agent.exit;
      // An agent that is told to end leaves what its pods would share; a run takes it away.
      await world.run(podOf('last', [shell('exit 0')]));
    }
  });

  it('an overlay cannot hold another: exit 1 and a mend', async () => {
    const before = onOverlay(world.state);
    const top = join(world.state, 'top');
    const { code, diagnosis } = await doctor(['--root', join(top, 'root')], { before });
    expect({ code, ready: diagnosis.ready }).toEqual({ code: 1, ready: false });
    const overlay = finding(diagnosis, 'overlay');
    expect(overlay).toMatchObject({ level: 'needed', status: 'lacking' });
    expect(overlay.found).toContain('is on overlay: ');
    expect(overlay.mend).toContain('choose a --root on ext4, XFS, Btrfs or a tmpfs');
    const others = diagnosis.findings.filter(({ level, status }) => level === 'needed' && status !== 'ok');
    expect(others.map(({ id }) => id)).toEqual(['overlay']);
  });

  it.each(['agent', 'run'])(
    'there nodelet %s is refused at once, with setting, value and mend',
    async (verb) => {
      const before = onOverlay(world.state);
      const root = join(world.state, 'top', 'root');
      const pod = verb === 'run' ? [world.manifest(podOf('web', [shell('true')]))] : [];
      const { code, stdout, stderr } = await world.cli([verb, '--root', root, ...pod], { before });
      expect({ code, stdout }).toEqual({ code: 125, stdout: '' });
      expect(stderr).toContain(`nodelet: cannot use root "${root}": "${world.state}/top`);
      expect(stderr).toContain(
        'is on overlay, which the kernel does not take for the writable layer of a container',
      );
      expect(stderr).toMatch(/\n {2}hint: choose a --root on ext4/);
    },
  );

  it('a subnet that is taken, a bridge that is none', async () => {
    const taken = await doctor(['--pod-cidr', '127.0.0.0/24']);
    expect(taken.code).toBe(1);
    expect(finding(taken.diagnosis, 'pod-network')).toMatchObject({ status: 'lacking' });
    const link = await world.cli(['doctor', ...world.settings, '--bridge', 'lo']);
    expect(link.code).toBe(1);
    expect(link.stdout).toMatch(/NO pod network .*"lo"/);
    const host = await doctor(['--network', 'host', '--pod-cidr', '127.0.0.0/24']);
    expect(host.code).toBe(0);
  });

  it('without root: exit 1, what could not be tried is marked', async () => {
    const before = ['setpriv', '--reuid', '65534', '--clear-groups'];
    const { code, stdout } = await world.cli(['doctor', '--root', '/nonexistent'], { before });
    expect(code).toBe(1);
    expect(stdout).toMatch(/^ {2}NO root +uid 65534$/m);
    expect(stdout).toMatch(/^ {3}\? overlayfs on --root +root is needed to try it$/m);
    expect(stdout).toMatch(/Pods cannot run on this machine yet\. .*could not be tried \(\?\)\.\n$/);
  });

  it('wrong usage', async () => {
    const { code, stderr } = await world.cli(['doctor', '--brigde', 'x']);
    expect(code).toBe(125);
    expect(stderr).toContain('Did you mean --bridge?');
  });
});
