/** Tables as kubectl prints them: upper-case heads, columns as wide as their widest cell, three spaces between. Pure. */
import { printable } from './text.ts';

export interface Column<Row> {
  readonly head: string;
  readonly cell: (row: Row) => string;
  /** Only with `-o wide`. */
  readonly wide?: boolean;
  /** Numbers are easier to compare when they end in the same place. */
  readonly right?: boolean;
  /** Colours the cell; called with what `cell` gave, after padding was computed. */
  readonly paint?: (text: string, row: Row) => string;
}

export interface TableOptions {
  readonly wide?: boolean;
  readonly heads?: boolean;
  /** Paints the line of heads. */
  readonly paintHead?: (text: string) => string;
  readonly gap?: number;
}

const width = (text: string): number => Array.from(text).length;

/** Lines without line breaks; none for an empty table without heads. Nothing trails a line's last cell. */
export function renderTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  options: TableOptions = {},
): string[] {
  const { wide = false, heads = true, gap = 3 } = options;
  const shown = columns.filter((column) => wide || column.wide !== true);
  const cells = rows.map((row) => shown.map((column) => printable(column.cell(row))));
  const widths = shown.map((column, i) =>
    Math.max(heads ? width(column.head) : 0, ...cells.map((line) => width(line[i] ?? ''))),
  );
  const join = (line: readonly string[], paint: (text: string, column: number) => string): string =>
    line
      .map((text, i) => {
        const space = ' '.repeat((widths[i] ?? 0) - width(text));
        const painted = text === '' ? text : paint(text, i);
        if (shown[i]?.right === true) return `${space}${painted}`;
        return i === line.length - 1 ? painted : `${painted}${space}`;
      })
      .join(' '.repeat(gap))
      .trimEnd();
  const lines = cells.map((line, row) =>
    join(line, (text, i) => {
      const item = rows[row];
      return item === undefined ? text : (shown[i]?.paint?.(text, item) ?? text);
    }),
  );
  if (!heads) return lines;
  const { paintHead = (text: string) => text } = options;
  const head = join(
    shown.map((column) => column.head),
    (text) => paintHead(text),
  );
  return [head, ...lines];
}
