/** What commands print: tables for people, JSON, YAML and names for programs. */
import type { Column } from './format/table.ts';
import { renderTable } from './format/table.ts';
import { styleFor } from './terminal/style.ts';

export type OutputFormat = 'table' | 'wide' | 'json' | 'yaml' | 'name';

export function writeLine(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function writeLines(lines: readonly string[]): void {
  if (lines.length > 0) process.stdout.write(`${lines.join('\n')}\n`);
}

/** For what is said beside the output. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

export async function writeStructured(value: unknown, format: 'json' | 'yaml'): Promise<void> {
  if (format === 'json') writeLine(JSON.stringify(value, undefined, 2));
  else process.stdout.write(await yamlText(value));
}

async function yamlText(value: unknown): Promise<string> {
  const { stringify } = await import('./format/yaml.ts');
  // 1.1, as Kubernetes reads it: "yes", "0644" and "1e3" have to be quoted to stay texts.
  return stringify(value, { version: '1.1', lineWidth: 0, aliasDuplicateObjects: false });
}

export function writeTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  options: { readonly wide?: boolean; readonly heads?: boolean } = {},
): void {
  const style = styleFor(process.stdout);
  writeLines(renderTable(columns, rows, { ...options, paintHead: style.bold }));
}

/** A Kubernetes List, as `kubectl get -o json` prints several objects. */
export function listOf(items: readonly unknown[]): object {
  return { apiVersion: 'v1', kind: 'List', metadata: {}, items };
}

export interface Printed<Row> {
  readonly format: OutputFormat;
  readonly rows: readonly Row[];
  readonly columns: readonly Column<Row>[];
  /** What stands for the rows in JSON and YAML. */
  readonly structured: () => unknown;
  readonly name: (row: Row) => string;
  /** Said on standard error in place of an empty table. */
  readonly none: string;
  readonly heads?: boolean;
}

/** Prints one list in the format that was asked for. */
export async function printList<Row>(printed: Printed<Row>): Promise<void> {
  const { format, rows, columns } = printed;
  switch (format) {
    case 'json':
    case 'yaml':
      return await writeStructured(printed.structured(), format);
    case 'name':
      return writeLines(rows.map(printed.name));
    case 'table':
    case 'wide':
      if (rows.length === 0) return note(printed.none);
      return writeTable(columns, rows, { wide: format === 'wide', heads: printed.heads ?? true });
  }
}
