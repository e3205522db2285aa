import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { NodeletError } from '../base/index.ts';
import { LOCK } from '../linux/constants.ts';
import { native } from '../linux/native.ts';
import { unwritable } from './errors.ts';

/** Held for as long as an agent lives; the kernel lets go of it when the process ends, however it ends. */
export class AgentLock implements Disposable {
  #fd: number;

  /** Throws AGENT_RUNNING where another agent has this state directory, STATE_UNWRITABLE. */
  constructor(state: string) {
    const path = join(state, 'agent.lock');
    this.#fd = this.#open(state, path);
    if (native().flock(this.#fd, LOCK.EX | LOCK.NB) < 0) {
      const pid = readFileSync(path, 'utf8').trim();
      closeSync(this.#fd);
      throw new NodeletError(
        'AGENT_RUNNING',
        `an agent runs already with the state directory "${state}"${pid === '' ? '' : ` (pid ${pid})`}`,
        {
          hint: 'use it, or give this one its own --root, --state, --cgroup-root, --bridge and --pod-cidr',
        },
      );
    }
    try {
      ftruncateSync(this.#fd);
      writeSync(this.#fd, `${process.pid}\n`);
    } catch (error) {
      this[Symbol.dispose]();
      throw unwritable(path, error);
    }
  }

  #open(state: string, path: string): number {
    try {
      mkdirSync(state, { recursive: true, mode: 0o700 });
      return openSync(path, 'a+', 0o600);
    } catch (error) {
      throw unwritable(path, error);
    }
  }

  [Symbol.dispose](): void {
    if (this.#fd < 0) return;
    closeSync(this.#fd);
    this.#fd = -1;
  }
}
