import type { Command } from 'commander';
import { NodeletError } from '../../base/index.ts';
import type { PullAuth, PullEvent, PullOptions } from '../../image/index.ts';
import { addExamples, collect } from '../options.ts';
import { writeLine } from '../output.ts';
import { PullEventLines } from '../render/pull-events.ts';
import { PullBoard } from '../render/pulls.ts';
import { Screen } from '../terminal/screen.ts';
import { addKeepBlobs, type KeepBlobs, withImages } from './store.ts';

interface Options extends KeepBlobs {
  readonly platform?: string;
  readonly creds?: string;
  readonly authfile?: string;
  readonly insecureRegistry?: readonly string[];
  readonly registryHosts?: readonly string[];
  readonly tlsVerify?: string;
  readonly certDir?: string;
  readonly limitRate?: string;
  readonly progress?: string;
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
    .option(
      '--registry-hosts <directory>',
      "mirrors and certificates, HOST/hosts.toml as containerd's (default: certs.d of nodelet, containerd and docker in /etc)",
      collect,
    )
    .option('--tls-verify <boolean>', "false: do not check the registry's certificate, and take plain HTTP")
    .option('--cert-dir <directory>', '*.crt of authorities, and NAME.cert with NAME.key of our own')
    .option('--limit-rate <bytes>', 'bytes a second, also as 500K or 10M')
    .option('--progress <kind>', 'tty (bars), plain (lines), or json (an event a line on standard output)')
    .option('-q, --quiet', 'print the ids of the images, and no progress');
  addKeepBlobs(command);
  addExamples(command, [
    ['nodelet image pull busybox', 'docker.io/library/busybox:latest'],
    ['nodelet image pull --creds me:secret registry.example.com/team/app:1.2', 'from a private registry'],
    ['nodelet image pull --progress json busybox | jq .', 'for programs'],
  ]);
  command.action(async (names: readonly string[], options: Options) => {
    const rate = options.limitRate === undefined ? undefined : parseRate(options.limitRate);
    const store = {
      ...(options.insecureRegistry === undefined ? {} : { insecureRegistries: options.insecureRegistry }),
      ...(options.authfile === undefined ? {} : { credentialFile: options.authfile }),
      ...(options.registryHosts === undefined ? {} : { hostDirectories: options.registryHosts }),
      ...(rate === undefined ? {} : { maxBandwidth: rate }),
      keepBlobs: options.keepBlobs,
    };
    const pullOptions = pullOptionsOf(options);
    const report = reporterOf(options);
    const interrupt = new AbortController();
    const cancel = (): void => interrupt.abort(new NodeletError('ABORTED', 'the pull was cancelled'));
    process.once('SIGINT', cancel);
    process.once('SIGTERM', cancel);
    try {
      await withImages(
        command,
        async (images) => {
          // All are asked for, and the first failure is told when the others are done.
          const results = await Promise.allSettled(
            names.map(async (name) => {
              const onEvent = (event: PullEvent): void => report.event(name, event);
              const record = await images.pull(name, { ...pullOptions, onEvent, signal: interrupt.signal });
              return record.id;
            }),
          );
          report.end(results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : [])));
          const failed = results.find((result) => result.status === 'rejected');
          if (failed !== undefined) throw failed.reason;
        },
        store,
      );
    } finally {
      process.removeListener('SIGINT', cancel);
      process.removeListener('SIGTERM', cancel);
    }
  });
}

/** Throws INVALID_ARGUMENT. */
function pullOptionsOf(options: Options): PullOptions {
  const { platform, creds, tlsVerify, certDir } = options;
  if (tlsVerify !== undefined && tlsVerify !== 'true' && tlsVerify !== 'false') {
    throw new NodeletError('INVALID_ARGUMENT', `cannot use ${JSON.stringify(tlsVerify)} for --tls-verify`, {
      hint: 'it is true or false',
    });
  }
  return {
    ...(platform === undefined ? {} : { platform }),
    ...(creds === undefined ? {} : { auth: parseCredentials(creds) }),
    ...(tlsVerify === undefined ? {} : { tlsVerify: tlsVerify === 'true' }),
    ...(certDir === undefined ? {} : { certDirectory: certDir }),
  };
}

interface Reporter {
  event(name: string, event: PullEvent): void;
  /** The ids of what was pulled. */
  end(ids: readonly string[]): void;
}

/** Throws INVALID_ARGUMENT. */
function reporterOf(options: Options): Reporter {
  const { progress, quiet } = options;
  if (progress !== undefined && !['tty', 'plain', 'json'].includes(progress)) {
    throw new NodeletError('INVALID_ARGUMENT', `cannot use ${JSON.stringify(progress)} for --progress`, {
      hint: 'it is tty, plain or json',
    });
  }
  if (progress === 'json' && quiet !== true) {
    const stream = new PullEventLines(() => performance.now());
    return {
      event: (name, event) => {
        for (const line of stream.apply(name, event)) writeLine(JSON.stringify(line));
      },
      end: () => {},
    };
  }
  const live =
    progress === undefined ? process.stderr.isTTY && process.env.TERM !== 'dumb' : progress === 'tty';
  const screen = new Screen(process.stderr, live);
  const board = new PullBoard(() => performance.now());
  return {
    event: (name, event) => {
      if (quiet === true) return;
      const lines = board.apply(name, event);
      if (screen.live) screen.show(board.lines());
      else for (const line of lines) screen.line(line);
    },
    end: (ids) => {
      screen.show([]);
      for (const id of ids) writeLine(id);
    },
  };
}

/** `500K`, `10M`, `1G` or bytes. Throws INVALID_ARGUMENT. */
function parseRate(text: string): number {
  const match = /^(\d{1,12})([KMG]?)$/i.exec(text);
  const unit = { '': 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 }[match?.[2]?.toLowerCase() ?? ''] ?? 1;
  const rate = Number(match?.[1] ?? 0) * unit;
  if (rate > 0) return rate;
  throw new NodeletError('INVALID_ARGUMENT', `cannot use ${JSON.stringify(text)} for --limit-rate`, {
    hint: 'write bytes a second, for example 500K or 10M',
  });
}

/** Throws INVALID_ARGUMENT. */
export function parseCredentials(text: string): PullAuth {
  const colon = text.indexOf(':');
  if (colon <= 0) {
    throw new NodeletError('INVALID_ARGUMENT', 'cannot use the value of --creds', {
      hint: 'write it as USER:PASSWORD',
    });
  }
  return { username: text.slice(0, colon), password: text.slice(colon + 1) };
}
