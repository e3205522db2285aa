/**
 * Sandboxes made ahead: shim, namespaces, shared memory. The next pod takes one, id and all, and only says what makes it
 * that pod.
 */
import { describeError } from '../base/index.ts';
import type { Fd } from '../linux/fd.ts';
import { POD_SYSCTLS, SHM_SIZE } from './defaults.ts';
import { heldDescriptors } from './held.ts';
import { compileSpare } from './launch/compile-sandbox.ts';
import type { POD_SLOTS } from './launch/protocol.gen.ts';
import { endUnownedShim, type ShimContext, startUnownedShim, type UnownedShim } from './unowned-shim.ts';

export interface Spare extends UnownedShim {
  readonly namespaces: ReadonlyMap<keyof typeof POD_SLOTS, Fd>;
}

/** A pod is followed by its containers, and by others where many start: spares are made when that is over (milliseconds). */
const REFILL_AFTER_POD = 100;
const REFILL_AFTER_CONTAINER = 10;

export class Spares {
  readonly #context: ShimContext;
  readonly #wanted: number;
  readonly #ready: Spare[] = [];
  readonly #making = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(context: ShimContext, wanted: number) {
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
    this.#refillIn(REFILL_AFTER_POD);
    return spare;
  }

  /** A container has started. */
  refillSoon(): void {
    if (this.#timer !== undefined) this.#refillIn(REFILL_AFTER_CONTAINER);
  }

  #refillIn(delay: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.refill(), delay).unref();
  }

  /** Makes what is missing. */
  refill(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    while (!this.#closed && this.#ready.length + this.#making.size < this.#wanted) {
      const making = this.#make();
      this.#making.add(making);
      void making.finally(() => this.#making.delete(making));
    }
  }

  async #make(): Promise<void> {
    const context = this.#context;
    try {
      const unowned = startUnownedShim(context);
      try {
        const plan = compileSpare(unowned.id, POD_SYSCTLS, SHM_SIZE);
        const { fds } = await unowned.shim.client.run(plan);
        const spare = { ...unowned, namespaces: heldDescriptors(plan, fds) };
        if (this.#closed) await this.#discard(spare);
        else this.#ready.push(spare);
      } catch (error) {
        await endUnownedShim(context, unowned);
        throw error;
      }
    } catch (error) {
      context.log.warn(
        { error: describeError(error) },
        'cannot make a sandbox ahead; the next pod makes its own',
      );
    }
  }

  async #discard(spare: Spare): Promise<void> {
    for (const fd of spare.namespaces.values()) fd.close();
    await endUnownedShim(this.#context, spare);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await Promise.all(this.#making);
    await Promise.all(this.#ready.splice(0).map((spare) => this.#discard(spare)));
  }
}
