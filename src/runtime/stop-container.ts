/** StopContainer: the stop signal, the grace period, then SIGKILL and the cgroup. Idempotent. */
import { failpoint, NodeletError, withDeadline } from '../base/index.ts';
import { signalNumber } from '../linux/constants.ts';
import { unseenExit } from './attach-shim.ts';
import type { RuntimeContext } from './context.ts';
import type { Container, Sandbox } from './model.ts';

/** A killed process that does not end sits in the kernel (a dead disk or share): said by name, nothing waits for ever. */
const KILL_DEADLINE = 15_000;

/**
 * Behind a start that is under way, but beside other stops: a shorter grace period must not wait for a longer one. Not for a
 * holder of the container's lock.
 */
export async function stopAfterStart(
  context: RuntimeContext,
  container: Container,
  timeoutSeconds: number,
): Promise<void> {
  await context.locks.run(container.id, () => {});
  await stopContainer(context, container, timeoutSeconds);
}

export async function stopContainer(
  context: RuntimeContext,
  container: Container,
  timeoutSeconds: number,
): Promise<void> {
  const { record, sandbox } = container;
  if (record.state !== 'running' && record.state !== 'unknown') return;
  if (record.state === 'running' && timeoutSeconds > 0 && sandbox.shim !== undefined) {
    const number = signalNumber(record.stopSignal) ?? 15;
    const alive = await sandbox.shim.signal(record.id, number);
    if (alive && (await endsWithin(container, timeoutSeconds * 1000))) return;
  }
  failpoint('stop:before-kill');
  await kill(context, container);
}

async function endsWithin(container: Container, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), Math.min(ms, 0x7fff_ffff));
  });
  try {
    return await Promise.race([container.ended.promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Whether anybody would tell of an end. */
function hasShim({ shim }: Sandbox): boolean {
  return shim?.connected === true;
}

/** SIGKILL to the first process and to everything in the cgroup, whoever the shim still knows. */
async function kill(context: RuntimeContext, container: Container): Promise<void> {
  const { record, sandbox } = container;
  const parent = sandbox.record.config.linux?.cgroupParent ?? '';
  if (record.state === 'running' && sandbox.shim?.connected === true)
    await sandbox.shim.signal(record.id, 9).catch(() => false);
  await context.cgroups.kill(parent, record.id);
  if (record.state !== 'running') return;
  // Nobody is left who could tell.
  if (!hasShim(sandbox)) {
    unseenExit(context, container);
    return;
  }
  try {
    await withDeadline(
      `the end of container "${record.id.slice(0, 12)}" after SIGKILL`,
      KILL_DEADLINE,
      container.ended.promise,
    );
  } catch (error) {
    if (!hasShim(sandbox)) {
      unseenExit(context, container);
      return;
    }
    throw new NodeletError(
      'CONTAINER_STUCK',
      `container "${record.id.slice(0, 12)}" did not end within ${KILL_DEADLINE / 1000} s of SIGKILL`,
      {
        hint: `look at /proc/${record.pid}/stack and wchan: a process in state D waits for a disk or a network file system`,
        cause: error,
      },
    );
  }
}
