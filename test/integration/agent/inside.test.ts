/** What a container finds itself in, seen from inside, with an agent as it comes. */
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Pod } from '../../../src/kube/index.ts';
import { readCgroupHost } from '../../../src/linux/cgroups/index.ts';
import { type Program, podOf, shell, World } from '../../fixtures/agent.ts';

const PIDS = 40;

let world: World;
let agent: Program;
beforeAll(async () => {
  world = await World.open();
  mkdirSync(join(world.base, 'user'));
  agent = await world.liveAgent(['--pod-max-pids', String(PIDS)]);
  await world.cli(['run', '-d', world.manifest(podOf('plain', [shell('exec sleep 1000')]))]);
  await world.untilRunning('plain');
});
afterAll(async () => {
  await world?.cli(['rm', '--all', '--force']);
  const left = world?.leftovers();
  agent?.signal('SIGTERM');
  await agent?.exit;
  await world?.close();
  expect(left).toEqual([]);
});

async function inside(script: string, pod = 'plain'): Promise<string> {
  const { code, stdout, stderr } = await world.cli(['exec', pod, '--', 'sh', '-c', script]);
  if (code !== 0) throw new Error(`exec ended with ${code}: ${stdout}${stderr}`);
  return stdout;
}

/** A pod of one container run to its end, as `nodelet pods -o json` tells of it, and what it wrote. */
async function ended(name: string, container: object, spec: object = {}): Promise<{ pod: Pod; log: string }> {
  await world.cli(['run', '-d', world.manifest(podOf(name, [container], spec))]);
  await world.untilEnded(name);
  const pod = JSON.parse((await world.cli(['pods', name, '-o', 'json'])).stdout) as Pod;
  const { stdout: log } = await world.cli(['logs', name]);
  await world.cli(['rm', name]);
  return { pod, log };
}

describe('a default container', () => {
  it('has the name of its pod, and is PID 1', async () => {
    expect(await inside('hostname; cat /etc/hostname')).toBe('plain\nplain\n');
    expect(await inside("tr '\\0' ' ' < /proc/1/cmdline")).toBe('sleep 1000 ');
    expect(await inside('ls /proc | grep -c "^[0-9]"')).toMatch(/^[2-6]\n$/);
  });

  it('has lo and eth0 alone, and the address that the agent says', async () => {
    expect(await inside('ls /sys/class/net')).toBe('eth0\nlo\n');
    const pod = await world.client.pod('default', 'plain');
    expect(await inside('ip -4 -o addr show eth0')).toContain(` ${pod.status?.podIP}/24 `);
    expect(await inside('cat /etc/hosts')).toContain(`${pod.status?.podIP}\tplain`);
  });

  it('has 14 capabilities, in no ambient set, and a seccomp filter', async () => {
    const status = await inside('cat /proc/1/status');
    const set = (name: string): string =>
      new RegExp(`^Cap${name}:\\s+(\\w+)$`, 'm').exec(status)?.[1] ?? 'none';
    const bits = (hex: string): number =>
      BigInt(`0x${hex}`)
        .toString(2)
        .split('')
        .filter((bit) => bit === '1').length;
    expect(['Eff', 'Prm', 'Bnd'].map((name) => bits(set(name)))).toEqual([14, 14, 14]);
    expect(['Inh', 'Amb'].map((name) => bits(set(name)))).toEqual([0, 0]);
    expect(set('Eff')).toBe('00000000a80425fb');
    expect(status).toMatch(/^Seccomp:\s+2$/m);
    expect(await inside('unshare -U true 2>&1 || true')).toMatch(/Operation not permitted|not permitted/);
  });

  it('finds nothing behind masked paths', async () => {
    expect(
      await inside('cat /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug 2>/dev/null | wc -c'),
    ).toBe('0\n');
    expect(await inside('ls -A /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -v : | wc -w')).toBe(
      '0\n',
    );
  });

  it('cannot write to /proc/sys and its like', async () => {
    for (const path of ['/proc/sys/kernel/domainname', '/proc/sysrq-trigger', '/sys/kernel/mm/ksm/run'])
      expect(await inside(`(echo 0 > ${path}) 2>&1 || true`), path).toMatch(
        /Read-only file system|nonexistent/,
      );
  });

  it('has no mount of the host', async () => {
    const lines = (await inside('cat /proc/1/mountinfo')).trim().split('\n');
    const mounts = lines.map((line) => {
      const [, , , root = '', at = ''] = line.split(' ');
      return { root, at, type: / - (\S+)/.exec(line)?.[1] ?? '' };
    });
    // Of a real file system: single files that the agent made for it. A masked file is the host's /dev/null.
    const ours = /^(proc|sysfs|tmpfs|devpts|mqueue|cgroup2?|overlay)$/;
    const real = mounts.filter(
      ({ type, root }) => !ours.test(type) && !(type === 'devtmpfs' && root === '/null'),
    );
    expect(real.map(({ at }) => at).sort()).toEqual([
      '/dev/termination-log',
      '/etc/hostname',
      '/etc/hosts',
      '/etc/resolv.conf',
    ]);
    for (const { root } of real) expect(root).toContain(world.base);
    expect(mounts.filter(({ type }) => type === 'overlay').map(({ at }) => at)).toEqual(['/']);
    const rest = mounts.filter(({ at }) => !/^\/($|etc\/|dev(\/|$)|proc(\/|$)|sys(\/|$))/.test(at));
    expect(rest).toEqual([]);
    // None is shared with the host, or receives from it.
    expect(lines.filter((line) => / (shared|master):/.test(line))).toEqual([]);
  });

  it('has the three standard descriptors and no other', async () => {
    expect(await inside('ls /proc/1/fd')).toBe('0\n1\n2\n');
    expect(await inside('ls /proc/self/fd | wc -l')).toBe('4\n'); // and the directory that ls reads
  });

  it('cannot make devices or mounts', async () => {
    expect(await inside('mknod /tmp/disk b 254 0 2>&1; cat /tmp/disk 2>&1; true')).toMatch(/not permitted/);
    expect(await inside('mount -t tmpfs x /tmp 2>&1; true')).toMatch(/permission denied|not permitted/i);
  });
});

describe('limits', () => {
  it('memory: OOMKilled with 137, and said so', async () => {
    const { pod } = await ended(
      'eater',
      shell('exec tail /dev/zero', { resources: { limits: { memory: '24Mi' } } }),
    );
    expect(pod.status?.phase).toBe('Failed');
    expect(pod.status?.containerStatuses?.[0]?.state?.terminated).toMatchObject({
      exitCode: 137,
      reason: 'OOMKilled',
    });
  });

  it('memory: a child that is killed takes its container along on cgroup v2 alone', async () => {
    const script = 'tail /dev/zero; echo "child: $?"';
    const { pod, log } = await ended('parent', shell(script, { resources: { limits: { memory: '24Mi' } } }));
    const grouped = readCgroupHost().controllers.memory?.version === 2; // memory.oom.group, as the kubelet sets it
    expect(log).toMatch(grouped ? /^$/ : /child: 137\n$/);
    expect(pod.status?.phase).toBe(grouped ? 'Failed' : 'Succeeded');
    expect(pod.status?.containerStatuses?.[0]?.state?.terminated?.reason).toBe(
      grouped ? 'OOMKilled' : 'Completed',
    );
  });

  it('CPU: a fifth of a processor', async () => {
    const script = `(while :; do :; done) & p=$!; sleep 3; cut -d" " -f14,15 /proc/$p/stat; kill -9 $p`;
    const { log } = await ended('burner', shell(script, { resources: { limits: { cpu: '200m' } } }));
    const ticks = log
      .trim()
      .split(' ')
      .reduce((sum, text) => sum + Number(text), 0);
    // 3 s at a fifth are 60 ticks of 10 ms.
    expect(ticks).toBeGreaterThan(20);
    expect(ticks).toBeLessThan(90);
  });

  it('processes', async () => {
    const script = 'i=0; while [ $i -lt 100 ]; do sleep 30 & i=$((i+1)); done; echo all';
    const { pod, log } = await ended('forks', shell(script));
    expect(log).toMatch(/can't fork: Resource temporarily unavailable/);
    expect(log).not.toContain('all');
    expect(pod.status?.phase).toBe('Failed');
  });
});

describe('hostUsers: false', () => {
  it('root inside is nobody outside, and files of the image are its own', async () => {
    const container = shell('touch /made /data/made; trap "exit 0" TERM; sleep 1000 & wait', {
      volumeMounts: [{ name: 'data', mountPath: '/data' }],
    });
    const spec = { hostUsers: false, volumes: [{ name: 'data', emptyDir: {} }] };
    await world.cli(['run', '-d', world.manifest(podOf('userns', [container], spec))]);
    const pod = await world.untilRunning('userns');
    const map = (await inside('cat /proc/self/uid_map', 'userns')).trim().split(/\s+/).map(Number);
    const [first, base = 0, length] = map;
    expect([first, length]).toEqual([0, 65_536]);
    expect(base).toBeGreaterThanOrEqual(65_536);
    expect(await inside('id -u; stat -c %u:%g /usr/bin/busybox /data /made /data/made', 'userns')).toBe(
      '0\n0:0\n0:0\n0:0\n0:0\n',
    );

    // From outside: an unprivileged id, for the process and for what it made in the root.
    const owners = world
      .processes(true)
      .filter((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('sleep\0'))
      .map((pid) => statSync(`/proc/${pid}`).uid);
    expect(new Set(owners)).toEqual(new Set([0, base])); // that of "plain", and this one
    const upper = readdirSync(join(world.root, 'snapshots/active'))
      .map((id) => join(world.root, 'snapshots/active', id, 'upper/made'))
      .flatMap((path) => statSync(path, { throwIfNoEntry: false }) ?? []);
    expect(upper.map(({ uid }) => uid)).toEqual([base]);
    expect(pod.status?.phase).toBe('Running');
    expect((await world.cli(['rm', 'userns'])).code).toBe(0);
  });
});
