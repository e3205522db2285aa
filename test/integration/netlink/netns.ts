import { execFileSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';

let counter = 0;

/** A network namespace made for one test, with a unique name under /run/netns; gone when disposed. */
export class TestNetns implements Disposable {
  readonly name: string;
  readonly fd: number;
  #open = true;

  constructor(label: string) {
    counter += 1;
    this.name = `nodelet-test-${process.pid}-${counter}-${label}`;
    execFileSync('ip', ['netns', 'add', this.name]);
    this.fd = openSync(this.path, 'r');
  }

  get path(): string {
    return `/run/netns/${this.name}`;
  }

  /** Runs a program inside and returns what it printed. Throws where it fails. */
  run(command: string, ...args: string[]): string {
    return execFileSync('nsenter', [`--net=${this.path}`, command, ...args], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 30_000,
    });
  }

  /** The exit status, with the output; does not throw. */
  try(command: string, ...args: string[]): { readonly ok: boolean; readonly output: string } {
    try {
      return { ok: true, output: this.run(command, ...args) };
    } catch (error) {
      return { ok: false, output: String((error as { stderr?: string }).stderr ?? error) };
    }
  }

  /** Runs a program that reads `input`. */
  feed(input: string, command: string, ...args: string[]): string {
    return execFileSync('nsenter', [`--net=${this.path}`, command, ...args], {
      encoding: 'utf8',
      input,
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: 60_000,
      maxBuffer: 256 * 1024 * 1024,
    });
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.fd);
    execFileSync('ip', ['netns', 'delete', this.name]);
  }
}
