import type { Fd } from '../linux/fd.ts';
import type { LaunchPlan } from './launch/encode.ts';
import { POD_SLOT_NAMES, type PodSlot } from './launch/slots.ts';

/** The descriptors that came back from a sandbox plan, by what they are: in the order of its `hold` operations. */
export function heldDescriptors(plan: LaunchPlan, fds: readonly Fd[]): Map<PodSlot, Fd> {
  const held = new Map<PodSlot, Fd>();
  plan.operations
    .filter((operation) => operation.op === 'hold')
    .forEach((operation, i) => {
      const fd = fds[i];
      const name = POD_SLOT_NAMES.get(operation.pod);
      if (fd === undefined || name === undefined) return;
      held.get(name)?.close();
      held.set(name, fd);
    });
  return held;
}
