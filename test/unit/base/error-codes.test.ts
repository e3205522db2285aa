import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const sources = readdirSync('src', { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts') && !name.includes('.gen.'))
  .map((name) => readFileSync(join('src', name), 'utf8'));

const thrown = new Set(
  sources.flatMap((text) =>
    [...text.matchAll(/new NodeletError\(\s*'([A-Z][A-Z0-9_]+)'/g)].map(([, code = '']) => code),
  ),
);

const documented = new Set(
  readFileSync('docs/errors.md', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .flatMap((line) =>
      [...(line.split('|')[1] ?? '').matchAll(/`([A-Z0-9_]+)`/g)].map(([, code = '']) => code),
    ),
);

test('every code that is thrown is in docs/errors.md', () => {
  expect(thrown.size).toBeGreaterThan(100);
  expect([...thrown].filter((code) => !documented.has(code))).toEqual([]);
});

test('every code in docs/errors.md is in the source', () => {
  const whole = sources.join('\n');
  expect([...documented].filter((code) => !whole.includes(`'${code}'`))).toEqual([]);
});
