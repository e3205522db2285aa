import { type Command, Option } from 'commander';
import { NodeletError } from '../../base/index.ts';
import type { ExportFormat, ImageService } from '../../image/index.ts';
import { addExamples } from '../options.ts';
import { writeLine } from '../output.ts';
import { addKeepBlobs, type KeepBlobs, withImages } from './store.ts';

interface ImportOptions extends KeepBlobs {
  readonly platform?: string;
}

export function registerImport(parent: Command): void {
  const command = parent
    .command('import')
    .aliases(['load'])
    .description('bring images from an archive or an OCI layout')
    .argument(
      '<path>',
      'OCI layout (directory or tar) or docker archive (tar), also compressed; - is standard input',
    )
    .argument('[name]', 'a name for the image, in place of its own')
    .option('--platform <os/arch>', "another platform than this machine's");
  addKeepBlobs(command);
  addExamples(command, [
    ['nodelet image import app.tar', 'what docker save or skopeo has written'],
    ['podman save app | nodelet image import - localhost/app', 'from another program, under another name'],
  ]);
  command.action(async (path: string, name: string | undefined, options: ImportOptions) => {
    const { platform, keepBlobs } = options;
    const work = async (images: ImageService): Promise<void> => {
      const imported = await images.import(path, {
        ...(name === undefined ? {} : { name }),
        ...(platform === undefined ? {} : { platform }),
      });
      for (const { id, names } of imported) {
        if (names.length === 0) writeLine(id);
        for (const one of names) writeLine(`${one} ${id}`);
      }
    };
    await withImages(command, work, { keepBlobs });
  });
}

interface ExportOptions {
  readonly output: string;
  readonly format: ExportFormat;
}

export function registerExport(parent: Command): void {
  const command = parent
    .command('export')
    .aliases(['save'])
    .description('write images to an archive or an OCI layout')
    .argument('<image...>')
    .requiredOption('-o, --output <path>', 'the file, or the new directory; - is standard output')
    .addOption(
      new Option('--format <format>', 'what to write')
        .choices(['oci-archive', 'oci-dir', 'docker-archive'] satisfies ExportFormat[])
        .default('oci-archive'),
    );
  addExamples(command, [
    ['nodelet image export busybox -o busybox.tar', 'for another machine'],
    ['nodelet image export app --format docker-archive -o - | docker load', 'for docker'],
  ]);
  command.action(async (names: readonly string[], { output, format }: ExportOptions) => {
    if (output === '-' && process.stdout.isTTY) {
      throw new NodeletError('INVALID_ARGUMENT', 'cannot write an archive to a terminal', {
        hint: 'name a file with -o, or pipe it to another program',
      });
    }
    await withImages(command, async (images) => await images.export(names, output, format));
  });
}
