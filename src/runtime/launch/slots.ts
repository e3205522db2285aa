import { NodeletError } from '../../base/index.ts';
import { FIRST_PLAN_SLOT, MAX_SLOTS, POD_SLOTS } from './protocol.gen.ts';

/** Hands out descriptor slots of one plan; the first ones are those that travel with it. */
export class Slots {
  #next: number;

  constructor(passed: number) {
    this.#next = FIRST_PLAN_SLOT + passed;
  }

  take(): number {
    if (this.#next >= MAX_SLOTS) {
      throw new NodeletError('PLAN_TOO_LARGE', `a launch plan has ${MAX_SLOTS} descriptors at most`, {
        hint: 'use fewer mounts',
      });
    }
    this.#next += 1;
    return this.#next - 1;
  }
}

/** The slot of the n-th descriptor that travels with a plan. */
export function passedSlot(n: number): number {
  return FIRST_PLAN_SLOT + n;
}

export type PodSlot = keyof typeof POD_SLOTS;

export const POD_SLOT_NAMES: ReadonlyMap<number, PodSlot> = new Map(
  Object.entries(POD_SLOTS).map(([name, slot]) => [slot, name as PodSlot]),
);
