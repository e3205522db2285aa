/** Listening to a shim: exits, lost log lines, and its own end. */

import { messageOf } from '../base/index.ts';
import { ContainerEventType } from '../cri/index.ts';
import type { RuntimeContext } from './context.ts';
import type { Container, ContainerExit, Sandbox } from './model.ts';
import { type ProcessInfo, ShimClient } from './shim/client.ts';

/** containerd's reasons. An OOM kill counts where it ended the container, not where it only killed a child. */
function reasonOf(exit: ContainerExit): string {
  if (exit.oomKills > 0 && exit.code === 137) return 'OOMKilled';
  return exit.code === 0 ? 'Completed' : 'Error';
}

/** Records an exit and tells everybody. Safe to repeat. */
export function containerExited(context: RuntimeContext, container: Container, exit: ContainerExit): void {
  const { record, sandbox } = container;
  if (record.state === 'exited') return;
  record.state = 'exited';
  record.exitCode = exit.code;
  record.oomKilled = exit.oomKills > 0;
  record.reason = reasonOf(exit);
  record.finishedAt = exit.finishedAt;
  if (record.startedAt === 0) record.startedAt = exit.finishedAt;
  context.store.saveSoon(record);
  container.ended.resolve();
  // What the kernel still charges to the group goes with it; a failure is made up for when the container is removed.
  const parent = sandbox.record.config.linux?.cgroupParent ?? '';
  void context.cgroups.remove(parent, record.id).catch((error: unknown) => {
    context.log.debug(
      { container: record.id, error: messageOf(error) },
      'the cgroup of an ended container stays for now',
    );
  });
  context.emit(ContainerEventType.CONTAINER_STOPPED_EVENT, sandbox, container);
}

/** The container's processes are gone or were killed, and nobody saw how it ended. Safe to repeat. */
export function containerLost(context: RuntimeContext, container: Container, message: string): void {
  const { record } = container;
  if (record.state === 'exited') return;
  record.state = 'exited';
  record.exitCode = 137;
  record.reason = 'ContainerStatusUnknown';
  record.message = message;
  record.finishedAt = Date.now() * 1e6;
  context.store.saveSoon(record);
  container.ended.resolve();
  context.emit(ContainerEventType.CONTAINER_STOPPED_EVENT, container.sandbox, container);
}

/** From now on `sandbox` follows what this shim says. */
export function attachShim(context: RuntimeContext, sandbox: Sandbox, shim: ShimClient): void {
  sandbox.shim = shim;
  shim.exited.on((event) => {
    if (event.name === sandbox.id) {
      void pauseExited(context, sandbox);
      return;
    }
    const container = sandbox.containers.get(event.name);
    if (container === undefined) return;
    const exit = { code: event.code, oomKills: event.oomKills, finishedAt: Number(event.finishedAt) };
    // Its start is still being recorded: the exit follows that.
    if (container.starting) container.earlyExit = exit;
    else containerExited(context, container, exit);
  });
  shim.logLost.on((event) => {
    context.log.warn(
      { container: event.name, bytes: Number(event.bytes), errno: event.error },
      'log lines could not be written',
    );
  });
  shim.gone.on(() => {
    shimGone(context, sandbox, shim).catch((error: unknown) => {
      context.log.error(
        { sandbox: sandbox.id, error: messageOf(error) },
        'cannot clean up after a lost shim',
      );
    });
  });
}

/** Without PID 1 the kernel has killed every container of the namespace; the pod needs a new sandbox. */
async function pauseExited(context: RuntimeContext, sandbox: Sandbox): Promise<void> {
  if (sandbox.record.state !== 'ready' || sandbox.stopping) return;
  context.log.warn({ sandbox: sandbox.id }, 'the pause process has ended');
  sandbox.record.pausePid = 0;
  sandbox.record.state = 'notready';
  context.store.saveSoon(sandbox.record);
  context.emit(ContainerEventType.CONTAINER_STOPPED_EVENT, sandbox);
}

/** The connection has ended. The shim drops a peer that does not read; only if it cannot be reached again is it dead. */
async function shimGone(context: RuntimeContext, sandbox: Sandbox, shim: ShimClient): Promise<void> {
  if (sandbox.shim !== shim || sandbox.stopping) return;
  try {
    const again = ShimClient.connect(context.store.shimSocket(sandbox.id));
    attachShim(context, sandbox, again);
    const { podFds } = await again.hello();
    for (const fd of podFds.values()) fd.close();
    reconcile(context, sandbox, await again.list());
  } catch (error) {
    if (sandbox.stopping) return;
    context.log.error(
      { sandbox: sandbox.id, error: messageOf(error) },
      'the shim has ended; its containers are lost',
    );
    await sandboxLost(context, sandbox);
  }
}

/** As the shim has written it down, before it ended itself; or else lost. */
export function unseenExit(context: RuntimeContext, container: Container): void {
  const exit = context.store.readExit(container.sandbox.id, container.id);
  if (exit !== undefined) containerExited(context, container, exit);
  else if (container.record.state === 'running')
    containerLost(context, container, "the pod's shim has ended, and the container was killed");
}

/** What cannot be undone of it now holds up nothing: it is tried again when the sandbox is stopped. */
export async function sandboxLost(context: RuntimeContext, sandbox: Sandbox): Promise<void> {
  const parent = sandbox.record.config.linux?.cgroupParent ?? '';
  const attempt = async (what: string, work: Promise<void>): Promise<void> => {
    await work.catch((error: unknown) => {
      context.log.warn({ sandbox: sandbox.id, error: messageOf(error) }, `lost sandbox: cannot ${what}`);
    });
  };
  sandbox.release();
  // First of all: who hears of the end of a container must not start another one in it.
  sandbox.record.state = 'notready';
  sandbox.record.pausePid = 0;
  sandbox.record.shimPid = 0;
  await attempt('close its ports', context.loopbackPorts.close(sandbox.id));
  for (const container of sandbox.containers.values()) {
    const { state } = container.record;
    // One that was created may run: the agent before this one did not live to write that down.
    if (state !== 'running' && state !== 'created') continue;
    await attempt('kill a container', context.cgroups.kill(parent, container.id));
    unseenExit(context, container);
  }
  await attempt('kill its pause process', context.cgroups.killPauseLeaf(parent, sandbox.id));
  await attempt('kill its shim', context.cgroups.killShimGroup(sandbox.id));
  context.store.saveSoon(sandbox.record);
  context.emit(ContainerEventType.CONTAINER_STOPPED_EVENT, sandbox);
}

/** What the shim knows against what the records say, after a time without a connection. */
export function reconcile(context: RuntimeContext, sandbox: Sandbox, list: readonly ProcessInfo[]): void {
  const byName = new Map(list.map((info) => [info.name, info]));
  for (const container of sandbox.containers.values()) {
    const { record } = container;
    const info = byName.get(record.id);
    if (record.state !== 'running' && record.state !== 'created') continue;
    if (info === undefined) {
      if (record.state === 'created') continue;
      const exit = context.store.readExit(sandbox.id, record.id);
      if (exit !== undefined) containerExited(context, container, exit);
      else containerLost(context, container, 'the shim does not know the container any more');
      continue;
    }
    // A start that the agent did not live to write down.
    record.pid = info.pid;
    record.startedAt = Number(info.startedAt);
    if (info.state === EXITED) {
      containerExited(context, container, {
        code: info.code,
        oomKills: info.oomKills,
        finishedAt: Number(info.finishedAt),
      });
    } else if (record.state === 'created') {
      record.state = 'running';
      context.store.saveSoon(record);
    }
  }
}

const EXITED = 3;
