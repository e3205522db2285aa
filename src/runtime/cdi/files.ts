/** Finds the files of the Container Device Interface. Read anew for each container: vendors' tools write them at any time. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';
import { hasCode, messageOf, NodeletError } from '../../base/index.ts';
import { type CdiSpec, parseCdiSpec } from './spec.ts';

/** In rising priority, as the specification has them. */
export const CDI_DIRECTORIES: readonly string[] = ['/etc/cdi', '/var/run/cdi'];

/** A specification of a kilobyte or two is usual. */
const MAX_SIZE = 4 * 1024 * 1024;

export interface CdiFiles {
  /** Those of a later directory come later, and win. */
  readonly specs: readonly (CdiSpec & { readonly directory: number })[];
  /** What is wrong with files that could not be read: said where a device is missing. */
  readonly problems: readonly string[];
}

export async function readCdiFiles(directories: readonly string[] = CDI_DIRECTORIES): Promise<CdiFiles> {
  // Loaded only where a device is asked for.
  const { parse } = await import('./yaml.ts');
  const specs: (CdiSpec & { readonly directory: number })[] = [];
  const problems: string[] = [];
  for (const [directory, path] of directories.entries()) {
    for (const name of names(path)) {
      const file = join(path, name);
      try {
        if (statSync(file).size > MAX_SIZE)
          throw new NodeletError('CDI_SPEC_INVALID', `CDI file ${JSON.stringify(file)} is larger than 4 MiB`);
        const text = readFileSync(file, 'utf8');
        const value: unknown =
          extname(file) === '.json' ? JSON.parse(text) : parse(text, { maxAliasCount: 16 });
        specs.push({ ...parseCdiSpec(file, value), directory });
      } catch (error) {
        problems.push(
          error instanceof NodeletError
            ? error.message
            : `CDI file ${JSON.stringify(file)}: ${messageOf(error)}`,
        );
      }
    }
  }
  return { specs, problems };
}

function names(directory: string): string[] {
  try {
    return readdirSync(directory)
      .filter((name) => /\.(json|ya?ml)$/.test(name))
      .sort();
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'EACCES')) return [];
    throw error;
  }
}
