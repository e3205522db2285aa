import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { CAPABILITIES, lastCapability } from '../../../src/linux/capabilities.ts';
import { mountAt, mountHolding, readMountinfo } from '../../../src/linux/mountinfo.ts';
import { differingNamespaces, listNamespaces, readNamespaces } from '../../../src/linux/namespaces.ts';
import {
  bootId,
  isAlive,
  kernelVersion,
  processIdentity,
  readCgroup,
  readGidMap,
  readLimits,
  readMeminfo,
  readOomScoreAdj,
  readStat,
  readStatus,
  readUidMap,
} from '../../../src/linux/procfs.ts';

describe('this process', () => {
  test('is described alike by all files', () => {
    const status = readStatus('self')!;
    expect(status).toMatchObject({ pid: process.pid, ppid: process.ppid, uids: [0, 0, 0, 0] });
    expect(readStatus(process.pid)!.name).toBe(readStat(process.pid)!.command);
    expect(readStat('self')!.ppid).toBe(process.ppid);
    expect(status.residentBytes).toBeGreaterThan(10 << 20);
    expect(readCgroup('self')!.some((one) => one.hierarchy === 0)).toBe(true);
    expect(readLimits('self')!.get('Max open files')!.soft).toBeGreaterThan(0);
    expect(readUidMap('self')).toHaveLength(1);
    expect(readGidMap('self')![0]!.count).toBeGreaterThan(0);
    expect(readOomScoreAdj('self')).toEqual(expect.any(Number));
  });

  test('has a kernel, a boot and memory', () => {
    const { major, minor, release } = kernelVersion();
    expect(release).toMatch(new RegExp(`^${major}\\.${minor}`));
    expect(bootId()).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    expect(readMeminfo().get('MemTotal')).toBeGreaterThan(1 << 28);
    expect(lastCapability()).toBeGreaterThanOrEqual(37);
    expect(lastCapability()).toBeLessThanOrEqual(CAPABILITIES.length + 5);
  });

  test('sees its mounts as the kernel lists them', () => {
    const mounts = readMountinfo();
    expect(mounts).toHaveLength(readFileSync('/proc/self/mountinfo', 'utf8').trim().split('\n').length);
    expect(mountAt(mounts, '/')).toBeDefined();
    expect(mountHolding(mounts, '/proc/self')?.type).toBe('proc');
  });
});

test('a process in new namespaces differs in just those, and is listed with them', async () => {
  const child = spawn('unshare', ['--net', '--uts', '--ipc', 'sh', '-c', 'echo ready; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  try {
    await once(child.stdout, 'data');
    const theirs = readNamespaces(child.pid)!;
    expect(differingNamespaces(readNamespaces()!, theirs)).toEqual(['ipc', 'net', 'uts']);
    const found = listNamespaces().find((one) => one.kind === 'net' && one.inode === theirs.net);
    expect(found?.pids).toEqual([child.pid]);
  } finally {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
});

test('a process that is gone is undefined everywhere, and its identity is not that of a later one', async () => {
  const child = spawn('sleep', ['60']);
  const identity = processIdentity(child.pid!)!;
  expect(isAlive(identity)).toBe(true);
  expect(isAlive({ ...identity, startTime: identity.startTime - 1 })).toBe(false);
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(isAlive(identity)).toBe(false);
  expect(processIdentity(identity.pid)).toBeUndefined();
  expect(readStatus(identity.pid)).toBeUndefined();
  expect(readNamespaces(identity.pid)).toBeUndefined();
});

test('a zombie is there, but not alive', async () => {
  // Waits for its child's end without taking it away.
  const script =
    'import os, time\npid = os.fork()\nif pid == 0: os._exit(0)\n' +
    'os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)\nprint(pid, flush=True)\ntime.sleep(60)';
  const parent = spawn('python3', ['-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const [line] = (await once(parent.stdout, 'data')) as [Buffer];
    const identity = processIdentity(Number(line));
    expect(readStat(Number(line))?.state).toBe('Z');
    expect(identity).toBeDefined();
    expect(isAlive(identity!)).toBe(false);
    expect(readNamespaces(Number(line))?.net).toBeUndefined();
  } finally {
    parent.kill('SIGKILL');
    await once(parent, 'exit');
  }
});
