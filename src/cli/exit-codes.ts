/** What `nodelet` ends with. As podman's: the numbers of a program that was run never mean Nodelet's own failure. */
export const EXIT = {
  ok: 0,
  /** `doctor`, `image verify`: they have worked, and something is missing or wrong. */
  missing: 1,
  /** `run --timeout`, as timeout(1). */
  timeout: 124,
  /** Nodelet's own failure: wrong usage, a bad manifest, no root, no agent. */
  failure: 125,
  notExecutable: 126,
  notFound: 127,
  /** 128 + SIGINT. */
  interrupted: 130,
  /** 128 + SIGPIPE: whoever read our output has gone. */
  brokenPipe: 141,
} as const;

/** 128 + the signal's number. */
export function signalExit(signal: NodeJS.Signals): number {
  return { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 }[signal as string] ?? EXIT.failure;
}
