/** What probes share: trying, and namespaces to try in, held by a child that ends with its standard input. */
import { type ChildProcess, spawn } from 'node:child_process';
import { codeOf, describeError, NodeletError } from '../../base/index.ts';
import { O } from '../../linux/constants.ts';
import { Fd } from '../../linux/fd.ts';
import { native } from '../../linux/native.ts';
import { check } from '../../linux/syscall-error.ts';
import type { Outcome } from './facts.ts';

export function failed(error: unknown): Outcome<never> {
  const hint = error instanceof NodeletError ? error.hint : undefined;
  return {
    ok: false,
    code: codeOf(error) ?? 'FAILED',
    message: describeError(error),
    ...(hint === undefined ? {} : { hint }),
  };
}

export async function attempt<T>(work: () => T | Promise<T>): Promise<Outcome<T>> {
  try {
    return { ok: true, value: await work() };
  } catch (error) {
    return failed(error);
  }
}

/** The same for work that tells nothing. */
export async function works(work: () => unknown): Promise<Outcome> {
  const outcome = await attempt(work);
  return outcome.ok ? { ok: true, value: true } : outcome;
}

/** What unshare(1) and mount(8) say, as the errno that they got. */
const ERRNOS: readonly (readonly [RegExp, string])[] = [
  [/not permitted/i, 'EPERM'],
  [/permission denied/i, 'EACCES'],
  [/no space left/i, 'ENOSPC'],
  [/invalid argument/i, 'EINVAL'],
  [/not implemented/i, 'ENOSYS'],
];

function toolError(stderr: string, status: string): NodeletError {
  const text = stderr.trim().split('\n').at(-1) ?? '';
  const code = ERRNOS.find(([pattern]) => pattern.test(text))?.[1] ?? 'FAILED';
  return new NodeletError(code, text === '' ? status : text);
}

/** Milliseconds that a child may take: one that hangs must not hang the doctor. */
const DEADLINE = 10_000;

/** A child of unshare(1) in namespaces of its own. */
export class Held implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;

  private constructor(child: ChildProcess, ended: Promise<unknown>) {
    this.#child = child;
    this.#ended = ended;
  }

  /** `flags` as unshare(1) has them. Throws an errno's name, or FAILED. */
  static async make(flags: readonly string[]): Promise<Held> {
    const child = spawn('unshare', [...flags, 'sh', '-c', 'echo; exec cat'], {
      timeout: DEADLINE,
      killSignal: 'SIGKILL',
    });
    let stderr = '';
    child.stderr.on('data', (data: Buffer) => {
      stderr += data.toString();
    });
    child.stdin.on('error', () => {
      // The child has ended, which is told below.
    });
    const ended = new Promise<void>((resolve, reject) => {
      child.once('error', (error) =>
        reject(
          new NodeletError('NO_UNSHARE', 'cannot run unshare(1), with which it is tried', { cause: error }),
        ),
      );
      child.once('close', (code, signal) => {
        if (code === 0) resolve();
        else reject(toolError(stderr, `unshare ended with ${signal ?? code}`));
      });
    });
    const ready = new Promise<void>((resolve) => {
      child.stdout.once('data', () => resolve());
    });
    await Promise.race([ready, ended]);
    return new Held(child, ended);
  }

  /** One of its namespaces: `net`, `user`. */
  namespace(kind: string): Fd {
    const path = `/proc/${this.#child.pid ?? 0}/ns/${kind}`;
    return new Fd(check(native().openat2(-1, path, O.RDONLY | O.CLOEXEC, 0, 0), 'open', path));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin?.end();
    await this.#ended.catch(() => {
      // It ended in another way; it is gone all the same.
    });
  }
}

/** Tries to make namespaces, and lets go of them. */
export function tryUnshare(...flags: readonly string[]): Promise<Outcome> {
  return works(async () => {
    await using _ = await Held.make(flags);
  });
}
