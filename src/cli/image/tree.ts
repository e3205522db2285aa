import type { Command } from 'commander';
import type { LayerNode } from '../../image/index.ts';
import { formatSize } from '../format/size.ts';
import { addExamples, addOutput } from '../options.ts';
import { note, writeLines, writeStructured } from '../output.ts';
import { peekImages } from './store.ts';

const SHORT = 12;

/** Branches as tree(1) draws them. Pure. */
export function treeLines(nodes: readonly LayerNode[], familiar: (name: string) => string): string[] {
  const draw = (level: readonly LayerNode[], indent: string, root: boolean): string[] =>
    level.flatMap((node, i) => {
      const last = i === level.length - 1;
      const branch = root ? '' : last ? '└── ' : '├── ';
      const below = root ? '' : last ? '    ' : '│   ';
      const names = node.images.map((name) =>
        name.startsWith('sha256:') ? shortened(name) : familiar(name),
      );
      const tail = names.length === 0 ? '' : `  ${names.join(', ')}`;
      const line = `${indent}${branch}${shortened(node.digest)} ${formatSize(node.unpackedSize)}${tail}`;
      return [line, ...draw(node.above, indent + below, false)];
    });
  return draw(nodes, '', true);
}

function shortened(digest: string): string {
  return digest.slice(digest.indexOf(':') + 1).slice(0, SHORT);
}

export function registerTree(parent: Command): void {
  const command = parent
    .command('tree')
    .description('show layers, and which images share them')
    .argument('[image...]', 'only these');
  addOutput(command, ['table', 'json', 'yaml']);
  addExamples(command, [['nodelet image tree', 'the lowest layers on the left, what stands on them below']]);
  command.action(
    async (names: readonly string[], { output }: { readonly output: 'table' | 'json' | 'yaml' }) => {
      const peek = await peekImages(command);
      const { familiarName, layerTree } = await import('../../image/index.ts');
      const wanted = new Set(names.map((name) => peek.inspect(name).record.id));
      const images = peek.summaries().filter(({ record }) => wanted.size === 0 || wanted.has(record.id));
      const tree = layerTree(images);
      if (output !== 'table') await writeStructured({ layers: tree }, output);
      else if (images.length === 0) note('No images found.');
      else writeLines(treeLines(tree, familiarName));
    },
  );
}
