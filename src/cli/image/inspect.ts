import type { Command } from 'commander';
import type { HistoryLine } from '../../image/index.ts';
import { formatAgo } from '../format/duration.ts';
import { formatSize } from '../format/size.ts';
import type { Column } from '../format/table.ts';
import { truncate } from '../format/text.ts';
import { addOutput } from '../options.ts';
import { type OutputFormat, printList, writeStructured } from '../output.ts';
import { peekImages } from './store.ts';

export function registerInspect(parent: Command): void {
  const command = parent
    .command('inspect')
    .description('print everything that is known of images')
    .argument('<image...>');
  addOutput(command, ['json', 'yaml']);
  command.action(async (names: readonly string[], { output }: { readonly output: 'json' | 'yaml' }) => {
    const peek = await peekImages(command);
    const found = names.map((name) => peek.inspect(name));
    await writeStructured(found.length === 1 ? found[0] : found, output);
  });
}

export function registerHistory(parent: Command): void {
  const command = parent
    .command('history')
    .description('print the steps that made an image, the newest first')
    .argument('<image>')
    .option('--no-trunc', 'print each step in full');
  addOutput(command, ['table', 'json', 'yaml']);
  command.action(
    async (name: string, { output, trunc }: { readonly output: OutputFormat; readonly trunc: boolean }) => {
      const lines = (await peekImages(command)).history(name);
      const now = Date.now();
      const columns: Column<HistoryLine>[] = [
        { head: 'LAYER', cell: (line) => line.layer?.replace('sha256:', '').slice(0, 12) ?? '<none>' },
        { head: 'CREATED', cell: (line) => age(line.created, now) },
        { head: 'CREATED BY', cell: (line) => (trunc ? truncate(line.createdBy, 50) : line.createdBy) },
        { head: 'SIZE', cell: (line) => formatSize(line.size) },
        { head: 'COMMENT', cell: (line) => line.comment ?? '' },
      ];
      await printList({
        format: output,
        rows: lines,
        columns,
        structured: () => ({ history: lines }),
        name: (line) => line.layer ?? '',
        none: 'No history.',
      });
    },
  );
}

function age(created: string | undefined, now: number): string {
  const at = Date.parse(created ?? '');
  return Number.isNaN(at) || at === 0 ? 'N/A' : formatAgo(now - at);
}
