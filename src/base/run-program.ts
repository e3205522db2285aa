/** A program that is asked one question: bytes in, bytes out, a deadline, and a bound on what it may say. */
import { spawn } from 'node:child_process';
import { abortReason, codeOf, messageOf } from './errors.ts';

export interface ProgramOptions {
  readonly args?: readonly string[];
  /** Added to this process's own environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Written to its standard input, which is then closed. */
  readonly input: string;
  /** Milliseconds; then it is killed. */
  readonly timeout: number;
  /** Bytes of standard output; a program that says more is killed. Of standard error as much is kept, the rest is lost. */
  readonly maxOutput: number;
  readonly signal?: AbortSignal;
}

export type ProgramResult =
  | { readonly kind: 'exited'; readonly code: number; readonly stdout: string; readonly stderr: string }
  /** It could not be started, was killed, took too long or said too much. */
  | { readonly kind: 'failed'; readonly reason: string; readonly notFound: boolean };

/**
 * Runs a program without a shell. Resolves whatever the program does; rejects with the signal's reason only. It has a
 * process group of its own, so that children that hold its output go with it.
 */
export async function runProgram(path: string, options: ProgramOptions): Promise<ProgramResult> {
  const { signal } = options;
  if (signal?.aborted) throw abortReason(signal);
  return await new Promise<ProgramResult>((resolve, reject) => {
    const child = spawn(path, options.args ?? [], {
      env: { ...process.env, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
      detached: true,
    });
    const out = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
    const sizes = { stdout: 0, stderr: 0 };
    let failure: string | undefined;
    const kill = (reason?: string): void => {
      failure ??= reason;
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch {
        // gone already
      }
    };
    const abort = (): void => kill('it was cancelled');
    const timer = setTimeout(() => kill(`it did not answer within ${options.timeout} ms`), options.timeout);
    signal?.addEventListener('abort', abort, { once: true });
    const settle = (result: ProgramResult): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
      if (signal?.aborted) reject(abortReason(signal));
      else resolve(result);
    };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].on('data', (chunk: Buffer) => {
        sizes[name] += chunk.length;
        if (sizes[name] <= options.maxOutput) out[name].push(chunk);
        else if (name === 'stdout') kill(`it wrote more than ${options.maxOutput} bytes`);
      });
    }
    // A program that does not read its input is not wrong because of that.
    child.stdin.on('error', () => {});
    child.stdin.end(options.input);
    child.once('error', (error) => {
      kill();
      settle({ kind: 'failed', reason: messageOf(error), notFound: codeOf(error) === 'ENOENT' });
    });
    child.once('exit', () => kill());
    child.once('close', (code, killedBy) => {
      const text = (name: 'stdout' | 'stderr'): string => Buffer.concat(out[name]).toString('utf8');
      if (failure !== undefined) settle({ kind: 'failed', reason: failure, notFound: false });
      else if (code === null)
        settle({ kind: 'failed', reason: `it was killed by ${killedBy ?? 'a signal'}`, notFound: false });
      else settle({ kind: 'exited', code, stdout: text('stdout'), stderr: text('stderr') });
    });
  });
}
