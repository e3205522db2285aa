/** Images as volumes: their layers laid on each other in the container's own plan. Pure. */
import { MOUNT_ATTR, O } from '../../linux/constants.ts';
import { attributeOperations, type PreparedMount } from './compile-mounts.ts';
import type { ContainerContext } from './context.ts';
import { FLAGS, type Operation } from './protocol.gen.ts';
import type { Slots } from './slots.ts';

/**
 * Makes the trees of image volumes. They are read-only; with a user namespace (`user` is its slot) their files are seen through
 * the pod's id map, which an overlay has from its layers. Runs where nothing that is attached is seen by the host, or attaches
 * nothing.
 */
export function imageOperations(
  images: readonly PreparedMount[],
  context: ContainerContext,
  slots: Slots,
  user: number | undefined,
): Operation[] {
  return images.flatMap((image, i) => oneImage(image, i, context, slots, user));
}

function oneImage(
  { mount, options, tree }: PreparedMount,
  index: number,
  context: ContainerContext,
  slots: Slots,
  user: number | undefined,
): Operation[] {
  if (tree === undefined) return [];
  const base = user === undefined ? context.staging : `${context.staging}/image-${index}`;
  const mapped = user === undefined ? undefined : mappedLayers(mount.layers ?? [], base, slots, user);
  const layers = mapped?.paths ?? mount.layers ?? [];
  const operations: Operation[] = [...(mapped?.operations ?? [])];
  const [only] = layers;
  const overlay = layers.length > 1;
  if (overlay)
    operations.push({
      op: 'overlay',
      lower: [...layers],
      upper: '',
      work: '',
      options: [],
      staging: base,
      out: tree,
    });
  const { subPath } = mount;
  if (subPath !== undefined)
    operations.push(
      ...beneath(
        subPath,
        overlay ? undefined : only,
        { tree, base, detached: context.features.cloneDetached },
        slots,
      ),
    );
  else if (!overlay) operations.push({ op: 'open-tree', base: -1, path: only ?? '', flags: 0, out: tree });
  operations.push(...attributeOperations(tree, options));
  operations.push({
    op: 'mount-attributes',
    tree,
    set: MOUNT_ATTR.RDONLY,
    clear: 0,
    propagation: 0,
    flags: FLAGS.RECURSIVE,
  });
  return operations;
}

/** Each layer seen through the id map, attached in the tmpfs on which the container's own root is built. */
function mappedLayers(
  layers: readonly string[],
  base: string,
  slots: Slots,
  user: number,
): { readonly paths: readonly string[]; readonly operations: readonly Operation[] } {
  const operations: Operation[] = [{ op: 'make-directory', path: base, mode: 0o755 }];
  const paths = layers.map((layer, i) => {
    const path = `${base}-${i}`;
    const tree = slots.take();
    operations.push(
      { op: 'make-directory', path, mode: 0o755 },
      { op: 'open-tree', base: -1, path: layer, flags: 0, out: tree },
      { op: 'id-map', tree, namespace: user, flags: 0 },
      { op: 'attach', tree, path },
    );
    return path;
  });
  return { paths, operations };
}

/** A directory of the image, which no link in it leads out of. Before Linux 6.15 only what is attached can be cloned. */
function beneath(
  subPath: string,
  layer: string | undefined,
  overlay: { readonly tree: number; readonly base: string; readonly detached: boolean },
  slots: Slots,
): Operation[] {
  const inner = slots.take();
  const rest: Operation[] = [{ op: 'open-tree', base: inner, path: '', flags: 0, out: overlay.tree }];
  const open = O.PATH | O.DIRECTORY;
  if (layer === undefined && overlay.detached)
    return [{ op: 'open-beneath', base: overlay.tree, path: subPath, open, out: inner }, ...rest];
  const top = slots.take();
  return [
    ...(layer === undefined ? [{ op: 'attach', tree: overlay.tree, path: overlay.base } as const] : []),
    { op: 'open', path: layer ?? overlay.base, open, out: top },
    { op: 'open-beneath', base: top, path: subPath, open, out: inner },
    ...rest,
  ];
}
