/** Freezing, killing and removing cgroups. Membership is v2's, so these go through v2 on every host. */
import { rmdirSync } from 'node:fs';
import { hasCode, NodeletError, sleep } from '../../base/index.ts';
import { Fd } from '../fd.ts';
import { native } from '../native.ts';
import { readCgroup } from '../procfs.ts';
import { writeControl } from './apply.ts';
import { DEFAULT_DEADLINE, readEvents, type WaitOptions, waitEvent } from './events.ts';
import { type CgroupHost, directoryOf } from './host.ts';
import { descendants, hierarchies, nameProcess, processesIn, processesOf } from './members.ts';
import { checkPath } from './plan.ts';

const SIGKILL = 9;

/** True while a process is in the cgroup or below it. False where there is no such cgroup. */
export function isPopulated(host: CgroupHost, path: string): boolean {
  return readEvents(directoryOf(host.unified, path))?.get('populated') === 1;
}

/** Waits until no process is left. Resolves to false at the deadline. */
export async function waitEmpty(host: CgroupHost, path: string, options: WaitOptions = {}): Promise<boolean> {
  return await waitEvent(directoryOf(host.unified, path), 'populated', 0, options);
}

/** Stops all processes of the cgroup where they are. Throws CGROUP_FREEZE_TIMEOUT where one stays in the kernel. */
export async function freeze(host: CgroupHost, path: string, options: WaitOptions = {}): Promise<void> {
  await setFrozen(host, path, 1, options);
}

export async function thaw(host: CgroupHost, path: string, options: WaitOptions = {}): Promise<void> {
  await setFrozen(host, path, 0, options);
}

async function setFrozen(host: CgroupHost, path: string, frozen: 0 | 1, options: WaitOptions): Promise<void> {
  checkPath(path);
  const directory = directoryOf(host.unified, path);
  writeControl(`${directory}/cgroup.freeze`, String(frozen));
  if (await waitEvent(directory, 'frozen', frozen, options)) return;
  const what = frozen === 1 ? 'freeze' : 'thaw';
  throw new NodeletError(
    'CGROUP_FREEZE_TIMEOUT',
    `cannot ${what} cgroup "${path}" in ${options.deadline ?? DEFAULT_DEADLINE} ms`,
    {
      hint: 'a process of it is waiting in the kernel; it is frozen as soon as it comes back',
      details: { path },
    },
  );
}

export interface KillOptions {
  /** Which way to kill; default: cgroup.kill where the kernel has it (Linux 5.14), else signals. */
  readonly method?: 'cgroup.kill' | 'signals';
}

/**
 * Sends SIGKILL to every process of the cgroup and below it, also to ones that are just being forked. Returns at once:
 * `waitEmpty` says when they are gone. Nothing happens where there is no such cgroup.
 */
export function killCgroup(host: CgroupHost, path: string, options: KillOptions = {}): void {
  checkPath(path);
  const directory = directoryOf(host.unified, path);
  if (options.method !== 'signals') {
    try {
      writeControl(`${directory}/cgroup.kill`, '1');
      return;
    } catch (error) {
      // ENODEV: removed in between.
      if (!hasCode(error, 'ENOENT', 'ENODEV')) throw error;
      if (options.method === 'cgroup.kill') return;
    }
  }
  killBySignals(host, path);
}

/** Rounds in which the members are listed again, for those that fork while they are being killed. */
const ROUNDS = 16;

function killBySignals(host: CgroupHost, path: string): void {
  const directory = directoryOf(host.unified, path);
  const setFreeze = (value: '0' | '1') => {
    try {
      writeControl(`${directory}/cgroup.freeze`, value);
    } catch (error) {
      if (!hasCode(error, 'ENOENT', 'ENODEV')) throw error;
    }
  };
  // Frozen processes do not fork, and a fatal signal ends them all the same.
  setFreeze('1');
  try {
    for (let round = 0; round < ROUNDS; round++) {
      const members = descendants(directory).flatMap(processesOf);
      if (members.filter((pid) => killMember(pid, path)).length === 0) return;
    }
  } finally {
    setFreeze('0');
  }
}

/** Signals a process if it still is in the cgroup when its pidfd is open: a PID alone may have been used again. */
function killMember(pid: number, path: string): boolean {
  if (pid === 0) return false;
  const opened = native().pidfdOpen(pid);
  if (opened < 0) return false;
  using pidfd = new Fd(opened);
  const membership = readCgroup(pid)?.find((one) => one.hierarchy === 0)?.path;
  if (membership === undefined) return false;
  if (membership !== path && !membership.startsWith(`${path}/`)) return false;
  return native().pidfdSendSignal(pidfd.number, SIGKILL) === 0;
}

/**
 * Removes a cgroup with everything below it from every hierarchy. Waits for processes that are about to end, by event;
 * kills none. Nothing happens where there is none. Throws CGROUP_BUSY, naming what is left in it, at the deadline.
 */
export async function removeCgroup(host: CgroupHost, path: string, options: WaitOptions = {}): Promise<void> {
  checkPath(path);
  const deadline = performance.now() + (options.deadline ?? DEFAULT_DEADLINE);
  const left = () => Math.max(0, deadline - performance.now());
  if (!(await waitEmpty(host, path, { ...options, deadline: left() }))) throw busy(host, path);
  for (const root of hierarchies(host)) {
    // Members of v1 alone raise no event, and the kernel lets go of a dying process a moment after it left: then, and
    // only then, the removal is tried again, each time after twice as long.
    for (let pause = 1; !removeTree(directoryOf(root, path)); pause = Math.min(pause * 2, 100)) {
      if (left() === 0) throw busy(host, path);
      await sleep(Math.min(pause, left()), options.signal);
    }
  }
}

/** False where a directory is still in use. */
function removeTree(top: string): boolean {
  for (const directory of descendants(top)) {
    try {
      rmdirSync(directory);
    } catch (error) {
      if (hasCode(error, 'EBUSY', 'ENOTEMPTY')) return false;
      if (!hasCode(error, 'ENOENT', 'ENODEV')) throw error;
    }
  }
  return true;
}

/** As many as a message can hold. */
const NAMED = 8;

function busy(host: CgroupHost, path: string): NodeletError {
  const pids = processesIn(host, path);
  const names = pids.slice(0, NAMED).map(nameProcess).join(', ');
  const more = pids.length > NAMED ? ` and ${pids.length - NAMED} more` : '';
  const holders = pids.length === 0 ? 'the kernel has not let go of it yet' : `still in it: ${names}${more}`;
  return new NodeletError('CGROUP_BUSY', `cannot remove cgroup "${path}": ${holders}`, {
    hint: 'a process that waits in the kernel (a dead NFS server, a broken disk) ends when its call does',
    details: { path, pids },
  });
}
