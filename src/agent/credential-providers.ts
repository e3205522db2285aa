/** Reads the kubelet's CredentialProviderConfig, one file or all of a directory, and looks for its programs. */
import { accessSync, constants, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describeError, NodeletError } from '../base/index.ts';
import { allowlistProblem, type CredentialProvider, readProviderConfig } from '../kubelet/index.ts';
import type { AgentConfig } from './config.ts';

export interface CredentialProviderSet {
  readonly directory: string;
  readonly providers: readonly CredentialProvider[];
}

/** Undefined where none are configured. Throws INVALID_CONFIGURATION naming the file, the field or the program. */
export async function loadCredentialProviders(
  config: Pick<
    AgentConfig,
    'imageCredentialProviderConfig' | 'imageCredentialProviderBinDir' | 'imagePullVerification'
  >,
): Promise<CredentialProviderSet | undefined> {
  checkAllowlist(config.imagePullVerification.allowlist);
  const { imageCredentialProviderConfig: path, imageCredentialProviderBinDir: directory } = config;
  if (path === '' && directory === '') return undefined;
  if (path === '' || directory === '') {
    throw invalid(
      path === '' ? 'imageCredentialProviderConfig' : 'imageCredentialProviderBinDir',
      'is missing: configuration and directory of credential providers belong together',
    );
  }
  const { parse } = await import('./yaml.ts');
  const documents = filesOf(path).map((file) => {
    try {
      return { path: file, value: parse(readFileSync(file, 'utf8'), { version: '1.1' }) as unknown };
    } catch (error) {
      throw invalid(file, `cannot be read: ${describeError(error)}`);
    }
  });
  const providers = readProviderConfig(documents);
  for (const { name } of providers) {
    try {
      accessSync(join(directory, name), constants.X_OK);
    } catch (error) {
      throw invalid(
        'imageCredentialProviderBinDir',
        `${JSON.stringify(join(directory, name))} is no program that can be run: ${describeError(error)}`,
      );
    }
  }
  return { directory, providers };
}

function filesOf(path: string): string[] {
  try {
    if (!statSync(path).isDirectory()) return [path];
    const names = readdirSync(path).filter((name) => /\.(json|ya?ml)$/.test(name));
    if (names.length === 0) throw invalid(path, 'has no *.json, *.yaml or *.yml');
    return names.sort().map((name) => join(path, name));
  } catch (error) {
    if (error instanceof NodeletError) throw error;
    throw invalid('imageCredentialProviderConfig', describeError(error));
  }
}

function checkAllowlist(allowlist: readonly string[]): void {
  for (const item of allowlist) {
    const problem = allowlistProblem(item);
    if (problem !== undefined)
      throw invalid('preloadedImagesVerificationAllowlist', `${JSON.stringify(item)}: ${problem}`);
  }
}

function invalid(where: string, message: string): NodeletError {
  return new NodeletError('INVALID_CONFIGURATION', `${where}: ${message}`);
}
