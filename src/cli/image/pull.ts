import type { Command } from 'commander';
import { NodeletError } from '../../base/index.ts';
import type { PullAuth } from '../../image/index.ts';
import { addExamples, collect } from '../options.ts';
import { writeLine } from '../output.ts';
import { PullBoard } from '../render/pulls.ts';
import { Screen } from '../terminal/screen.ts';
import { withImages } from './store.ts';

interface Options {
  readonly platform?: string;
  readonly creds?: string;
  readonly authfile?: string;
  readonly insecureRegistry?: readonly string[];
  readonly quiet?: boolean;
}

export function registerPull(parent: Command): void {
  const command = parent
    .command('pull')
    .description('bring images from registries')
    .argument('<image...>', '[HOST[:PORT]/]PATH[:TAG][@sha256:DIGEST]')
    .option('--platform <os/arch>', "another platform than this machine's: linux/arm64, linux/arm/v7")
    .option('--creds <user:password>', 'instead of those that are stored for the registry')
    .option(
      '--authfile <path>',
      "stored credentials (default: $REGISTRY_AUTH_FILE, else docker's config.json)",
    )
    .option('--insecure-registry <host>', 'speak plain HTTP with this registry; loopback always may', collect)
    .option('-q, --quiet', 'print the ids of the images, and no progress');
  addExamples(command, [
    ['nodelet image pull busybox', 'docker.io/library/busybox:latest'],
    ['nodelet image pull --creds me:secret registry.example.com/team/app:1.2', 'from a private registry'],
  ]);
  command.action(async (names: readonly string[], options: Options) => {
    const store = {
      ...(options.insecureRegistry === undefined ? {} : { insecureRegistries: options.insecureRegistry }),
      ...(options.authfile === undefined ? {} : { credentialFile: options.authfile }),
    };
    const auth = options.creds === undefined ? undefined : parseCredentials(options.creds);
    const screen = new Screen(process.stderr, process.stderr.isTTY && process.env.TERM !== 'dumb');
    const board = new PullBoard();
    await withImages(
      command,
      async (images) => {
        // All are asked for, and the first failure is told when the others are done.
        const results = await Promise.allSettled(
          names.map(async (name) => {
            const record = await images.pull(name, {
              ...(options.platform === undefined ? {} : { platform: options.platform }),
              ...(auth === undefined ? {} : { auth }),
              onEvent: (event) => {
                if (options.quiet === true) return;
                const lines = board.apply(name, event);
                if (screen.live) screen.show(board.lines());
                else for (const line of lines) screen.line(line);
              },
            });
            return record.id;
          }),
        );
        screen.show([]);
        for (const result of results) if (result.status === 'fulfilled') writeLine(result.value);
        const failed = results.find((result) => result.status === 'rejected');
        if (failed !== undefined) throw failed.reason;
      },
      store,
    );
  });
}

/** Throws INVALID_ARGUMENT. */
function parseCredentials(text: string): PullAuth {
  const colon = text.indexOf(':');
  if (colon <= 0) {
    throw new NodeletError('INVALID_ARGUMENT', 'cannot use the value of --creds', {
      hint: 'write it as USER:PASSWORD',
    });
  }
  return { username: text.slice(0, colon), password: text.slice(colon + 1) };
}
