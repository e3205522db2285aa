import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../linux/package-root.ts';

/** This program's version, from its package.json. */
export function ownVersion(): string {
  const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as {
    readonly version: string;
  };
  return version;
}
