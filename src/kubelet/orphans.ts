/** What belongs to no pod that is known: ended and removed at start. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError, failpoint, type Log } from '../base/index.ts';
import { ContainerState, type LocalRuntime } from '../cri/index.ts';
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

/** Ends and removes everything of pods whose UID is not in `known`. Returns their UIDs. One that resists is logged. */
export async function collectOrphans(context: OrphanContext, known: ReadonlySet<string>): Promise<string[]> {
  const { runtime, cgroups, paths } = context;
  const [{ items = [] }, { containers = [] }, cgroupUids] = await Promise.all([
    runtime.listPodSandbox({}),
    runtime.listContainers({}),
    cgroups.list(),
  ]);
  const uidOf = (labels: Readonly<Record<string, string>> | undefined) => labels?.[LABEL.podUid] ?? '';
  const uids = new Set([
    ...items.map(({ labels }) => uidOf(labels)),
    ...directoriesIn(paths.pods),
    ...cgroupUids,
  ]);
  // Logs alone make no orphan: they are removed before the pod's directory, and others may keep theirs beside ours.
  // What no kubelet made (another client of the runtime did) carries no UID and is not ours.
  uids.delete('');
  const orphans = [...uids].filter((uid) => !known.has(uid));
  await Promise.all(
    orphans.map(async (uid) => {
      try {
        const own = containers.filter(({ labels }) => uidOf(labels) === uid);
        const running = own.filter(({ state }) => state !== ContainerState.CONTAINER_EXITED);
        await Promise.all(
          running.map(({ id }) => runtime.stopContainer({ containerId: id ?? '', timeout: ORPHAN_GRACE })),
        );
        for (const { id } of items.filter(({ labels }) => uidOf(labels) === uid)) {
          await runtime.stopPodSandbox({ podSandboxId: id ?? '' });
          await runtime.removePodSandbox({ podSandboxId: id ?? '' });
        }
        failpoint('kubelet:orphan-stopped');
        await erase(context, uid);
      } catch (error) {
        context.log.warn(
          { uid, error: describeError(error) },
          'cannot remove what is left of an unknown pod',
        );
      }
    }),
  );
  return orphans;
}

async function erase({ paths, cgroups, userNamespaces }: OrphanContext, uid: string): Promise<void> {
  await tearDownVolumes(uid, paths);
  await cgroups.remove(uid);
  userNamespaces.release(uid);
  await removeTree(paths.pod(uid));
  for (const name of directoriesIn(paths.directories.podLogs)) {
    if (uidOfLogs(name) === uid)
      await rm(join(paths.directories.podLogs, name), { recursive: true, force: true });
  }
}

/** `<namespace>_<name>_<uid>`: names hold no underscore. */
function uidOfLogs(name: string): string {
  const parts = name.split('_');
  return parts.length === 3 ? (parts[2] ?? '') : '';
}
