import type { Command } from 'commander';
import { addExamples } from '../options.ts';
import { withImages } from './store.ts';

export function registerTag(parent: Command): void {
  const command = parent
    .command('tag')
    .description('give an image one more name')
    .argument('<image>', 'a name or id')
    .argument('<name...>');
  addExamples(command, [['nodelet image tag 3f57d9401f8d localhost/app:stable', 'name an image by its id']]);
  command.action(async (image: string, names: readonly string[]) => {
    await withImages(command, async (images) => {
      for (const name of names) images.tag(image, name);
    });
  });
}

export function registerPin(parent: Command): void {
  const command = parent
    .command('pin')
    .description('keep images from being pruned')
    .argument('<image...>')
    .option('--off', 'no longer');
  command.action(async (names: readonly string[], { off = false }: { readonly off?: boolean }) => {
    await withImages(command, async (images) => {
      for (const name of names) images.pin(name, !off);
    });
  });
}
