/**
 * Sandboxes made ahead: shim, namespaces, shared memory. The next pod takes one, id and all, and only says what makes it
 * that pod. A spare has its shim's cgroup and a directory without a record, so after a crash it is nobody's and collected.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { describeError, type Log } from '../base/index.ts';
import type { Fd } from '../linux/fd.ts';
import type { RuntimeCgroups } from './cgroup.ts';
import { POD_SYSCTLS, SHM_SIZE } from './defaults.ts';
import { heldDescriptors } from './held.ts';
import { newId } from './ids.ts';
import { compileSpare } from './launch/compile-sandbox.ts';
import type { POD_SLOTS } from './launch/protocol.gen.ts';
import type { RecordStore } from './records.ts';
import type { RunningShim, ShimStarter } from './shim/start.ts';

export interface Spare {
  readonly id: string;
  readonly shim: RunningShim;
  readonly namespaces: ReadonlyMap<keyof typeof POD_SLOTS, Fd>;
}

export interface SpareContext {
  readonly store: RecordStore;
  readonly cgroups: RuntimeCgroups;
  readonly shims: ShimStarter;
  readonly log: Log;
}

/** A pod that was taken from the spares is followed by its containers: the next spare is made when they have started. */
const REFILL_AFTER = 100;

export class Spares {
  readonly #context: SpareContext;
  readonly #wanted: number;
  readonly #ready: Spare[] = [];
  #making = 0;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(context: SpareContext, wanted: number) {
    this.#context = context;
    this.#wanted = wanted;
  }

  /** One that is ready, if there is; it is the caller's from now on. */
  take(): Spare | undefined {
    let spare = this.#ready.shift();
    while (spare !== undefined && !spare.shim.client.connected) {
      void this.#discard(spare);
      spare = this.#ready.shift();
    }
    this.#timer ??= setTimeout(() => this.refill(), REFILL_AFTER).unref();
    return spare;
  }

  /** Makes what is missing. Called while others wait for something else. */
  refill(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    while (!this.#closed && this.#ready.length + this.#making < this.#wanted) {
      this.#making += 1;
      void this.#make().finally(() => {
        this.#making -= 1;
      });
    }
  }

  async #make(): Promise<void> {
    const { store, cgroups, shims, log } = this.#context;
    const id = newId();
    let shim: RunningShim | undefined;
    try {
      mkdirSync(store.sandboxDirectory(id), { recursive: true, mode: 0o700 });
      {
        using group = cgroups.openShimGroup(id);
        shim = shims.start({ sandboxId: id, socketPath: store.shimSocket(id), cgroup: group.number });
      }
      const plan = compileSpare(id, POD_SYSCTLS, SHM_SIZE);
      const started = await shim.client.run(plan);
      const spare = { id, shim, namespaces: heldDescriptors(plan, started.fds) };
      if (this.#closed) await this.#discard(spare);
      else this.#ready.push(spare);
    } catch (error) {
      log.warn({ error: describeError(error) }, 'cannot make a sandbox ahead; the next pod makes its own');
      if (shim === undefined) this.#context.store.removeSandbox(id);
      else await this.#discard({ id, shim, namespaces: new Map() });
    }
  }

  async #discard(spare: Spare): Promise<void> {
    const { store, cgroups, log } = this.#context;
    for (const fd of spare.namespaces.values()) fd.close();
    spare.shim.client.close();
    try {
      await cgroups.removeShimGroup(spare.id);
    } catch (error) {
      log.warn({ error: describeError(error) }, 'cannot end a spare shim');
    }
    spare.shim.pidfd.close();
    store.removeSandbox(spare.id);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await Promise.all(this.#ready.splice(0).map((spare) => this.#discard(spare)));
  }
}
