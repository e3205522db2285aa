/** What containers' files would be on. */
import { statfsSync } from 'node:fs';
import { AT_EMPTY_PATH, AT_FDCWD, MOUNT_ATTR, OPEN_TREE_CLONE } from '../../linux/constants.ts';
import { Fd } from '../../linux/fd.ts';
import { native } from '../../linux/native.ts';
import { fileSystemName, tryOverlay } from '../../linux/overlay.ts';
import { check } from '../../linux/syscall-error.ts';
import { existing } from '../storage.ts';
import type { StorageFacts } from './facts.ts';
import { Held, works } from './tools.ts';

export async function probeStorage(root: string): Promise<StorageFacts> {
  const directory = existing(root);
  const { bavail, bsize, blocks, ffree, files } = statfsSync(directory);
  return {
    root,
    directory,
    type: fileSystemName(directory),
    overlay: await works(() => tryOverlay(directory)),
    idMap: await works(() => tryIdMap(directory)),
    free: bavail * bsize,
    size: blocks * bsize,
    freeInodes: ffree,
    inodes: files,
  };
}

/** A detached copy of the mount, with the ids of another user namespace. */
async function tryIdMap(directory: string): Promise<void> {
  await using held = await Held.make(['--user', '--map-root-user']);
  using users = held.namespace('user');
  const n = native();
  using tree = new Fd(check(n.openTree(AT_FDCWD, directory, OPEN_TREE_CLONE), 'open_tree', directory));
  const { number } = tree;
  check(n.mountSetattr(number, '', AT_EMPTY_PATH, MOUNT_ATTR.IDMAP, 0, 0, users.number), 'id-map', directory);
}
