/** How a process that serves ends: the first signal in good order, the second at once. */
import { describeError, type Log } from '../../base/index.ts';
import { EXIT, signalExit } from '../exit-codes.ts';

/** Calls `end` at the first signal. Returns what takes the handlers away. */
export function endOnSignals(end: (signal: NodeJS.Signals) => void): () => void {
  let asked = false;
  const listener = (signal: NodeJS.Signals): void => {
    if (asked) process.exit(signalExit(signal));
    asked = true;
    end(signal);
  };
  const names = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
  for (const name of names) process.on(name, listener);
  return () => {
    for (const name of names) process.off(name, listener);
  };
}

/** Nothing is known about the state after an error that nobody expected; pods run on, and the next process takes them up. */
export function endOnDefects(log: Log): void {
  process.on('uncaughtException', (error) => {
    log.error({ error: describeError(error), stack: error.stack }, 'unexpected error');
    process.exit(EXIT.failure);
  });
}
