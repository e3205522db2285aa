/** How an agent in the background tells the command that started it that it is ready, or why it is not. */
import { closeSync, writeSync } from 'node:fs';
import { type ErrorBody, errorBody } from '../../agent/index.ts';

/** Names the descriptor to write to. */
export const READY_VARIABLE = 'NODELET_READY_FD';

export type ReadyMessage = { readonly pid: number } | { readonly error: ErrorBody };

/** Says it once, where somebody waits; the program goes on either way. */
export class Readiness {
  #fd: number | undefined;

  constructor(env: NodeJS.ProcessEnv = process.env) {
    const text = env[READY_VARIABLE];
    this.#fd = text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
    // What the agent starts has no business with it.
    delete env[READY_VARIABLE];
  }

  ready(): void {
    this.#say({ pid: process.pid });
  }

  failed(error: unknown): void {
    this.#say({ error: errorBody(error) });
  }

  #say(message: ReadyMessage): void {
    const fd = this.#fd;
    this.#fd = undefined;
    if (fd === undefined) return;
    try {
      writeSync(fd, `${JSON.stringify(message)}\n`);
      closeSync(fd);
    } catch {
      // Nobody waits any more.
    }
  }
}
