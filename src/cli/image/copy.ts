import type { Command } from 'commander';
import { formatSize } from '../format/size.ts';
import { addExamples, collect } from '../options.ts';
import { note, writeLine } from '../output.ts';
import { parseCredentials } from './pull.ts';
import { withImages } from './store.ts';

interface Options {
  readonly creds?: string;
  readonly authfile?: string;
  readonly insecureRegistry?: readonly string[];
  readonly certDir?: string;
  readonly tlsVerify: boolean;
  readonly quiet?: boolean;
}

export function registerCopy(parent: Command): void {
  const command = parent
    .command('copy')
    .aliases(['push'])
    .description('send an image to a registry')
    .argument('<image>', 'a name or id')
    .argument('[target]', 'HOST[:PORT]/PATH[:TAG] (default: the name of the image)')
    .option('--creds <user:password>', 'instead of those that are stored for the registry')
    .option(
      '--authfile <path>',
      "stored credentials (default: $REGISTRY_AUTH_FILE, else docker's config.json)",
    )
    .option('--insecure-registry <host>', 'speak plain HTTP with this registry; loopback always may', collect)
    .option('--cert-dir <path>', 'certificates for this registry: *.crt, NAME.cert and NAME.key')
    .option('--no-tls-verify', "do not check the registry's certificate")
    .option('-q, --quiet', 'print no progress');
  command.addHelpText('after', '\nPrints the name with the digest, by which any machine can pull it.');
  addExamples(command, [
    ['nodelet image copy localhost/app registry.lab:5000/app:1', 'share what was packed here'],
  ]);
  command.action(async (image: string, target: string | undefined, options: Options) => {
    const store = {
      ...(options.insecureRegistry === undefined ? {} : { insecureRegistries: options.insecureRegistry }),
      ...(options.authfile === undefined ? {} : { credentialFile: options.authfile }),
    };
    await withImages(
      command,
      async (images) => {
        const { name, digest } = await images.push(image, target ?? image, {
          ...(options.creds === undefined ? {} : { auth: parseCredentials(options.creds) }),
          ...(options.certDir === undefined ? {} : { certDirectory: options.certDir }),
          ...(options.tlsVerify ? {} : { tlsVerify: false }),
          onBlob: (blob, done) => {
            if (options.quiet === true) return;
            const what = done === 'exists' ? 'is there already' : `sent (${formatSize(blob.size)})`;
            note(`${blob.digest.slice(7, 19)} ${what}`);
          },
        });
        writeLine(`${name.replace(/:[^/:]*$/, '')}@${digest}`);
      },
      store,
    );
  });
}
