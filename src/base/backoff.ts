/** Exponential back-off that belongs to one item. Pure: the clock is an argument. Times in milliseconds. */
export interface BackoffPolicy {
  readonly initial: number;
  readonly factor: number;
  readonly max: number;
  /** Quiet time after which the next failure starts again at `initial`. */
  readonly resetAfter: number;
}

export interface BackoffState {
  /** Length of the latest pause. */
  readonly delay: number;
  /** When the latest failure was counted. */
  readonly since: number;
}

/** The state after one more failure at `now`. */
export function nextBackoff(
  policy: BackoffPolicy,
  state: BackoffState | undefined,
  now: number,
): BackoffState {
  if (state === undefined || now - state.since > policy.resetAfter)
    return { delay: policy.initial, since: now };
  return { delay: Math.min(state.delay * policy.factor, policy.max), since: now };
}

/** Milliseconds from `now` until the pause that `state` describes is over; 0 where it is. */
export function backoffRemaining(state: BackoffState | undefined, now: number): number {
  return state === undefined ? 0 : Math.max(0, state.since + state.delay - now);
}

/** Decorrelated jitter for network retries: between `base` and three times the previous pause. */
export function decorrelated(
  base: number,
  max: number,
  previous: number,
  random: () => number = Math.random,
): number {
  return Math.min(max, base + random() * Math.max(0, previous * 3 - base));
}
