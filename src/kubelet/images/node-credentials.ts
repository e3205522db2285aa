/** Credentials that every pod of the node may use: the kubelet's config.json, docker's, and the provider plugins. */
import { join } from 'node:path';
import { type Log, messageOf, readTextIfExists } from '../../base/index.ts';
import { CredentialProviders } from './credential-providers.ts';
import { dockerConfigEntries } from './docker-config.ts';
import type { KeyringEntry } from './keyring.ts';
import type { CredentialProvider } from './provider-config.ts';

export interface NodeCredentialOptions {
  /** Files like docker's config.json; the first that is there counts. */
  readonly files: readonly string[];
  readonly providers: readonly CredentialProvider[];
  /** Of the plugins' programs. */
  readonly directory: string;
  readonly log: Log;
  readonly now: () => number;
}

export class NodeCredentials {
  readonly #options: NodeCredentialOptions;
  readonly #providers: CredentialProviders;

  constructor(options: NodeCredentialOptions) {
    this.#options = options;
    this.#providers = new CredentialProviders(options);
  }

  /** What may fit a repository; files are read anew each time. */
  async entries(repository: string, signal?: AbortSignal): Promise<readonly KeyringEntry[]> {
    return [...this.#fromFiles(), ...(await this.#providers.entries(repository, signal))];
  }

  #fromFiles(): readonly KeyringEntry[] {
    for (const path of this.#options.files) {
      try {
        const text = readTextIfExists(path);
        if (text !== undefined) return dockerConfigEntries(text, 'config.json');
      } catch (error) {
        this.#options.log.warn({ path, error: messageOf(error) }, 'credentials of the node cannot be read');
      }
    }
    return [];
  }
}

/** Where upstream's kubelet looks, but for its working directory. */
export function credentialFiles(root: string, home: string): string[] {
  return [join(root, 'config.json'), join(home, '.docker', 'config.json'), '/.docker/config.json'];
}
