import { describeError, hasCode, LinkedSignal } from '../../base/index.ts';
import type { ActionOf } from '../core/actions.ts';
import { MINIMUM_GRACE } from '../core/decide.ts';
import { PodError } from '../errors.ts';
import { runHook } from '../hooks.ts';
import { containerOf, type PodContext, podAddress } from './context.ts';

export type Kill = Omit<ActionOf<'kill-container'>, 'kind' | 'until'>;

/** The preStop hook, then the stop signal and, when what is left of the grace period is over, SIGKILL. */
export async function killContainer(context: PodContext, kill: Kill, signal: AbortSignal): Promise<void> {
  const { pod, runtime, events } = context;
  const message = kill.message === '' ? `Stopping container ${kill.container}` : kill.message;
  events.record(pod, 'Normal', 'Killing', message, kill.container);
  const used = await preStop(context, kill, signal);
  const timeout = Math.max(MINIMUM_GRACE, kill.grace - used);
  try {
    await runtime.stopContainer({ containerId: kill.id, timeout }, signal);
  } catch (error) {
    if (hasCode(error, 'NOT_FOUND') || signal.aborted) return;
    events.record(pod, 'Warning', 'FailedKillPod', `error killing pod: ${describeError(error)}`);
    throw new PodError('KillContainerError', describeError(error), { cause: error });
  }
}

/** Seconds that the hook took, rounded down. */
async function preStop(context: PodContext, kill: Kill, signal: AbortSignal): Promise<number> {
  const { pod, events, now } = context;
  const container = containerOf(pod, kill.container);
  const handler = container.lifecycle?.preStop;
  if (handler === undefined || kill.grace <= 0) return 0;
  const start = now();
  using until = new LinkedSignal([signal], kill.grace * 1000);
  try {
    const podIp = podAddress(context, kill.ips);
    await runHook(handler, { ...context, container, containerId: kill.id, podIp }, until.signal);
  } catch {
    if (!until.signal.aborted) {
      events.record(pod, 'Warning', 'FailedPreStopHook', 'PreStopHook failed', container.name);
    }
  }
  return Math.floor((now() - start) / 1000);
}
