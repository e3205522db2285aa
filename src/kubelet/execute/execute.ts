/** One executor for each kind of action; the mapped type makes the compiler count them. */
import { formatPod } from '../../kube/index.ts';
import type { Action, ActionKind, ActionOf } from '../core/actions.ts';
import type { PodContext } from './context.ts';
import { ensureImage } from './image.ts';
import { killContainer } from './kill-container.ts';
import { createSandbox, erasePod, preparePod, releasePod, removeSandbox, stopSandbox } from './pod.ts';
import { removeContainer } from './remove-container.ts';
import { startContainer } from './start-container.ts';

/** What an action gives beyond being done. */
export interface ActionResult {
  readonly imageRef?: string;
}

type Executors = {
  readonly [K in ActionKind]: (
    context: PodContext,
    action: ActionOf<K>,
    signal: AbortSignal,
  ) => Promise<ActionResult | void>;
};

const EXECUTORS: Executors = {
  'prepare-pod': preparePod,
  'create-sandbox': createSandbox,
  'ensure-image': ensureImage,
  'start-container': startContainer,
  'kill-container': killContainer,
  'remove-container': removeContainer,
  'stop-sandbox': stopSandbox,
  'remove-sandbox': removeSandbox,
  'announce-backoff': announceBackoff,
  'release-pod': releasePod,
  'erase-pod': erasePod,
};

/** Carries an action out. Throws PodError, or what the room below raised. */
export async function execute(
  context: PodContext,
  action: Action,
  signal: AbortSignal,
): Promise<ActionResult> {
  const executor = EXECUTORS[action.kind] as Executors['ensure-image'];
  return (await executor(context, action as ActionOf<'ensure-image'>, signal)) ?? {};
}

async function announceBackoff(
  { pod, events }: PodContext,
  action: ActionOf<'announce-backoff'>,
): Promise<void> {
  if (action.id !== undefined) {
    const message = `Back-off restarting failed container ${action.container} in pod ${formatPod(pod)}`;
    events.record(pod, 'Warning', 'BackOff', message, action.container);
    return;
  }
  const message = `Back-off pulling image ${JSON.stringify(action.image)}`;
  events.record(pod, 'Normal', 'BackOff', message, action.container);
  events.record(pod, 'Warning', 'Failed', 'Error: ImagePullBackOff', action.container);
}
