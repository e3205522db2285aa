/**
 * Images mounted for people to look at. The mount table is the only record: the source of such a mount names its image,
 * so nothing can be out of step with it, and a reboot leaves nothing.
 */
import { mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { hasCode, NodeletError } from '../base/index.ts';
import { MNT_DETACH } from '../linux/constants.ts';
import { parseMountinfo } from '../linux/mountinfo.ts';
import { native } from '../linux/native.ts';
import { mountLayers } from '../linux/overlay.ts';
import { check } from '../linux/syscall-error.ts';

const prefix = 'nodelet-image:';

/** Mount points of mounted images, by the image's ID. */
export function imageMounts(): ReadonlyMap<string, readonly string[]> {
  const mounts = new Map<string, string[]>();
  const text = readFileSync('/proc/self/mountinfo', 'utf8');
  if (!text.includes(prefix)) return mounts;
  for (const { source, mountPoint } of parseMountinfo(text)) {
    if (!source.startsWith(prefix)) continue;
    const id = source.slice(prefix.length);
    mounts.set(id, [...(mounts.get(id) ?? []), mountPoint]);
  }
  return mounts;
}

/**
 * Mounts layers (topmost first) read-only, without devices and set-id programs, on a directory that exists. `scratch` is
 * made: overlayfs wants two directories where none is writable, and an image may have fewer.
 */
export function mountImage(id: string, layers: readonly string[], target: string, scratch: string): void {
  const fill = ['0', '1'].slice(Math.min(layers.length, 2)).map((name) => join(scratch, name));
  for (const path of fill) mkdirSync(path, { recursive: true, mode: 0o755 });
  mountLayers([...layers, ...fill], target, `${prefix}${id}`);
}

/** The directory that an image is mounted on where none is named: made here, and removed with the mount. */
export function defaultMountPoint(state: string, id: string): string {
  return join(state, 'images', id.replace('sha256:', ''));
}

export function makeMountPoint(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
}

/** Unmounts what `imageMounts` has told of. Throws IMAGE_NOT_MOUNTED where the path is nothing of ours. */
export function unmountImage(path: string, own: string): void {
  const all = [...imageMounts().values()].flat();
  if (!all.includes(path)) throw notMounted(path, 'no image is mounted there');
  check(native().umount2(path, MNT_DETACH), 'umount', path);
  if (path !== own) return;
  try {
    rmdirSync(path);
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'ENOTEMPTY', 'EBUSY')) throw error;
  }
}

export function notMounted(what: string, why: string): NodeletError {
  return new NodeletError('IMAGE_NOT_MOUNTED', `cannot unmount "${what}": ${why}`, {
    hint: 'nodelet image mount lists what is mounted',
  });
}
