import type { Command } from 'commander';
import type { Problem, VerifyReport } from '../../image/index.ts';
import { Exit } from '../errors.ts';
import { EXIT } from '../exit-codes.ts';
import { formatSize } from '../format/size.ts';
import { count } from '../format/text.ts';
import { addExamples, addOutput } from '../options.ts';
import { writeLines, writeStructured } from '../output.ts';
import { withImages } from './store.ts';

/** What was found, a line each, and the sum. Pure. */
export function reportLines({ images, blobs, layers, bytes, problems }: VerifyReport): string[] {
  const lines = problems.map(problemLine);
  const left = problems.filter(({ mended }) => mended === undefined).length;
  const read = `${count(images, 'name')}, ${count(blobs, 'blob')} (${formatSize(bytes)}) and ${count(layers, 'layer')} read`;
  const verdict =
    problems.length === 0
      ? 'nothing is wrong'
      : left === 0
        ? `${count(problems.length, 'problem')}, all mended`
        : `${count(problems.length, 'problem')}, ${left} left`;
  return [...lines, `${read}: ${verdict}`];
}

function problemLine({ kind, subject, message, images, mended }: Problem): string {
  const whose = images.length === 0 ? '' : ` [${images.join(', ')}]`;
  return `${kind}: ${subject}: ${message}${whose}${mended === undefined ? '' : ` — ${mended}`}`;
}

export function registerVerify(parent: Command): void {
  const command = parent
    .command('verify')
    .aliases(['fsck'])
    .description('read the whole store and say what is wrong with it')
    .option('--mend', 'mend what can be mended with what is here, remove what cannot be used')
    .option('--deep', 'unpack every layer once more and compare it, file by file');
  addOutput(command, ['table', 'json', 'yaml']);
  command.addHelpText('after', '\nExit code 1 where something is wrong and stays so.');
  addExamples(command, [['nodelet image verify --deep --mend', 'after a power cut on a disk that lies']]);
  command.action(
    async (options: {
      readonly mend?: boolean;
      readonly deep?: boolean;
      readonly output: 'table' | 'json' | 'yaml';
    }) => {
      const { mend = false, deep = false, output } = options;
      const report = await withImages(command, async (images) => await images.verify({ mend, deep }));
      if (output === 'table') writeLines(reportLines(report));
      else await writeStructured(report, output);
      if (report.problems.some(({ mended }) => mended === undefined)) throw new Exit(EXIT.missing);
    },
  );
}
