/** The kubelet's CredentialProviderConfig: which programs know credentials for which images. Pure. */
import { NodeletError, parseGoDuration } from '../../base/index.ts';

export interface CredentialProvider {
  /** Of the program, in the directory of plugins. */
  readonly name: string;
  readonly apiVersion: string;
  readonly matchImages: readonly string[];
  /** Milliseconds. */
  readonly defaultCacheDuration: number;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

const CONFIG_VERSIONS = ['v1', 'v1beta1', 'v1alpha1'].map((version) => `kubelet.config.k8s.io/${version}`);
const PLUGIN_VERSIONS = ['v1', 'v1beta1', 'v1alpha1'].map(
  (version) => `credentialprovider.kubelet.k8s.io/${version}`,
);

type Json = Readonly<Record<string, unknown>>;

/** `documents` are the parsed files, by path. Throws INVALID_CONFIGURATION naming file and field. */
export function readProviderConfig(
  documents: readonly { readonly path: string; readonly value: unknown }[],
): readonly CredentialProvider[] {
  const found: CredentialProvider[] = [];
  for (const { path, value } of documents) {
    const fail = (field: string, problem: string): NodeletError =>
      new NodeletError('INVALID_CONFIGURATION', `${path}: ${field}: ${problem}`);
    if (!isObject(value)) throw fail('(document)', 'expected an object');
    checkKeys(value, ['apiVersion', 'kind', 'providers'], '', fail);
    if (value.kind !== 'CredentialProviderConfig')
      throw fail('kind', `expected "CredentialProviderConfig", found ${JSON.stringify(value.kind)}`);
    if (!CONFIG_VERSIONS.includes(String(value.apiVersion)))
      throw fail(
        'apiVersion',
        `${JSON.stringify(value.apiVersion)} is none of ${CONFIG_VERSIONS.join(', ')}`,
      );
    if (!Array.isArray(value.providers) || value.providers.length === 0)
      throw fail('providers', 'expected a list with one provider at least');
    for (const [i, item] of (value.providers as unknown[]).entries()) {
      const provider = readProvider(item, `providers[${i}]`, fail);
      if (found.some(({ name }) => name === provider.name))
        throw fail(`providers[${i}].name`, `${JSON.stringify(provider.name)} is there twice`);
      found.push(provider);
    }
  }
  return found;
}

type Fail = (field: string, problem: string) => NodeletError;

function readProvider(value: unknown, at: string, fail: Fail): CredentialProvider {
  if (!isObject(value)) throw fail(at, 'expected an object');
  checkKeys(
    value,
    ['name', 'matchImages', 'defaultCacheDuration', 'apiVersion', 'args', 'env', 'tokenAttributes'],
    `${at}.`,
    fail,
  );
  const { name, apiVersion, defaultCacheDuration } = value;
  if (typeof name !== 'string' || name === '' || /[/ ]/.test(name) || name === '.' || name === '..')
    throw fail(`${at}.name`, `${JSON.stringify(name)} is no name of a program`);
  if (typeof apiVersion !== 'string' || !PLUGIN_VERSIONS.includes(apiVersion))
    throw fail(`${at}.apiVersion`, `${JSON.stringify(apiVersion)} is none of ${PLUGIN_VERSIONS.join(', ')}`);
  const matchImages = strings(value.matchImages, `${at}.matchImages`, fail);
  if (matchImages.length === 0) throw fail(`${at}.matchImages`, 'expected one pattern at least');
  const duration =
    typeof defaultCacheDuration === 'string' ? parseGoDuration(defaultCacheDuration) : undefined;
  if (duration === undefined || duration < 0)
    throw fail(
      `${at}.defaultCacheDuration`,
      `${JSON.stringify(defaultCacheDuration)} is no duration such as "10m"`,
    );
  if (value.tokenAttributes !== undefined && value.tokenAttributes !== null)
    throw fail(`${at}.tokenAttributes`, 'tokens of service accounts need an API server');
  return {
    name,
    apiVersion,
    matchImages,
    defaultCacheDuration: duration,
    args: strings(value.args, `${at}.args`, fail),
    env: environment(value.env, `${at}.env`, fail),
  };
}

function environment(value: unknown, at: string, fail: Fail): Readonly<Record<string, string>> {
  if (value === undefined || value === null) return {};
  if (!Array.isArray(value)) throw fail(at, 'expected a list');
  return Object.fromEntries(
    (value as unknown[]).map((item, i) => {
      if (
        !isObject(item) ||
        typeof item.name !== 'string' ||
        typeof item.value !== 'string' ||
        item.name === ''
      )
        throw fail(`${at}[${i}]`, 'expected a name and a value');
      return [item.name, item.value];
    }),
  );
}

function strings(value: unknown, at: string, fail: Fail): string[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || value.some((item) => typeof item !== 'string'))
    throw fail(at, 'expected a list of texts');
  return value as string[];
}

function checkKeys(value: Json, known: readonly string[], at: string, fail: Fail): void {
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) throw fail(`${at}${key}`, `unknown field; known are ${known.join(', ')}`);
  }
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
