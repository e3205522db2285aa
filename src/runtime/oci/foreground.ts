/** Stays with a process until it ends: signals go to it, its terminal is this one's. */
import { deferred } from '../../base/index.ts';
import { SIGNALS } from '../../linux/constants.ts';
import type { Fd } from '../../linux/fd.ts';
import type { ShimClient } from '../shim/client.ts';
import { openTerminal } from '../terminal.ts';

/** Those that mean something to this program alone, or cannot be caught. */
const OWN = new Set([
  'SIGCHLD',
  'SIGPIPE',
  'SIGURG',
  'SIGWINCH',
  'SIGKILL',
  'SIGSTOP',
  'SIGPROF',
  'SIGSEGV',
  'SIGBUS',
  'SIGFPE',
  'SIGILL',
  'SIGTRAP',
  'SIGABRT',
  'SIGSYS',
  'SIGTTIN',
  'SIGTTOU',
  'SIGSTKFLT',
  'SIGVTALRM',
  'SIGIO',
]);

/** Listens from now on; `code` is the exit status, 128 and the signal's number for one that was killed. */
export class Foreground {
  readonly code: Promise<number>;
  readonly #undo: (() => void)[] = [];
  #drained: Promise<void> = Promise.resolve();

  constructor(shim: ShimClient, name: string) {
    const exited = deferred<number>();
    this.code = exited.promise;
    this.#undo.push(
      shim.exited.on((event) => {
        if (event.name === name) exited.resolve(event.code);
      }),
      shim.gone.on(() => exited.resolve(255)),
    );
    for (const signal of Object.keys(SIGNALS)) {
      if (OWN.has(signal)) continue;
      const forward = () => void shim.signal(name, SIGNALS[signal] ?? 15).catch(() => false);
      process.on(signal as NodeJS.Signals, forward);
      this.#undo.push(() => process.off(signal, forward));
    }
  }

  /** Joins the terminal of the container and that of this program. */
  attach(master: Fd): void {
    const terminal = openTerminal(master);
    const { stdin, stdout } = process;
    terminal.output.pipe(stdout, { end: false });
    stdin.pipe(terminal.input);
    if (stdin.isTTY) stdin.setRawMode(true);
    const resize = () => terminal.resize({ width: stdout.columns ?? 0, height: stdout.rows ?? 0 });
    if (stdout.isTTY) {
      resize();
      process.on('SIGWINCH', resize);
    }
    this.#undo.push(() => {
      process.off('SIGWINCH', resize);
      if (stdin.isTTY) stdin.setRawMode(false);
      stdin.unpipe();
      stdin.destroy();
    });
    this.#drained = new Promise<void>((resolve) => {
      terminal.output.once('close', () => resolve());
    });
  }

  async wait(): Promise<number> {
    const code = await this.code;
    await this.#drained;
    return code;
  }

  close(): void {
    for (const undo of this.#undo.splice(0)) undo();
  }
}
