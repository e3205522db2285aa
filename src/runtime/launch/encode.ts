import { OPERATIONS, type Operation, PLAN_KINDS, PROTOCOL_VERSION } from './protocol.gen.ts';
import { ByteWriter, writeField } from './wire.ts';

export type PlanKind = keyof typeof PLAN_KINDS;

/** A launch plan: what the shim does, in order, to make one process. */
export interface LaunchPlan {
  readonly kind: PlanKind;
  /** The container's, sandbox's or exec's id. */
  readonly name: string;
  readonly operations: readonly Operation[];
}

const MAGIC = 0x504c_444e;

/** The plan's byte form (native/shim/plan.c reads it). Throws INVALID_TEXT, PLAN_TOO_LARGE. */
export function encodePlan(plan: LaunchPlan): Buffer {
  const w = new ByteWriter();
  w.u32(MAGIC);
  w.u32(PROTOCOL_VERSION);
  w.u32(PLAN_KINDS[plan.kind]);
  w.u32(plan.operations.length);
  w.str(plan.name);
  for (const operation of plan.operations) {
    const info = OPERATIONS[operation.op];
    w.u32(info.code);
    w.sized(() => {
      for (const [name, type] of info.fields) writeField(w, type, operation[name as keyof Operation]);
    });
  }
  return w.finish();
}
