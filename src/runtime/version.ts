import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../linux/package-root.ts';

interface Package {
  readonly version: string;
}

/** nodelet's version, from its package.json. */
export const VERSION: string = (
  JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as Package
).version;
