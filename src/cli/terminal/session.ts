/** This process' terminal for a session in a container. */
import type { SessionStreams } from '../../agent/index.ts';
import { note } from '../output.ts';

interface Wishes {
  readonly stdin?: boolean;
  readonly tty?: boolean;
}

/** As kubectl: without a terminal on our side there is none on the other. */
export function wantsTerminal({ stdin, tty }: Wishes): boolean {
  if (tty !== true) return false;
  if (stdin === true && !process.stdin.isTTY) {
    note('Unable to use a TTY - input is not a terminal');
    return false;
  }
  return true;
}

/** Runs a session with our streams, the terminal raw for as long. */
export async function withTerminal<T>(
  terminal: boolean,
  stdin: boolean,
  session: (streams: SessionStreams) => Promise<T>,
): Promise<T> {
  const raw = terminal && stdin && process.stdin.isTTY;
  if (raw) process.stdin.setRawMode(true);
  try {
    return await session({
      terminal,
      stdin: stdin ? process.stdin : undefined,
      stdout: process.stdout,
      stderr: process.stderr,
      ...(terminal && process.stdout.isTTY
        ? {
            size: () => ({ rows: process.stdout.rows, columns: process.stdout.columns }),
            onResize: (listener: () => void) => {
              process.stdout.on('resize', listener);
              return () => process.stdout.off('resize', listener);
            },
          }
        : {}),
    });
  } finally {
    if (raw) process.stdin.setRawMode(false);
    process.stdin.pause();
  }
}
