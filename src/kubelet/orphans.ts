/** What belongs to no pod that is known: ended and removed at start. */
import { readdirSync, readlinkSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError, failpoint, type Log } from '../base/index.ts';
import { type Container, ContainerState, type LocalRuntime, type PodSandbox } from '../cri/index.ts';
import type { PodCgroups } from './cgroups.ts';
import type { KubeletPaths } from './paths.ts';
import { LABEL } from './translate/labels.ts';
import type { UserNamespaces } from './userns.ts';
import { directoriesIn, removeTree, tearDownVolumes } from './volumes/volumes.ts';

/** Seconds that containers of an unknown pod get. */
const ORPHAN_GRACE = 1;

export interface OrphanContext {
  readonly runtime: LocalRuntime;
  readonly cgroups: PodCgroups;
  readonly userNamespaces: UserNamespaces;
  readonly paths: KubeletPaths;
  readonly log: Log;
}

export interface Orphans {
  readonly removed: readonly string[];
  /** What resisted (each is logged), to be tried again. */
  readonly left: readonly string[];
}

/** Ends and removes everything of pods of which `isOrphan` says that nobody knows them. */
export async function collectOrphans(
  context: OrphanContext,
  isOrphan: (uid: string) => boolean,
): Promise<Orphans> {
  const { runtime, cgroups, paths } = context;
  const [{ items = [] }, { containers = [] }, cgroupUids] = await Promise.all([
    runtime.listPodSandbox({}),
    runtime.listContainers({}),
    cgroups.list(),
  ]);
  // Logs alone make no orphan: they are removed before the pod's directory, and others may keep theirs beside ours.
  const uids = new Set([
    ...[...items, ...containers].map(uidOf),
    ...directoriesIn(paths.pods),
    ...cgroupUids,
  ]);
  // What no kubelet made (another client of the runtime did) carries no UID and is not ours.
  uids.delete('');
  const orphans = [...uids].filter(isOrphan);
  const removed = await Promise.all(
    orphans.map(async (uid) => {
      const own = {
        sandboxes: items.filter((item) => uidOf(item) === uid),
        containers: containers.filter((item) => uidOf(item) === uid),
      };
      return await removeOrphan(context, uid, own);
    }),
  );
  return { removed: orphans.filter((_, i) => removed[i]), left: orphans.filter((_, i) => !removed[i]) };
}

function uidOf({ labels }: { readonly labels?: Readonly<Record<string, string>> }): string {
  return labels?.[LABEL.podUid] ?? '';
}

interface OrphanRemains {
  readonly sandboxes: readonly PodSandbox[];
  readonly containers: readonly Container[];
}

async function removeOrphan(
  context: OrphanContext,
  uid: string,
  { sandboxes, containers }: OrphanRemains,
): Promise<boolean> {
  const { runtime, log } = context;
  try {
    const running = containers.filter(({ state }) => state !== ContainerState.CONTAINER_EXITED);
    await Promise.all(
      running.map(({ id }) => runtime.stopContainer({ containerId: id ?? '', timeout: ORPHAN_GRACE })),
    );
    for (const { id } of sandboxes) {
      await runtime.stopPodSandbox({ podSandboxId: id ?? '' });
      await runtime.removePodSandbox({ podSandboxId: id ?? '' });
    }
    failpoint('kubelet:orphan-stopped');
    await erase(context, uid);
    return true;
  } catch (error) {
    log.warn({ uid, error: describeError(error) }, 'cannot remove what is left of an unknown pod');
    return false;
  }
}

async function erase({ paths, cgroups, userNamespaces }: OrphanContext, uid: string): Promise<void> {
  await tearDownVolumes(uid, paths);
  await cgroups.remove(uid);
  userNamespaces.release(uid);
  // The directory goes last: it is by that that what is left is found again.
  for (const name of directoriesIn(paths.directories.podLogs)) {
    if (uidOfLogs(name) !== uid) continue;
    const logs = join(paths.directories.podLogs, name);
    removeLinksInto(paths.directories.containerLogs, logs);
    await rm(logs, { recursive: true, force: true });
  }
  await removeTree(paths.pod(uid));
}

/** Links for log collectors: their names do not say whose they are, their targets do. */
function removeLinksInto(folder: string | undefined, logs: string): void {
  if (folder === undefined) return;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (!entry.isSymbolicLink()) continue;
    const link = join(folder, entry.name);
    if (readlinkSync(link).startsWith(`${logs}/`)) rmSync(link, { force: true });
  }
}

/** `<namespace>_<name>_<uid>`: names hold no underscore. */
function uidOfLogs(name: string): string {
  const parts = name.split('_');
  return parts.length === 3 ? (parts[2] ?? '') : '';
}
