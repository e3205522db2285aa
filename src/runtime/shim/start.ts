import { readFileSync } from 'node:fs';
import { NodeletError } from '../../base/index.ts';
import { AF, AT_EMPTY_PATH, SOCK } from '../../linux/constants.ts';
import { Fd } from '../../linux/fd.ts';
import { native, nativeFile } from '../../linux/native.ts';
import { check, errnoName } from '../../linux/syscall-error.ts';
import { ShimClient } from './client.ts';

export interface ShimStart {
  readonly sandboxId: string;
  /** Empty: the shim lives for this connection alone, and its processes may outlive it (`leave`). */
  readonly socketPath: string;
  /** The open v2 cgroup that the shim is born in; -1: the caller's. */
  readonly cgroup: number;
}

export interface RunningShim {
  readonly client: ShimClient;
  readonly pid: number;
  readonly pidfd: Fd;
}

/**
 * Starts shims. They run from a sealed copy of the program in memory: a container that reaches one of our processes by
 * /proc finds nothing that it could overwrite (CVE-2019-5736), and an upgrade on disk does not disturb what runs.
 */
export class ShimStarter {
  #program: Fd | undefined;
  #null: Fd | undefined;

  start(options: ShimStart): RunningShim {
    const program = this.#sealedProgram();
    this.#null ??= new Fd(check(native().openat2(-100, '/dev/null', 2, 0, 0), 'open', '/dev/null'));
    const pair = check(native().socketpair(AF.UNIX, SOCK.SEQPACKET | SOCK.NONBLOCK), 'socketpair');
    if (typeof pair === 'number') throw new NodeletError('INTERNAL', 'socketpair returned a number');
    const ours = new Fd(pair[0]);
    using theirs = new Fd(pair[1]);
    const nul = this.#null.number;
    const started = native().spawn(
      program.number,
      ['nodelet-shim', options.sandboxId, options.socketPath],
      [],
      [nul, nul, nul, theirs.number],
      options.cgroup,
      [],
      true,
    );
    if ('errno' in started) {
      ours.close();
      throw new NodeletError(
        'SHIM_START_FAILED',
        `cannot start the shim of "${options.sandboxId}": ${started.step}: ${errnoName(started.errno)}`,
      );
    }
    return { client: new ShimClient(ours), pid: started.pid, pidfd: new Fd(started.pidfd) };
  }

  /**
   * The copy, made anew where it cannot be executed any more: before Linux 6.3 its mode cannot be sealed, and a container's
   * root who gets hold of it by /proc may change that.
   */
  #sealedProgram(): Fd {
    const { number = -1 } = this.#program ?? {};
    const st = number < 0 ? undefined : native().statx(number, '', AT_EMPTY_PATH);
    if (this.#program !== undefined && typeof st === 'object' && (st.mode & 0o100) !== 0)
      return this.#program;
    this.#program?.close();
    const sealed = native().memfdSealed('nodelet-shim', readFileSync(nativeFile('nodelet-shim')));
    this.#program = new Fd(check(sealed, 'memfd_create'));
    return this.#program;
  }

  close(): void {
    this.#program?.close();
    this.#null?.close();
  }
}
