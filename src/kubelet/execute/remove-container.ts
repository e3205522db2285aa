import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { hasCode } from '../../base/index.ts';
import type { ActionOf } from '../core/actions.ts';
import { terminationFileOf } from '../files/termination.ts';
import type { PodContext } from './context.ts';

/** Removes a dead container with its log, the rotated parts of it, and its termination file. */
export async function removeContainer(
  context: PodContext,
  action: ActionOf<'remove-container'>,
): Promise<void> {
  const { pod, runtime, paths } = context;
  const termination = await terminationFile(context, action.id);
  await runtime.removeContainer({ containerId: action.id });
  if (termination?.startsWith(`${paths.pod(pod.metadata.uid)}/`)) rmSync(termination, { force: true });
  const link = paths.logLink(pod, action.container, action.id);
  if (link !== undefined) rmSync(link, { force: true });
  removeLogs(paths.containerLogs(pod, action.container), action.attempt);
}

async function terminationFile({ runtime }: PodContext, id: string): Promise<string | undefined> {
  try {
    const { status } = await runtime.containerStatus({ containerId: id });
    return status === undefined ? undefined : terminationFileOf(status);
  } catch (error) {
    if (hasCode(error, 'NOT_FOUND')) return undefined;
    throw error;
  }
}

/** `3.log` and `3.log.20260102-150405[.gz]`. */
function removeLogs(folder: string, attempt: number): void {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return;
    throw error;
  }
  for (const name of names) {
    if (name === `${attempt}.log` || name.startsWith(`${attempt}.log.`))
      rmSync(join(folder, name), { force: true });
  }
}
