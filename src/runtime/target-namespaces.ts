/** Namespaces of another container of the pod (NamespaceMode.TARGET), as descriptors. */
import { NodeletError } from '../base/index.ts';
import { AT_FDCWD, O } from '../linux/constants.ts';
import { Fd } from '../linux/fd.ts';
import { native } from '../linux/native.ts';
import { check } from '../linux/syscall-error.ts';
import type { RuntimeContext } from './context.ts';
import type { Container, Sandbox } from './model.ts';
import type { ContainerMode, ContainerNamespaces } from './namespaces.ts';

/** In the order in which their descriptors travel with a plan. */
export const TARGET_KINDS = ['network', 'ipc', 'pid'] as const;
export type TargetKind = (typeof TARGET_KINDS)[number];

const FILES: Readonly<Record<TargetKind, string>> = { network: 'net', ipc: 'ipc', pid: 'pid' };

function isTarget(mode: ContainerMode): mode is Extract<ContainerMode, { from: 'target' }> {
  return mode.from === 'target';
}

export function targetKinds(namespaces: ContainerNamespaces): TargetKind[] {
  return TARGET_KINDS.filter((kind) => isTarget(namespaces[kind]));
}

/** Throws NOT_FOUND, and INVALID_ARGUMENT for a container of another pod. */
export function targetOf(
  model: RuntimeContext['model'],
  sandbox: Sandbox,
  namespaces: ContainerNamespaces,
): Container | undefined {
  const mode = TARGET_KINDS.map((kind) => namespaces[kind]).find(isTarget);
  if (mode === undefined) return undefined;
  const target = model.container(mode.targetId);
  if (target.sandbox !== sandbox)
    throw new NodeletError(
      'INVALID_ARGUMENT',
      `namespaceOptions.targetId: container ${JSON.stringify(mode.targetId)} is in another pod`,
      { hint: 'name a container of the same pod' },
    );
  return target;
}

/**
 * Opens them. A process id alone could be another process' by now: that the target is still our unreaped child is asked of its
 * shim after the descriptors are open. They are the caller's. Throws INVALID_STATE where the target does not run.
 */
export async function openTargetNamespaces(
  context: RuntimeContext,
  sandbox: Sandbox,
  namespaces: ContainerNamespaces,
): Promise<Fd[]> {
  const target = targetOf(context.model, sandbox, namespaces);
  if (target === undefined) return [];
  const gone = (): NodeletError =>
    new NodeletError(
      'INVALID_STATE',
      `namespaceOptions.targetId: container "${target.id.slice(0, 12)}" does not run`,
    );
  if (target.record.state !== 'running') throw gone();
  const opened: Fd[] = [];
  try {
    for (const kind of targetKinds(namespaces)) {
      const path = `/proc/${target.record.pid}/ns/${FILES[kind]}`;
      opened.push(new Fd(check(native().openat2(AT_FDCWD, path, O.RDONLY, 0, 0), 'open', path)));
    }
    if (!(await sandbox.shim?.signal(target.id, 0))) throw gone();
    return opened;
  } catch (error) {
    for (const fd of opened) fd.close();
    throw error;
  }
}
