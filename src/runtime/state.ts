/** Life cycles as tables: what may be asked of a sandbox or container in which state. */
import { NodeletError } from '../base/index.ts';

/**
 * `creating`: the record stands, what it names may not; a crash there is cleaned up, never continued. `notready`: stopped,
 * or lost with its shim.
 */
export type SandboxState = 'creating' | 'ready' | 'notready';

/** `stopping`: a stop has begun; only in memory, since the next agent may begin it anew. */
export type SandboxPhase = SandboxState | 'stopping';

/** `created`: everything but a process. `unknown`: it ran, and nobody saw how it ended. */
export type ContainerState = 'created' | 'running' | 'exited' | 'unknown';

export type SandboxVerb = 'create-container' | 'stop' | 'remove';
export type ContainerVerb = 'start' | 'stop' | 'remove' | 'exec' | 'attach' | 'update' | 'reopen-log';

const SANDBOX: Readonly<Record<SandboxPhase, readonly SandboxVerb[]>> = {
  creating: ['stop', 'remove'],
  ready: ['create-container', 'stop', 'remove'],
  stopping: ['stop', 'remove'],
  notready: ['stop', 'remove'],
};

const CONTAINER: Readonly<Record<ContainerState, readonly ContainerVerb[]>> = {
  created: ['start', 'stop', 'remove', 'update'],
  running: ['stop', 'remove', 'exec', 'attach', 'update', 'reopen-log'],
  exited: ['stop', 'remove'],
  unknown: ['stop', 'remove'],
};

export function checkSandbox(id: string, state: SandboxPhase, verb: SandboxVerb): void {
  if (!SANDBOX[state].includes(verb)) {
    throw new NodeletError(
      'INVALID_STATE',
      `cannot ${verb} in sandbox "${id.slice(0, 12)}": it is ${state}`,
      { details: { id, state } },
    );
  }
}

export function checkContainer(id: string, state: ContainerState, verb: ContainerVerb): void {
  if (!CONTAINER[state].includes(verb)) {
    throw new NodeletError('INVALID_STATE', `cannot ${verb} container "${id.slice(0, 12)}": it is ${state}`, {
      details: { id, state },
    });
  }
}
