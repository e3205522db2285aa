/** What is remembered of an action's outcome. Pure. */
import { type BackoffPolicy, nextBackoff } from '../../base/index.ts';
import { type Action, actionKey } from './actions.ts';
import type { ContainerMemory, PodMemory } from './model.ts';

export type Outcome =
  | { readonly ok: true; readonly imageRef?: string }
  | { readonly ok: false; readonly reason: string; readonly message: string };

export interface RetryPolicy {
  /** Of failed pulls, for each pod and image. */
  readonly imagePull: BackoffPolicy;
  /** Milliseconds until any other failed action is tried again. */
  readonly retryAfter: number;
}

/** Reasons of `ensure-image` that are no failed pull: nothing was asked of a registry. */
const NOT_PULLED = new Set(['ErrImageNeverPull', 'InvalidImageName', 'ImageInspectError']);

export function remember(
  memory: PodMemory,
  action: Action,
  outcome: Outcome,
  policy: RetryPolicy,
  now: number,
): PodMemory {
  const after = action.kind === 'ensure-image' ? rememberImage(memory, action, outcome, policy, now) : memory;
  const failures = { ...after.failures };
  delete failures[actionKey(action)];
  if (!outcome.ok && action.kind !== 'ensure-image') {
    const { reason, message } = outcome;
    failures[actionKey(action)] = { reason, message, at: now, retryAt: now + policy.retryAfter };
  }
  const counted = { ...after, failures };
  switch (action.kind) {
    case 'prepare-pod':
      return outcome.ok ? { ...counted, prepared: true } : counted;
    case 'release-pod':
      return outcome.ok ? { ...counted, released: true } : counted;
    case 'start-container':
      // The image was found for this attempt only; a start counts for the crash loop whether it worked or not.
      return withContainer(
        counted,
        action.container,
        action.crash === undefined ? {} : { crash: action.crash },
      );
    case 'announce-backoff':
      return action.id === undefined
        ? withAnnouncedPull(counted, action.image)
        : withContainer(counted, action.container, {
            ...counted.containers[action.container],
            announcedFor: action.id,
          });
    default:
      return counted;
  }
}

function rememberImage(
  memory: PodMemory,
  action: Extract<Action, { kind: 'ensure-image' }>,
  outcome: Outcome,
  policy: RetryPolicy,
  now: number,
): PodMemory {
  const pulls = { ...memory.pulls };
  const before = pulls[action.image];
  delete pulls[action.image];
  if (outcome.ok) {
    const own = { ...memory.containers[action.container], imageRef: outcome.imageRef ?? '' };
    return withContainer({ ...memory, pulls }, action.container, own);
  }
  const pulled = !NOT_PULLED.has(outcome.reason);
  pulls[action.image] = {
    reason: outcome.reason,
    message: outcome.message,
    pulled,
    backoff: pulled
      ? nextBackoff(policy.imagePull, before?.backoff, now)
      : { delay: policy.retryAfter, since: now },
    announced: false,
  };
  return { ...memory, pulls };
}

function withContainer(memory: PodMemory, name: string, own: ContainerMemory): PodMemory {
  return { ...memory, containers: { ...memory.containers, [name]: own } };
}

function withAnnouncedPull(memory: PodMemory, image: string): PodMemory {
  const failure = memory.pulls[image];
  if (failure === undefined) return memory;
  return { ...memory, pulls: { ...memory.pulls, [image]: { ...failure, announced: true } } };
}

/** After a ConfigMap or Secret that the pod refers to has changed: volumes are written again, failed starts tried at once. */
export function forgetConfiguration(memory: PodMemory): PodMemory {
  const kept = Object.entries(memory.failures).filter(
    ([key, failure]) => failure.reason !== 'CreateContainerConfigError' && !key.startsWith('prepare-pod '),
  );
  return { ...memory, prepared: false, failures: Object.fromEntries(kept) };
}
