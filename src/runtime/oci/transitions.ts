/** Which verb is for which state of a container. */
import { NodeletError } from '../../base/index.ts';

export type ContainerStatus = 'creating' | 'created' | 'running' | 'paused' | 'stopped';

type Verb = 'start' | 'kill' | 'delete' | 'exec' | 'pause' | 'resume' | 'update' | 'ps' | 'events';

const ALLOWED: Readonly<Record<Verb, readonly ContainerStatus[]>> = {
  start: ['created'],
  kill: ['created', 'running', 'paused'],
  // As runc: what was never started may be given up without --force.
  delete: ['created', 'stopped'],
  exec: ['created', 'running'],
  pause: ['created', 'running'],
  resume: ['paused'],
  update: ['created', 'running', 'paused'],
  ps: ['created', 'running', 'paused'],
  events: ['created', 'running', 'paused'],
};

/** Throws OCI_STATE. Callers of runc look for "container not running" in the text. */
export function checkStatus(verb: Verb, id: string, status: ContainerStatus): void {
  if (ALLOWED[verb].includes(status)) return;
  const text =
    verb === 'start' && status !== 'creating'
      ? `cannot start a container that is ${status === 'stopped' ? 'stopped' : 'already running'}`
      : status === 'stopped'
        ? 'container not running'
        : `the container is ${status}`;
  throw new NodeletError('OCI_STATE', `cannot ${verb} container ${JSON.stringify(id)}: ${text}`, {
    details: { status },
    ...(verb === 'delete' ? { hint: 'stop it first, or use --force' } : {}),
  });
}
