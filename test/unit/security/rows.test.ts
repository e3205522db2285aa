/** Every known attack has its test, or the reason why there is none; and docs/security.md says the same. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { packageRoot } from '../../../src/linux/package-root.ts';
import { type Row, SECTIONS } from '../../security/rows.ts';

const rows = SECTIONS.flatMap(({ rows }) => rows);
const home = packageRoot();
const page = join(home, 'docs/security.md');

/** `test.each(…)('title` and `test('title` alike. */
function titles(file: string): string[] {
  return [...readFileSync(join(home, file), 'utf8').matchAll(/(?:\(|,|\[)\s*['`]([^'`\n]{4,})['`]/g)].map(
    ([, title = '']) => title,
  );
}

function found({ id }: Row, reference: string): boolean {
  const [file = '', text] = reference.split('#');
  if (!existsSync(join(home, file))) return false;
  const [first = ''] = id.split(', ');
  return titles(file).some((title) =>
    text === undefined ? title.startsWith(`${first}:`) : title.includes(text),
  );
}

describe('each row', () => {
  test.each(rows.map((row) => [row.id, row] as const))(
    '%s has its test, or the reason why there is none',
    (_id, row) => {
      expect(row.tests !== undefined || row.reason !== undefined).toBe(true);
      expect(row.tests !== undefined && row.reason !== undefined).toBe(false);
      for (const reference of row.tests ?? []) expect(found(row, reference), reference).toBe(true);
    },
  );

  test('stands there once', () => {
    const ids = rows.flatMap(({ id }) => id.split(', '));
    expect(new Set(ids).size).toBe(ids.length);
    expect(rows.length).toBeGreaterThan(50);
  });
});

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

function table(): string {
  return SECTIONS.map(({ title, rows: all }) => {
    const lines = all.map(({ id, about, defence, tests, reason }) => {
      const where =
        reason ?? (tests ?? []).map((one) => `\`${one.split('#')[0]?.replace(/^test\//, '')}\``).join(', ');
      return `| ${[id, about, defence, where].map(cell).join(' | ')} |`;
    });
    return [
      `### ${title}`,
      '',
      '| | attack | what defends | test, or why there is none |',
      '| --- | --- | --- | --- |',
      ...lines,
    ].join('\n');
  }).join('\n\n');
}

// `vitest -u` writes it.
test('docs/security.md shows them all', async () => {
  const [before = '', , after = ''] = readFileSync(page, 'utf8').split(
    /(?<=<!-- rows -->\n)|(?=<!-- end of rows -->)/,
  );
  await expect(`${before}\n${table()}\n\n${after}`).toMatchFileSnapshot(page);
});
