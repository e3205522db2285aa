import { resolve } from 'node:path';
import type { Command } from 'commander';
import { addExamples, addOutput } from '../options.ts';
import { printList, writeLine } from '../output.ts';
import { imageConfig, peekImages, withImages } from './store.ts';

interface Mounted {
  readonly name: string;
  readonly id: string;
  readonly path: string;
}

export function registerMount(parent: Command): void {
  const command = parent
    .command('mount')
    .description("mount an image's files read-only, or list what is mounted")
    .argument('[image]', 'a name or id; none lists')
    .argument('[path]', 'an existing directory (default: one below --state, which is printed)');
  addOutput(command, ['table', 'json', 'yaml', 'name']);
  command.addHelpText(
    'after',
    '\nThe image cannot be removed while it is mounted. Programs of it get no set-id rights, devices do not work.',
  );
  addExamples(command, [['ls "$(nodelet image mount busybox)"', 'look at the files of an image']]);
  command.action(
    async (
      image: string | undefined,
      path: string | undefined,
      { output }: { readonly output: 'table' | 'json' | 'yaml' | 'name' },
    ) => {
      if (image === undefined) return await listMounts(command, output);
      const { defaultMountPoint, makeMountPoint, imageMounts } = await import('../../image/index.ts');
      await withImages(command, async (images) => {
        const { id } = images.inspect(image).record;
        const own = defaultMountPoint(imageConfig(command).state, id);
        const target = path === undefined ? own : resolve(path);
        // Asked twice, the second is told where it is.
        if (path === undefined && imageMounts().get(id)?.includes(own)) return writeLine(own);
        if (path === undefined) makeMountPoint(own);
        images.mount(id, target);
        writeLine(target);
      });
    },
  );
}

async function listMounts(command: Command, format: 'table' | 'json' | 'yaml' | 'name'): Promise<void> {
  const peek = await peekImages(command);
  const { familiarName } = await import('../../image/index.ts');
  const rows = peek.summaries().flatMap(({ record, mounts }): Mounted[] => {
    const name = record.repoTags[0];
    return mounts.map((path) => ({
      name: name === undefined ? '<none>' : familiarName(name),
      id: record.id,
      path,
    }));
  });
  await printList({
    format,
    rows,
    columns: [
      { head: 'IMAGE', cell: (row) => row.name },
      { head: 'IMAGE ID', cell: (row) => row.id.replace('sha256:', '').slice(0, 12) },
      { head: 'PATH', cell: (row) => row.path },
    ],
    structured: () => ({ mounts: rows }),
    name: (row) => row.path,
    none: 'No image is mounted.',
  });
}

export function registerUnmount(parent: Command): void {
  const command = parent
    .command('umount')
    .aliases(['unmount'])
    .description('undo mount')
    .argument('<image...>', 'names or ids (everything that they are mounted on), or directories');
  addExamples(command, [['nodelet image umount busybox', 'wherever it is mounted']]);
  command.action(async (names: readonly string[]) => {
    const peek = await peekImages(command);
    const { defaultMountPoint, imageMounts, notMounted, unmountImage } = await import('../../image/index.ts');
    const { state } = imageConfig(command);
    for (const name of names) {
      const mounts = imageMounts();
      const path = resolve(name);
      const [owner] = [...mounts].find(([, all]) => all.includes(path)) ?? [];
      const id = owner ?? peek.inspect(name).record.id;
      const doomed = owner === undefined ? (mounts.get(id) ?? []) : [path];
      if (doomed.length === 0) throw notMounted(name, 'the image is not mounted');
      for (const one of doomed) {
        unmountImage(one, defaultMountPoint(state, id));
        writeLine(one);
      }
    }
  });
}
