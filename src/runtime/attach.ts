/**
 * A running container's own streams. The shim copies the output to a pipe for each session and hands over the input as it
 * is, so a session costs the container nothing that outlives it, and a new agent can attach again.
 */
import type { Readable } from 'node:stream';
import { deferred, NodeletError, withDeadline } from '../base/index.ts';
import type { AttachOptions, AttachSession } from '../cri/index.ts';
import type { Container } from './model.ts';
import { readable, writable } from './pipes.ts';
import type { ShimClient } from './shim/client.ts';
import { checkContainer } from './state.ts';
import { terminalInput } from './terminal.ts';

/** Its exit is known at once after the end of its output, in milliseconds even on a busy machine. */
const EXIT_FOLLOWS = 2_000;

/** Throws INVALID_STATE, SHIM_GONE, SHIM_REFUSED (16 sessions are open). */
export async function openAttach(container: Container, options: AttachOptions): Promise<AttachSession> {
  const { record, sandbox } = container;
  checkContainer(record.id, record.state, 'attach');
  const { shim } = sandbox;
  if (shim === undefined)
    throw new NodeletError('SHIM_GONE', `the shim of container "${record.id.slice(0, 12)}" has ended`);
  // A terminal goes on without its user; where there is none, `stdinOnce` makes the first session's end the input's.
  const once = record.config.stdinOnce === true && record.config.tty !== true;
  const attached = await shim.attach(record.id, {
    stdin: options.stdin && record.config.stdin === true,
    stdout: options.stdout,
    stderr: options.stderr,
    once,
  });
  const input = attached.stdin;
  const stdin = input === undefined ? undefined : attached.terminal ? terminalInput(input) : writable(input);
  const stdout = attached.stdout === undefined ? undefined : readable(attached.stdout);
  const stderr = attached.stderr === undefined ? undefined : readable(attached.stderr);
  const outputs = [stdout, stderr].filter((stream) => stream !== undefined);
  const over = deferred<void>();
  // Whoever waits for it hears of it; nobody has to.
  over.promise.catch(() => {});
  let left = false;
  const close = (): void => {
    left = true;
    for (const stream of [stdin, ...outputs]) stream?.destroy();
    over.resolve();
  };
  for (const stream of outputs) stream.on('error', () => stream.destroy());
  // A container that has closed its input is no error of ours.
  stdin?.on('error', () => {});
  stdin?.once('close', () => {
    // As containerd: the end of the client's input is the container's, or else the end of the session.
    if (once) endInput(shim, record.id);
    else close();
  });
  void Promise.all(outputs.map(closed))
    .then(async () => {
      if (left) return;
      if (outputs.length === 0) await container.ended.promise;
      else await withDeadline('the end of the container', EXIT_FOLLOWS, container.ended.promise);
      close();
    })
    .catch(() => {
      over.reject(
        new NodeletError(
          'ATTACH_LOST',
          `the output of container "${record.config.metadata?.name ?? ''}" ended before the container: nothing of it was read for 10 s, or the container has closed it`,
        ),
      );
      close();
    });
  return {
    stdin,
    stdout,
    stderr,
    resize: (size) => void shim.resize(record.id, size.height, size.width).catch(() => {}),
    ended: over.promise,
    close,
  };
}

function endInput(shim: ShimClient, id: string): void {
  // It has ended by itself, or its shim has.
  if (shim.connected) void shim.closeStdin(id).catch(() => {});
}

function closed(stream: Readable): Promise<void> {
  return new Promise((resolve) => {
    stream.once('close', resolve);
  });
}
