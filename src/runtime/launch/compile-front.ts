/** The parts of a launch plan that only an OCI runtime's container has: its caller's streams, hooks, a start in two steps. */
import { MS } from '../../linux/constants.ts';
import type { FrontContext } from './context.ts';
import type { Operation } from './protocol.gen.ts';
import { passedSlot } from './slots.ts';
import type { OciHook, OciSpec } from './spec.ts';

/** The slots of the streams and of the descriptors to keep, which travel after `before` others. */
export function frontSlots(
  front: FrontContext | undefined,
  before: number,
): {
  readonly count: number;
  readonly io: { readonly in: number; readonly out: number; readonly err: number } | undefined;
  readonly preserve: readonly number[];
} {
  if (front === undefined) return { count: 0, io: undefined, preserve: [] };
  return {
    count: 3 + front.preserve,
    io: { in: passedSlot(before), out: passedSlot(before + 1), err: passedSlot(before + 2) },
    preserve: Array.from({ length: front.preserve }, (_, i) => passedSlot(before + 3 + i)),
  };
}

/** The descriptors of whoever asked, as 3, 4, … */
export function passOperations(kept: readonly number[]): Operation[] {
  return kept.length === 0 ? [] : [{ op: 'pass-descriptors', slots: kept }];
}

export function listenOperations({ socket }: FrontContext, out: number): Operation[] {
  return [{ op: 'listen', directory: socket.directory, name: socket.name, out }];
}

/** Everything is mounted, nothing of the container runs: the runtime's hooks, then those inside its namespaces. */
export function beforePivot(spec: OciSpec): Operation[] {
  const { prestart = [], createRuntime = [], createContainer = [] } = spec.hooks ?? {};
  if (prestart.length + createRuntime.length + createContainer.length === 0) return [];
  return [{ op: 'checkpoint' }, ...createContainer.map(hookOperation)];
}

/**
 * Once the streams are in place: it may wait for long, in sight of whoever shares its PID namespace, so nothing of the host is
 * left to be found. Before any filter, which may not know close_range(2).
 */
export function dropForGood(socket: number, preserve: readonly number[]): Operation[] {
  return [{ op: 'drop-descriptors', keep: [...preserve, socket] }];
}

/** Just before exec: the container is created and waits to be started. What is not to be kept was closed before. */
export function startOperations(
  spec: OciSpec,
  socket: number,
  preserve: readonly number[],
): { readonly operations: readonly Operation[]; readonly close: number | undefined } {
  return {
    operations: [
      ...passOperations(preserve),
      { op: 'await-start', socket },
      ...(spec.hooks?.startContainer ?? []).map(hookOperation),
    ],
    close: undefined,
  };
}

function hookOperation(hook: OciHook): Operation {
  return {
    op: 'hook',
    path: hook.path,
    argv: hook.args === undefined || hook.args.length === 0 ? [hook.path] : [...hook.args],
    env: [...(hook.env ?? [])],
    timeout: hook.timeout ?? 0,
  };
}

const PROPAGATION = { shared: MS.SHARED, unbindable: MS.UNBINDABLE, slave: 0, private: 0 } as const;

/** The root's own propagation once it is the root: a private or slave one was made so before. */
export function rootPropagation(spec: OciSpec, root: number): Operation[] {
  const propagation = PROPAGATION[spec.linux.rootfsPropagation ?? 'private'];
  if (propagation === 0) return [];
  return [{ op: 'mount-attributes', tree: root, set: 0, clear: 0, propagation, flags: 0 }];
}
