/** How a session ended, as its client is told: metav1.Status on the error stream from version 4 on, else plain text. */
import { NodeletError } from '../../base/index.ts';

export interface Status {
  readonly metadata?: object;
  readonly status?: string;
  readonly reason?: string;
  readonly message?: string;
  readonly code?: number;
  readonly details?: { readonly causes?: readonly { readonly reason?: string; readonly message?: string }[] };
}

const EXIT_REASON = 'NonZeroExitCode';
const EXIT_CAUSE = 'ExitCode';

export const SUCCESS: Status = { metadata: {}, status: 'Success' };

export function exitStatus(code: number): Status {
  if (code === 0) return SUCCESS;
  return {
    metadata: {},
    status: 'Failure',
    reason: EXIT_REASON,
    message: `command terminated with non-zero exit code: exit status ${code}`,
    details: { causes: [{ reason: EXIT_CAUSE, message: String(code) }] },
  };
}

export function internalStatus(message: string): Status {
  return {
    metadata: {},
    status: 'Failure',
    reason: 'InternalError',
    message: `Internal error occurred: ${message}`,
    code: 500,
  };
}

/** What is written on the error stream: nothing for a success before version 4. */
export function encodeStatus(status: Status, json: boolean): Buffer {
  if (json) return Buffer.from(JSON.stringify(status));
  return Buffer.from(status.status === 'Success' ? '' : (status.message ?? ''));
}

/** The exit code that an error stream's text tells. Throws REMOTE_FAILED with the other end's words,
 * EXEC_LOST where it said nothing. */
export function exitCodeOf(text: string, json: boolean): number {
  if (!json) {
    if (text === '') return 0;
    throw new NodeletError('REMOTE_FAILED', text);
  }
  if (text === '') throw new NodeletError('EXEC_LOST', 'the connection has ended before the program');
  let status: Status;
  try {
    status = JSON.parse(text) as Status;
  } catch (error) {
    throw new NodeletError(
      'STREAM_PROTOCOL',
      `the error stream holds no status: ${JSON.stringify(text.slice(0, 200))}`,
      {
        cause: error,
      },
    );
  }
  if (status.status === 'Success') return 0;
  const cause = status.details?.causes?.find((one) => one.reason === EXIT_CAUSE);
  if (status.reason === EXIT_REASON && cause?.message !== undefined && /^\d{1,3}$/.test(cause.message))
    return Number(cause.message);
  throw new NodeletError('REMOTE_FAILED', status.message ?? 'the other end gave no reason');
}
