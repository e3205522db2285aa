import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NodeletError } from '../base/index.ts';

let found: string | undefined;

/** The folder of nodelet's package.json: the same from src/ (tests) and from the bundle in dist/. */
export function packageRoot(): string {
  if (found !== undefined) return found;
  const start = dirname(fileURLToPath(import.meta.url));
  for (let at = start; ; at = dirname(at)) {
    if (existsSync(join(at, 'package.json')) && existsSync(join(at, 'binding.gyp'))) {
      found = at;
      return at;
    }
    if (at === dirname(at))
      throw new NodeletError('NATIVE_NOT_BUILT', `cannot find nodelet's package above "${start}"`);
  }
}

/** The bundled file that a worker thread starts from. */
export function workerFile(name: string): string {
  const path = join(packageRoot(), 'dist', name);
  if (!existsSync(path)) {
    throw new NodeletError('NOT_BUILT', `cannot find "${path}"`, { hint: 'build it with: npm run build:ts' });
  }
  return path;
}
