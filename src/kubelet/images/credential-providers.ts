/**
 * The kubelet's credential-provider plugins: programs that are asked for an image's credentials with a
 * CredentialProviderRequest on their input, and whose answers are kept by image, by registry or for everything. A plugin
 * that fails is logged and has nothing: the pull then says what is missing.
 */
import { join } from 'node:path';
import { type Log, NodeletError, parseGoDuration, runProgram } from '../../base/index.ts';
import { type KeyringEntry, locationMatches } from './keyring.ts';
import type { CredentialProvider } from './provider-config.ts';

/** Milliseconds; upstream's. */
const timeout = 60_000;
const maxOutput = 1024 * 1024;

interface Cached {
  readonly entries: readonly KeyringEntry[];
  /** Milliseconds since 1970. */
  readonly expires: number;
}

interface Answer {
  readonly entries: readonly KeyringEntry[];
  readonly cacheKeyType: 'Image' | 'Registry' | 'Global';
  /** Milliseconds; undefined for the provider's default. */
  readonly cacheDuration: number | undefined;
}

export interface ProviderOptions {
  readonly directory: string;
  readonly providers: readonly CredentialProvider[];
  readonly log: Log;
  readonly now: () => number;
}

export class CredentialProviders {
  readonly #options: ProviderOptions;
  /** By provider, then by what the answer is for. */
  readonly #cache = new Map<string, Cached>();
  readonly #asking = new Map<string, Promise<readonly KeyringEntry[]>>();

  constructor(options: ProviderOptions) {
    this.#options = options;
  }

  /** Everything that the plugins know for a repository (`host/path`). Never rejects, but for the signal. */
  async entries(repository: string, signal?: AbortSignal): Promise<readonly KeyringEntry[]> {
    const { providers, now } = this.#options;
    for (const [key, { expires }] of this.#cache) if (expires <= now()) this.#cache.delete(key);
    const fitting = providers.filter(({ matchImages }) =>
      matchImages.some((pattern) => locationMatches(pattern, repository)),
    );
    const all = await Promise.all(fitting.map(async (provider) => await this.#of(provider, repository)));
    signal?.throwIfAborted();
    return all.flat();
  }

  async #of(provider: CredentialProvider, repository: string): Promise<readonly KeyringEntry[]> {
    const registry = repository.split('/')[0] ?? '';
    const keys = { Image: repository, Registry: registry, Global: '<global>' };
    const nameOf = (key: string): string => `${provider.name}\n${key}`;
    for (const key of Object.values(keys)) {
      const cached = this.#cache.get(nameOf(key));
      if (cached !== undefined) return cached.entries;
    }
    const flight = nameOf(repository);
    const asking =
      this.#asking.get(flight) ?? this.#ask(provider, repository).finally(() => this.#asking.delete(flight));
    this.#asking.set(flight, asking);
    return await asking;
  }

  async #ask(provider: CredentialProvider, repository: string): Promise<readonly KeyringEntry[]> {
    const { log, now } = this.#options;
    try {
      const answer = await this.#run(provider, repository);
      const duration = answer.cacheDuration ?? provider.defaultCacheDuration;
      const key = {
        Image: repository,
        Registry: repository.split('/')[0] ?? '',
        Global: '<global>',
      }[answer.cacheKeyType];
      if (duration > 0)
        this.#cache.set(`${provider.name}\n${key}`, { entries: answer.entries, expires: now() + duration });
      return answer.entries;
    } catch (error) {
      log.warn(
        { provider: provider.name, image: repository, error: error instanceof Error ? error.message : '' },
        'a credential provider has no credentials',
      );
      return [];
    }
  }

  async #run(provider: CredentialProvider, repository: string): Promise<Answer> {
    const { name, apiVersion, args, env } = provider;
    const result = await runProgram(join(this.#options.directory, name), {
      args,
      env,
      input: JSON.stringify({ kind: 'CredentialProviderRequest', apiVersion, image: repository }),
      timeout,
      maxOutput,
    });
    if (result.kind === 'failed') throw failed(name, result.reason);
    if (result.code !== 0)
      throw failed(name, `it ended with code ${result.code}: ${result.stderr.trim().slice(0, 500)}`);
    return readAnswer(result.stdout, provider);
  }
}

function failed(name: string, reason: string): NodeletError {
  return new NodeletError(
    'CREDENTIAL_PROVIDER_FAILED',
    `credential provider ${JSON.stringify(name)}: ${reason}`,
  );
}

/** Throws CREDENTIAL_PROVIDER_FAILED; the answer may hold secrets and is not shown. Pure. */
export function readAnswer(text: string, { name, apiVersion }: CredentialProvider): Answer {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw failed(name, 'its answer is not JSON');
  }
  const value = (typeof parsed === 'object' && parsed !== null ? parsed : {}) as Record<string, unknown>;
  if (value.kind !== 'CredentialProviderResponse')
    throw failed(name, 'its answer is no CredentialProviderResponse');
  if (value.apiVersion !== apiVersion)
    throw failed(name, `it answered in ${JSON.stringify(value.apiVersion)}, not in "${apiVersion}"`);
  const { cacheKeyType } = value;
  if (cacheKeyType !== 'Image' && cacheKeyType !== 'Registry' && cacheKeyType !== 'Global')
    throw failed(name, `its cacheKeyType ${JSON.stringify(cacheKeyType)} is none of Image, Registry, Global`);
  const { cacheDuration } = value;
  const duration = typeof cacheDuration === 'string' ? parseGoDuration(cacheDuration) : undefined;
  if (cacheDuration !== undefined && cacheDuration !== null && (duration === undefined || duration < 0))
    throw failed(name, 'its cacheDuration is no duration');
  const auth = value.auth ?? {};
  if (typeof auth !== 'object' || Array.isArray(auth)) throw failed(name, 'its "auth" is no table');
  const entries = Object.entries(auth as Record<string, unknown>).map(([location, entry]): KeyringEntry => {
    const { username, password } = (typeof entry === 'object' && entry !== null ? entry : {}) as Record<
      string,
      unknown
    >;
    if (typeof username !== 'string' || typeof password !== 'string')
      throw failed(name, `its entry for ${JSON.stringify(location)} has no username and password`);
    return { location, auth: { username, password } };
  });
  return { entries, cacheKeyType, cacheDuration: duration };
}
