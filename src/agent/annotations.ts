/** Annotations by which pods say what shall become of them. */

/** "true": the agent removes the pod once it has ended. */
export const REMOVE_WHEN_ENDED = 'nodelet.dev/remove-when-ended';

/**
 * `<pid>.<start time>` of a `nodelet run` that was its own agent and removes the pod when it ends: where that process is
 * gone, the pod is nobody's.
 */
export const RUN_BY = 'nodelet.dev/run-by';
