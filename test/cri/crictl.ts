/** crictl as a person uses it: its commands against the socket in $CRI_ENDPOINT. */
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';

const { CRICTL = 'crictl', CRI_ENDPOINT = '' } = process.env;
const COMMON = ['--config', '/dev/null', '-r', CRI_ENDPOINT, '-i', CRI_ENDPOINT];

/** crictl tells on stderr which configuration files it did not find. */
const withoutWarnings = (text: string): string =>
  text
    .split('\n')
    .filter((line) => !line.includes('level=warning'))
    .join('\n');

export interface Result {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end, whatever that is. */
export function tryCrictl(args: readonly string[], input = ''): Result {
  const { status, stdout, stderr, error } = spawnSync(CRICTL, [...COMMON, ...args], {
    encoding: 'utf8',
    input,
    timeout: 30_000,
  });
  if (error !== undefined) throw error;
  return { status: status ?? -1, stdout, stderr: withoutWarnings(stderr) };
}

/** Runs a command at a terminal of `columns` columns; what the terminal shows. */
export function atTerminal(columns: number, args: readonly string[]): string {
  const words = [CRICTL, ...COMMON, ...args].map((word) => `'${word.replaceAll("'", String.raw`'\''`)}'`);
  const line = `stty rows 24 columns ${columns}; ${words.join(' ')}`;
  const { stdout, error } = spawnSync('script', ['-q', '-e', '-c', line, '/dev/null'], {
    encoding: 'utf8',
    timeout: 30_000,
  });
  if (error !== undefined) throw error;
  return withoutWarnings(stdout);
}

/** Runs a command that has to succeed; its output, trimmed. */
export function crictl(...args: readonly string[]): string {
  const { status, stdout, stderr } = tryCrictl(args);
  if (status !== 0) throw new Error(`crictl ${args.join(' ')}: exit ${status}: ${stderr}`);
  return stdout.trim();
}

/** The same, of a command that prints JSON. */
export const json = (...args: readonly string[]): unknown => JSON.parse(crictl(...args));

/** A command that runs on, read as it goes. */
export class Running implements AsyncDisposable {
  readonly child: ChildProcessWithoutNullStreams;
  #stdout = '';
  #stderr = '';

  constructor(...args: readonly string[]) {
    this.child = spawn(CRICTL, [...COMMON, ...args]);
    this.child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text;
    });
    this.child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
  }

  get stdout(): string {
    return this.#stdout;
  }

  /** Until `pattern` is in its output. Throws where it ends first, or 20 s pass. */
  async output(pattern: RegExp): Promise<string> {
    const deadline = AbortSignal.timeout(20_000);
    const what = () => `waiting for ${pattern}: ${this.#stdout} ${withoutWarnings(this.#stderr)}`;
    while (!pattern.test(this.#stdout)) {
      if (this.child.exitCode !== null) throw new Error(`crictl ended, ${what()}`);
      await Promise.race([
        once(this.child.stdout, 'data', { signal: deadline }),
        once(this.child, 'exit'),
      ]).catch((error: unknown) => {
        throw new Error(what(), { cause: error });
      });
    }
    return this.#stdout;
  }

  /** Its exit status. */
  async end(): Promise<number> {
    if (this.child.exitCode === null) await once(this.child, 'exit', { signal: AbortSignal.timeout(20_000) });
    return this.child.exitCode ?? -1;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await gone;
  }
}
