import { NodeletError } from '../base/index.ts';

/** A file of the state directory that the agent cannot do without. */
export function unwritable(path: string, cause: unknown): NodeletError {
  return new NodeletError('STATE_UNWRITABLE', `cannot write ${JSON.stringify(path)}`, {
    cause,
    hint: 'make room or a writable directory there, or choose another one with --state',
  });
}
