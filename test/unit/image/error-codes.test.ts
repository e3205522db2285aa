import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

/** Codes and names of others that look like ours. */
const foreign = /^(UND_ERR_|ERR_|EAI_AGAIN|LD_LIBRARY_PATH|(HTTPS?|NO)_PROXY$)/;

test('every code that the image room raises is explained in docs/errors.md', () => {
  const documented = new Set(
    [...readFileSync(join(root, 'docs/errors.md'), 'utf8').matchAll(/^\| `([A-Z_]+)`/gm)].map(
      (match) => match[1],
    ),
  );
  const sources = readdirSync(join(root, 'src/image'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  const used = sources.flatMap((name) =>
    [...readFileSync(join(root, 'src/image', name), 'utf8').matchAll(/'([A-Z]+(?:_[A-Z]+)+)'/g)].map(
      (match) => match[1] ?? '',
    ),
  );
  const missing = [...new Set(used)].filter((code) => !foreign.test(code) && !documented.has(code));
  expect(missing).toEqual([]);
  expect(used.length).toBeGreaterThan(50);
});
