/** The cgroup code on this machine's own cgroups, below one of its own that is removed again. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  applySteps,
  type CgroupHost,
  type CgroupResources,
  directoryOf,
  ensureCgroup,
  freeze,
  isPopulated,
  joinTargets,
  killCgroup,
  listOwned,
  planCgroup,
  processesIn,
  readCgroupHost,
  readEvents,
  readLimitsV1,
  readOomKills,
  readStats,
  removeCgroup,
  thaw,
  updateResources,
  v1Roots,
  waitEmpty,
} from '../../../src/linux/cgroups/index.ts';
import { readStat } from '../../../src/linux/procfs.ts';

const OWNED = `/nodelet-test-${process.pid}`;
const MI = 1024 * 1024;
let host: CgroupHost;
let path: string;
let counter = 0;
const children = new Set<ChildProcess>();

beforeAll(() => {
  host = readCgroupHost();
  applySteps(planCgroup(host, OWNED, {}, { kind: 'pod' }));
});

beforeEach(() => {
  counter += 1;
  path = `${OWNED}/c${counter}`;
});

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
  killCgroup(host, OWNED);
  await waitEmpty(host, OWNED);
});

afterAll(async () => {
  killCgroup(host, OWNED);
  await removeCgroup(host, OWNED);
  for (const root of [host.unified, ...v1Roots(host)])
    expect(existsSync(directoryOf(root, OWNED))).toBe(false);
});

function make(resources: CgroupResources = {}): void {
  applySteps(planCgroup(host, path, resources, { kind: 'container', existing: new Set([OWNED]) }));
}

interface Member {
  readonly child: ChildProcess;
  readonly pid: number;
  /** The next line that it prints. */
  line(): Promise<string>;
}

/** Starts a shell command as a member of the cgroup in every hierarchy; resolves when it has joined. */
async function inside(command: string, at = path): Promise<Member> {
  const { unified, procs } = joinTargets(host, at);
  const joins = [...procs, `${unified}/cgroup.procs`].map((file) => `echo $$ > ${file}`).join(' && ');
  const child = spawn('sh', ['-c', `${joins} && echo joined && ${command}`], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  children.add(child);
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const line = async () => {
    const next = await lines.next();
    return next.done === true ? '' : next.value;
  };
  expect(await line()).toBe('joined');
  return { child, pid: child.pid!, line };
}

/** Takes 16 MiB of anonymous memory, says so, and sleeps (not as the last command: a shell may exec that one). */
const FILL = 'x=$(yes | head -c 16777216) && echo filled && sleep 60; :';

async function exitOf({ child }: Member): Promise<{ code: number | null; signal: string | null }> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return { code: child.exitCode, signal: child.signalCode };
}

function content(controller: keyof CgroupHost['controllers'], file: string, at = path): string {
  return readFileSync(join(directoryOf(host.controllers[controller]!.root, at), file), 'utf8').trim();
}

/** One name for a value that is in another file, in another form, on v1 and v2. */
function held(what: 'memory' | 'pids' | 'shares' | 'quota', at = path): string {
  const v1 = (controller: keyof CgroupHost['controllers']) => host.controllers[controller]!.version === 1;
  switch (what) {
    case 'memory':
      return content('memory', v1('memory') ? 'memory.limit_in_bytes' : 'memory.max', at);
    case 'pids':
      return content('pids', 'pids.max', at);
    case 'shares':
      return content('cpu', v1('cpu') ? 'cpu.shares' : 'cpu.weight', at);
    case 'quota':
      return v1('cpu')
        ? `${content('cpu', 'cpu.cfs_quota_us', at)} ${content('cpu', 'cpu.cfs_period_us', at)}`
        : content('cpu', 'cpu.max', at);
    default:
      throw new Error(what);
  }
}

describe('making', () => {
  test('a container gives it its values, and making it again changes nothing', () => {
    const resources: CgroupResources = {
      memory: { limit: 64 * MI, swap: 64 * MI, reservation: 16 * MI },
      cpu: { shares: 512, quota: 50_000, period: 100_000, cpus: '0', mems: '0' },
      pids: { limit: 77 },
      hugepageLimits: host.hugepageSizes.map((pageSize) => ({ pageSize, limit: 0 })),
      oomGroup: true,
    };
    for (let i = 0; i < 2; i++) {
      make(resources);
      expect(held('memory')).toBe(String(64 * MI));
      expect(held('pids')).toBe('77');
      expect(held('shares')).toBe(host.controllers.cpu?.version === 1 ? '512' : '59');
      expect(held('quota')).toBe('50000 100000');
      expect(content('cpuset', 'cpuset.cpus')).toBe('0');
      if (host.controllers.hugetlb !== undefined && host.hugepageSizes.includes('2MB')) {
        const file =
          host.controllers.hugetlb.version === 1 ? 'hugetlb.2MB.limit_in_bytes' : 'hugetlb.2MB.max';
        expect(content('hugetlb', file)).toBe('0');
      }
    }
  });

  test('a tree of pods: a process can join the leaf in every hierarchy at once', async () => {
    const leaf = `${path}/besteffort/pod1/leaf`;
    applySteps(planCgroup(host, leaf, { pids: { limit: 10 } }, { kind: 'container', owned: OWNED }));
    const member = await inside('sleep 60', leaf);
    expect(processesIn(host, path)).toContain(member.pid);
    expect(isPopulated(host, path)).toBe(true);
    for (const root of [host.unified, ...v1Roots(host)]) {
      expect(readFileSync(`${directoryOf(root, leaf)}/cgroup.procs`, 'utf8')).toContain(String(member.pid));
    }
  });

  test('where the parent is missing fails with the step and its mend', () => {
    expect(() =>
      applySteps(
        planCgroup(
          host,
          `${path}/a/b`,
          {},
          { kind: 'container', existing: new Set([OWNED, path, `${path}/a`]) },
        ),
      ),
    ).toThrow(
      expect.objectContaining({
        code: 'CGROUP_STEP_FAILED',
        message: `cannot make cgroup "${directoryOf(host.unified, `${path}/a/b`)}": ENOENT`,
        hint: 'its parent does not exist',
      }),
    );
  });

  test('a file that the kernel lacks fails with a hint, or is left out where it is optional', () => {
    make();
    const file = `${directoryOf(host.unified, path)}/no.such.file`;
    applySteps([{ op: 'write', path: file, value: '1', optional: true }]);
    expect(() => applySteps([{ op: 'write', path: file, value: '1' }])).toThrow(
      expect.objectContaining({
        code: 'CGROUP_STEP_FAILED',
        hint: expect.stringContaining('not handed down'),
      }),
    );
    expect(existsSync(file)).toBe(false);
  });

  test('a cgroup that holds processes cannot hand controllers down, and the message says so', async (context) => {
    // Controllers of threads (cpu, cpuset, pids) may be handed down all the same.
    const available = content('freezer', 'cgroup.controllers', OWNED)
      .split(' ')
      .filter((name) => ['memory', 'io', 'hugetlb'].includes(name));
    if (available.length === 0) context.skip('no controller is bound to v2');
    make();
    await inside('sleep 60');
    expect(() =>
      applySteps([
        {
          op: 'write',
          path: `${directoryOf(host.unified, path)}/cgroup.subtree_control`,
          value: `+${available[0]}`,
        },
      ]),
    ).toThrow(
      expect.objectContaining({ hint: expect.stringContaining('processes are in this cgroup itself') }),
    );
  });
});

describe('limits hold', () => {
  test('memory: the process is killed and counted', async () => {
    make({ memory: { limit: 24 * MI, swap: 24 * MI } });
    const member = await inside('exec tail /dev/zero');
    expect(await exitOf(member)).toEqual({ code: null, signal: 'SIGKILL' });
    expect(readOomKills(host, path)).toBeGreaterThanOrEqual(1);
    const stats = readStats(host, path);
    expect(stats.oom?.kills).toBe(readOomKills(host, path));
    expect(stats.memory?.peak ?? 24 * MI).toBeGreaterThan(20 * MI);
    expect(stats.memory?.limit).toBe(24 * MI);
  });

  test('pids: forks beyond the limit are refused and counted', async () => {
    make({ pids: { limit: 5 } });
    const member = await inside('for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; wait');
    await exitOf(member);
    const stats = readStats(host, path).pids!;
    expect(stats.limit).toBe(5);
    expect(stats.refused).toBeGreaterThanOrEqual(1);
    expect(stats.current).toBeLessThanOrEqual(5);
  });

  test('CPU: a quota of a tenth is throttled', async () => {
    make({ cpu: { quota: 10_000, period: 100_000 } });
    const member = await inside('while :; do :; done');
    const before = performance.now();
    // Until ten periods have been enforced, by the kernel's count.
    let cpu = readStats(host, path).cpu!;
    while (cpu.periods < 10 && performance.now() - before < 10_000) {
      await new Promise((resolve) => setImmediate(resolve));
      cpu = readStats(host, path).cpu!;
    }
    const elapsed = performance.now() - before;
    member.child.kill('SIGKILL');
    expect(cpu.throttledPeriods).toBeGreaterThanOrEqual(5);
    expect(cpu.throttledNanos).toBeGreaterThan(0);
    expect(cpu.usageNanos / 1e6).toBeLessThan(elapsed * 0.5);
    expect(cpu.usageNanos).toBeGreaterThan(0);
  });
});

describe('updating', () => {
  test('memory up and down, and no limit, whatever was there before', () => {
    make({ memory: { limit: 64 * MI, swap: 64 * MI } });
    for (const limit of [128 * MI, 32 * MI, 32 * MI, 256 * MI]) {
      updateResources(host, path, { memory: { limit, swap: limit } }, 'container');
      expect(held('memory')).toBe(String(limit));
      expect(readStats(host, path).memory?.swapLimit ?? 0).toBe(0);
    }
    updateResources(host, path, { memory: { limit: -1 } }, 'container');
    expect(readStats(host, path).memory?.limit).toBeUndefined();
    expect(readLimitsV1(host, path).memory).toBe(-1);
  });

  test('a cgroup that may exist gets its values in any case, larger or smaller than it had', () => {
    for (const limit of [32 * MI, 128 * MI, 64 * MI]) {
      ensureCgroup(host, path, { memory: { limit, swap: limit } }, { kind: 'pod', owned: OWNED });
      expect(held('memory')).toBe(String(limit));
    }
  });

  test("CPU quota and period under a parent's quota, in both directions", () => {
    const pod = path;
    applySteps(
      planCgroup(host, pod, { cpu: { quota: 50_000, period: 100_000 } }, { kind: 'pod', owned: OWNED }),
    );
    path = `${pod}/c`;
    applySteps(
      planCgroup(
        host,
        path,
        { cpu: { quota: 50_000, period: 100_000 } },
        { kind: 'container', owned: OWNED },
      ),
    );
    for (const [quota, period] of [
      [25_000, 50_000],
      [100_000, 200_000],
      [5000, 10_000],
      [20_000, 100_000],
    ] as const) {
      updateResources(host, path, { cpu: { quota, period } }, 'container');
      expect(held('quota')).toBe(`${quota} ${period}`);
    }
    updateResources(host, path, { cpu: { quota: -1 } }, 'container');
    expect(held('quota').split(' ')[0]).toMatch(/^(-1|max)$/);
  });

  test('a limit below what is used is refused by v1, with the reason', async (context) => {
    if (host.controllers.memory?.version !== 1) context.skip('v2 kills instead of refusing');
    make({ memory: { limit: 128 * MI, swap: 128 * MI } });
    const member = await inside(FILL);
    expect(await member.line()).not.toBe('');
    expect(() =>
      updateResources(host, path, { memory: { limit: 4 * MI, swap: 4 * MI } }, 'container'),
    ).toThrow(
      expect.objectContaining({ code: 'CGROUP_STEP_FAILED', hint: 'the cgroup uses more than that now' }),
    );
  });
});

describe('statistics', () => {
  test('of a running cgroup have every part, of one that is gone none', async () => {
    make({ memory: { limit: 256 * MI, swap: 256 * MI }, pids: { limit: 50 } });
    const member = await inside(FILL);
    expect(await member.line()).not.toBe('');
    const stats = readStats(host, path);
    expect(stats.cpu!.usageNanos).toBeGreaterThan(0);
    expect(stats.memory!.usage).toBeGreaterThan(0);
    expect(stats.memory!.workingSet).toBeLessThanOrEqual(stats.memory!.usage);
    expect(stats.memory!.rss).toBeGreaterThan(8 * MI);
    expect(stats.memory!.pageFaults).toBeGreaterThan(0);
    expect(stats.pids!.current).toBeGreaterThanOrEqual(1);
    expect(stats.pids!.limit).toBe(50);
    expect(stats.oom?.kills).toBe(0);
    if (host.controllers.io !== undefined) expect(stats.io).toMatchObject({ readBytes: expect.any(Number) });
    if (existsSync(`${directoryOf(host.unified, path)}/cpu.pressure`)) {
      expect(stats.pressure.cpu?.some.totalMicros).toBeGreaterThanOrEqual(0);
      expect(stats.pressure.memory?.full?.totalMicros).toBeGreaterThanOrEqual(0);
    }
    const gone = readStats(host, `${path}-gone`);
    expect(gone).toMatchObject({ cpu: undefined, memory: undefined, pids: undefined, oom: undefined });
  });
});

describe('freezing', () => {
  test('stops a process where it is, and lets it go on', async () => {
    make();
    const member = await inside('while :; do :; done');
    await freeze(host, path);
    expect(readEvents(directoryOf(host.unified, path))?.get('frozen')).toBe(1);
    const ticks = () => readStat(member.pid)!.userTicks + readStat(member.pid)!.systemTicks;
    const before = ticks();
    // Work of our own, long enough for several ticks of a process that were running.
    for (const end = performance.now() + 100; performance.now() < end; ) ticks();
    expect(ticks()).toBe(before);
    await thaw(host, path);
    expect(readEvents(directoryOf(host.unified, path))?.get('frozen')).toBe(0);
    const deadline = performance.now() + 5000;
    while (ticks() === before && performance.now() < deadline)
      await new Promise((resolve) => setImmediate(resolve));
    expect(ticks()).toBeGreaterThan(before);
  });
});

test('a frozen cgroup without processes is frozen, and so is what joins it', async () => {
  make();
  await freeze(host, path, { deadline: 2000 });
  const member = inside('echo running');
  const child = await Promise.race([
    member,
    new Promise<string>((resolve) => setTimeout(() => resolve('frozen'), 100)),
  ]);
  expect(child).toBe('frozen');
  await thaw(host, path);
  expect(await (await member).line()).toBe('running');
});

describe('killing', () => {
  /** Processes that ignore signals, fork on, and live in a cgroup below. */
  const STUBBORN = "trap '' TERM INT HUP; (while :; do sleep 0.01 & done) & while :; do sleep 60; done";

  test.each(['cgroup.kill', 'signals'] as const)(
    'by %s ends every process, also forking ones and those below',
    async (method) => {
      make({ pids: { limit: 200 } });
      await inside(STUBBORN);
      const below = `${path}/below`;
      applySteps(planCgroup(host, below, {}, { kind: 'container', existing: new Set([OWNED, path]) }));
      await inside('exec sleep 60', below);
      killCgroup(host, path, { method });
      expect(await waitEmpty(host, path, { deadline: 5000 })).toBe(true);
      expect(processesIn(host, path)).toEqual([]);
    },
  );

  test('by signals ends frozen processes too', async () => {
    make();
    await inside('exec sleep 60');
    await freeze(host, path);
    killCgroup(host, path, { method: 'signals' });
    expect(await waitEmpty(host, path, { deadline: 5000 })).toBe(true);
  });

  test('a cgroup that is not there does nothing', () => {
    killCgroup(host, `${path}/none`);
    killCgroup(host, `${path}/none`, { method: 'signals' });
  });
});

describe('waiting', () => {
  test('ends when the last process does', async () => {
    make();
    const member = await inside('read -r line < /dev/tty; exec sleep 60');
    const empty = waitEmpty(host, path, { deadline: 20_000 });
    const settled = await Promise.race([
      empty,
      new Promise((resolve) => setImmediate(() => resolve('waiting'))),
    ]);
    expect(settled).toBe('waiting');
    member.child.kill('SIGKILL');
    expect(await empty).toBe(true);
    expect(isPopulated(host, path)).toBe(false);
  });

  test('gives up at the deadline and at the signal, and an aborted one does not start', async () => {
    make();
    await inside('exec sleep 60');
    expect(await waitEmpty(host, path, { deadline: 20 })).toBe(false);
    const controller = new AbortController();
    const wait = waitEmpty(host, path, { signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(wait).rejects.toThrow('enough');
    await expect(waitEmpty(host, path, { signal: controller.signal })).rejects.toThrow('enough');
  });
});

describe('removing', () => {
  test('takes everything below with it, in every hierarchy', async () => {
    applySteps(planCgroup(host, `${path}/pod/a`, {}, { kind: 'container', owned: OWNED }));
    applySteps(planCgroup(host, `${path}/pod/b`, {}, { kind: 'container', owned: OWNED }));
    expect(listOwned(host, path)).toEqual([
      { path: `${path}/pod/a`, populated: false },
      { path: `${path}/pod/b`, populated: false },
      { path: `${path}/pod`, populated: false },
    ]);
    await removeCgroup(host, path);
    for (const root of [host.unified, ...v1Roots(host)])
      expect(existsSync(directoryOf(root, path))).toBe(false);
    await removeCgroup(host, path);
  });

  test('waits for a process that is ending', async () => {
    make();
    const member = await inside('exec sleep 60');
    const removed = removeCgroup(host, path);
    member.child.kill('SIGKILL');
    await removed;
    expect(existsSync(directoryOf(host.unified, path))).toBe(false);
  });

  test('names what holds it, at the deadline', async () => {
    make();
    const member = await inside('exec sleep 61');
    await expect(removeCgroup(host, path, { deadline: 50 })).rejects.toThrow(
      expect.objectContaining({
        code: 'CGROUP_BUSY',
        message: `cannot remove cgroup "${path}": still in it: ${member.pid} (sleep)`,
      }),
    );
    expect(listOwned(host, OWNED).find((one) => one.path === path)?.populated).toBe(true);
  });

  test('names a process that is in a v1 hierarchy alone', async (context) => {
    const [root] = v1Roots(host);
    if (root === undefined) context.skip('needs a v1 hierarchy');
    make();
    const member = await inside(`echo $$ > ${host.unified}/cgroup.procs && echo left && exec sleep 62`);
    expect(await member.line()).not.toBe('');
    await expect(removeCgroup(host, path, { deadline: 100 })).rejects.toThrow(
      expect.objectContaining({
        code: 'CGROUP_BUSY',
        message: expect.stringContaining(`${member.pid} (sleep)`),
      }),
    );
    member.child.kill('SIGKILL');
    await removeCgroup(host, path);
  });

  test('finds what is left in one hierarchy alone', async () => {
    const roots = [host.unified, ...v1Roots(host)];
    const root = roots.at(-1)!;
    mkdirSync(directoryOf(root, path));
    expect(listOwned(host, OWNED).map((one) => one.path)).toContain(path);
    await removeCgroup(host, path);
    expect(existsSync(directoryOf(root, path))).toBe(false);
  });
});
