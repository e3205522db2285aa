/** A control group of the doctor's own in each hierarchy, and a process that is born in it; gone afterwards. */
import { existsSync, mkdirSync, rmdirSync } from 'node:fs';
import { type CgroupHost, readCgroupHost, v1Roots } from '../../linux/cgroups/index.ts';
import { AT_FDCWD, O, POLL } from '../../linux/constants.ts';
import { attachDeviceProgram, defaultDeviceRules, loadDeviceProgram } from '../../linux/devices/index.ts';
import { Fd, FdWatcher } from '../../linux/fd.ts';
import { native, nativeFile } from '../../linux/native.ts';
import { check, SyscallError } from '../../linux/syscall-error.ts';
import type { CgroupFactsFound, Outcome } from './facts.ts';
import { attempt, failed, works } from './tools.ts';

export async function probeCgroups(): Promise<CgroupFactsFound> {
  const host = await attempt(readCgroupHost);
  if (!host.ok) return { host, scratch: host, deviceProgram: host };
  let deviceProgram: Outcome = failed(new Error('not tried: there is no cgroup to attach it to'));
  const scratch = await attempt(async () => {
    await using group = new Scratch(host.value);
    await group.bear();
    deviceProgram = await works(() => {
      using program = loadDeviceProgram(defaultDeviceRules);
      using directory = group.open();
      attachDeviceProgram(directory, program);
    });
    return { kill: group.has('cgroup.kill'), freeze: group.has('cgroup.freeze') };
  });
  return { host, scratch, deviceProgram };
}

class Scratch implements AsyncDisposable {
  readonly #name = `nodelet-doctor-${process.pid}`;
  readonly #unified: string;
  readonly #made: string[] = [];

  constructor(host: CgroupHost) {
    this.#unified = `${host.unified}/${this.#name}`;
    try {
      for (const root of [host.unified, ...v1Roots(host)]) {
        mkdirSync(`${root}/${this.#name}`);
        this.#made.push(`${root}/${this.#name}`);
      }
    } catch (error) {
      this.#remove();
      throw error;
    }
  }

  has(file: string): boolean {
    return existsSync(`${this.#unified}/${file}`);
  }

  open(): Fd {
    const flags = O.RDONLY | O.DIRECTORY | O.CLOEXEC;
    return new Fd(check(native().openat2(AT_FDCWD, this.#unified, flags, 0, 0), 'open', this.#unified));
  }

  /** Starts the shim in it (CLONE_INTO_CGROUP), without arguments: it says how it is used and ends with 2. */
  async bear(): Promise<void> {
    const path = nativeFile('nodelet-shim');
    const n = native();
    using program = new Fd(check(n.openat2(AT_FDCWD, path, O.RDONLY | O.CLOEXEC, 0, 0), 'open', path));
    using nul = new Fd(
      check(n.openat2(AT_FDCWD, '/dev/null', O.RDWR | O.CLOEXEC, 0, 0), 'open', '/dev/null'),
    );
    using directory = this.open();
    const fds = [nul.number, nul.number, nul.number];
    const child = n.spawn(program.number, ['nodelet-shim'], [], fds, directory.number, [], true);
    if ('errno' in child)
      throw new SyscallError(child.errno, child.step, `cannot start a process in a cgroup: ${child.step}`);
    using pidfd = new Fd(child.pidfd);
    await ended(pidfd);
  }

  #remove(): void {
    for (const path of this.#made.splice(0)) rmdirSync(path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#remove();
    await Promise.resolve();
  }
}

function ended(pidfd: Fd): Promise<void> {
  return new Promise((resolve) => {
    const watcher = new FdWatcher(pidfd.number, POLL.READABLE, () => {
      watcher.close();
      native().waitPidfd(pidfd.number);
      resolve();
    });
  });
}
