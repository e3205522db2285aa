import { NodeletError, sleep } from '../base/index.ts';
import type { ExecSyncRequest, ExecSyncResponse, StreamingRuntime } from '../cri/index.ts';

/** What is kept of each stream; the rest is read and dropped, so that the program does not stop (CVE-2022-1708). */
const OUTPUT_LIMIT = 16 * 1024 * 1024;

/** Milliseconds that a timer can wait; 24 days. */
const LONGEST = 0x7fff_ffff;

/** ExecSync: a program without terminal or input, its output and exit code. Throws DEADLINE_EXCEEDED after `timeout` s. */
export async function execSync(
  runtime: StreamingRuntime,
  request: ExecSyncRequest,
  signal?: AbortSignal,
): Promise<ExecSyncResponse> {
  const session = await runtime.openExec(
    { containerId: request.containerId ?? '', command: request.cmd ?? [], terminal: false, stdin: false },
    signal,
  );
  const collect = (stream: NodeJS.ReadableStream | undefined): { chunks: Buffer[] } => {
    const kept = { chunks: [] as Buffer[], size: 0 };
    stream?.on('data', (chunk: Buffer) => {
      const room = OUTPUT_LIMIT - kept.size;
      if (room <= 0) return;
      kept.chunks.push(chunk.length > room ? chunk.subarray(0, room) : chunk);
      kept.size += Math.min(room, chunk.length);
    });
    return kept;
  };
  const stdout = collect(session.stdout);
  const stderr = collect(session.stderr);
  const stop = (): void => session.close();
  signal?.addEventListener('abort', stop);
  // It may have fired while the program was started.
  if (signal?.aborted) stop();
  const seconds = request.timeout ?? 0;
  const timer = new AbortController();
  try {
    const late = async (): Promise<never> => {
      await sleep(Math.min(seconds * 1000, LONGEST), timer.signal);
      throw new NodeletError('DEADLINE_EXCEEDED', `the command did not end within ${seconds} s`);
    };
    const exitCode = seconds > 0 ? await Promise.race([session.exit, late()]) : await session.exit;
    if (signal?.aborted) throw new NodeletError('ABORTED', 'the request was cancelled');
    return { stdout: Buffer.concat(stdout.chunks), stderr: Buffer.concat(stderr.chunks), exitCode };
  } finally {
    timer.abort();
    signal?.removeEventListener('abort', stop);
    session.close();
  }
}
