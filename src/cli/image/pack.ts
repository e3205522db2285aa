import type { Command } from 'commander';
import { NodeletError } from '../../base/index.ts';
import type { ImageService, PackOptions } from '../../image/index.ts';
import { count } from '../format/text.ts';
import { addExamples, collect } from '../options.ts';
import { note, writeLine } from '../output.ts';
import { addKeepBlobs, type KeepBlobs, withImages } from './store.ts';

interface Options {
  readonly entrypoint?: string;
  readonly cmd?: string;
  readonly env?: readonly string[];
  readonly workdir?: string;
  readonly user?: string;
  readonly label?: readonly string[];
  readonly expose?: readonly string[];
  readonly volume?: readonly string[];
  readonly stopSignal?: string;
  readonly users: boolean;
}

export function registerPack(parent: Command): void {
  const command = parent
    .command('pack')
    .description('make an image from programs of this machine, with the libraries that they need')
    .argument('<name>', 'of the new image')
    .argument(
      '<path...>',
      'programs, files or directories: SRC or SRC:DEST; a bare name is looked up in PATH',
    )
    .option(
      '--entrypoint <words>',
      'a JSON list, or one program; the first path by default, where it is a program',
    )
    .option('--cmd <words>', 'default arguments: a JSON list, or one word')
    .option('--env <name=value>', 'environment', collect)
    .option('--workdir <path>', 'working directory')
    .option('--user <user[:group]>', 'who the program runs as')
    .option('--label <name=value>', 'label', collect)
    .option('--expose <port[/protocol]>', 'a port that it listens on', collect)
    .option('--volume <path>', 'a directory that gets a volume', collect)
    .option('--stop-signal <signal>', 'what ends it')
    .option('--no-users', 'without /etc/passwd, /etc/group and /etc/nsswitch.conf');
  addKeepBlobs(command);
  command.addHelpText(
    'after',
    '\nThe same files give the same image, bit for bit; SOURCE_DATE_EPOCH sets the time in it.',
  );
  addExamples(command, [
    ['nodelet image pack localhost/busybox /bin/busybox', 'a static program'],
    [
      'nodelet image pack localhost/web node ./server.js:/app/server.js --cmd \'["/app/server.js"]\'',
      'a server in Node.js',
    ],
  ]);
  command.action(async (name: string, paths: readonly string[], options: Options & KeepBlobs) => {
    const pack: PackOptions = { users: options.users, config: configOf(options) };
    const { keepBlobs } = options;
    const work = async (images: ImageService): Promise<void> => {
      const packed = await images.pack(name, paths, pack);
      for (const warning of packed.warnings) note(`Warning: ${warning}`);
      note(`${packed.name}: ${count(packed.files, 'file')}`);
      writeLine(packed.id);
    };
    await withImages(command, work, { keepBlobs });
  });
}

/** The image's config from the options. Pure. Throws INVALID_ARGUMENT. */
export function configOf(options: Omit<Options, 'users'>): NonNullable<PackOptions['config']> {
  const keys = (list: readonly string[] | undefined): Record<string, object> =>
    Object.fromEntries((list ?? []).map((key) => [key, {}]));
  const ports = options.expose?.map((port) => (port.includes('/') ? port : `${port}/tcp`));
  return {
    ...(options.entrypoint === undefined ? {} : { Entrypoint: words(options.entrypoint, '--entrypoint') }),
    ...(options.cmd === undefined ? {} : { Cmd: words(options.cmd, '--cmd') }),
    ...(options.env === undefined ? {} : { Env: options.env.map((pair) => checkPair(pair, '--env')) }),
    ...(options.workdir === undefined ? {} : { WorkingDir: options.workdir }),
    ...(options.user === undefined ? {} : { User: options.user }),
    ...(options.label === undefined ? {} : { Labels: pairs(options.label) }),
    ...(ports === undefined ? {} : { ExposedPorts: keys(ports) }),
    ...(options.volume === undefined ? {} : { Volumes: keys(options.volume) }),
    ...(options.stopSignal === undefined ? {} : { StopSignal: options.stopSignal }),
  };
}

/** `["a","b"]`, or one word as it stands. */
function words(text: string, option: string): string[] {
  if (!text.trimStart().startsWith('[')) return [text];
  try {
    const list = JSON.parse(text) as unknown;
    if (Array.isArray(list) && list.every((word) => typeof word === 'string')) return list;
  } catch {
    // told below
  }
  throw new NodeletError('INVALID_ARGUMENT', `cannot use ${JSON.stringify(text)} for ${option}`, {
    hint: 'write a JSON list of texts, or one word',
  });
}

function checkPair(text: string, option: string): string {
  if (text.indexOf('=') > 0) return text;
  throw new NodeletError('INVALID_ARGUMENT', `cannot use ${JSON.stringify(text)} for ${option}`, {
    hint: 'write it as NAME=VALUE',
  });
}

function pairs(list: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    list.map((text) => {
      const pair = checkPair(text, '--label');
      const at = pair.indexOf('=');
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}
