import type { Command } from 'commander';
import { hasCode } from '../../base/index.ts';
import type { Removed } from '../../image/index.ts';
import { Exit, reportError } from '../errors.ts';
import { EXIT } from '../exit-codes.ts';
import { formatSize } from '../format/size.ts';
import { addExamples } from '../options.ts';
import { note, writeLine } from '../output.ts';
import { withImages } from './store.ts';

function report(removed: Removed): void {
  for (const name of removed.untagged) writeLine(`Untagged: ${name}`);
  for (const id of removed.images) writeLine(`Deleted: ${id}`);
}

export function registerRemove(parent: Command): void {
  const command = parent
    .command('rm')
    .aliases(['remove'])
    .description('remove names of images, and images with their last name')
    .argument('<image...>', 'names or ids; an id removes every name of the image')
    .option(
      '-f, --force',
      'also where containers use it (its layers stay until they are gone), and where it is not there',
    );
  addExamples(command, [['nodelet image rm busybox:1.36', 'one name']]);
  command.action(async (names: readonly string[], { force = false }: { readonly force?: boolean }) => {
    await withImages(command, async (images) => {
      let failed = false;
      for (const name of names) {
        try {
          report(await images.remove(name, { force }));
        } catch (error) {
          if (force && hasCode(error, 'IMAGE_NOT_FOUND')) continue;
          reportError(error, false);
          failed = true;
        }
      }
      if (failed) throw new Exit(EXIT.failure);
    });
  });
}

export function registerPrune(parent: Command): void {
  const command = parent
    .command('prune')
    .description('remove images without a tag, and whatever belongs to no image')
    .option('-a, --all', 'every image that no container uses');
  addExamples(command, [['nodelet image prune -a', 'give back all the room that can be given back']]);
  command.action(async ({ all = false }: { readonly all?: boolean }) => {
    await withImages(command, async (images) => {
      const removed = await images.prune({ all });
      report(removed);
      note(`${formatSize(removed.bytes)} given back (${removed.blobs} blobs, ${removed.layers} layers)`);
    });
  });
}
