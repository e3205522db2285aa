import type { Command } from 'commander';
import type { ImageRecord, ImageSummary } from '../../image/index.ts';
import { formatAgo } from '../format/duration.ts';
import { formatSize } from '../format/size.ts';
import type { Column } from '../format/table.ts';
import { addExamples, addOutput } from '../options.ts';
import { type OutputFormat, printList } from '../output.ts';
import { peekImages } from './store.ts';

interface Options {
  readonly output: OutputFormat;
  readonly quiet?: boolean;
  readonly digests?: boolean;
}

/** One name of an image; an image without a name has one row too. */
export interface ImageRow {
  readonly repository: string;
  readonly tag: string;
  readonly digest: string;
  readonly image: ImageRecord;
}

const NONE = '<none>';

/** Rows as docker and podman list them: one for each tag. Pure. */
export function imageRows(images: readonly ImageRecord[], familiar: (name: string) => string): ImageRow[] {
  return images.flatMap((image) => {
    const digestOf = (repository: string): string =>
      image.repoDigests.find((name) => name.startsWith(`${repository}@`))?.slice(repository.length + 1) ??
      NONE;
    if (image.repoTags.length === 0) {
      const [name = ''] = image.repoDigests;
      const repository = name === '' ? NONE : name.slice(0, name.indexOf('@'));
      return [{ repository: familiar(repository), tag: NONE, digest: digestOf(repository), image }];
    }
    return image.repoTags.map((name) => {
      const colon = name.lastIndexOf(':');
      const repository = name.slice(0, colon);
      return {
        repository: familiar(repository),
        tag: name.slice(colon + 1),
        digest: digestOf(repository),
        image,
      };
    });
  });
}

const SHORT = 12;

function shortId(id: string): string {
  return id.replace(/^sha256:/, '').slice(0, SHORT);
}

function columns(
  digests: boolean,
  now: number,
  summaries: ReadonlyMap<string, ImageSummary>,
): Column<ImageRow>[] {
  const of = ({ image }: ImageRow): ImageSummary | undefined => summaries.get(image.id);
  const stored = (row: ImageRow): string => {
    const at = Date.parse(of(row)?.stored ?? '');
    return Number.isNaN(at) ? 'N/A' : formatAgo(now - at);
  };
  /** Short IDs of containers, and directories. */
  const users = (row: ImageRow): string =>
    [...(of(row)?.users ?? []).map((key) => key.slice(0, SHORT)), ...(of(row)?.mounts ?? [])].join(',');
  const created = ({ image }: ImageRow): string => {
    const at = Date.parse(image.config.created ?? '');
    return Number.isNaN(at) || at === 0 ? 'N/A' : formatAgo(now - at);
  };
  return [
    { head: 'REPOSITORY', cell: (row) => row.repository },
    { head: 'TAG', cell: (row) => row.tag },
    ...(digests ? [{ head: 'DIGEST', cell: (row: ImageRow) => row.digest }] : []),
    { head: 'IMAGE ID', cell: (row) => shortId(row.image.id) },
    { head: 'CREATED', cell: created },
    { head: 'SIZE', cell: (row) => formatSize(row.image.size) },
    { head: 'UNIQUE', cell: (row) => formatSize(of(row)?.uniqueSize ?? 0) },
    {
      head: 'USERS',
      cell: (row) => String((of(row)?.users.length ?? 0) + (of(row)?.mounts.length ?? 0)),
    },
    { head: 'ON DISK', wide: true, cell: (row) => formatSize(of(row)?.diskSize ?? 0) },
    { head: 'STORED', wide: true, cell: stored },
    { head: 'LAYERS', wide: true, cell: (row) => String(row.image.chainIds.length) },
    { head: 'USER', wide: true, cell: (row) => row.image.config.config?.User ?? '' },
    { head: 'PINNED', wide: true, cell: (row) => (row.image.pinned ? 'yes' : 'no') },
    { head: 'USED BY', wide: true, cell: users },
  ];
}

/** The record, as it was before there were sums, with the sums beside it. */
function structured({ record, layers: _, ...facts }: ImageSummary): object {
  return { ...record, ...facts };
}

export function registerList(parent: Command): void {
  const command = parent
    .command('ls')
    .aliases(['list'])
    .description('list images')
    .option('-q, --quiet', 'print ids only')
    .option('--digests', 'show digests');
  addOutput(command, ['table', 'wide', 'json', 'yaml', 'name']);
  command.addHelpText(
    'after',
    '\nSIZE is what was pulled, compressed. UNIQUE is what the removal of this image alone gives back. USERS are containers\nthat stand on it and directories that it is mounted on.',
  );
  addExamples(command, [
    ['nodelet image ls', 'names, ids and sizes'],
    ['nodelet image rm $(nodelet image ls -q)', 'remove every image'],
  ]);
  command.action(async (options: Options) => {
    const peek = await peekImages(command);
    const { familiarName } = await import('../../image/index.ts');
    const summaries = peek.summaries();
    const images = summaries.map(({ record }) => record);
    const rows = imageRows(images, familiarName);
    const quiet = options.quiet === true;
    await printList({
      format: quiet ? 'name' : options.output,
      rows: quiet
        ? rows.filter((row, i) => rows.findIndex((one) => one.image.id === row.image.id) === i)
        : rows,
      columns: columns(
        options.digests === true,
        Date.now(),
        new Map(summaries.map((summary) => [summary.record.id, summary])),
      ),
      structured: () => ({ images: summaries.map(structured) }),
      name: (row) =>
        quiet ? row.image.id : row.tag === NONE ? row.image.id : `${row.repository}:${row.tag}`,
      none: 'No images found.',
    });
  });
}
