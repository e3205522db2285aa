/** The shim of one call: it runs the plan and leaves what it started to the next reaper above (conmon, a containerd shim). */
import { fstatSync, readlinkSync } from 'node:fs';
import { hasCode, NodeletError, replaceFileSync } from '../../base/index.ts';
import { POLL } from '../../linux/constants.ts';
import { type Fd, FdWatcher } from '../../linux/fd.ts';
import { errnoText } from '../../linux/syscall-error.ts';
import { LaunchError, type ShimClient, type Started } from '../shim/client.ts';
import { ShimStarter } from '../shim/start.ts';
import { usage } from './errors.ts';
import type { OciLog } from './log.ts';

/** One that was started here, and may be left behind. */
export class CallShim {
  readonly client: ShimClient;
  readonly #pidfd: Fd;

  constructor(id: string) {
    const starter = new ShimStarter();
    try {
      const started = starter.start({ sandboxId: id.slice(0, 64), socketPath: '', cgroup: -1 });
      this.client = started.client;
      this.#pidfd = started.pidfd;
    } finally {
      starter.close();
    }
  }

  /**
   * Ends it; what it has started has another parent when this returns. The caller of this program looks for its new child as
   * soon as this program has ended, and conmon takes one that it does not find for lost.
   */
  async leave(): Promise<void> {
    await this.client.leave(false);
    await this.end();
  }

  /** Ends it with everything that it has not left, and waits for that. Twice is safe. */
  async end(): Promise<void> {
    this.client.close();
    if (this.#pidfd.closed) return;
    await new Promise<void>((resolve) => {
      const watcher = new FdWatcher(this.#pidfd.number, POLL.READABLE, () => {
        watcher.close();
        resolve();
      });
    });
    this.#pidfd.close();
  }
}

/** One message can carry no more. */
const MAX_PRESERVED = 48;

/** The caller's own 3, 4, … Throws OCI_USAGE for one that is not open. */
export function preservedDescriptors(count: number): number[] {
  if (count > MAX_PRESERVED) throw usage(`--preserve-fds: at most ${MAX_PRESERVED}, found ${count}`);
  return Array.from({ length: count }, (_, i) => {
    const fd = 3 + i;
    try {
      fstatSync(fd);
      // Where the caller left a gap, this program has opened something of its own.
      if (!/^anon_inode:\[(eventpoll|io_uring)\]$/.test(readlinkSync(`/proc/self/fd/${fd}`))) return fd;
    } catch (error) {
      if (!hasCode(error, 'EBADF', 'ENOENT')) throw error;
    }
    throw usage(`--preserve-fds ${count}: descriptor ${fd} is not open`);
  });
}

/** Descriptors that a service manager hands over come first and are announced to the program (sd_listen_fds(3)). */
export function socketActivation(): { readonly count: number; readonly env: readonly string[] } {
  const text = process.env.LISTEN_FDS ?? '';
  if (!/^\d{1,4}$/.test(text) || Number(text) === 0) return { count: 0, env: [] };
  return { count: Number(text), env: [`LISTEN_FDS=${text}`, 'LISTEN_PID=1'] };
}

export function reportWarnings(started: Started, log: OciLog): void {
  for (const { operation, error } of started.warnings) log.warn(`${operation} was refused: ${error}`);
}

/** For conmon and the like: with a rename, because somebody may be waiting for the file. */
export function writePidFile(path: string | undefined, pid: number): void {
  if (path !== undefined) replaceFileSync(path, String(pid), { mode: 0o644, durable: false });
}

/** Callers of OCI runtimes look for these words to tell a missing program (127) from one that may not be run (126). */
export function launchError(error: unknown): unknown {
  if (!(error instanceof LaunchError)) return error;
  return new NodeletError('OCI_START_FAILED', failureText(error), {
    details: { operation: error.operation, errno: error.errno },
  });
}

export interface Failure {
  readonly operation: string;
  readonly errno: number;
  readonly detail: string;
  readonly signal: number;
}

export function failureText({ operation, errno, detail, signal }: Failure): string {
  const reason =
    errno === 2 ? 'No such file or directory' : errno === 13 ? 'Permission denied' : errnoText(errno);
  if (operation === 'find-program' && detail.endsWith(': not found in PATH'))
    return `executable file ${JSON.stringify(detail.slice(0, -': not found in PATH'.length))} not found in $PATH: ${reason}`;
  if (operation === 'find-program' || operation === 'execute')
    return `exec ${JSON.stringify(detail)}: ${reason}`;
  if (operation === 'hook') return detail;
  const why =
    signal === 0
      ? reason
      : `killed by signal ${signal}${signal === 9 ? ' (is the memory limit too low?)' : ''}`;
  return `cannot start the container: ${operation}${detail === '' ? '' : ` ${JSON.stringify(detail)}`}: ${why}`;
}

/** The terminal that came back from a plan; what else came is closed. */
export function takeTerminal(started: Started): Fd | undefined {
  const [first, ...rest] = started.fds;
  for (const fd of rest) fd.close();
  return first;
}
