import type { Command } from 'commander';
import type { Change } from '../../image/index.ts';
import { addExamples, addOutput } from '../options.ts';
import { writeLines, writeStructured } from '../output.ts';
import { peekImages } from './store.ts';

const LETTERS: Readonly<Record<Change['kind'], string>> = { added: 'A', changed: 'C', deleted: 'D' };

const shown = (path: string): string => {
  const text = Buffer.from(path, 'latin1').toString('utf8');
  // A name may hold a line break: then it is quoted, so that a line is a name.
  const quoted = JSON.stringify(text);
  return quoted.includes('\\') ? quoted : text;
};

export function registerDiff(parent: Command): void {
  const command = parent
    .command('diff')
    .description('list what a container changed in its root')
    .argument('<container>', 'its ID, or how that begins (nodelet ps -o wide)');
  addOutput(command, ['table', 'json', 'yaml', 'name']);
  command.addHelpText(
    'after',
    '\nA: added, C: changed, D: deleted, as docker diff and podman diff print them.',
  );
  addExamples(command, [['nodelet image diff 4f1c', 'what the container 4f1c… wrote']]);
  command.action(
    async (container: string, { output }: { readonly output: 'table' | 'json' | 'yaml' | 'name' }) => {
      const changes = (await peekImages(command)).diff(container);
      if (output === 'name') writeLines(changes.map(({ path }) => shown(path)));
      else if (output === 'table')
        writeLines(changes.map(({ kind, path }) => `${LETTERS[kind]} ${shown(path)}`));
      else {
        const list = changes.map(({ kind, path }) => ({
          kind,
          path: Buffer.from(path, 'latin1').toString('utf8'),
        }));
        await writeStructured({ changes: list }, output);
      }
    },
  );
}
